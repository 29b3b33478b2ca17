'use strict';

// A stand-in for services of npm picom 0.6: what they do on the wire, by nats.js 2 alone.

const { connect, StringCodec } = require('nats');
const { serve } = require('../agents/agent');

const { encode, decode } = StringCodec();

function body(message) {
	return message === undefined ? '' : JSON.stringify(message);
}

function errorText(thrown) {
	if (typeof thrown === 'string') {
		return thrown;
	}
	const json = JSON.stringify(thrown);
	if (thrown instanceof Error) {
		return thrown.message + (json === '{}' ? '' : ' ' + json);
	}
	return json;
}

async function answer(methods, message) {
	const name = message.subject.split('.').pop();
	if (!Object.hasOwn(methods, name)) {
		return { error: `Method not found "${name}"` };
	}
	let given = null;
	if (message.data.length > 0) {
		try {
			given = JSON.parse(decode(message.data));
		} catch {
			return { error: 'Bad JSON request' };
		}
	}
	try {
		return { payload: await methods[name](given) };
	} catch (thrown) {
		return { error: errorText(thrown) };
	}
}

async function main() {
	const connection = await connect({ servers: process.argv[2] });
	serve({
		async expose(service, methods) {
			connection.subscribe(`${service}.>`, {
				queue: service,
				async callback(error, message) {
					const reply = await answer(methods, message);
					if (message.reply) {
						message.respond(encode(JSON.stringify(reply)));
					}
				}
			});
			await connection.flush();
		},
		async request(target, message, timeout) {
			let reply;
			try {
				reply = await connection.request(target, encode(body(message)), { timeout });
			} catch (error) {
				throw error.code === 'TIMEOUT' ? new Error(`Request ${target} timed out`) : error;
			}
			if (reply.data.length === 0) {
				return undefined;
			}
			let parsed;
			try {
				parsed = JSON.parse(decode(reply.data));
			} catch {
				throw new Error('Bad JSON response');
			}
			if (parsed.error) {
				throw new Error(parsed.error);
			}
			return parsed.payload;
		},
		async publish(target, message) {
			connection.publish(target, encode(body(message)));
			await connection.flush();
		},
		close: () => connection.close(),
		describe: (error) => ({ text: error.message })
	});
}

main();
