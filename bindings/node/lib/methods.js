'use strict';

// Which functions of an object are exposed, and what a handler's end becomes on the wire.

const EventEmitter = require('node:events');

// Where class chains end for us beside Object.prototype: a service may be a Picom itself, and
// nobody is to close it, or to emit its events, from afar.
const roots = new WeakSet([EventEmitter.prototype]);

// The root of a class chain: Object.prototype, or for a function Function.prototype, of this
// realm or of another.
function isRoot(object, source) {
	if (object === source) {
		return false;
	}
	if (roots.has(object)) {
		return true;
	}
	const parent = Object.getPrototypeOf(object);
	return parent === null ||
		(typeof object === 'function' && Object.getPrototypeOf(parent) === null);
}

/**
 * The function of this name that `source` exposes at this moment, or `undefined`. Looked up at
 * each call, so that a replaced function takes effect, and never beyond the object's own class
 * chain, so that nobody can call what every object has.
 */
function find(source, name) {
	for (let at = source; at && !isRoot(at, source); at = Object.getPrototypeOf(at)) {
		if (Object.hasOwn(at, name)) {
			if (name === 'constructor' && at !== source) {
				return undefined;
			}
			const value = source[name];
			return typeof value === 'function' ? value : undefined;
		}
	}
	return undefined;
}

/** The names of the functions that `source` exposes now. */
function names(source) {
	const found = new Set();
	for (let at = source; at && !isRoot(at, source); at = Object.getPrototypeOf(at)) {
		for (const name of Object.getOwnPropertyNames(at)) {
			try {
				// No subject can carry a name with half of a character.
				if (name.isWellFormed() && find(source, name)) {
					found.add(name);
				}
			} catch {
				// A getter that throws: its calls will say so.
			}
		}
	}
	return [...found];
}

/**
 * What a handler failed with, in the two parts that the core joins: an Error gives its message
 * and its own fields, a string itself, anything else its JSON.
 */
function failure(thrown) {
	try {
		return describe(thrown);
	} catch {
		// A proxy or a getter that throws: there is nothing to say, and it has to be said.
		return { message: '' };
	}
}

function describe(thrown) {
	if (typeof thrown === 'string') {
		return { message: thrown.toWellFormed() };
	}
	let json;
	try {
		json = JSON.stringify(thrown);
	} catch {
		// Cycles and BigInts: the text has to do.
	}
	if (thrown instanceof Error || Object.prototype.toString.call(thrown) === '[object Error]') {
		return {
			message: String(thrown.message).toWellFormed(),
			details: json === undefined || json === '{}' ? undefined : JSON.parse(json)
		};
	}
	if (json !== undefined) {
		return { message: json };
	}
	return { message: thrown === undefined ? '' : String(thrown).toWellFormed() };
}

module.exports = { find, names, roots, failure };
