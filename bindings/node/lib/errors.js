'use strict';

/**
 * What every call that does not succeed rejects with. `code` is the stable name of the kind
 * behind `PICOM_`, `status` its number, `details` the remote error's own fields.
 */
class PicomError extends Error {
	constructor(code, message, options) {
		super(message, options);
		this.code = code;
	}
}

Object.defineProperty(PicomError.prototype, 'name', {
	value: 'PicomError',
	configurable: true,
	writable: true
});

// An error as the core describes it: { name, number, message, details }.
function fromCore(described, options) {
	const error = new PicomError(`PICOM_${described.name}`, described.message, options);
	error.status = described.number;
	if (described.details !== undefined) {
		error.details = described.details;
	}
	return error;
}

// The native half throws errors whose message is the core's description as JSON.
function fromThrown(thrown) {
	try {
		return fromCore(JSON.parse(thrown.message));
	} catch {
		return thrown;
	}
}

// Errors of what only this side can see: the types of arguments.
const invalidOption = (message) => fromCore({ name: 'INVALID_OPTION', number: 1007, message });
const invalidName = (message) => fromCore({ name: 'INVALID_NAME', number: 1006, message });

// A call that its caller gave up: an AbortError, as of the platform's own functions.
function cancelled(target, reason, core) {
	const message = core ? core.message : `Request ${target} was cancelled by the caller`;
	const error = new PicomError('PICOM_CANCELLED', message, { cause: reason });
	error.name = 'AbortError';
	error.status = 499;
	return error;
}

module.exports = { PicomError, cancelled, fromCore, fromThrown, invalidName, invalidOption };
