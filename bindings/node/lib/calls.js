'use strict';

// The calls of a service's handlers, from a record of a batch to the record of their end.

const methods = require('./methods');
const { SUBMIT } = require('./records');

// In place of a message that was not JSON.
const MALFORMED = Symbol('malformed');

// The call whose handler runs right now, up to its first await.
let current = null;

function run(session, low, high, left, name, message) {
	// Everything of the program's may throw, a getter of its objects as well as its handler:
	// that ends this call, and not the batch that it came in.
	try {
		let source;
		let handler;
		// The latest object that has the name answers.
		for (let at = session.sources.length; at-- > 0 && handler === undefined;) {
			source = session.sources[at];
			handler = methods.find(source, name);
		}
		// What ran before it in this batch may have taken its time: nobody waits any longer.
		const deadline = left < 0 ? undefined : session.drained + left;
		if (deadline !== undefined && Date.now() > deadline) {
			session.put(SUBMIT.EXPIRED, low, high, 0);
			return;
		}
		if (handler === undefined) {
			session.put(SUBMIT.NOT_FOUND, low, high, 0);
			session.line(JSON.stringify(name));
			return;
		}
		if (message === MALFORMED) {
			session.put(SUBMIT.MALFORMED, low, high, 0);
			return;
		}
		current = { session, low, high, deadline, method: name };
		const result = handler.call(source, message);
		current = null;
		if (isThenable(result)) {
			Promise.resolve(result).then(
				(value) => returned(session, low, high, value),
				(thrown) => failed(session, low, high, thrown)
			);
		} else {
			returned(session, low, high, result);
		}
	} catch (thrown) {
		current = null;
		failed(session, low, high, thrown);
	}
}

function returned(session, low, high, value) {
	let json;
	try {
		json = JSON.stringify(value);
	} catch (thrown) {
		failed(session, low, high, thrown);
		return;
	}
	if (json === undefined) {
		session.put(SUBMIT.RETURNED_NOTHING, low, high, 0);
	} else {
		session.put(SUBMIT.RETURNED, low, high, 0);
		session.line(json);
	}
}

function failed(session, low, high, thrown) {
	const text = JSON.stringify(methods.failure(thrown));
	session.put(SUBMIT.FAILED, low, high, 0);
	session.line(text);
	session.emitError(thrown);
}

function isThenable(value) {
	return value !== null && (typeof value === 'object' || typeof value === 'function') &&
		typeof value.then === 'function';
}

/** The call of this session's whose handler runs right now, or null. */
function runningOn(session) {
	return current !== null && current.session === session ? current : null;
}

// What the handler that runs now may know of its call; see Picom.current in index.d.ts.
function currentCall() {
	if (current === null) {
		return undefined;
	}
	const { session, low, deadline, method } = current;
	return {
		id: session.native.callId(low) ?? undefined,
		method,
		deadline
	};
}

module.exports = { MALFORMED, currentCall, run, runningOn };
