'use strict';

// The ways to prove who one is; and that no secret shows anywhere.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const util = require('node:util');
const { Picom, errorsOf, open, pair, rejects, startServer } = require('./support');
const { createCredentials, createKey } = require('./support/keys');

test('user and pass, as options and in the address', async (t) => {
	const server = await startServer(t, 'authorization { user: bob, password: "p@ss w/rd" }');
	const { caller } = await pair(t, { a: () => 1 }, {
		servers: server.url, user: 'bob', pass: 'p@ss w/rd'
	});
	assert.equal(await caller.request('svc.a'), 1);
	const inUrl = open(t, undefined, { servers: `nats://bob:p%40ss%20w%2Frd@127.0.0.1:${server.port}` });
	assert.equal(await inUrl.request('svc.a'), 1);
	const wrong = open(t, undefined, { servers: server.url, user: 'bob', pass: 'x', retries: 0 });
	await rejects(wrong.connect(), 'PICOM_CONNECT_FAILED', /user and pass/);
});

test('token', async (t) => {
	const server = await startServer(t, 'authorization { token: "open sesame" }');
	const { caller } = await pair(t, { a: () => 1 }, { servers: server.url, token: 'open sesame' });
	assert.equal(await caller.request('svc.a'), 1);
	await rejects(open(t, undefined, { servers: server.url, retries: 0 }).connect(), 'PICOM_CONNECT_FAILED');
});

test('nkey', async (t) => {
	const key = createKey('user');
	const server = await startServer(t, `authorization { users: [{ nkey: ${key.public} }] }`);
	const { caller } = await pair(t, { a: () => 1 }, { servers: server.url, nkey: key.seed });
	assert.equal(await caller.request('svc.a'), 1);
	const other = open(t, undefined, { servers: server.url, nkey: createKey('user').seed, retries: 0 });
	await rejects(other.connect(), 'PICOM_CONNECT_FAILED', /nkey/);
});

test('credentials, as text, as a Buffer and as a path', async (t) => {
	const { config, credentials } = createCredentials();
	const server = await startServer(t, config);
	const file = path.join(server.folder, 'user.creds');
	fs.writeFileSync(file, credentials);
	const { caller } = await pair(t, { a: () => 1 }, { servers: server.url, credentials });
	assert.equal(await caller.request('svc.a'), 1);
	for (const form of [file, Buffer.from(credentials)]) {
		const other = open(t, undefined, { servers: server.url, credentials: form });
		assert.equal(await other.request('svc.a'), 1);
	}
	const another = createCredentials().credentials;
	const stranger = open(t, undefined, { servers: server.url, credentials: another, retries: 0 });
	await rejects(stranger.connect(), 'PICOM_CONNECT_FAILED', /credentials/);
});

const secret = 'hidden0123456789';

test('secrets show neither in inspect nor in anything that the instance gives', () => {
	const ways = [
		{ user: 'bob', pass: secret }, { token: secret }, { nkey: secret }, { credentials: secret },
		{ servers: `nats://bob:${secret}@h` }, { servers: `nats://${secret}@h` },
		{ tls: { passphrase: secret, ca: [] } }
	];
	for (const options of ways) {
		const picom = new Picom('svc', options);
		for (const text of [
			util.inspect(picom), util.inspect(picom, { depth: Infinity, showHidden: true }),
			util.format('%s %o %O %j', picom, picom, picom, { serviceName: picom.serviceName }),
			String(picom)
		]) {
			assert.ok(!text.includes(secret), text);
		}
		if (!options.servers) {
			const raw = util.inspect(picom, { depth: Infinity, showHidden: true, customInspect: false });
			assert.ok(!raw.includes(secret), raw);
			assert.ok(!JSON.stringify(picom.options).includes(secret));
		}
	}
	assert.match(util.inspect(new Picom('svc')), /^Picom .*svc/);
	assert.equal(new Picom('svc', { token: secret }).options.token, undefined);
});

test('secrets show in no error', async (t) => {
	const server = await startServer(t, 'authorization { user: bob, password: right }');
	const check = (error) => {
		const text = `${error.stack} ${util.inspect(error)} ${JSON.stringify(error)}`;
		assert.ok(!text.includes(secret), text);
	};
	const at = `127.0.0.1:${server.port}`;
	for (const options of [
		{ servers: at, user: 'bob', pass: secret }, { servers: at, token: secret },
		{ servers: at, nkey: secret }, { servers: at, nkey: `SU${secret}` },
		{ servers: at, credentials: secret },
		{ servers: at, credentials: `-----BEGIN NATS USER JWT-----\n${secret}\n` },
		{ servers: `nats://bob:${secret}@${at}` }, { servers: `nats://${secret}@${at}` }
	]) {
		let picom;
		try {
			picom = new Picom('svc', { retries: 0, timeout: 200, ...options });
		} catch (error) {
			check(error);
			continue;
		}
		const errors = errorsOf(picom);
		check(await rejects(picom.connect(), 'PICOM_CONNECT_FAILED').catch((error) => {
			if (error.code === 'ERR_ASSERTION') return rejects(picom.connect(), 'PICOM_INVALID_OPTION');
			throw error;
		}));
		check(await rejects(picom.request('a.b'), 'PICOM_TIMED_OUT'));
		errors.forEach(check);
		await picom.close();
	}
	// Where they are of the wrong type, or stand where something else belongs.
	for (const options of [
		{ pass: [secret] }, { token: { secret } }, { credentials: [secret] }, { nkey: 5, token: secret },
		{ servers: `http://bob:${secret}@h` }, { servers: `nats://bob:${secret}@` },
		{ servers: `nats://bob:${secret}@h:port` }, { servers: [`x y://${secret}@h`] },
		{ user: 'bob', token: secret }, { user: 'bob', pass: secret, token: secret },
		{ tls: { passphrase: [secret] } }
	]) {
		assert.throws(() => new Picom('svc', options), (error) => {
			assert.equal(error.code, 'PICOM_INVALID_OPTION', error.stack);
			check(error);
			return true;
		});
	}
});
