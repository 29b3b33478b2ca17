'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { connectRaw, errorsOf, newBus, open, pair, promised, rejects, startServer, until } = require('./support');

test('one instance runs what is published, and nobody answers', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const got = [];
	for (let instance = 0; instance < 2; instance++) {
		const service = open(t, 'svc', { servers: server.url });
		await service.expose({ note: (message) => { got.push(message); } });
	}
	const seen = [];
	await raw.subscribe('svc.note', '', (message) => seen.push(message));
	const caller = open(t, undefined, { servers: server.url });
	assert.equal(await caller.publish('svc.note', { a: 1 }), undefined);
	// Two instances keep no common order.
	await until(() => got.length === 1);
	await caller.publish('svc.note');
	await until(() => got.length === 2);
	assert.deepEqual(got, [{ a: 1 }, null]);
	await raw.flush();
	assert.deepEqual(seen.map(({ body, reply }) => [body, reply]), [
		['{"a":1}', undefined], ['', undefined]
	]);
});

test('it resolves when the server has taken the message, although nobody listens', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const caller = open(t, undefined, { servers: server.url });
	await caller.connect();
	const seen = [];
	await raw.subscribe('nobody.home', '', ({ body }) => seen.push(body));
	const began = performance.now();
	await caller.publish('nobody.home', 1);
	promised(t, 'publish', 50, began);
	await raw.flush();
	assert.deepEqual(seen, ['1']);
});

test('what a published handler throws is told to the service alone', async (t) => {
	const { service, caller } = await pair(t, { fail() { throw new Error('alone'); } });
	const errors = errorsOf(service);
	const others = errorsOf(caller);
	await caller.publish('svc.fail');
	await until(() => errors.length === 1);
	assert.equal(errors[0].message, 'alone');
	assert.deepEqual(others, []);
});

test('what is published keeps its order', async (t) => {
	const server = await startServer(t);
	const got = [];
	const { caller } = await pair(t, { note: (n) => { got.push(n); } }, { servers: server.url });
	await Promise.all(Array.from({ length: 3000 }, (_, n) => caller.publish('svc.note', n)));
	await until(() => got.length === 3000);
	assert.ok(got.every((n, at) => n === at));
});

test('a publish that cannot leave rejects when its time is over, and says why', async (t) => {
	const caller = open(t, undefined, { servers: '127.0.0.1:1', timeout: 300 });
	await rejects(caller.publish('svc.note', 1), 'PICOM_TIMED_OUT', /not connected to 127\.0\.0\.1:1/);
});

test('to a bus in memory as to a server', async (t) => {
	const got = [];
	const { caller } = await pair(t, { note: (n) => { got.push(n); } }, { servers: newBus() });
	await caller.publish('svc.note', 5);
	await caller.publish('nobody.home', 5);
	await until(() => got.length === 1);
});
