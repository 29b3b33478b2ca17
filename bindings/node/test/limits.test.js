'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Worker } = require('node:worker_threads');
const { connectRaw, errorsOf, event, newBus, open, pair, rejects, startServer, until } = require('./support');
const { packageFolder } = require('./support/child');

test('70,000 requests at once: 65,536 are served, the rest are refused, none is lost', async (t) => {
	const server = await startServer(t);
	for (const servers of [server.url, newBus()]) {
		let ran = 0;
		const { caller } = await pair(t, { echo: (n) => { ran++; return n; } }, { servers });
		await caller.connect();
		const calls = Array.from({ length: 70000 }, (_, n) => caller.request('svc.echo', n));
		let served = 0;
		for (const [n, { value, reason }] of (await Promise.allSettled(calls)).entries()) {
			if (reason === undefined) {
				assert.equal(value, n);
				served++;
			} else {
				assert.equal(reason.code, 'PICOM_BUSY');
				assert.equal(reason.status, 1011);
				assert.match(reason.message, /65,536 calls are in flight/);
			}
		}
		// The replies to the first may come before the last are asked, and make room for more.
		assert.ok(served >= 65536, `${served}`);
		t.diagnostic(`served: ${served}, refused: ${70000 - served}`);
		assert.equal(ran, served);
		assert.equal(await caller.request('svc.echo', 'after'), 'after');
	}
});

test('exactly 65,536 calls can be in flight', async (t) => {
	const server = await startServer(t);
	const caller = open(t, undefined, { servers: server.url, timeout: 0 });
	const gone = event(caller, 'error');
	await server.kill();
	// Without a server nothing settles.
	const calls = Array.from({ length: 65536 }, () => caller.request('a.b'));
	const settled = Promise.allSettled(calls);
	await gone;
	await rejects(caller.request('a.b'), 'PICOM_BUSY');
	await rejects(caller.publish('a.b'), 'PICOM_BUSY');
	await caller.close();
	const codes = new Set((await settled).map(({ reason }) => reason.code));
	assert.deepEqual([...codes], ['PICOM_CLOSED']);
});

test('more different targets than are remembered', async (t) => {
	const { caller } = await pair(t, new Proxy({}, {
		getOwnPropertyDescriptor: (_, name) => /^m\d+$/.test(name)
			? { value: () => name, configurable: true, enumerable: true } : undefined,
		get: (_, name) => () => name
	}));
	for (let round = 0; round < 2; round++) {
		const calls = Array.from({ length: 20000 }, (_, n) => caller.request(`svc.m${n}`));
		// An invalid one at each place where the memory may be full.
		const bad = Array.from({ length: 10 }, (_, n) => caller.request(`svc.m ${n}`).catch((e) => e.code));
		const mixed = Array.from({ length: 20000 }, (_, n) => caller.request(`svc.m${n * 7 % 9001}`));
		assert.ok((await Promise.all(calls)).every((reply, n) => reply === `m${n}`));
		assert.ok((await Promise.all(mixed)).every((reply, n) => reply === `m${n * 7 % 9001}`));
		assert.deepEqual(new Set(await Promise.all(bad)), new Set(['PICOM_INVALID_NAME']));
	}
});

test('more events than one batch takes, while the loop is blocked', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const got = [];
	const { caller } = await pair(t, {
		note: (n) => { got.push(n); }, echo: (n) => n
	}, { servers: server.url });
	await caller.connect();
	for (let n = 0; n < 10000; n++) raw.publish('svc.note', String(n));
	const calls = Array.from({ length: 5000 }, (_, n) => caller.request('svc.echo', n));
	await raw.flush();
	const end = performance.now() + 300;
	while (performance.now() < end);
	assert.ok((await Promise.all(calls)).every((reply, n) => reply === n));
	await until(() => got.length === 10000);
	assert.ok(got.every((n, at) => n === at));
});

test('a flood that has piled up leaves the loop fair to everything else on it', async (t) => {
	const servers = newBus();
	let got = 0;
	await pair(t, { note: () => { got++; } }, { servers });
	// Published by another thread, so that all of it waits when this one wakes.
	const state = new Int32Array(new SharedArrayBuffer(4));
	const worker = new Worker(`
		const { servers, state, picom } = require('node:worker_threads').workerData;
		const caller = new (require(picom))(null, { servers });
		const notes = Array.from({ length: 50000 }, () => caller.publish('svc.note', { some: 'text' }));
		Promise.all(notes).then(() => {
			Atomics.store(state, 0, 1);
			Atomics.notify(state, 0);
		});
	`, { eval: true, workerData: { servers, state, picom: packageFolder } });
	t.after(() => worker.terminate());
	Atomics.wait(state, 0, 0, 10000);
	assert.equal(got, 0);
	let turns = 0;
	let most = 0;
	await new Promise((resolve) => {
		let last = 0;
		setImmediate(function turn() {
			turns++;
			most = Math.max(most, got - last);
			last = got;
			if (got === 50000) resolve();
			else setImmediate(turn);
		});
	});
	t.diagnostic(`${turns} turns of the loop, of ${most} calls at most`);
	assert.ok(most <= 4096, `${most} calls in one turn of the loop`);
});

test('messages and replies over max_payload: a typed error, and the connection is kept', async (t) => {
	const server = await startServer(t, 'max_payload: 4096');
	const { service, caller } = await pair(t, {
		size: (text) => text.length,
		big: (size) => 'x'.repeat(size),
		fail(size) { throw new Error('y'.repeat(size)); },
		fields(size) { throw Object.assign(new Error('z'), { field: 'x'.repeat(size) }); }
	}, { servers: server.url });
	const errors = errorsOf(service);
	let lost = 0;
	for (const picom of [service, caller]) picom.on('disconnected', () => lost++);

	assert.equal(await caller.request('svc.size', 'x'.repeat(3900)), 3900);
	for (const call of ['request', 'publish']) {
		const good = caller.request('svc.size', 'good');
		const error = await rejects(caller[call]('svc.size', 'x'.repeat(4096)), 'PICOM_TOO_LARGE', /max_payload/);
		assert.equal(error.status, 413);
		assert.match(error.message, /4096/);
		assert.equal(await good, 4);
	}
	assert.equal(errors.length, 0);
	for (const name of ['big', 'fail', 'fields']) {
		const good = caller.request('svc.size', 'good');
		await rejects(caller.request(`svc.${name}`, 5000), 'PICOM_TOO_LARGE', /A reply takes .* max_payload/);
		assert.equal(await good, 4);
		await until(() => errors.some(({ code }) => code === 'PICOM_TOO_LARGE'));
	}
	assert.equal(await caller.request('svc.big', 4000), 'x'.repeat(4000));
	assert.equal(lost, 0);
});

test('headers count: every size around the limit is either sent or refused', async (t) => {
	const server = await startServer(t, 'max_payload: 1024');
	const { service, caller } = await pair(t, {
		size: (text) => text.length, big: (size) => 'x'.repeat(size), fail(size) { throw 'f'.repeat(size); }
	}, { servers: server.url });
	let lost = 0;
	for (const picom of [service, caller]) picom.on('disconnected', () => lost++);
	for (let size = 850; size < 1030; size++) {
		const settled = await Promise.allSettled([
			caller.request('svc.size', 'x'.repeat(size)),
			caller.publish('svc.size', 'x'.repeat(size)),
			caller.request('svc.big', size),
			caller.request('svc.fail', size - 300)
		]);
		for (const { reason } of settled) {
			assert.ok([undefined, 'PICOM_TOO_LARGE', 'PICOM_HANDLER_FAILED'].includes(reason?.code), reason?.stack);
		}
	}
	assert.equal(lost, 0);
	assert.equal(await caller.request('svc.size', ''), 0);
});

test('large messages of a megabyte pass, many at once', async (t) => {
	const server = await startServer(t);
	const { caller } = await pair(t, { echo: (text) => text }, { servers: server.url });
	const texts = Array.from({ length: 24 }, (_, n) => String.fromCharCode(97 + n).repeat(1000000));
	const replies = await Promise.all(texts.map((text) => caller.request('svc.echo', text)));
	assert.ok(replies.every((reply, n) => reply === texts[n]));
});
