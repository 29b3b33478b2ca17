'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const {
	Picom, connectRaw, deferred, newBus, open, pair, pause, promised, rejects, startServer, until
} = require('./support');

test('nobody there is a typed error within the time of the tries', async (t) => {
	const server = await startServer(t);
	for (const retries of [0, 3]) {
		const caller = open(t, undefined, { servers: server.url, retries });
		await caller.connect();
		const began = performance.now();
		const error = await rejects(caller.request('nobody.home'), 'PICOM_NO_RESPONDER', /nobody/);
		assert.equal(error.status, 503);
		promised(t, `no responder, ${retries} retries`, retries ? 150 : 50, began);
	}
});

test('a service that comes between two tries is found', async (t) => {
	const servers = newBus();
	const caller = open(t, undefined, { servers, retries: 100 });
	const service = open(t, 'late', { servers });
	const call = caller.request('late.hi');
	await service.expose({ hi: () => 'here' });
	assert.equal(await call, 'here');
});

test('a request times out at its own timeout, or at that of the instance', async (t) => {
	const { caller } = await pair(t, { never: () => new Promise(() => {}) }, { timeout: 300 });
	for (const [options, limit] of [
		[{ timeout: 120 }, 120], [{ timeout: 0 }, 300], [undefined, 300], [null, 300],
		[{ timeout: undefined }, 300], [{ timeout: null }, 300], [{ timeout: 0.2 }, 1]
	]) {
		const began = performance.now();
		const error = await rejects(
			caller.request('svc.never', {}, options), 'PICOM_TIMED_OUT', /^Request svc\.never timed out$/
		);
		assert.equal(error.status, 408);
		assert.ok(performance.now() - began >= limit - 2, 'not before its time');
		promised(t, `settled after its deadline of ${limit} ms`, 50, began + limit);
	}
});

test('a timeout of 0 for the instance is no limit', async (t) => {
	const server = await startServer(t);
	const gate = deferred();
	const raw = await connectRaw(t, server);
	const { caller } = await pair(
		t, { wait: () => gate.promise }, { servers: server.url, timeout: 0 }
	);
	let mark;
	await raw.subscribe('svc.wait', '', ({ headers }) => { mark = headers; });
	const call = caller.request('svc.wait');
	await until(() => mark);
	// No deadline travels: the header holds the id only.
	assert.match(mark, /Picom-Call: \S+\r\n/);
	gate.resolve('done');
	assert.equal(await call, 'done');
});

test('a timeout of the wrong type is refused by name', async (t) => {
	const caller = open(t, undefined, { servers: newBus() });
	for (const timeout of ['100', -1, NaN, {}, [], true, 1n, Symbol('x'), () => {}]) {
		await rejects(caller.request('a.b', {}, { timeout }), 'PICOM_INVALID_OPTION', /timeout/);
	}
	const { caller: other } = await pair(t, { hi: () => 1 });
	assert.equal(await other.request('svc.hi', {}, { timeout: Infinity }), 1);
	assert.equal(await other.request('svc.hi', {}, { timeout: 1e15 }), 1);
});

test('expired work is dropped before its handler runs', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	let ran = 0;
	await pair(t, { work: () => { ran++; } }, { servers: server.url });
	// The deadline counts from the arrival: the loop is blocked for longer than that.
	raw.publish('svc.work', '', { reply: '_INBOX.none', headers: 'Picom-Call: raw.1 50' });
	await raw.flush();
	const end = performance.now() + 400;
	while (performance.now() < end);
	await raw.request('svc.work', '');
	assert.equal(ran, 1);
});

test('expired work is dropped in the middle of a batch too', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const ran = [];
	await pair(t, {
		work: (n) => {
			ran.push(n);
			const end = performance.now() + 300;
			while (performance.now() < end);
		}
	}, { servers: server.url });
	for (const n of [1, 2, 3]) {
		raw.publish('svc.work', String(n), { reply: '_INBOX.none', headers: `Picom-Call: raw.${n} 200` });
	}
	await raw.flush();
	await raw.request('svc.work', '4');
	assert.equal(ran.at(-1), 4);
	assert.ok(!ran.includes(3), `ran ${ran}`);
});

test('an AbortSignal that is aborted already sends nothing', async (t) => {
	let ran = 0;
	const { caller } = await pair(t, { work: () => { ran++; } });
	const reason = new Error('changed my mind');
	const error = await rejects(
		caller.request('svc.work', {}, { signal: AbortSignal.abort(reason) }), 'PICOM_CANCELLED'
	);
	assert.equal(error.name, 'AbortError');
	assert.equal(error.status, 499);
	assert.equal(error.cause, reason);
	await caller.request('svc.work');
	assert.equal(ran, 1);
});

// A signal that counts who listens to it.
function counted() {
	const controller = new AbortController();
	const { signal } = controller;
	const { addEventListener, removeEventListener } = signal;
	controller.listeners = 0;
	signal.addEventListener = (...args) => {
		controller.listeners++;
		return addEventListener.apply(signal, args);
	};
	signal.removeEventListener = (...args) => {
		controller.listeners--;
		return removeEventListener.apply(signal, args);
	};
	return controller;
}

test('an AbortSignal gives a running request up at once', async (t) => {
	const gate = deferred();
	const arrived = deferred();
	const { caller } = await pair(t, {
		wait() {
			arrived.resolve();
			return gate.promise;
		}
	});
	const controller = counted();
	const call = caller.request('svc.wait', {}, { signal: controller.signal });
	await arrived.promise;
	assert.equal(controller.listeners, 1);
	const began = performance.now();
	controller.abort();
	const error = await rejects(call, 'PICOM_CANCELLED', /Request svc\.wait was cancelled/);
	promised(t, 'settled after the abort', 50, began);
	assert.equal(error.name, 'AbortError');
	assert.equal(error.cause.name, 'AbortError');
	assert.equal(controller.listeners, 0);
	// The late reply finds nothing, and harms nothing.
	gate.resolve('late');
	assert.equal(await caller.request('svc.wait'), 'late');
});

test('a signal is let go of after the request, however it ended', async (t) => {
	const { caller } = await pair(t, {
		fine: () => 1,
		fail() { throw new Error('x'); },
		never: () => new Promise(() => {})
	});
	const controller = counted();
	const { signal } = controller;
	assert.equal(await caller.request('svc.fine', {}, { signal }), 1);
	assert.equal(controller.listeners, 0);
	await rejects(caller.request('svc.fail', {}, { signal }), 'PICOM_HANDLER_FAILED');
	assert.equal(controller.listeners, 0);
	await rejects(caller.request('svc.never', {}, { signal, timeout: 20 }), 'PICOM_TIMED_OUT');
	assert.equal(controller.listeners, 0);
	await rejects(caller.request('bad target', {}, { signal }), 'PICOM_INVALID_NAME');
	assert.equal(controller.listeners, 0);
	controller.abort();
	assert.equal(await caller.request('svc.fine'), 1);
});

test('one signal gives up many requests, and only those', async (t) => {
	const gate = deferred();
	let arrived = 0;
	const { caller } = await pair(t, {
		wait() {
			arrived++;
			return gate.promise;
		}
	});
	const controller = counted();
	const { signal } = controller;
	const given = Array.from({ length: 500 }, () => caller.request('svc.wait', {}, { signal }));
	const kept = Array.from({ length: 500 }, () => caller.request('svc.wait'));
	await until(() => arrived === 1000);
	const settled = Promise.allSettled(given);
	controller.abort();
	assert.ok((await settled).every(({ reason }) => reason.code === 'PICOM_CANCELLED'));
	assert.equal(controller.listeners, 0);
	gate.resolve('kept');
	assert.deepEqual([...new Set(await Promise.all(kept))], ['kept']);
});

test('AbortSignal.timeout gives its reason as the cause', async (t) => {
	const { caller } = await pair(t, { never: () => new Promise(() => {}) });
	const signal = AbortSignal.timeout(20);
	const error = await rejects(caller.request('svc.never', {}, { signal }), 'PICOM_CANCELLED');
	assert.equal(error.cause.name, 'TimeoutError');
});

test('what is no signal is refused by name', async (t) => {
	const caller = open(t, undefined, { servers: newBus() });
	for (const signal of [5, 'x', {}, [], true, () => {}, new AbortController()]) {
		await rejects(caller.request('a.b', {}, { signal }), 'PICOM_INVALID_OPTION', /signal/);
	}
});

test('targets that cannot be addressed are refused before anything is sent', async (t) => {
	const { caller } = await pair(t, { hi: () => 1 });
	const wrong = [
		'', 'svc', 'svc.', '.hi', 'svc..hi', 'svc. hi', 'svc.h i', 'svc.*', 'svc.>', '*.hi', '>',
		'svc.hi\r\n', 'svc.hi\r\nPUB x 0\r\n', 'svc.hi\n', 'svc.hi\0', 'svc.\t', `svc.${'x'.repeat(4096)}`,
		'$SYS.x', '_INBOX.x.y', '_picom.svc.x', undefined, null, 5, 1n, {}, [], ['svc.hi'], true,
		Symbol('svc.hi'), () => {}, new String('svc.hi')
	];
	for (const target of wrong) {
		const good = caller.request('svc.hi');
		for (const call of ['request', 'publish']) {
			const error = await rejects(caller[call](target, {}), 'PICOM_INVALID_NAME');
			assert.equal(error.status, 1006);
			assert.ok(error.message.length < 400 && !/[\r\n\0]/.test(error.message), error.message);
		}
		assert.equal(await good, 1);
	}
});

test('unusual names that can be addressed work', async (t) => {
	const server = await startServer(t);
	const names = ['größe', '🎉', '__proto__', 'constructor', 'a"b', "a'b", 'a\\b', '-', '$x', 'x'.repeat(900)];
	const methods = Object.create(null);
	for (const name of names) {
		Object.defineProperty(methods, name, { value: () => name.length, enumerable: true });
	}
	for (const servers of [server.url, newBus()]) {
		const { caller } = await pair(t, methods, { servers });
		for (const name of names) {
			assert.equal(await caller.request(`svc.${name}`), name.length);
			await rejects(caller.request(`svc.${name}x`), 'PICOM_METHOD_NOT_FOUND');
		}
	}
});

test('Picom.current tells a handler of its call, up to the first await', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const seen = [];
	const { caller } = await pair(t, {
		async look() {
			const first = Picom.current();
			await null;
			seen.push([first, Picom.current()]);
		}
	}, { servers: server.url });
	const began = Date.now();
	await caller.request('svc.look', {}, { timeout: 5000 });
	await raw.request('svc.look', '');
	const [[ours, after], [theirs]] = seen;
	assert.equal(after, undefined);
	assert.equal(ours.method, 'look');
	assert.match(ours.id, /^\w+\.[0-9a-f]+$/);
	assert.ok(ours.deadline > began + 4000 && ours.deadline <= Date.now() + 5000);
	// A caller of 0.6 says nothing of itself.
	assert.deepEqual(theirs, { id: undefined, method: 'look', deadline: undefined });
	assert.equal(Picom.current(), undefined);
	await caller.request('svc.look');
	assert.notEqual(seen[2][0].id, ours.id);
});

test('ten thousand concurrent requests each get their own reply', async (t) => {
	const server = await startServer(t);
	const { caller } = await pair(t, {
		now: (n) => n,
		async later(n) {
			await pause(n % 7);
			return n;
		}
	}, { servers: server.url });
	const calls = Array.from({ length: 10000 }, (_, n) =>
		caller.request(n % 3 ? 'svc.now' : 'svc.later', n));
	const replies = await Promise.all(calls);
	assert.ok(replies.every((reply, n) => reply === n));
});
