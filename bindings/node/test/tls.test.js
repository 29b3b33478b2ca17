'use strict';

const assert = require('node:assert/strict');
const { after, before, test } = require('node:test');
const util = require('node:util');
const { Picom, open, pair, rejects, startServer } = require('./support');
const { createCertificates } = require('./support/certificates');

let certificates;
before(() => { certificates = createCertificates(); });
after(() => certificates.remove());

const serve = (t, which, more = '') => startServer(t, `tls {
	cert_file: "${certificates.path(`${which}.pem`)}"
	key_file: "${certificates.path(`${which}.key`)}"
	${more}
}`);

async function works(t, server, tls, servers = `127.0.0.1:${server.port}`) {
	const { service, caller } = await pair(t, { a: () => 1 }, { servers, tls });
	assert.equal(await caller.request('svc.a'), 1);
	await Promise.all([service.close(), caller.close()]);
}

const fails = (t, server, tls, servers = `127.0.0.1:${server.port}`) =>
	rejects(open(t, 'svc', { servers, tls, retries: 0 }).connect(), 'PICOM_CONNECT_FAILED', /option tls/);

test('ca as a path, PEM text, a Buffer, and arrays of them', async (t) => {
	const server = await serve(t, 'server');
	const [path, text] = [certificates.path('ca.pem'), certificates.text('ca.pem')];
	const other = certificates.text('stranger.pem');
	for (const ca of [
		path, text, Buffer.from(text), new Uint8Array(Buffer.from(text)), [path], [text],
		[Buffer.from(other), text], other + text
	]) {
		await works(t, server, { ca });
	}
});

test('tls:// asks for TLS, and so does a server that insists', async (t) => {
	const server = await serve(t, 'server');
	const tls = { ca: certificates.path('ca.pem') };
	await works(t, server, tls, `tls://127.0.0.1:${server.port}`);
	await works(t, server, tls, `nats://localhost:${server.port}`);
});

test('a certificate that nobody trusts is refused', async (t) => {
	const server = await serve(t, 'server');
	await fails(t, server, true);
	await fails(t, server, { ca: certificates.path('stranger.pem') });
	await fails(t, server, undefined, `tls://127.0.0.1:${server.port}`);
	await fails(t, server, { ca: certificates.path('stranger.pem'), serverName: 'localhost' });
});

test('rejectUnauthorized: false takes any certificate', async (t) => {
	const server = await serve(t, 'elsewhere');
	await works(t, server, { rejectUnauthorized: false });
	await works(t, server, { rejectUnauthorized: false, ca: certificates.path('stranger.pem') });
	await fails(t, server, { rejectUnauthorized: true });
});

test('serverName is the name that the certificate has to carry', async (t) => {
	const server = await serve(t, 'elsewhere');
	const ca = certificates.path('ca.pem');
	await fails(t, server, { ca });
	await works(t, server, { ca, serverName: 'nats.test' });
	await fails(t, server, { ca, serverName: 'other.test' });
});

test('tls against a server without it is an error', async (t) => {
	const server = await startServer(t);
	const picom = open(t, 'svc', { servers: server.url, tls: true, retries: 0 });
	await rejects(picom.connect(), 'PICOM_CONNECT_FAILED');
	const without = open(t, 'svc', { servers: server.url, tls: false });
	await without.connect();
});

test('a client certificate, in every form, with its key encrypted or not', async (t) => {
	const server = await serve(t, 'server', `ca_file: "${certificates.path('ca.pem')}"\n verify: true`);
	const ca = certificates.path('ca.pem');
	await rejects(
		open(t, 'svc', { servers: server.url, tls: { ca }, retries: 0 }).connect(), 'PICOM_CONNECT_FAILED'
	);
	const text = certificates.text;
	for (const identity of [
		{ cert: certificates.path('client.pem'), key: certificates.path('client.key') },
		{ cert: text('client.pem'), key: text('client.key') },
		{ cert: Buffer.from(text('client.pem')), key: Buffer.from(text('client.key')) },
		{ cert: [text('client.pem'), text('ca.pem')], key: [text('client.key')] },
		{ cert: text('client.pem'), key: text('client.enc.key'), passphrase: 'opensesame' },
		{ cert: text('client.pem'), key: certificates.path('client.enc.key'), passphrase: 'opensesame' }
	]) {
		await works(t, server, { ca, ...identity });
	}
});

test('keys that cannot be used are refused with advice, and never shown', () => {
	const cert = certificates.text('client.pem');
	const text = certificates.text;
	const bare = text('client.key').split('\n').slice(1, -2).join('');
	for (const [tls, words] of [
		[{ cert, key: text('client.enc.key') }, /tls\.passphrase is needed/],
		[{ cert, key: text('client.enc.key'), passphrase: 'wrong' }, /tls\.passphrase does not open/],
		[{ cert, key: text('client.old.key'), passphrase: 'opensesame' }, /openssl pkcs8 -topk8/],
		[{ cert, key: text('server.key') }, /does not fit tls\.cert/],
		[{ cert, key: cert }, /tls\.key/],
		[{ cert, key: bare }, /tls\.key/],
		[{ cert, key: Buffer.from(bare, 'base64') }, /tls\.key/],
		[{ cert, key: `-----BEGIN PRIVATE KEY-----\n${bare}x\n-----END PRIVATE KEY-----` }, /tls\.key/],
		[{ cert }, /cert and key together/],
		[{ key: text('client.key') }, /cert and key together/],
		[{ ca: '/does/not/exist.pem' }, /tls\.ca cannot be read from .*exist\.pem/],
		[{ ca: [] , serverName: '' }, /tls/],
		[{ ca: certificates.path('ca.key') }, /tls\.ca holds no certificate/]
	]) {
		assert.throws(() => new Picom('svc', { tls }), (error) => {
			assert.equal(error.code, 'PICOM_INVALID_OPTION', error.stack);
			assert.match(error.message, words);
			const shown = `${error.stack} ${util.inspect(error, { depth: Infinity })}`;
			assert.ok(!shown.includes(bare.slice(8, 24)) && !shown.includes('opensesame'), shown);
			return true;
		}, String(words));
	}
	const picom = new Picom('svc', { tls: { cert, key: text('client.key') } });
	const shown = util.inspect(picom, { depth: Infinity, showHidden: true, customInspect: false });
	assert.ok(!shown.includes(bare.slice(8, 24)));
	assert.equal(picom.options.tls, undefined);
});
