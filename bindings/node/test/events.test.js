'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Picom, deferred, errorsOf, event, newBus, open, pair, promised, rejects, startServer, until } = require('./support');

test('connected is emitted once there is a connection', async (t) => {
	const server = await startServer(t);
	for (const servers of [server.url, newBus()]) {
		const picom = open(t, 'svc', { servers });
		const seen = [];
		for (const name of ['connected', 'reconnected', 'disconnected']) {
			picom.on(name, (...values) => seen.push([name, values.length]));
		}
		const connected = event(picom, 'connected');
		await picom.connect();
		await connected;
		await picom.expose({ a: () => 1 });
		await picom.request('svc.a');
		await picom.close();
		assert.deepEqual(seen, [['connected', 0]]);
	}
});

test('disconnected and reconnected follow the server, and the service serves again', async (t) => {
	const server = await startServer(t);
	const { service, caller } = await pair(t, { a: () => 1 }, { servers: server.url });
	await caller.connect();
	const seen = [];
	for (const name of ['connected', 'reconnected', 'disconnected']) {
		service.on(name, () => seen.push(name));
	}
	for (let round = 0; round < 2; round++) {
		const gone = [event(service, 'disconnected'), event(caller, 'disconnected')];
		const killed = performance.now();
		await server.kill();
		await Promise.all(gone);
		promised(t, 'disconnected, after the server died', 100, killed);
		const back = [event(service, 'reconnected'), event(caller, 'reconnected')];
		await server.start();
		await Promise.all(back);
		assert.equal(await caller.request('svc.a'), 1);
	}
	assert.deepEqual(seen, ['disconnected', 'reconnected', 'disconnected', 'reconnected']);
});

test('requests in flight when the server dies all reject, quickly', async (t) => {
	const server = await startServer(t);
	let arrived = 0;
	const { caller } = await pair(t, {
		hold() {
			arrived++;
			return new Promise(() => {});
		}
	}, { servers: server.url });
	const calls = Array.from({ length: 1000 }, () => caller.request('svc.hold'));
	const settled = Promise.allSettled(calls);
	await until(() => arrived === 1000);
	const killed = performance.now();
	await server.kill();
	for (const { reason } of await settled) {
		assert.equal(reason.code, 'PICOM_DISCONNECTED');
		assert.equal(reason.status, 1001);
		assert.match(reason.message, /svc\.hold was under way when the connection was lost/);
	}
	promised(t, '1,000 requests rejected, after the server died', 100, killed);
});

test('requests made while the server is away wait for it, or for their deadline', async (t) => {
	const server = await startServer(t);
	const { service, caller } = await pair(t, { a: () => 1 }, { servers: server.url });
	await caller.connect();
	const gone = [event(service, 'disconnected'), event(caller, 'disconnected')];
	await server.kill();
	await Promise.all(gone);
	await rejects(
		caller.request('svc.a', null, { timeout: 50 }), 'PICOM_TIMED_OUT', /not connected to nats:\/\/127/
	);
	const waits = Promise.allSettled([
		caller.request('svc.a', null, { timeout: 20000 }), caller.publish('svc.a')
	]);
	// The service has to be back before the caller, or nobody is there yet.
	const [back] = [event(service, 'reconnected')];
	await server.start();
	await back;
	const [reply, published] = await waits;
	assert.ok(reply.value === 1 || reply.reason.code === 'PICOM_NO_RESPONDER', reply.reason?.message);
	assert.equal(published.status, 'fulfilled');
	assert.equal(await until(() => caller.request('svc.a').catch(() => 0)), 1);
});

test('an outage emits one error at most, not one for each try', async (t) => {
	const server = await startServer(t);
	const picom = open(t, 'svc', { servers: server.url });
	await picom.connect();
	const errors = errorsOf(picom);
	const gone = event(picom, 'disconnected');
	await server.kill();
	await gone;
	// Time for several tries, seen by the one thing that tells of them.
	await rejects(picom.connect(), 'PICOM_CONNECT_FAILED');
	await rejects(picom.connect(), 'PICOM_CONNECT_FAILED');
	assert.ok(errors.length <= 1, errors.map(String).join());
});

test('listeners of connection events that throw lose no call', async (t) => {
	const raised = [];
	const listener = (error) => raised.push(error.message);
	const before = process.listeners('uncaughtException');
	process.removeAllListeners('uncaughtException');
	process.on('uncaughtException', listener);
	t.after(() => {
		process.removeListener('uncaughtException', listener);
		before.forEach((other) => process.on('uncaughtException', other));
	});
	const picom = open(t, 'svc', { servers: newBus() });
	picom.on('connected', () => { throw new Error('from connected'); });
	const exposed = picom.expose({ a: () => 1 });
	const call = picom.request('svc.a');
	await exposed;
	assert.equal(await call, 1);
	await until(() => raised.length === 1);
	assert.deepEqual(raised, ['from connected']);
});

test('a listener may use the instance, and close it', async (t) => {
	const picom = open(t, 'svc', { servers: newBus() });
	const done = deferred();
	picom.on('connected', async () => {
		await picom.expose({ a: () => 1 });
		const reply = await picom.request('svc.a');
		await picom.close();
		done.resolve(reply);
	});
	picom.connect();
	assert.equal(await done.promise, 1);
	await rejects(picom.request('svc.a'), 'PICOM_CLOSED');
});

test('error events of a handler come even when the caller is of the same instance', async (t) => {
	const picom = open(t, 'svc', { servers: newBus() });
	const errors = errorsOf(picom);
	const thrown = new Error('mine');
	await picom.expose({ fail() { throw thrown; } });
	await rejects(picom.request('svc.fail'), 'PICOM_HANDLER_FAILED', /mine/);
	assert.deepEqual(errors, [thrown]);
	assert.ok(errors[0] === thrown);
	assert.ok(picom instanceof Picom);
});
