'use strict';

// A server that is not there, comes late, or does not want us.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const {
	Picom, errorsOf, event, freePort, open, pair, promised, rejects, run, startServer
} = require('./support');

test('a failed first connection shows at once: an error event, and a rejected connect', async (t) => {
	const picom = open(t, 'svc', { servers: `127.0.0.1:${await freePort()}` });
	const errors = errorsOf(picom);
	const began = performance.now();
	const first = event(picom, 'error').then((error) => {
		promised(t, 'the error event of a refused connection', 100, began);
		return error;
	});
	const error = await rejects(picom.connect(), 'PICOM_CONNECT_FAILED');
	assert.equal(error.status, 1009);
	assert.match(error.message, /^Cannot connect to 127\.0\.0\.1:\d+: .*refused.*; is a nats-server running there\? \(option servers\)$/i);
	assert.equal((await first).code, 'PICOM_CONNECT_FAILED');
	// Told once, although there were several tries.
	assert.equal(errors.length, 1);
});

test('connect makes as many tries as retries allows', async (t) => {
	const net = require('node:net');
	for (const retries of [0, 2]) {
		let tries = 0;
		const server = net.createServer((socket) => {
			tries++;
			socket.destroy();
		});
		await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
		const servers = `127.0.0.1:${server.address().port}`;
		const picom = new Picom('svc', { servers, retries });
		await rejects(picom.connect(), 'PICOM_CONNECT_FAILED');
		assert.equal(tries, retries + 1);
		await picom.close();
		server.close();
	}
});

test('a program with a wrong address and no listener lives on, and ends by itself', async () => {
	const result = await run(`
		const picom = new Picom('svc', { servers: '127.0.0.1:1', retries: 1, timeout: 100 });
		picom.connect().catch((error) => console.log(error.code));
		picom.request('a.b').catch((error) => console.log(error.code));
	`);
	assert.deepEqual(result.stdout.split('\n').sort(), ['', 'PICOM_CONNECT_FAILED', 'PICOM_TIMED_OUT']);
	assert.equal(result.stderr, '');
	assert.equal(result.code, 0);
});

test('requests wait for a server that comes late', async (t) => {
	const server = await startServer(t);
	await server.kill();
	const service = open(t, 'svc', { servers: server.url });
	const caller = open(t, undefined, { servers: server.url, retries: 100 });
	const failed = [event(service, 'error'), event(caller, 'error')];
	const exposed = service.expose({ hi: () => 'there' });
	const connected = caller.connect();
	const call = caller.request('svc.hi', null, { timeout: 20000 });
	const published = caller.publish('svc.hi');
	for (const error of await Promise.all(failed)) assert.equal(error.code, 'PICOM_CONNECT_FAILED');
	await server.start();
	await exposed;
	await connected;
	await published;
	assert.equal(await call.catch(() => caller.request('svc.hi')), 'there');
});

test('a request that waits in vain says why', async (t) => {
	const port = await freePort();
	const picom = open(t, 'svc', { servers: [`nats://user:secret@127.0.0.1:${port}`], timeout: 200 });
	const began = performance.now();
	const error = await rejects(picom.request('a.b'), 'PICOM_TIMED_OUT');
	assert.match(error.message, /^Request a\.b timed out: not connected to nats:\/\/…@127\.0\.0\.1:\d+ \(.*refused/i);
	assert.ok(!error.message.includes('secret'));
	promised(t, 'settled after a deadline of 200 ms', 50, began + 200);
	await rejects(picom.publish('a.b'), 'PICOM_TIMED_OUT', /Publish a\.b timed out: not connected/);
	await rejects(picom.expose({}), 'PICOM_TIMED_OUT', /Expose timed out: not connected/);
});

test('of several servers, one that is there is enough', async (t) => {
	const server = await startServer(t);
	const servers = [`127.0.0.1:${await freePort()}`, server.url, `127.0.0.1:${await freePort()}`];
	const { caller } = await pair(t, { a: () => 1 }, { servers });
	assert.equal(await caller.request('svc.a'), 1);
});

test('every form of an address connects', async (t) => {
	const server = await startServer(t);
	for (const servers of [
		server.url, [server.url], `127.0.0.1:${server.port}`, `localhost:${server.port}`
	]) {
		const picom = open(t, 'svc', { servers });
		await picom.connect();
		await picom.close();
	}
});

test('over WebSocket', async (t) => {
	const port = await freePort();
	await startServer(t, `websocket { host: "127.0.0.1", port: ${port}, no_tls: true }`);
	const { caller } = await pair(t, { echo: (n) => n }, { servers: `ws://127.0.0.1:${port}` });
	assert.deepEqual(await caller.request('svc.echo', { a: 'größe' }), { a: 'größe' });
});

test('a peer that is no nats-server is an error with a text, and no more', async (t) => {
	const net = require('node:net');
	for (const greeting of ['HTTP/1.1 400 Bad Request\r\n\r\n', 'INFO not json\r\n', '\0\0\0\0', 'x'.repeat(9999)]) {
		const server = net.createServer((socket) => {
			socket.on('error', () => {});
			socket.end(greeting);
		});
		await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
		const picom = new Picom('svc', { servers: `127.0.0.1:${server.address().port}`, retries: 0 });
		await rejects(picom.connect(), 'PICOM_CONNECT_FAILED', /Cannot connect to 127/);
		await picom.close();
		server.close();
	}
});

test('the server knows the connection by the name of the service', async (t) => {
	const port = await freePort();
	const server = await startServer(t, `http: 127.0.0.1:${port}`);
	const picom = open(t, 'shop.orders', { servers: server.url });
	await picom.connect();
	const response = await fetch(`http://127.0.0.1:${port}/connz`);
	const { connections } = await response.json();
	assert.ok(connections.some(({ name }) => name === 'shop.orders'));
});
