'use strict';

// What a handler gets and what a caller gets: messages, replies, and "nothing".

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { pair, rejects, startServer } = require('./support');

const json = [
	0, -0.5, 1e21, false, true, null, '', 'text', 'größe 🎉', '\ud800', 'a\nb\r\n\u2028\0', [], {},
	[[[]]], { a: { b: [1, 'x', null] } }, [1, 2, 3], 'x'.repeat(100000), { payload: 1, error: 2 },
	JSON.parse('{"__proto__": 1, "constructor": 2}'), { then: 'not a function' }
];

test('every JSON value arrives as it left, in both directions', async (t) => {
	const server = await startServer(t);
	for (const servers of [server.url, undefined]) {
		const got = [];
		const { caller } = await pair(t, {
			echo(message) {
				got.push(message);
				return message;
			}
		}, servers && { servers });
		for (const value of json) {
			assert.deepEqual(await caller.request('svc.echo', value), value);
			assert.deepEqual(got.at(-1), value);
		}
	}
});

test('a handler may return plainly, a promise, a thenable, or be async', async (t) => {
	const { caller } = await pair(t, {
		plain: () => 1,
		promise: () => new Promise((resolve) => setImmediate(resolve, 2)),
		thenable: () => ({ then: (resolve) => resolve(3) }),
		callable: () => Object.assign(() => {}, { then: (resolve) => resolve(4) }),
		async: async () => 5,
		nested: async () => ({ then: (resolve) => resolve(6) })
	});
	const names = ['plain', 'promise', 'thenable', 'callable', 'async', 'nested'];
	const replies = await Promise.all(names.map((name) => caller.request(`svc.${name}`)));
	assert.deepEqual(replies, [1, 2, 3, 4, 5, 6]);
});

test('a thenable may fail in every way it can, and the caller hears of it', async (t) => {
	const { caller } = await pair(t, {
		rejects: () => ({ then: (resolve, reject) => reject(new Error('said no')) }),
		throws: () => ({ then() { throw new Error('threw'); } }),
		getter: () => Object.defineProperty({}, 'then', { get() { throw new Error('get'); } }),
		twice: () => ({ then(resolve, reject) { resolve(1); reject(new Error('late')); } }),
		fine: () => 'fine'
	});
	// At once, so that they share a batch: none may take another with it.
	const all = await Promise.allSettled(['rejects', 'throws', 'getter', 'twice', 'fine'].map(
		(name) => caller.request(`svc.${name}`, null, { timeout: 2000 })
	));
	assert.deepEqual(all.map(({ value, reason }) => value ?? reason.message), [
		'said no', 'threw', 'get', 1, 'fine'
	]);
});

test('what JSON does not know is "nothing": undefined, functions and symbols', async (t) => {
	const got = [];
	const { caller } = await pair(t, {
		nothing() {},
		undefined: () => undefined,
		function: () => () => {},
		symbol: () => Symbol('x'),
		null: () => null,
		keep: (message) => { got.push(message); }
	});
	for (const name of ['nothing', 'undefined', 'function', 'symbol']) {
		assert.equal(await caller.request(`svc.${name}`), undefined);
	}
	assert.equal(await caller.request('svc.null'), null);
	// No message is null for the handler, as in 0.6.
	for (const message of [undefined, () => {}, Symbol('x'), null]) {
		await caller.request('svc.keep', message);
	}
	await caller.request('svc.keep');
	assert.deepEqual(got, [null, null, null, null, null]);
});

test('toJSON is used, and may use the instance itself', async (t) => {
	const { caller } = await pair(t, { echo: (message) => message });
	let inner;
	const message = {
		toJSON() {
			inner = caller.request('svc.echo', 'inner');
			return 'outer';
		}
	};
	assert.equal(await caller.request('svc.echo', message), 'outer');
	assert.equal(await inner, 'inner');
	assert.equal(await caller.request('svc.echo', new Date(0)), '1970-01-01T00:00:00.000Z');
});

test('messages that JSON cannot hold reject with a typed error, and nothing else suffers', async (t) => {
	const { caller } = await pair(t, { echo: (message) => message });
	const cycle = {};
	cycle.self = cycle;
	let deep = [];
	for (let depth = 0; depth < 1e6; depth++) deep = [deep];
	const hostile = [
		1n, { a: [1n] }, cycle, deep,
		{ toJSON() { throw new Error('refuses'); } },
		{ toJSON() { throw Symbol('odd'); } },
		{ toJSON() { throw Object.create(null); } },
		{ get a() { throw null; } }
	];
	for (const message of hostile) {
		const good = caller.request('svc.echo', 'good');
		for (const call of ['request', 'publish']) {
			const error = await rejects(
				caller[call]('svc.echo', message), 'PICOM_INVALID_MESSAGE', /cannot be written as JSON/
			);
			assert.equal(error.status, 1010);
		}
		assert.equal(await good, 'good');
	}
});

test('replies that JSON cannot hold fail the call, and the service goes on', async (t) => {
	const { service, caller } = await pair(t, {
		bigint: () => 1n,
		cycle() {
			const cycle = {};
			cycle.self = cycle;
			return cycle;
		},
		later: async () => ({ n: [1n] }),
		getter: () => ({ get a() { throw new Error('refuses'); } }),
		fine: () => 1
	});
	const heard = [];
	service.on('error', (error) => heard.push(error.message));
	const expected = { bigint: /BigInt/, cycle: /circular/, later: /BigInt/, getter: /refuses/ };
	for (const [name, text] of Object.entries(expected)) {
		const good = caller.request('svc.fine');
		await rejects(caller.request(`svc.${name}`), 'PICOM_HANDLER_FAILED', text);
		assert.match(heard.at(-1), text);
		assert.equal(await good, 1);
	}
});
