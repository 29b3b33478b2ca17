'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Picom, connectRaw, newBus, open, pair, rejects, run, startServer } = require('./support');

test('an option of the wrong type throws, and names the option', () => {
	const text = [5, true, {}, [], 1n, () => {}, Symbol('x'), new Date(), new Map()];
	const number = ['100', true, {}, [], NaN, Infinity, -1, 1n, () => {}, Symbol('x'), 1e300];
	const wrong = {
		servers: [5, true, {}, [], [5], [[]], [null], '', 'http://h', 'nats://', ['memory://a', 'h'], 1n, () => {}],
		timeout: number, ttl: number, closeTimeout: number,
		retries: [...number, 1.5, 101],
		user: text, pass: text, token: text, nkey: text, credentials: text,
		inboxPrefix: [5, {}, '', 'a b', 'a.', '>', 'a*'],
		tls: ['yes', 5, [], 1n, () => {}, new Date(), new Map()]
	};
	for (const [name, values] of Object.entries(wrong)) {
		for (const value of values) {
			const shown = typeof value === 'object' ? JSON.stringify(value) : String(value);
			assert.throws(() => new Picom('svc', { [name]: value }), (error) => {
				assert.equal(error.code, 'PICOM_INVALID_OPTION', `${name}: ${shown}: ${error.stack}`);
				assert.equal(error.status, 1007);
				assert.match(error.message, new RegExp(name), shown);
				return true;
			}, `${name}: ${shown}`);
		}
	}
	for (const [name, value] of [
		['rejectUnauthorized', 'no'], ['serverName', 5], ['passphrase', {}], ['ca', 5], ['key', 5],
		['cert', [5]], ['ca', '/does/not/exist'], ['ca', 'nothing -----BEGIN of the kind']
	]) {
		assert.throws(() => new Picom('svc', { tls: { [name]: value } }), {
			code: 'PICOM_INVALID_OPTION', message: new RegExp(`tls\\.${name}|tls takes cert and key`)
		}, name);
	}
	assert.throws(() => new Picom('svc', { ttl: 0 }), { message: /Option ttl/ });
	assert.throws(() => new Picom('svc', { user: 'u' }), { message: /user/ });
});

test('what else a program passes is not looked into', () => {
	const cycle = { timeout: 5 };
	cycle.cycle = cycle;
	const logger = new Proxy({}, { get() { throw new Error('looked'); } });
	const picom = new Picom('svc', { ...cycle, logger: Object.create(logger), big: 1n, f() {} });
	assert.equal(picom.options.timeout, 5);
	assert.throws(() => new Picom('svc', { tls: cycle.tls, servers: cycle }), {
		code: 'PICOM_INVALID_OPTION', message: /Option servers/
	});
});

test('undefined and null mean the default', async () => {
	const names = [
		'timeout', 'ttl', 'retries', 'closeTimeout', 'tls', 'user', 'pass', 'token', 'nkey',
		'credentials', 'inboxPrefix', 'port'
	];
	for (const nothing of [undefined, null]) {
		const options = Object.fromEntries(names.map((name) => [name, nothing]));
		const picom = new Picom('svc', { ...options, servers: newBus() });
		assert.equal(picom.options.timeout, 30000);
		await picom.expose({ a: () => 1 });
		assert.equal(await picom.request('svc.a'), 1);
		await picom.close();
		assert.deepEqual(new Picom('svc', { servers: nothing }).options.servers, ['nats://127.0.0.1:4222']);
	}
});

test('an unknown option warns once by its name, and is ignored', async () => {
	const result = await run(`
		process.on('warning', (warning) => console.log(warning.name, warning.code, warning.message));
		const servers = 'memory://x';
		new Picom('a', { servers, consulHost: 'h', consulPort: 8500 });
		const picom = new Picom('b', { servers, consulHost: 'h', tls: { sni: 'x' } });
		new Picom('c', { servers, port: 5, name: 'x', ttl: 30, timeout: 5 });
		picom.expose({ hi: () => 'there' })
			.then(() => picom.request('b.hi'))
			.then(console.log)
			.then(() => picom.close());
	`);
	assert.deepEqual(result.stdout.trim().split('\n').sort(), [
		'PicomWarning PICOM_UNKNOWN_OPTION There is no option consulHost; it is ignored',
		'PicomWarning PICOM_UNKNOWN_OPTION There is no option consulPort; it is ignored',
		'PicomWarning PICOM_UNKNOWN_OPTION There is no option tls.sni; it is ignored',
		'there'
	]);
	assert.equal(result.code, 0);
});

test('inboxPrefix is where replies come', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const seen = [];
	await raw.subscribe('my.box.>', '', ({ body }) => seen.push(body));
	const { caller } = await pair(t, { a: () => 1 }, { servers: server.url, inboxPrefix: 'my.box' });
	assert.equal(await caller.request('svc.a'), 1);
	await raw.flush();
	assert.ok(seen.includes('{"payload":1}'));
	await rejects(caller.request('my.box.x'), 'PICOM_INVALID_NAME', /reserved/);
});

test('retries: 0 tries once', async (t) => {
	const server = await startServer(t);
	const caller = open(t, undefined, { servers: server.url, retries: 0 });
	await caller.connect();
	const began = performance.now();
	await rejects(caller.request('nobody.home'), 'PICOM_NO_RESPONDER');
	t.diagnostic(`one try took ${(performance.now() - began).toFixed(1)} ms`);
});

test('memory:// joins the instances of one process by name', async (t) => {
	const [one, two] = [newBus(), newBus()];
	await open(t, 'svc', { servers: one }).expose({ a: () => 1 });
	assert.equal(await open(t, undefined, { servers: [one] }).request('svc.a'), 1);
	await rejects(open(t, undefined, { servers: two }).request('svc.a'), 'PICOM_NO_RESPONDER');
});
