'use strict';

// Many calls share one native call and one JSON text. Nothing that a stranger sends may take
// another's place in it, and nothing that fails may take others with it.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { connectRaw, errorsOf, pair, startServer, until } = require('./support');

const deep = (open, close, depth) => open.repeat(depth) + close.repeat(depth);

// Bodies that are no JSON text, among them such as would shift the elements of an array.
const malformed = [
	'1],[2', '1,2', ']', '[', '],[', ',', '1]', '[1', '1,', ',1', '"', '"a', 'a"', '1 2', '{}{}',
	'{"a":1', '{"a":1}}', '1//', '/**/1', "'a'", 'undefined', 'NaN', 'Infinity', '01', '+1', '.5', '1.',
	'1e', '0x1', 'nul', 'True', '"\n"', '"\t"', '"\0"', '"\\x"', '"\\u12"', '\0', '1\0', '\ufeff1',
	'\u20281', '\v1', ' ', '\n', '{a:1}', '[1,]', '{"a":1,}', deep('[', '', 100000), deep('', ']', 1000),
	Buffer.from([0xff]), Buffer.from([0x22, 0xc3, 0x22]), Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
	Buffer.from([0x22, 0xc0, 0xaf, 0x22]), Buffer.from([0xff, 0xfe, 0x31, 0x00])
];

// Unusual and valid: each is one element.
const unusual = [
	[' 1 ', 1], ['\n[1]\r\n\t', [1]], ['"\\ud800"', '\ud800'], ['"],["', '],['], ['"\\n"', '\n'],
	['1e999', Infinity], ['-0', -0], ['"\u2028"', '\u2028'], ['{"__proto__":1}', JSON.parse('{"__proto__":1}')],
	['{"a":1,"a":2}', { a: 2 }], ['123456789012345678901234567890', 1.2345678901234568e29]
];

test('a body that is no JSON cannot shift a batch, and gets its answer', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const got = [];
	const { service, caller } = await pair(t, {
		echo: (n) => n,
		keep: (message) => { got.push(message); }
	}, { servers: server.url });
	const errors = errorsOf(service);
	await caller.connect();

	const good = [];
	const bad = [];
	let n = 0;
	for (let round = 0; round < 10; round++) {
		for (const body of malformed) {
			bad.push(raw.request('svc.keep', body));
			good.push(caller.request('svc.echo', { id: n++ }));
			// Nobody waits for this one.
			raw.publish('svc.keep', body);
			good.push(caller.request('svc.echo', { id: n++ }));
		}
	}
	for (const [at, reply] of (await Promise.all(good)).entries()) {
		assert.deepEqual(reply, { id: at });
	}
	for (const { body, headers } of await Promise.all(bad)) {
		assert.deepEqual(JSON.parse(body), { error: 'Bad JSON request', code: 400 });
		assert.match(headers, /Nats-Service-Error-Code: 400\r\n/);
	}
	assert.deepEqual(got, [], 'no handler ran');
	assert.deepEqual(errors, []);
});

test('unusual JSON is one element, in either direction', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const got = [];
	const { caller } = await pair(t, {
		echo: (n) => n,
		keep: (message) => { got.push(message); }
	}, { servers: server.url });
	await raw.subscribe('peer.*', '', ({ subject, reply }) => {
		raw.publish(reply, `{"payload":${unusual[subject.split('.')[1]][0]}}`);
	});
	const calls = [];
	for (const [at, [body]] of unusual.entries()) {
		raw.publish('svc.keep', body);
		calls.push(caller.request(`peer.${at}`), caller.request('svc.echo', at));
	}
	const replies = await Promise.all(calls);
	await until(() => got.length === unusual.length);
	for (const [at, [, value]] of unusual.entries()) {
		assert.deepEqual(got[at], value);
		assert.deepEqual(replies[at * 2], value);
		assert.equal(replies[at * 2 + 1], at);
	}
});

test('a reply that is no envelope cannot shift a batch, and rejects its own request', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const { caller } = await pair(t, { echo: (n) => n }, { servers: server.url });
	const broken = [
		...malformed, ...malformed.filter((body) => typeof body === 'string').map((body) => `{"payload":${body}}`),
		'[]', '1', 'null', '"x"', '{"payload":1}]', '{"payload":1},{"payload":2}'
	];
	await raw.subscribe('peer.*', '', ({ subject, reply }) => {
		raw.publish(reply, broken[subject.split('.')[1]]);
	});
	const calls = [];
	for (const at of broken.keys()) {
		calls.push(caller.request(`peer.${at}`), caller.request('svc.echo', at));
	}
	const settled = await Promise.allSettled(calls);
	for (const [at, body] of broken.entries()) {
		const { reason } = settled[at * 2];
		// A stray brace may happen to make another envelope of it; "nothing" is no error.
		assert.equal(reason?.code, 'PICOM_BAD_RESPONSE', `${JSON.stringify(body)}`);
		assert.equal(reason.message, 'Bad JSON response');
		assert.equal(reason.status, 1008);
		assert.equal(settled[at * 2 + 1].value, at);
	}
});

test('an empty body is no message, and an empty reply is nothing', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const { caller } = await pair(t, {
		isNull: (message) => message === null, nothing() {}
	}, { servers: server.url });
	assert.equal((await raw.request('svc.isNull', '')).body, '{"payload":true}');
	assert.equal((await raw.request('svc.isNull', 'null')).body, '{"payload":true}');
	assert.equal((await raw.request('svc.nothing', '')).body, '{}');
	await raw.subscribe('peer.empty', '', ({ reply }) => raw.publish(reply, ''));
	await raw.subscribe('peer.headers', '', ({ reply }) => raw.publish(reply, '', { headers: 'A: b' }));
	assert.equal(await caller.request('peer.empty'), undefined);
	assert.equal(await caller.request('peer.headers'), undefined);
});

test('messages nested as deeply as a body can hold', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const depth = 500000;
	const { caller } = await pair(t, {
		depth(message) {
			let levels = 0;
			for (let at = message; Array.isArray(at); at = at[0]) levels++;
			return levels;
		},
		echo: (message) => message,
		id: (n) => n
	}, { servers: server.url });
	const others = Array.from({ length: 20 }, (_, n) => caller.request('svc.id', n));
	const body = deep('[', ']', depth);
	assert.equal((await raw.request('svc.depth', body)).body, `{"payload":${depth}}`);
	// What V8 can read and cannot write is the handler's failure, and no more.
	const echoed = JSON.parse((await raw.request('svc.echo', body)).body);
	assert.match(echoed.error, /stack/i);
	assert.deepEqual(await Promise.all(others), Array.from({ length: 20 }, (_, n) => n));

	await raw.subscribe('peer.deep', '', ({ reply }) => raw.publish(reply, `{"payload":${body}}`));
	let levels = 0;
	for (let at = await caller.request('peer.deep'); Array.isArray(at); at = at[0]) levels++;
	assert.equal(levels, depth);
});

test('handlers that fail in one batch fail alone', async (t) => {
	const { caller } = await pair(t, {
		work(n) {
			if (n % 5 === 0) throw new Error(`sync ${n}`);
			if (n % 5 === 1) return Promise.reject(new Error(`async ${n}`));
			if (n % 5 === 2) return BigInt(n);
			return n;
		}
	});
	const calls = Array.from({ length: 2000 }, (_, n) => caller.request(n % 7 ? 'svc.work' : 'svc.none', n));
	for (const [n, { value, reason }] of (await Promise.allSettled(calls)).entries()) {
		if (n % 7 === 0) assert.equal(reason.code, 'PICOM_METHOD_NOT_FOUND');
		else if (n % 5 === 0) assert.equal(reason.message, `sync ${n}`);
		else if (n % 5 === 1) assert.equal(reason.message, `async ${n}`);
		else if (n % 5 === 2) assert.match(reason.message, /BigInt/);
		else assert.equal(value, n);
	}
});

test('calls with text of one and of several bytes a character share batches', async (t) => {
	const { caller } = await pair(t, { echo: (n) => n });
	const texts = ['ascii', 'größe', '漢字', '🎉', '', '\u007f\u0080', 'é'];
	const calls = Array.from({ length: 3000 }, (_, n) => caller.request('svc.echo', texts[n % 7] + n));
	for (const [n, reply] of (await Promise.all(calls)).entries()) assert.equal(reply, texts[n % 7] + n);
});
