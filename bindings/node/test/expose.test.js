'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const vm = require('node:vm');
const { Picom, connectRaw, newBus, open, pair, promised, rejects, startServer } = require('./support');

const notFound = (promise) => rejects(promise, 'PICOM_METHOD_NOT_FOUND', /^Method not found "/);

test('a name that no subject can carry does not move the others', async (t) => {
	const service = open(t, 'svc', { servers: newBus() });
	await service.expose({ '\ud800': () => 'nobody', add: () => 'add' });
	await service.expose({ sub: () => 'sub' });
	assert.equal(await service.request('svc.sub'), 'sub');
	assert.equal(await service.request('svc.add'), 'add');
});

test('own functions and those of the class chain are exposed', async (t) => {
	class Base {
		base() { return `base of ${this.name}`; }

		overridden() { return 'base'; }
	}
	class Methods extends Base {
		constructor() {
			super();
			this.name = 'me';
			this.own = () => `own of ${this.name}`;
			this.value = 'not a function';
		}

		method() { return `method of ${this.name}`; }

		overridden() { return `derived, over ${super.overridden()}`; }

		get getter() { return () => `getter of ${this.name}`; }

		static outside() {}
	}
	Object.defineProperty(Methods.prototype, 'hidden', { value: () => 'hidden', enumerable: false });
	const { caller } = await pair(t, new Methods());
	assert.equal(await caller.request('svc.base'), 'base of me');
	assert.equal(await caller.request('svc.own'), 'own of me');
	assert.equal(await caller.request('svc.method'), 'method of me');
	assert.equal(await caller.request('svc.overridden'), 'derived, over base');
	assert.equal(await caller.request('svc.getter'), 'getter of me');
	assert.equal(await caller.request('svc.hidden'), 'hidden');
	await notFound(caller.request('svc.value'));
	await notFound(caller.request('svc.name'));
	await notFound(caller.request('svc.outside'));
});

test('nobody can call what every object has', async (t) => {
	class Methods { real() { return 1; } }
	const names = [
		'constructor', '__proto__', 'prototype', 'hasOwnProperty', 'toString', 'valueOf',
		'isPrototypeOf', '__defineGetter__', '__lookupSetter__', 'toLocaleString', 'call', 'apply'
	];
	for (const methods of [new Methods(), { real: () => 1 }, vm.runInNewContext('({real: () => 1})')]) {
		const { caller } = await pair(t, methods);
		for (const name of names) {
			await notFound(caller.request(`svc.${name}`));
		}
		assert.equal(await caller.request('svc.real'), 1);
	}
});

test('names of Object.prototype that a program defines itself are its own', async (t) => {
	const own = Object.create(null);
	own.toString = () => 'text';
	own.constructor = () => 'made';
	Object.defineProperty(own, '__proto__', { value: () => 'proto', enumerable: true });
	class Methods { hasOwnProperty() { return 'mine'; } }
	const { service, caller } = await pair(t, own);
	await service.expose(new Methods());
	assert.equal(await caller.request('svc.toString'), 'text');
	assert.equal(await caller.request('svc.constructor'), 'made');
	assert.equal(await caller.request('svc.__proto__'), 'proto');
	assert.equal(await caller.request('svc.hasOwnProperty'), 'mine');
});

test('a function that is replaced, added or removed later takes effect', async (t) => {
	const methods = { a: () => 1 };
	const { caller } = await pair(t, methods);
	assert.equal(await caller.request('svc.a'), 1);
	methods.a = () => 2;
	assert.equal(await caller.request('svc.a'), 2);
	methods.b = () => 3;
	assert.equal(await caller.request('svc.b'), 3);
	delete methods.a;
	await notFound(caller.request('svc.a'));
	methods.b = 'no longer a function';
	await notFound(caller.request('svc.b'));
});

test('a second expose adds, and the latest object that has a name answers', async (t) => {
	const server = await startServer(t);
	const { service, caller } = await pair(t, { a: () => 1, b: () => 1 }, { servers: server.url });
	const second = { b: () => 2, c: () => 2 };
	await service.expose(second);
	assert.equal(await caller.request('svc.a'), 1);
	assert.equal(await caller.request('svc.b'), 2);
	assert.equal(await caller.request('svc.c'), 2);
	delete second.b;
	assert.equal(await caller.request('svc.b'), 1);
	await service.expose(second);
	// One subscription whatever is exposed, or a call would run twice.
	let ran = 0;
	await service.expose({ count: () => ++ran });
	assert.equal(await caller.request('svc.count'), 1);
	assert.equal(await caller.request('svc.count'), 2);
});

test('`this` is the object that was exposed', async (t) => {
	const methods = { self() { return this === methods; }, strict: (() => this === methods) };
	const { caller } = await pair(t, methods);
	assert.equal(await caller.request('svc.self'), true);
	assert.equal(await caller.request('svc.strict'), false);
});

test('a function with functions on it can be exposed', async (t) => {
	const methods = Object.assign(() => {}, { hi: () => 'there' });
	const { caller } = await pair(t, methods);
	assert.equal(await caller.request('svc.hi'), 'there');
	await notFound(caller.request('svc.apply'));
});

test('a handler gets the message, and nothing beside it', async (t) => {
	const { caller } = await pair(t, { count: (...all) => all.length });
	assert.equal(await caller.request('svc.count', { a: 1 }), 1);
	assert.equal(await caller.request('svc.count'), 1);
});

test('a getter that throws fails its own calls and no others', async (t) => {
	const { service, caller } = await pair(t, { fine: () => 1 });
	const target = { turned: () => 1, get broken() { throw new Error('broken'); } };
	await service.expose(target);
	Object.defineProperty(target, 'turned', { get() { throw new Error('turned'); } });
	// At once, so that they share a batch.
	const all = await Promise.allSettled(['broken', 'turned', 'fine'].map(
		(name) => caller.request(`svc.${name}`, null, { timeout: 2000 })
	));
	assert.deepEqual(all.map(({ value, reason }) => value ?? reason.message), ['broken', 'turned', 1]);
});

test('it resolves when a request is certain to find the method', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	for (let round = 0; round < 20; round++) {
		const service = new Picom(`ready${round}`, { servers: server.url });
		const began = performance.now();
		assert.equal(await service.expose({ hi: () => round }), undefined);
		if (round === 0) promised(t, 'connect and expose', 100, began);
		// From another connection, without a retry.
		const reply = await raw.request(`ready${round}.hi`, '');
		assert.equal(reply.body, `{"payload":${round}}`);
		await service.close();
	}
});

test('what is no object cannot be exposed', async (t) => {
	const picom = open(t, 'svc', { servers: newBus() });
	for (const wrong of [undefined, null, 5, 'text', true, 1n, Symbol('x')]) {
		await rejects(picom.expose(wrong), 'PICOM_INVALID_OPTION', /expose takes an object/);
	}
	await picom.expose({});
	await notFound(picom.request('svc.anything'));
});

test('a service name with dots keeps its methods', async (t) => {
	const servers = newBus();
	const service = open(t, 'shop.orders', { servers });
	await service.expose({ create: () => 'made' });
	assert.equal(await service.request('shop.orders.create'), 'made');
	await rejects(service.request('shop.create'), 'PICOM_NO_RESPONDER');
});

test('instances of one name share the calls, and each runs once', async (t) => {
	const server = await startServer(t);
	const ran = [0, 0];
	for (const which of [0, 1]) {
		const service = open(t, 'svc', { servers: server.url });
		await service.expose({ work: (n) => { ran[which]++; return n; } });
	}
	const caller = open(t, undefined, { servers: server.url });
	const calls = Array.from({ length: 400 }, (_, n) => caller.request('svc.work', n));
	assert.deepEqual(await Promise.all(calls), Array.from({ length: 400 }, (_, n) => n));
	assert.equal(ran[0] + ran[1], 400);
	assert.ok(ran[0] > 50 && ran[1] > 50, `${ran}`);
});
