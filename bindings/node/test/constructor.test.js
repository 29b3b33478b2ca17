'use strict';

const assert = require('node:assert/strict');
const EventEmitter = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const vm = require('node:vm');
const { Picom, newBus, open, rejects } = require('./support');

test('options that are not a plain object throw, in the words of 0.6', () => {
	class Options {}
	const wrong = [
		'nats://h', 5, true, [], () => {}, new Options(), new Date(), new Map(), Symbol('x'), 1n,
		Buffer.from('x'), new EventEmitter(), /x/, new Error('x'), Promise.resolve(),
		Object.create({ timeout: 1 })
	];
	for (const options of wrong) {
		assert.throws(() => new Picom('svc', options), { message: 'Options must be an object' });
	}
});

test('plain objects of every origin are options, and so is nothing', () => {
	for (const options of [undefined, null, {}, Object.create(null), vm.runInNewContext('({})')]) {
		assert.equal(new Picom('svc', options).serviceName, 'svc');
	}
});

test('serviceName, options.timeout, options.servers and options.name can be read', () => {
	const plain = new Picom('svc');
	assert.equal(plain.serviceName, 'svc');
	assert.equal(plain.options.name, 'svc');
	assert.equal(plain.options.timeout, 30000);
	assert.deepEqual(plain.options.servers, ['nats://127.0.0.1:4222']);

	const servers = ['nats://10.0.0.1:4222', '10.0.0.2:4222'];
	const given = new Picom('other', { servers, timeout: 1234, retries: 1, name: 'ignored' });
	assert.equal(given.options.timeout, 1234);
	assert.deepEqual(given.options.servers, servers);
	assert.equal(given.options.retries, 1);
	assert.equal(given.options.name, 'other');
	assert.equal(new Picom('one', { servers: 'h:1' }).options.servers, 'h:1');
});

test('the options that were given are not changed', () => {
	const given = Object.freeze({ timeout: 5 });
	const picom = new Picom('svc', given);
	picom.options.timeout = 6;
	assert.deepEqual(given, { timeout: 5 });
});

test('it can be called without new', () => {
	const picom = Picom('svc', { timeout: 5 });
	assert.ok(picom instanceof Picom);
	assert.ok(picom instanceof EventEmitter);
	assert.equal(picom.options.timeout, 5);
});

test('the export is the class, and carries itself under both names that modules use', () => {
	assert.equal(typeof Picom, 'function');
	assert.equal(Picom.Picom, Picom);
	assert.equal(Picom.default, Picom);
	assert.equal(Picom.name, 'Picom');
	assert.equal(Picom.current(), undefined);
	assert.ok(Picom.PicomError.prototype instanceof Error);
});

test('a service name that cannot be addressed throws at once', () => {
	const wrong = [
		5, {}, [], true, 'a b', 'a..b', '.a', 'a.', 'a*', '>', 'a\r\nb', 'a\0b', 'x'.repeat(4096),
		'_INBOX', '_picom', '_picomx.y', '$SYS', '\t'
	];
	for (const name of wrong) {
		assert.throws(() => new Picom(name), (error) => {
			assert.equal(error.code, 'PICOM_INVALID_NAME');
			assert.equal(error.status, 1006);
			assert.ok(error instanceof Picom.PicomError);
			assert.ok(error.message.length < 400 && !/[\r\n\0]/.test(error.message));
			return true;
		}, String(name));
	}
	for (const name of ['orders', 'shop.orders', 'größe', 'constructor', '__proto__']) {
		assert.equal(new Picom(name).serviceName, name);
	}
});

test('without a name it calls, and exposes nothing', async (t) => {
	const servers = newBus();
	const service = open(t, 'svc', { servers });
	await service.expose({ hello: () => 'hi' });
	for (const name of [undefined, null]) {
		const caller = open(t, name, { servers });
		assert.equal(await caller.request('svc.hello'), 'hi');
		await rejects(caller.expose({ a() {} }), 'PICOM_INVALID_NAME', /without a name/);
	}
});

test('the constructor does not connect, and the first use does', async (t) => {
	const connections = [];
	const server = net.createServer((socket) => connections.push(socket.on('error', () => {})));
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
	t.after(() => {
		connections.forEach((socket) => socket.destroy());
		server.close();
	});
	const servers = `127.0.0.1:${server.address().port}`;
	const idle = new Picom('idle', { servers });
	const used = open(t, 'used', { servers, timeout: 200 });
	const came = new Promise((resolve) => server.once('connection', resolve));
	await rejects(used.request('a.b'), 'PICOM_TIMED_OUT');
	await came;
	assert.equal(connections.length, 1);
	assert.equal(idle.serviceName, 'idle');
});
