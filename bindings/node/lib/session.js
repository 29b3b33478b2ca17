'use strict';

// The batch boundary: what one tick submits goes to the core in one native call, and what the
// core has ready comes back in one. No Error, timer or closure for each request; those, and not
// the network, are what makes a client slow.

const Native = require('./native');
const calls = require('./calls');
const { cancelled, fromCore, fromThrown } = require('./errors');
const { letSleep, stayAwake } = require('./keep-alive');
const methods = require('./methods');
const { EVENT, SUBMIT, WIDTH } = require('./records');

const BATCH = 1024;
const BATCH_TEXT = 1 << 20;
const TARGETS = 1 << 14;

// How many records there are, whether there is more, and the records.
const HEAD = 2;
const incoming = new Int32Array(HEAD + BATCH * WIDTH);
const NO_TEXTS = [];
const { setImmediate } = globalThis;

// The executor's functions, without a closure for each promise.
let takenResolve;
let takenReject;
const take = (resolve, reject) => {
	takenResolve = resolve;
	takenReject = reject;
};

class Session {
	constructor(emitter, name, options) {
		const self = new WeakRef(this);
		try {
			this.native = new Native(name, options, () => self.deref()?.drain());
		} catch (thrown) {
			throw fromThrown(thrown);
		}
		this.emitter = emitter;
		this.outgoing = new Int32Array(BATCH * WIDTH);
		this.count = 0;
		this.text = '';
		this.lines = 0;
		this.flush = this.flush.bind(this);
		this.drain = this.drain.bind(this);

		this.resolves = [];
		this.rejects = [];
		this.free = [];
		this.pending = 0;
		this.signals = new Map();
		this.targets = new Map();

		this.sources = [];
		this.names = [];
		this.known = new Set();
		this.drained = 0;
		// What is submitted while a batch comes in goes out behind it.
		this.draining = false;
		this.closed = false;
	}

	request(target, message, timeout, signal) {
		const json = write(message);
		const place = this.target(target);
		if (signal === undefined) {
			const id = this.begin();
			const promise = this.promise(id);
			this.put(SUBMIT.REQUEST, id, place, timeout);
			this.line(json);
			return promise;
		}
		if (signal.aborted) {
			throw cancelled(target, signal.reason);
		}
		const id = this.begin();
		const promise = this.promise(id);
		this.put(SUBMIT.REQUEST_WITH_SIGNAL, id, place, timeout);
		this.line(json);
		const abort = () => this.put(SUBMIT.CANCEL, id, 0, 0);
		signal.addEventListener('abort', abort, { once: true });
		this.signals.set(id, { signal, abort });
		return promise;
	}

	publish(target, message) {
		const json = write(message);
		const place = this.target(target);
		const id = this.begin();
		const promise = this.promise(id);
		this.put(SUBMIT.PUBLISH, id, place, 0);
		this.line(json);
		return promise;
	}

	connect() {
		const id = this.begin();
		const promise = this.promise(id);
		this.put(SUBMIT.CONNECT, id, 0, 0);
		return promise;
	}

	expose(source) {
		try {
			this.native.checkExposable();
		} catch (thrown) {
			throw fromThrown(thrown);
		}
		const names = methods.names(source);
		this.sources.push(source);
		for (const name of names) {
			// The core numbers names by the order in which they were first exposed.
			if (!this.known.has(name)) {
				this.known.add(name);
				this.names.push(name);
			}
		}
		const id = this.begin();
		const promise = this.promise(id);
		this.put(SUBMIT.EXPOSE, id, 0, 0);
		this.line(JSON.stringify(names));
		return promise;
	}

	close() {
		const from = calls.runningOn(this);
		const id = this.begin();
		const promise = this.promise(id);
		this.put(SUBMIT.CLOSE, id, from ? from.low : -1, from ? from.high : -1);
		const done = () => {
			this.closed = true;
			this.settleDown();
		};
		promise.then(done, done);
		return promise;
	}

	// The number of a target that the core has checked.
	target(target) {
		let place = this.targets.get(target);
		if (place === undefined) {
			const first = this.targets.size >= TARGETS;
			if (first) {
				// Records that wait name targets by their old numbers.
				this.flush();
				this.targets.clear();
			}
			try {
				place = this.native.target(target, first);
			} catch (thrown) {
				throw fromThrown(thrown);
			}
			this.targets.set(target, place);
		}
		return place;
	}

	begin() {
		if (this.pending++ === 0) {
			stayAwake(this);
		}
		return this.free.length > 0 ? this.free.pop() : this.resolves.length;
	}

	promise(id) {
		const promise = new Promise(take);
		this.resolves[id] = takenResolve;
		this.rejects[id] = takenReject;
		// Held on to, they would keep what the promise settles with, an error and its stack.
		takenResolve = takenReject = undefined;
		return promise;
	}

	settleDown() {
		if (this.pending === 0 && (this.sources.length === 0 || this.closed)) {
			letSleep(this);
		}
	}

	put(kind, a, b, c) {
		if (this.count === BATCH || this.text.length > BATCH_TEXT) {
			this.flush();
		}
		if (this.count === 0 && !this.draining) {
			process.nextTick(this.flush);
		}
		const at = this.count++ * WIDTH;
		const numbers = this.outgoing;
		numbers[at] = kind;
		numbers[at + 1] = a;
		numbers[at + 2] = b;
		numbers[at + 3] = c;
	}

	// The text of the last record. JSON has no line breaks.
	line(json) {
		this.text = this.lines++ === 0 ? json : this.text + '\n' + json;
	}

	flush() {
		if (this.count === 0) {
			return;
		}
		const { count, text } = this;
		this.count = 0;
		this.lines = 0;
		this.text = '';
		try {
			this.native.submit(this.outgoing, count, text);
		} catch (thrown) {
			// The core cannot take anything (no thread to be had): each of these calls says so.
			const error = fromThrown(thrown);
			for (let at = 0; at < count * WIDTH; at += WIDTH) {
				const kind = this.outgoing[at];
				const settles = kind <= SUBMIT.PUBLISH || (kind >= SUBMIT.CONNECT && kind <= SUBMIT.CLOSE);
				if (settles) {
					this.settle(this.outgoing[at + 1], this.rejects, error);
				}
			}
		}
	}

	drain() {
		const json = this.native.drain(incoming);
		this.drained = Date.now();
		const texts = json === null ? NO_TEXTS : JSON.parse(json);
		const count = incoming[0];
		if (incoming[1] !== 0) {
			setImmediate(this.drain);
		}
		this.draining = true;
		try {
			this.deliver(count, texts);
		} finally {
			this.draining = false;
			// The replies of handlers that did not have to wait.
			this.flush();
		}
	}

	deliver(count, texts) {
		let next = 0;
		for (let record = 0, at = HEAD; record < count; record++, at += WIDTH) {
			switch (incoming[at]) {
			case EVENT.SETTLED:
				this.settle(incoming[at + 1], this.resolves, texts[next++]);
				break;
			case EVENT.SETTLED_NOTHING:
				this.settle(incoming[at + 1], this.resolves, undefined);
				break;
			case EVENT.SETTLED_ERROR:
				this.fail(incoming[at + 1], fromCore(texts[next++]));
				break;
			case EVENT.CALL: {
				const name = this.names[texts[next++]];
				calls.run(this, incoming[at + 1], incoming[at + 2], incoming[at + 3], name, texts[next++]);
				break;
			}
			case EVENT.CALL_BY_NAME: {
				const name = texts[next++];
				calls.run(this, incoming[at + 1], incoming[at + 2], incoming[at + 3], name, texts[next++]);
				break;
			}
			case EVENT.CALL_MALFORMED:
				calls.run(this, incoming[at + 1], incoming[at + 2], incoming[at + 3], texts[next++], calls.MALFORMED);
				break;
			case EVENT.CONNECTED:
				this.emit('connected');
				break;
			case EVENT.RECONNECTED:
				this.emit('reconnected');
				break;
			case EVENT.DISCONNECTED:
				this.emit('disconnected');
				break;
			default:
				this.emitError(fromCore(texts[next++]));
			}
		}
	}

	settle(id, functions, value) {
		const settle = functions[id];
		this.resolves[id] = this.rejects[id] = undefined;
		this.free.push(id);
		if (this.signals.size > 0) {
			this.forgetSignal(id);
		}
		if (--this.pending === 0) {
			this.settleDown();
		}
		settle(value);
	}

	fail(id, error) {
		const listening = this.signals.get(id);
		if (listening !== undefined && error.code === 'PICOM_CANCELLED') {
			error = cancelled('', listening.signal.reason, error);
		}
		this.settle(id, this.rejects, error);
	}

	forgetSignal(id) {
		const listening = this.signals.get(id);
		if (listening !== undefined) {
			this.signals.delete(id);
			listening.signal.removeEventListener('abort', listening.abort);
		}
	}

	emitError(error) {
		if (this.emitter.listenerCount('error') > 0) {
			this.emit('error', error);
		}
	}

	// What a listener throws is the program's affair, and must not end this batch.
	emit(event, ...values) {
		try {
			this.emitter.emit(event, ...values);
		} catch (thrown) {
			process.nextTick(() => {
				throw thrown;
			});
		}
	}
}

// A message as JSON text, or no text for no message. JSON.stringify says in a TypeError what it
// cannot write, and a message's toJSON may throw anything at all.
function write(message) {
	try {
		return JSON.stringify(message) ?? '';
	} catch (cause) {
		let why = 'what its toJSON threw has no text';
		try {
			why = String(cause?.message ?? cause);
		} catch {
			// That is the text, then.
		}
		throw fromCore({
			name: 'INVALID_MESSAGE',
			number: 1010,
			message: `The message cannot be written as JSON: ${why}`
		}, { cause });
	}
}

module.exports = { Session };
