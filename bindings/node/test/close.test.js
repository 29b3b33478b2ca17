'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const {
	Picom, connectRaw, deferred, newBus, open, pair, pause, promised, rejects, run, startServer, until
} = require('./support');

test('whatever is asked after close rejects with PICOM_CLOSED', async () => {
	for (const used of [false, true]) {
		const picom = new Picom('svc', { servers: newBus() });
		if (used) await picom.expose({ a: () => 1 });
		assert.equal(await picom.close(), undefined);
		await rejects(picom.request('svc.a'), 'PICOM_CLOSED', /closed: make a new one/);
		await rejects(picom.publish('svc.a'), 'PICOM_CLOSED');
		await rejects(picom.expose({}), 'PICOM_CLOSED');
		await rejects(picom.connect(), 'PICOM_CLOSED');
		assert.equal(await picom.close(), undefined);
	}
});

test('what is asked in the same tick as close, behind it, rejects too', async (t) => {
	const { caller } = await pair(t, { a: () => 1 });
	const before = caller.request('svc.a');
	const closing = caller.close();
	const after = [caller.request('svc.a'), caller.publish('svc.a'), caller.expose({}), caller.connect()];
	for (const call of after.slice(0, 2)) await rejects(call, 'PICOM_CLOSED');
	assert.match((await Promise.allSettled(after)).map(({ reason }) => reason.code).join(), /CLOSED/);
	await closing;
	await Promise.allSettled([before]);
});

test('closing twice is closing once', async (t) => {
	const { service } = await pair(t, { a: () => 1 });
	const all = [service.close(), service.close(), service.close()];
	assert.deepEqual(await Promise.all(all), [undefined, undefined, undefined]);
});

test('handlers finish and their replies leave before it disconnects', async (t) => {
	const server = await startServer(t);
	const gate = deferred();
	const started = [];
	const { service, caller } = await pair(t, {
		async work(n) {
			started.push(n);
			await gate.promise;
			return n;
		}
	}, { servers: server.url, closeTimeout: 5000 });
	const calls = Array.from({ length: 200 }, (_, n) => caller.request('svc.work', n));
	await until(() => started.length === 200);
	let closed = false;
	const closing = service.close().then(() => { closed = true; });
	// Once the server knows that the service has left, a new call finds nobody.
	await until(async () => {
		const probe = await caller.request('svc.none').catch((error) => error.code);
		return probe === 'PICOM_NO_RESPONDER';
	});
	assert.equal(closed, false);
	gate.resolve();
	assert.deepEqual(await Promise.all(calls), Array.from({ length: 200 }, (_, n) => n));
	await closing;
});

test('it ends within closeTimeout although a handler does not', async (t) => {
	const began = deferred();
	const { service, caller } = await pair(t, {
		never() {
			began.resolve();
			return new Promise(() => {});
		}
	}, { closeTimeout: 200 });
	caller.request('svc.never', {}, { timeout: 1000 }).catch(() => {});
	await began.promise;
	const since = performance.now();
	await service.close();
	assert.ok(performance.now() - since >= 190);
	promised(t, 'close, with closeTimeout 200', 200, since);
});

test('the calls of the one who closes reject with PICOM_CLOSED', async (t) => {
	const { caller } = await pair(t, { never: () => new Promise(() => {}) });
	const calls = [caller.request('svc.never'), caller.request('svc.never', {}, { timeout: 60000 })];
	const settled = Promise.allSettled(calls);
	await caller.connect();
	const since = performance.now();
	await caller.close();
	promised(t, 'close with calls in flight', 100, since);
	for (const { reason } of await settled) {
		assert.equal(reason.code, 'PICOM_CLOSED');
		assert.match(reason.message, /was under way when this Picom was closed/);
	}
});

test('a handler may close its own service, and still answer', async (t) => {
	const server = await startServer(t);
	const ways = {
		sync(service) {
			service.close();
			return 'bye';
		},
		async async(service) {
			service.close();
			return 'bye';
		},
		async later(service) {
			service.close();
			await pause(20);
			return 'bye';
		},
		// It does not wait for the handler that waits for it.
		async waits(service) {
			await service.close();
			return 'bye';
		},
		async waitsAndMore(service) {
			await service.close();
			await service.close();
			await pause(20);
			return 'bye';
		}
	};
	for (const bus of [newBus, () => server.url]) {
		for (const [name, way] of Object.entries(ways)) {
			for (let round = 0; round < 10; round++) {
				const options = { servers: bus(), closeTimeout: 4000, retries: 0 };
				const { service, caller } = await pair(t, { stop: () => way(service) }, options);
				const reply = await caller.request('svc.stop', null, { timeout: 2000 });
				assert.equal(reply, 'bye', name);
				await service.close();
				await rejects(caller.request('svc.stop'), 'PICOM_NO_RESPONDER');
			}
		}
	}
});

test('a handler that closes waits for the other handlers, and not for itself', async (t) => {
	const gate = deferred();
	const began = deferred();
	let open = true;
	const { service, caller } = await pair(t, {
		async stop() {
			await service.close();
			open = false;
			return 'stopped';
		},
		work() {
			began.resolve();
			return gate.promise;
		}
	}, { closeTimeout: 20000 });
	const work = caller.request('svc.work');
	await began.promise;
	const stop = caller.request('svc.stop');
	await rejects(until(async () => {
		await caller.request('svc.none').catch((error) => {
			if (error.code === 'PICOM_NO_RESPONDER') throw error;
		});
	}), 'PICOM_NO_RESPONDER');
	assert.equal(open, true);
	gate.resolve('worked');
	assert.equal(await work, 'worked');
	assert.equal(await stop, 'stopped');
});

test('after it completes no handler runs and no event comes', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	let ran = 0;
	const { service } = await pair(t, { count: () => { ran++; } }, { servers: server.url });
	const flood = setInterval(() => {
		for (let n = 0; n < 50; n++) raw.publish('svc.count', '');
	}, 1);
	t.after(() => clearInterval(flood));
	await until(() => ran > 200);
	await service.close();
	const then = ran;
	service.on('error', () => { ran = -1; });
	service.on('disconnected', () => { ran = -1; });
	await raw.flush();
	await pause(50);
	await raw.flush();
	assert.equal(ran, then);
});

test('Symbol.asyncDispose closes', async (t) => {
	const { service, caller } = await pair(t, { a: () => 1 });
	const symbol = Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose');
	assert.equal(typeof Picom.prototype[symbol], 'function');
	await service[symbol]();
	await rejects(caller.request('svc.a'), 'PICOM_NO_RESPONDER');
	await rejects(service.request('svc.a'), 'PICOM_CLOSED');
});

test('where Node has no Symbol.asyncDispose, what stands for it closes', async () => {
	const result = await run(`
		const symbol = Symbol.for('nodejs.asyncDispose');
		console.log(typeof Picom.prototype[symbol]);
	`, { flags: ['--require', require.resolve('./support/no-async-dispose.js')] });
	assert.equal(result.stdout, 'function\n', result.stderr);
});

test('close right after construction, during connecting, and without a server', async () => {
	const fresh = new Picom('svc', { servers: '127.0.0.1:1' });
	await fresh.close();
	const connecting = new Picom('svc', { servers: '127.0.0.1:1' });
	const call = rejects(connecting.request('a.b'), 'PICOM_CLOSED');
	const exposed = rejects(connecting.expose({}), 'PICOM_CLOSED');
	const began = performance.now();
	await connecting.close();
	assert.ok(performance.now() - began < 1000);
	await Promise.all([call, exposed]);
});

test('a closed name can be served again by a new instance', async (t) => {
	const server = await startServer(t);
	const caller = open(t, undefined, { servers: server.url });
	for (let round = 0; round < 10; round++) {
		const service = new Picom('again', { servers: server.url });
		await service.expose({ round: () => round });
		assert.equal(await caller.request('again.round'), round);
		await service.close();
	}
});
