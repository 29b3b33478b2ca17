'use strict';

// node peer.js PEER caller|responder ADDRESS [SETUP]: one end of one peer. SETUP is JSON, all of it
// optional: the service's name; how many copies of this end the process holds, each with its own
// connection; how many methods there are to call in rotation (picom and nats.js only).

const { answer, caller, responder } = require('./harness');

const [peer, role, address, setup = '{}'] = process.argv.slice(2);
const { service: SERVICE = `bench-${peer}`, copies = 1, methods = 0 } = JSON.parse(setup);
const METHODS = ['echo'];
for (let i = 1; i < methods; i++) METHODS.push(`echo${i}`);
const TARGETS = METHODS.map((method) => `${SERVICE}.${method}`);
const TARGET = TARGETS[0];
const SINK = 'sink.echo';

let turn = 0;
const nextTarget = () => {
	if (turn === TARGETS.length) turn = 0;
	return TARGETS[turn++];
};

const peers = {
	async picom() {
		const Picom = require('../../bindings/node');
		const picom = new Picom(SERVICE, { servers: address });
		if (role === 'responder') {
			return picom.expose(Object.fromEntries(METHODS.map((method) => [method, answer])));
		}
		await picom.connect();
		return {
			request: (body) => picom.request(nextTarget(), body),
			publishAll: (body, n) => Promise.all(Array.from({ length: n }, () => picom.publish(SINK, body)))
		};
	},

	// For what Node itself takes.
	nothing: async () => ({}),

	'nats.js': () => natsJs({}),
	'nats.js-noAsyncTraces': () => natsJs({ noAsyncTraces: true }),

	async 'nats-services'() {
		const { connect } = require('@nats-io/transport-node');
		const { Svcm } = require('@nats-io/services');
		const connection = await connect({ servers: address });
		if (role === 'responder') {
			const service = await new Svcm(connection).add({ name: SERVICE, version: '1.0.0' });
			service.addEndpoint('echo', {
				subject: TARGET,
				handler: (error, message) => message.respond(JSON.stringify(answer(message.json())))
			});
			return connection.flush();
		}
		return {
			request: async (body) => (await connection.request(TARGET, JSON.stringify(body), { timeout: 30000 })).json()
		};
	},

	// picom 0.6 in short: one subscription and one timer for each request.
	async 'nats1-as-picom-0.6'() {
		const connection = require('nats1').connect({ servers: [address] });
		await new Promise((resolve) => connection.once('connect', resolve));
		if (role === 'responder') {
			connection.subscribe(`${SERVICE}.>`, { queue: SERVICE }, (text, reply) => {
				Promise.resolve(answer(JSON.parse(text))).then((payload) => {
					connection.publish(reply, JSON.stringify({ payload }));
				});
			});
			return new Promise((resolve) => connection.flush(resolve));
		}
		return {
			request: (body) => new Promise((resolve, reject) => {
				const id = connection.request(TARGET, JSON.stringify(body), { max: 1 }, (text) => {
					const reply = JSON.parse(text);
					if (reply.error) reject(new Error(reply.error));
					else resolve(reply.payload);
				});
				connection.timeout(id, 30000, 1, () => reject(new Error('timed out')));
			})
		};
	},

	async moleculer() {
		const { ServiceBroker } = require('moleculer');
		const broker = new ServiceBroker({ nodeID: `${role}-${process.pid}`, transporter: address, logger: false });
		if (role === 'responder') {
			broker.createService({ name: SERVICE, actions: { echo: (context) => answer(context.params) } });
			return broker.start();
		}
		await broker.start();
		await broker.waitForServices(SERVICE);
		return { request: (body) => broker.call(TARGET, body) };
	},

	async zeromq() {
		const zmq = require('zeromq');
		const port = 1 + Number(new URL(address).port);
		if (role === 'responder') {
			// Without limits: a router drops what is beyond them.
			const router = new zmq.Router({ sendHighWaterMark: 0, receiveHighWaterMark: 0 });
			await router.bind(`tcp://127.0.0.1:${port}`);
			let sending = Promise.resolve();
			(async () => {
				for await (const [from, id, body] of router) {
					const reply = [from, id, JSON.stringify(answer(JSON.parse(body.toString())))];
					sending = sending.then(() => router.send(reply));
				}
			})();
			return undefined;
		}
		const dealer = new zmq.Dealer({ sendHighWaterMark: 0, receiveHighWaterMark: 0 });
		dealer.connect(`tcp://127.0.0.1:${port}`);
		const waiting = new Map();
		(async () => {
			for await (const [id, body] of dealer) {
				const key = id.toString();
				const resolve = waiting.get(key);
				waiting.delete(key);
				resolve(JSON.parse(body.toString()));
			}
		})();
		let next = 0;
		let sending = Promise.resolve();
		return {
			request: (body) => new Promise((resolve) => {
				const id = String(next++);
				waiting.set(id, resolve);
				sending = sending.then(() => dealer.send([id, JSON.stringify(body)]));
			})
		};
	},

	async 'grpc-js'() {
		const grpc = require('@grpc/grpc-js');
		const port = 2 + Number(new URL(address).port);
		const write = (value) => Buffer.from(JSON.stringify(value));
		const read = (bytes) => JSON.parse(bytes.toString());
		const definition = {
			echo: {
				path: '/bench/echo', requestStream: false, responseStream: false,
				requestSerialize: write, requestDeserialize: read,
				responseSerialize: write, responseDeserialize: read
			}
		};
		if (role === 'responder') {
			const server = new grpc.Server();
			server.addService(definition, { echo: (call, done) => done(null, answer(call.request)) });
			return new Promise((resolve, reject) => {
				server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(),
					(error) => (error ? reject(error) : resolve()));
			});
		}
		const Client = grpc.makeClientConstructor(definition, 'bench');
		// A proxy of the environment is not meant for this machine's own address.
		const options = { 'grpc.enable_http_proxy': 0 };
		const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
		return {
			request: (body) => new Promise((resolve, reject) => {
				client.echo(body, (error, reply) => (error ? reject(error) : resolve(reply)));
			})
		};
	}
};

async function natsJs(options) {
	const { connect } = require('@nats-io/transport-node');
	const connection = await connect({ servers: address, ...options });
	if (role === 'responder') {
		const handlers = new Map(METHODS.map((method) => [method, answer]));
		// With one method, as in run.py, there is nothing to look up.
		const handlerOf = methods === 0
			? () => answer
			: ({ subject }) => handlers.get(subject.slice(subject.lastIndexOf('.') + 1));
		connection.subscribe(`${SERVICE}.>`, {
			queue: SERVICE,
			callback: (error, message) => message.respond(JSON.stringify(handlerOf(message)(message.json())))
		});
		return connection.flush();
	}
	const timeout = 30000;
	return {
		request: async (body) =>
			(await connection.request(nextTarget(), JSON.stringify(body), { timeout })).json(),
		publishAll: (body, n) => {
			for (let i = 0; i < n; i++) connection.publish(SINK, JSON.stringify(body));
			return connection.flush();
		}
	};
}

Promise.all(Array.from({ length: copies }, () => peers[peer]())).then(role === 'caller' ? caller : responder);
