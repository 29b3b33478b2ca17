'use strict';

const EventEmitter = require('node:events');
const { inspect, types } = require('node:util');
const { PicomError, invalidName, invalidOption } = require('./lib/errors');
const { roots } = require('./lib/methods');
const { Session } = require('./lib/session');
const { currentCall } = require('./lib/calls');

const SESSION = Symbol('session');
const SECRETS = new Set(['pass', 'token', 'nkey', 'credentials', 'tls']);
const DEFAULT_TIMEOUT = 30000;
const DEFAULT_SERVERS = ['nats://127.0.0.1:4222'];

const NO_OPTION = [[]];

const noop = () => {};
const warned = new Set();

// A function and not a class: programs written for picom 0.6 inherit by `Picom.call(this, …)`.
// index.d.ts documents everything that is public.
function Picom(serviceName, options) {
	if (!(this instanceof Picom)) {
		return new Picom(serviceName, options);
	}
	EventEmitter.call(this);
	if (options && !isPlainObject(options)) {
		throw new Error('Options must be an object');
	}
	if (serviceName !== undefined && serviceName !== null && typeof serviceName !== 'string') {
		throw invalidName('A service name is a string');
	}
	const given = options || {};
	this.serviceName = serviceName;
	this.options = visible(given);
	this.options.timeout = given.timeout ?? DEFAULT_TIMEOUT;
	this.options.servers = given.servers ?? DEFAULT_SERVERS.slice();
	this.options.name = serviceName;

	const session = new Session(this, serviceName ?? '', JSON.stringify(fieldsToCore(given, 2)));
	for (const name of session.native.unknownOptions()) {
		if (!warned.has(name)) {
			warned.add(name);
			process.emitWarning(`There is no option ${name}; it is ignored`, {
				type: 'PicomWarning',
				code: 'PICOM_UNKNOWN_OPTION'
			});
		}
	}
	Object.defineProperty(this, SESSION, { value: session });
}

Object.setPrototypeOf(Picom.prototype, EventEmitter.prototype);
Object.setPrototypeOf(Picom, EventEmitter);

roots.add(Picom.prototype);

Picom.prototype.connect = function connect() {
	return handled(() => this[SESSION].connect());
};

Picom.prototype.expose = function expose(methods) {
	return handled(() => {
		if ((typeof methods !== 'object' && typeof methods !== 'function') || methods === null) {
			throw invalidOption('expose takes an object of functions');
		}
		return this[SESSION].expose(methods);
	});
};

Picom.prototype.request = function request(target, message, options) {
	try {
		let timeout = 0;
		let signal;
		if (options !== undefined && options !== null) {
			timeout = milliseconds(options.timeout);
			signal = abortSignal(options.signal);
		}
		return this[SESSION].request(checkTarget(target), message, timeout, signal);
	} catch (error) {
		return Promise.reject(error);
	}
};

Picom.prototype.publish = function publish(target, message) {
	return handled(() => this[SESSION].publish(checkTarget(target), message));
};

Picom.prototype.close = function close() {
	return handled(() => this[SESSION].close());
};

Picom.prototype[Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')] = Picom.prototype.close;

// Not the options: a program's log is no place for its secrets.
Picom.prototype[inspect.custom] = function inspectPicom(depth, options) {
	return `Picom ${inspect({ serviceName: this.serviceName }, options)}`;
};

// A program may ignore these promises, as programs for picom 0.6 do: that must not end it.
function handled(start) {
	let promise;
	try {
		promise = start();
	} catch (error) {
		promise = Promise.reject(error);
	}
	promise.catch(noop);
	return promise;
}

function checkTarget(target) {
	if (typeof target !== 'string') {
		throw invalidName('A target is a string, service.method');
	}
	return target;
}

// 0 and nothing mean the service's timeout, as they did in picom 0.6.
function milliseconds(timeout) {
	if (timeout === undefined || timeout === null) {
		return 0;
	}
	if (typeof timeout !== 'number' || !(timeout >= 0)) {
		throw invalidOption('Option timeout has to be a number of milliseconds, 0 or more');
	}
	return timeout === 0 ? 0 : Math.min(Math.max(1, Math.round(timeout)), 0x7fffffff);
}

function abortSignal(signal) {
	if (signal === undefined || signal === null) {
		return undefined;
	}
	if (typeof signal.addEventListener !== 'function' || typeof signal.aborted !== 'boolean') {
		throw invalidOption('Option signal has to be an AbortSignal');
	}
	return signal;
}

function isPlainObject(value) {
	if (typeof value !== 'object' || value === null || Array.isArray(value)) {
		return false;
	}
	const prototype = Object.getPrototypeOf(value);
	return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function visible(options) {
	return Object.fromEntries(Object.entries(options).filter(([name]) => !SECRETS.has(name)));
}

// Options as the core reads them. Buffers are PEM text; what JSON would drop, change or not take
// becomes something that no option is, so that the core can say which one is wrong. No option has
// more than two levels: what a program of 0.6 passed besides is not looked into.
function toCore(value, levels) {
	if (value === undefined || value === null) {
		return null;
	}
	if (typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) {
		return value;
	}
	if (types.isUint8Array(value)) {
		return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
	}
	if (levels > 0 && Array.isArray(value)) {
		return value.map((item) => toCore(item, levels - 1) ?? NO_OPTION);
	}
	if (levels > 0 && isPlainObject(value)) {
		return fieldsToCore(value, levels - 1);
	}
	return NO_OPTION;
}

function fieldsToCore(object, levels) {
	return Object.fromEntries(
		Object.entries(object).map(([name, value]) => [name, toCore(value, levels)])
	);
}

Picom.current = currentCall;
Picom.PicomError = PicomError;
Picom.Picom = Picom;
Picom.default = Picom;

module.exports = Picom;
