/// <reference types="node" />
import { EventEmitter } from 'node:events';

/**
 * One instance of a service, or a caller.
 *
 * @example
 * const math = new Picom('math');
 * await math.expose({ add: ({ a, b }) => a + b });
 * await math.request('math.add', { a: 1, b: 2 }); // 3
 */
declare class Picom extends EventEmitter {
	/**
	 * Makes an instance. Does not connect yet: the first use does.
	 *
	 * @param serviceName The service's name; may be left out for a caller that exposes nothing.
	 * @param options See {@link Picom.Options}.
	 * @throws PICOM_INVALID_NAME, PICOM_INVALID_OPTION, or an Error where `options` is not a
	 * plain object.
	 */
	constructor(serviceName?: string, options?: Picom.Options | null);

	/** The service's name, as given. */
	readonly serviceName: string | undefined;

	/** The options, defaults filled in, without those that are secret. `name` is the service's. */
	readonly options: Picom.Options & { timeout: number; servers: string | string[]; name?: string };

	/**
	 * Connects now, instead of at the first use. Calling it is optional.
	 *
	 * Rejects with PICOM_CONNECT_FAILED after `retries` more tries; the instance goes on trying,
	 * and requests wait for it until their deadline.
	 */
	connect(): Promise<void>;

	/**
	 * Exposes the functions of an object: its own and those of its class chain below
	 * `Object.prototype`, except `constructor`. They are read when they are called, so a function
	 * that is replaced or added later takes effect, and called with `this` being the object.
	 * May be called several times; the latest object that has a name answers.
	 *
	 * A method gets the message (`null` where there is none), and its return value, or what its
	 * promise fulfils with, is the reply. Whatever it throws reaches the caller, and the `error`
	 * event of this instance where somebody listens.
	 *
	 * Resolves when the server has processed the subscription. Rejects with
	 * PICOM_PERMISSION_DENIED, PICOM_INVALID_NAME, PICOM_TIMED_OUT or PICOM_CLOSED.
	 */
	expose(methods: object): Promise<void>;

	/**
	 * Calls a method and resolves with its reply (`undefined` where it returned nothing).
	 *
	 * @param target `service.method`
	 * @param message Anything that JSON can hold, or nothing.
	 * @throws Never; rejects with a {@link Picom.PicomError}.
	 */
	request<Reply = any>(
		target: string,
		message?: unknown,
		options?: Picom.RequestOptions | null
	): Promise<Reply>;

	/**
	 * Calls a method of one instance without an answer. Resolves when the server has taken the
	 * message, and rejects, typed, when it has not.
	 */
	publish(target: string, message?: unknown): Promise<void>;

	/**
	 * Stops new work, lets handlers finish and their replies leave, and disconnects, all within
	 * `closeTimeout`. What is still under way then rejects with PICOM_CLOSED, as does every
	 * later call. Closing twice is closing once. Called in a handler (before its first `await`),
	 * it does not wait for that handler.
	 */
	close(): Promise<void>;

	/** The same as {@link Picom.close}, for `await using`. */
	[Symbol.asyncDispose](): Promise<void>;

	/** What a local handler threw, as it was thrown, and failures that no call reports. */
	on(event: 'error', listener: (error: any) => void): this;
	/** Connected for the first time; connected again; the connection was lost. */
	on(event: 'connected' | 'reconnected' | 'disconnected', listener: () => void): this;
	on(event: string | symbol, listener: (...args: any[]) => void): this;
}

declare namespace Picom {
	/** Durations are milliseconds. A wrong type or range throws PICOM_INVALID_OPTION. */
	export interface Options {
		/**
		 * `nats://`, `tls://`, `ws://`, `wss://`, `host:port`, or `memory://name` for a bus inside
		 * this process. Default `nats://127.0.0.1:4222`.
		 */
		servers?: string | string[];
		/** How long a request may take in all. Default 30000; 0: no limit. */
		timeout?: number;
		/** How long a silent peer counts as alive. Default 30000; below 1000 it is seconds. */
		ttl?: number;
		/** How often a call that certainly did not run is tried again. Default 3. */
		retries?: number;
		/** How long `close` waits for handlers. Default 5000. */
		closeTimeout?: number;
		/** TLS: true, or how. Without it, TLS is used where the server asks for it. */
		tls?: boolean | TlsOptions;
		user?: string;
		pass?: string;
		token?: string;
		/** An NKEY seed, `SU…`. */
		nkey?: string;
		/** The path of a `.creds` file, or its text. */
		credentials?: string;
		/** The beginning of reply subjects. Default `_INBOX`. */
		inboxPrefix?: string;
		/** Reserved for direct connections; accepted and not used. */
		port?: number;
	}

	/** Each of `ca`, `cert` and `key` is PEM text, a Buffer of it, or a path. */
	export interface TlsOptions {
		/** Certificates to trust, in place of the system's. */
		ca?: Pem | Pem[];
		/** This client's certificate chain. */
		cert?: Pem | Pem[];
		/** The private key of the client certificate. */
		key?: Pem;
		/** What the key is encrypted with (PKCS #8). */
		passphrase?: string;
		/** The name that the server's certificate has to carry, where it is not the host's. */
		serverName?: string;
		/** false accepts any certificate: for tests only. Default true. */
		rejectUnauthorized?: boolean;
	}

	export type Pem = string | Uint8Array;

	export interface RequestOptions {
		/** Milliseconds; 0 or nothing: the option `timeout` of the instance. */
		timeout?: number;
		/** Gives the call up: it rejects with an AbortError, code PICOM_CANCELLED. */
		signal?: AbortSignal;
	}

	/** What a call rejects with. */
	export class PicomError extends Error {
		/** The stable name of the kind, behind `PICOM_`. The README lists all. */
		readonly code: ErrorCode;
		/** The stable number of the kind. */
		readonly status: number;
		/** The own fields of the error that the remote handler threw. */
		readonly details?: any;
	}

	export type ErrorCode =
		| 'PICOM_BAD_REQUEST'
		| 'PICOM_METHOD_NOT_FOUND'
		| 'PICOM_TIMED_OUT'
		| 'PICOM_TOO_LARGE'
		| 'PICOM_CANCELLED'
		| 'PICOM_HANDLER_FAILED'
		| 'PICOM_NO_RESPONDER'
		| 'PICOM_DISCONNECTED'
		| 'PICOM_PERMISSION_DENIED'
		| 'PICOM_CLOSED'
		| 'PICOM_FORKED'
		| 'PICOM_INVALID_NAME'
		| 'PICOM_INVALID_OPTION'
		| 'PICOM_BAD_RESPONSE'
		| 'PICOM_CONNECT_FAILED'
		| 'PICOM_INVALID_MESSAGE'
		| 'PICOM_BUSY';

	/** What belongs to a call beside its message. */
	export interface Call {
		/** The caller's id of this call, unique in the world, where the caller gave one. */
		id?: string;
		/** The method's name. */
		method: string;
		/** When nobody waits for the reply any longer, as `Date.now()` counts. */
		deadline?: number;
	}

	/**
	 * The call that a handler works on. To be asked before the handler's first `await`;
	 * `undefined` elsewhere.
	 */
	export function current(): Call | undefined;

	export { Picom, Picom as default };
}

export = Picom;
