'use strict';

// Subjects without permission: each failure is typed, names the subject, and harms nothing else.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { errorsOf, event, open, promised, rejects, startServer, until } = require('./support');

const user = (name, permissions) =>
	`{ user: ${name}, pass: ${name}, permissions: { ${permissions} } }`;

const config = `authorization { users: [
	{ user: all, pass: all }
	${user('caller', 'publish: { deny: ["no.>", "svc.none"] }')}
	${user('mute', 'subscribe: { deny: ["_INBOX.>"] }')}
	${user('ownbox', 'subscribe: ["mine.>"], publish: ["svc.>", "mine.>"]')}
	${user('old', 'publish: ["_INBOX.>"], subscribe: ["svc.>", "_INBOX.>"]')}
	${user('noservice', 'subscribe: ["_INBOX.>", "other.>"]')}
	${user('noreply', 'publish: { deny: ["_INBOX.>"] }')}
	${user('allowed', 'subscribe: ["svc.>", "_INBOX.>"], publish: { deny: [">"] }, allow_responses: true')}
] }`;

async function setUp(t) {
	const server = await startServer(t, config);
	const as = (who, name, options) =>
		open(t, name, { servers: server.url, user: who, pass: who, timeout: 3000, ...options });
	return as;
}

test('a request to a subject without permission rejects at once, and others go on', async (t) => {
	const as = await setUp(t);
	await as('all', 'svc').expose({ echo: (n) => n });
	const caller = as('caller');
	await caller.connect();
	const good = [];
	const bad = [];
	const began = performance.now();
	for (let n = 0; n < 50; n++) {
		good.push(caller.request('svc.echo', n));
		bad.push(caller.request('no.way', n));
	}
	for (const call of bad) {
		const error = await rejects(call, 'PICOM_PERMISSION_DENIED', /publish to no\.way/);
		assert.equal(error.status, 1003);
	}
	promised(t, '50 refusals', 100, began);
	assert.deepEqual(await Promise.all(good), Array.from({ length: 50 }, (_, n) => n));
	await rejects(caller.request('svc.none'), 'PICOM_PERMISSION_DENIED', /svc\.none/);
	assert.equal(await caller.request('svc.echo', 1), 1);
});

test('a publish to a subject without permission rejects, and others go on', async (t) => {
	const as = await setUp(t);
	const caller = as('caller');
	const settled = await Promise.allSettled([
		caller.publish('svc.a'), caller.publish('no.way'), caller.publish('svc.b'),
		caller.publish('svc.none'), caller.publish('no.way')
	]);
	assert.deepEqual(settled.map(({ reason }) => reason?.code), [
		undefined, 'PICOM_PERMISSION_DENIED', undefined, 'PICOM_PERMISSION_DENIED',
		'PICOM_PERMISSION_DENIED'
	]);
	assert.match(settled[1].reason.message, /publish to no\.way/);
});

test('odd names in a refusal are recognised', async (t) => {
	const as = await setUp(t);
	const caller = as('caller');
	for (const target of ['no.a"b', 'no."', "no.'", 'no.größe', 'no.a\\b', 'no.\u200b', `no.${'x'.repeat(900)}`]) {
		await rejects(caller.request(target), 'PICOM_PERMISSION_DENIED');
		await rejects(caller.publish(target), 'PICOM_PERMISSION_DENIED');
	}
});

test('an expose without permission rejects, tells the error event, and requests still work', async (t) => {
	const as = await setUp(t);
	await as('all', 'other').expose({ a: () => 1 });
	const service = as('noservice', 'svc');
	const heard = event(service, 'error');
	const error = await rejects(service.expose({ a() {} }), 'PICOM_PERMISSION_DENIED', /svc\.>/);
	assert.match(error.message, /may not subscribe/);
	assert.equal((await heard).code, 'PICOM_PERMISSION_DENIED');
	await rejects(service.expose({ b() {} }), 'PICOM_PERMISSION_DENIED', /svc\.>/);
	assert.equal(await service.request('other.a'), 1);
});

test('without permission for the inbox every call says so, and inboxPrefix helps', async (t) => {
	const as = await setUp(t);
	await as('all', 'svc').expose({ a: () => 1 });
	const mute = as('mute');
	const began = performance.now();
	const error = await rejects(mute.request('svc.a'), 'PICOM_PERMISSION_DENIED', /inboxPrefix/);
	assert.match(error.message, /_INBOX\./);
	promised(t, 'a refused inbox', 100, began);
	await rejects(mute.request('svc.a'), 'PICOM_PERMISSION_DENIED', /inboxPrefix/);

	await rejects(as('ownbox').request('svc.a'), 'PICOM_PERMISSION_DENIED', /inboxPrefix/);
	const own = as('ownbox', undefined, { inboxPrefix: 'mine' });
	assert.equal(await own.request('svc.a'), 1);
	await own.publish('svc.a');
});

test('the permissions of old deployments are enough', async (t) => {
	const as = await setUp(t);
	const service = as('old', 'svc');
	const errors = errorsOf(service);
	await service.expose({ a: () => 1, fail() { throw new Error('x'); } });
	const caller = as('all');
	assert.equal(await caller.request('svc.a'), 1);
	await rejects(caller.request('svc.fail'), 'PICOM_HANDLER_FAILED');
	assert.deepEqual(errors.map(({ message }) => message), ['x']);
	await service.close();

	// One reply for each request is what a service needs.
	const allowed = as('allowed', 'svc');
	await allowed.expose({ a: () => 2 });
	for (let n = 0; n < 5; n++) assert.equal(await caller.request('svc.a'), 2);
});

test('a responder that may not reply is told once', async (t) => {
	const as = await setUp(t);
	const service = as('noreply', 'svc');
	const errors = errorsOf(service);
	await service.expose({ a: () => 1 });
	const caller = as('all');
	for (let n = 0; n < 3; n++) {
		await rejects(caller.request('svc.a', null, { timeout: 100 }), 'PICOM_TIMED_OUT');
	}
	await until(() => errors.length > 0);
	assert.equal(errors.length, 1);
	assert.equal(errors[0].code, 'PICOM_PERMISSION_DENIED');
	assert.match(errors[0].message, /allow_responses/);
});

test('wrong credentials say which options to look at', async (t) => {
	const as = await setUp(t);
	const picom = as('all', 'svc', { pass: 'verysecret', retries: 0 });
	const error = await rejects(picom.connect(), 'PICOM_CONNECT_FAILED', /user and pass/);
	assert.ok(!error.message.includes('verysecret'));
});
