import Picom = require('../../..');
import type { EventEmitter } from 'node:events';

interface Sum { a: number; b: number }

async function program(): Promise<void> {
	const service = new Picom('math', {
		servers: ['nats://127.0.0.1:4222', 'tls://h'], timeout: 1000, ttl: 30000, retries: 3,
		closeTimeout: 5000, inboxPrefix: 'x', port: 4222, user: 'u', pass: 'p', token: 't', nkey: 'SU',
		credentials: '/path',
		tls: {
			ca: [Buffer.from(''), 'path'], cert: new Uint8Array(), key: 'pem', passphrase: 'x',
			serverName: 'h', rejectUnauthorized: false
		}
	});
	const plain: Picom = new Picom();
	const nothing = new Picom('svc', null);
	const bool = new Picom('svc', { servers: 'memory://x', tls: true });
	const emitter: EventEmitter = service;

	await service.connect();
	await service.expose({ add: ({ a, b }: Sum) => a + b });
	await service.expose(new (class { method(): number { return 1; } })());
	const sum: number = await plain.request<number>('math.add', { a: 1, b: 2 }, { timeout: 5 });
	const any = await plain.request('math.add');
	any.anything.goes;
	await plain.request('math.add', null, { signal: new AbortController().signal });
	const published: void = await plain.publish('math.add', { a: 1 });

	service.on('error', (error) => console.log(error.message));
	service.on('connected', () => {}).on('reconnected', () => {}).on('disconnected', () => {});
	service.once('anything', (first: string) => first);
	const name: string | undefined = service.serviceName;
	const timeout: number = service.options.timeout;
	const servers: string | string[] = service.options.servers;

	try {
		await plain.request('math.add');
	} catch (error) {
		if (error instanceof Picom.PicomError) {
			const code: Picom.ErrorCode = error.code;
			const status: number = error.status;
			const details: unknown = error.details;
			if (code === 'PICOM_TIMED_OUT') console.log(status, details);
		}
	}
	const call: Picom.Call | undefined = Picom.current();
	const id: string | undefined = call?.id;
	const deadline: number | undefined = call?.deadline;
	const options: Picom.Options = {};
	const requestOptions: Picom.RequestOptions = {};
	const dispose: () => Promise<void> = () => service[Symbol.asyncDispose]();
	await service.close();

	class Orders extends Picom {
		constructor() {
			super('orders');
		}

		create(): Promise<string> {
			return this.request<string>('shop.create');
		}
	}
	const same: typeof Picom = Picom.Picom;
	const other: typeof Picom = Picom.default;
	console.log(
		nothing, bool, emitter, sum, published, name, timeout, servers, id, deadline, options,
		requestOptions, dispose, Orders, same, other
	);
}

void program;
