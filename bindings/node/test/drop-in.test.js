'use strict';

// Programs as they were written for picom 0.6.

const assert = require('node:assert/strict');
const EventEmitter = require('node:events');
const { test } = require('node:test');
const util = require('node:util');
const { Picom, newBus, rejects, run, startServer } = require('./support');

test('a program of 0.6 runs unchanged', async (t) => {
	const server = await startServer(t);
	const servers = [server.url];
	const service = new Picom('math', { servers, timeout: 2000 });
	const caller = new Picom('caller', { servers });
	const thrown = [];
	service.on('error', (error) => thrown.push(error));

	await service.connect();
	service.expose({
		add: ({ a, b }) => Promise.resolve(a + b),
		fail: () => Promise.reject('no'),
		log(message) {
			this.last = message;
			return Promise.resolve();
		},
		logged() {
			return Promise.resolve(this.last);
		}
	});
	await caller.connect();
	// 0.6 gave no promise to wait for: its programs call as soon as they like.
	assert.equal(await caller.request('math.add', { a: 1, b: 2 }), 3);
	assert.equal(await caller.request('math.add', { a: 1, b: 2 }, { timeout: 500 }), 3);
	await assert.rejects(caller.request('math.fail', {}), { message: 'no' });
	await assert.rejects(caller.request('math.none', {}), { message: 'Method not found "none"' });
	await caller.publish('math.log', { text: 'x' });
	assert.deepEqual(await caller.request('math.logged', {}), { text: 'x' });
	assert.deepEqual(thrown, ['no']);
	service.close();
	caller.close();
});

test('inheritance by Picom.call and util.inherits', async () => {
	function Service(name, options) {
		Picom.call(this, name, options);
		this.own = 1;
	}
	util.inherits(Service, Picom);
	Service.prototype.double = function double(number) {
		return this.request('old.times', { number, by: 2 });
	};

	const service = new Service('old', { servers: newBus(), timeout: 77 });
	assert.ok(service instanceof Picom && service instanceof EventEmitter);
	assert.equal(service.serviceName, 'old');
	assert.equal(service.options.timeout, 77);
	assert.equal(service.own, 1);
	await service.expose({ times: ({ number, by }) => number * by });
	assert.equal(await service.double(21), 42);
	await service.close();
	assert.throws(() => new Service('old', 'text'), { message: 'Options must be an object' });
});

test('inheritance by classes, which may expose themselves', async () => {
	class Base extends Picom {
		inherited() {
			return `base ${this.serviceName}`;
		}
	}
	class Service extends Base {
		constructor(servers) {
			super('es6', { servers });
			this.greeting = 'hello';
		}

		greet(name) {
			return `${this.greeting} ${name}`;
		}
	}
	const service = new Service(newBus());
	assert.ok(service instanceof Service && service instanceof Picom);
	await service.expose(service);
	assert.equal(await service.request('es6.greet', 'you'), 'hello you');
	assert.equal(await service.request('es6.inherited'), 'base es6');
	for (const own of ['close', 'expose', 'request', 'emit', 'on']) {
		await rejects(service.request(`es6.${own}`), 'PICOM_METHOD_NOT_FOUND');
	}
	await service.close();
});

test('connect is optional, may be called at any time and more than once', async () => {
	const picom = new Picom('svc', { servers: newBus() });
	const returned = picom.connect();
	assert.ok(returned instanceof Promise);
	assert.equal(await returned, undefined);
	await Promise.all([picom.connect(), picom.connect()]);
	await picom.expose({ hi: () => 1 });
	assert.equal(await picom.request('svc.hi'), 1);
	await picom.close();
});

test('a service that calls itself and others works in one process', async () => {
	const servers = newBus();
	const one = new Picom('one', { servers });
	const two = new Picom('two', { servers });
	await one.expose({ up: async (n) => n > 5 ? n : two.request('two.up', n + 1) });
	await two.expose({ up: async (n) => one.request('one.up', n + 1) });
	assert.equal(await one.request('one.up', 0), 6);
	await Promise.all([one.close(), two.close()]);
});

test('an error listener in a program of 0.6 hears of a server that is not there', async () => {
	const result = await run(`
		const picom = new Picom('svc', { servers: ['nats://127.0.0.1:1'] });
		picom.on('error', (error) => {
			console.log(error instanceof Error, error.code);
			process.exit(7);
		});
		picom.connect();
		picom.expose({ a() {} });
	`);
	assert.equal(result.code, 7, result.stderr);
	assert.equal(result.stdout, 'true PICOM_CONNECT_FAILED\n');
});
