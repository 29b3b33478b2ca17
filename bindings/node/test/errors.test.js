'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const vm = require('node:vm');
const { Picom, connectRaw, errorsOf, pair, rejects, run, startServer, until } = require('./support');

// What a handler may fail with, and the text that the caller gets.
const own = Object.assign(new Error('own fields'), { code: 7, list: [1] });
const named = new TypeError('typed');
const cyclic = new Error('cyclic');
cyclic.self = cyclic;
const unreadable = new Proxy({}, { get() { throw new Error('no'); }, getPrototypeOf() { throw 1; } });
const thrown = [
	['text', 'text'],
	['', 'Handler failed'],
	['line\nbreak\r\nand "quotes"', 'line\nbreak\r\nand "quotes"'],
	[new Error('plain'), 'plain'],
	[new Error(''), 'Handler failed'],
	[new Error('two\nlines'), 'two\nlines'],
	[named, 'typed'],
	[own, 'own fields {"code":7,"list":[1]}', { code: 7, list: [1] }],
	[Object.assign(new Error(''), { code: 1 }), '{"code":1}', { code: 1 }],
	[cyclic, 'cyclic'],
	[Object.assign(new Error('big'), { n: 1n }), 'big'],
	[Object.defineProperty(new Error(), 'message', { get() { throw own; } }), 'Handler failed'],
	[Object.assign(new Error('x'), { message: Symbol('s') }), 'Symbol(s)'],
	[vm.runInNewContext('new Error("other realm")'), 'other realm'],
	[undefined, 'Handler failed'],
	[null, 'null'],
	[0, '0'],
	[false, 'false'],
	[5, '5'],
	[{ a: 1 }, '{"a":1}'],
	[[], '[]'],
	[1n, '1'],
	[Symbol('s'), 'Symbol(s)'],
	[Object.create(null), '{}'],
	[unreadable, 'Handler failed'],
	['\ud800', '\ufffd'],
	['größe 🎉', 'größe 🎉']
];

test('whatever a handler throws reaches the caller as text, and the error event as it was', async (t) => {
	const { service, caller } = await pair(t, {
		sync(at) { throw thrown[at][0]; },
		async: (at) => Promise.reject(thrown[at][0])
	});
	const errors = errorsOf(service);
	for (const [at, [value, text, details]] of thrown.entries()) {
		for (const name of ['sync', 'async']) {
			const error = await rejects(caller.request(`svc.${name}`, at), 'PICOM_HANDLER_FAILED');
			assert.equal(error.message, text);
			assert.equal(error.status, 500);
			assert.deepEqual(error.details, details);
			assert.equal('details' in error, details !== undefined);
			assert.equal(error.name, 'PicomError');
			assert.match(error.stack, /PicomError/);
			assert.ok(Object.is(errors.pop(), value), 'the same value, not a copy');
			assert.equal(errors.length, 0);
		}
	}
});

test('the reply is sent when nobody listens for the error, and the process goes on', async () => {
	const result = await run(`
		const servers = 'memory://x';
		const service = new Picom('svc', { servers });
		const caller = new Picom(null, { servers });
		service.expose({
			sync() { throw new Error('one'); },
			async: () => Promise.reject(),
			published() { throw new Error('unheard'); },
			fine: () => 'fine'
		});
		(async () => {
			await caller.publish('svc.published');
			for (const name of ['sync', 'async', 'none', 'fine']) {
				console.log(await caller.request('svc.' + name).catch((e) => e.code + ' ' + e.message));
			}
			service.close();
			caller.close();
		})();
	`);
	assert.equal(result.stdout, [
		'PICOM_HANDLER_FAILED one', 'PICOM_HANDLER_FAILED Handler failed',
		'PICOM_METHOD_NOT_FOUND Method not found "none"', 'fine', ''
	].join('\n'));
	assert.equal(result.stderr, '');
	assert.equal(result.code, 0);
});

test('promises that nobody looks at end no process', async () => {
	const result = await run(`
		const none = { servers: '127.0.0.1:1', retries: 0, timeout: 50, closeTimeout: 50 };
		const picom = new Picom('svc', none);
		picom.connect();
		picom.expose({ a() {} });
		picom.publish('a.b', 1);
		picom.publish('bad target');
		picom.publish('a.b', 1n);
		picom.expose(5);
		new Picom(null, none).expose({});
		const closed = new Picom('closed', { servers: 'memory://x' });
		closed.close();
		closed.close();
		closed.connect();
		closed.expose({});
		closed.publish('a.b');
		setTimeout(() => {
			console.log('still here');
			picom.close();
		}, 500);
	`);
	assert.equal(result.stderr, '');
	assert.equal(result.stdout, 'still here\n');
	assert.equal(result.code, 0);
});

test('a rejected request that nobody looks at is a bug of the program, and shows', async () => {
	const result = await run('new Picom(null, { servers: "memory://x" }).request("a.b");');
	assert.equal(result.code, 1);
	assert.match(result.stderr, /PICOM_NO_RESPONDER/);
});

test('an error listener that throws loses no other call, and its own error is raised', async () => {
	const result = await run(`
		const servers = 'memory://x';
		const service = new Picom('svc', { servers });
		const caller = new Picom(null, { servers });
		const raised = [];
		process.on('uncaughtException', (error) => raised.push(error.message));
		service.on('error', (error) => { throw new Error('listener of ' + error.message); });
		service.expose({
			fail(n) { throw new Error('f' + n); },
			async later(n) { throw new Error('l' + n); },
			fine: (n) => n
		}).then(async () => {
			const calls = [];
			for (let n = 0; n < 30; n++) {
				calls.push(caller.request('svc.' + ['fail', 'later', 'fine'][n % 3], n));
			}
			const settled = await Promise.allSettled(calls);
			await new Promise(setImmediate);
			console.log(settled.map((s) => s.value ?? s.reason.message).join());
			console.log(raised.length, raised.sort()[0]);
			service.close();
			caller.close();
		});
	`);
	const expected = Array.from({ length: 30 }, (_, n) => ['f', 'l', ''][n % 3] + n);
	assert.equal(result.stdout, `${expected.join()}\n20 listener of f0\n`, result.stderr);
	assert.equal(result.code, 0);
});

test('without a handler for it, what an error listener throws ends the process as ever', async () => {
	const result = await run(`
		const service = new Picom('svc', { servers: 'memory://x' });
		service.on('error', () => { throw new Error('from the listener'); });
		service.expose({ fail() { throw new Error('x'); } });
		service.publish('svc.fail');
	`);
	assert.equal(result.code, 1);
	assert.match(result.stderr, /from the listener/);
});

test('an error that a peer describes is taken as far as it can be', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const { caller } = await pair(t, {}, { servers: server.url });
	let body;
	await raw.subscribe('peer.*', '', ({ reply }) => raw.publish(reply, body));
	for (const [reply, code, status, message, details] of [
		['{"error":"text"}', 'PICOM_HANDLER_FAILED', 500, 'text'],
		['{"error":""}', 'PICOM_HANDLER_FAILED', 500, 'Handler failed'],
		['{"error":"Method not found \\"x\\""}', 'PICOM_METHOD_NOT_FOUND', 404, 'Method not found "x"'],
		['{"error":"Bad JSON request"}', 'PICOM_BAD_REQUEST', 400, 'Bad JSON request'],
		['{"error":"x","code":499}', 'PICOM_CANCELLED', 499, 'x'],
		['{"error":"x","code":1004}', 'PICOM_HANDLER_FAILED', 1004, 'x'],
		['{"error":"x","code":"odd"}', 'PICOM_HANDLER_FAILED', 500, 'x'],
		['{"error":"x","code":500,"details":{"a":1}}', 'PICOM_HANDLER_FAILED', 500, 'x', { a: 1 }],
		['{"error":false}', 'PICOM_HANDLER_FAILED', 500, 'false'],
		['{"error":{"a":1}}', 'PICOM_HANDLER_FAILED', 500, '{"a":1}'],
		['{"error":"\\ud800"}', 'PICOM_HANDLER_FAILED', 500, '"\\ud800"']
	]) {
		body = reply;
		const error = await rejects(caller.request('peer.x'), code);
		assert.deepEqual([error.status, error.message, error.details], [status, message, details]);
	}
	for (const [reply, value] of [
		['{"error":null,"payload":1}', 1], ['{"payload":null}', null], ['{}', undefined],
		['', undefined], ['{"x":1}', undefined], [' {"payload" : 2 } ', 2]
	]) {
		body = reply;
		assert.equal(await caller.request('peer.x'), value);
	}
});

test('the documented numbers belong to the codes', async (t) => {
	const { caller } = await pair(t, { fail() { throw new Error('x'); } });
	const error = await rejects(caller.request('svc.fail'), 'PICOM_HANDLER_FAILED');
	assert.equal(error.status, 500);
	assert.ok(error instanceof Picom.PicomError);
	assert.equal(Object.prototype.toString.call(error), '[object Error]');
	const text = JSON.parse(JSON.stringify(error));
	assert.deepEqual(text, { code: 'PICOM_HANDLER_FAILED', status: 500 });
	await until(() => true);
});
