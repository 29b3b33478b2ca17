'use strict';

// NATS keys and JSON Web Tokens, as much of them as a server needs to believe us.

const crypto = require('node:crypto');

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const KINDS = { operator: 14 << 3, account: 0, user: 20 << 3 };
const SEED = 18 << 3;

function base32(bytes) {
	let text = '';
	let bits = 0;
	let value = 0;
	for (const byte of bytes) {
		value = (value << 8 | byte) & 0xffff;
		for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[value >> bits - 5 & 31];
	}
	return bits > 0 ? text + ALPHABET[value << 5 - bits & 31] : text;
}

function encode(...parts) {
	const bytes = Buffer.concat(parts.map((part) => Buffer.from(part)));
	let crc = 0;
	for (const byte of bytes) {
		crc ^= byte << 8;
		for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff;
	}
	return base32(Buffer.concat([bytes, Buffer.from([crc & 0xff, crc >> 8])]));
}

/** A key pair: `{ seed, public, sign }`. */
function createKey(kind) {
	const { publicKey, privateKey } = crypto.generateKeyPairSync('ed25519');
	const prefix = KINDS[kind];
	const secret = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32);
	const open = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
	return {
		seed: encode([SEED | prefix >> 5, (prefix & 31) << 3], secret),
		public: encode([prefix], open),
		sign: (text) => crypto.sign(null, Buffer.from(text), privateKey)
	};
}

function token(by, subject, name, nats) {
	const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
	const claims = {
		jti: crypto.randomUUID(), iat: Math.floor(Date.now() / 1000), iss: by.public, name,
		sub: subject.public, nats: { version: 2, ...nats }
	};
	const body = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`;
	return `${body}.${by.sign(body).toString('base64url')}`;
}

/** A server configuration with decentralised authentication, and a user's credentials for it. */
function createCredentials() {
	const [operator, account, user] = ['operator', 'account', 'user'].map(createKey);
	const limits = { subs: -1, data: -1, payload: -1, conn: -1, leaf: -1, imports: -1, exports: -1, wildcards: true };
	const operatorToken = token(operator, operator, 'O', { type: 'operator' });
	const accountToken = token(operator, account, 'A', { type: 'account', limits });
	const userToken = token(account, user, 'U', { type: 'user', subs: -1, data: -1, payload: -1 });
	return {
		config: `operator: ${operatorToken}\nresolver: MEMORY\n` +
			`resolver_preload: { ${account.public}: ${accountToken} }\n`,
		credentials: `-----BEGIN NATS USER JWT-----\n${userToken}\n------END NATS USER JWT------\n\n` +
			`-----BEGIN USER NKEY SEED-----\n${user.seed}\n------END USER NKEY SEED------\n`,
		seed: user.seed
	};
}

module.exports = { createKey, createCredentials };
