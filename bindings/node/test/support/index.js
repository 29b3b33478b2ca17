'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { setTimeout: pause } = require('node:timers/promises');
const Picom = require('../..');
const { startServer, freePort } = require('./server');
const { connectRaw } = require('./raw');
const { run, start } = require('./child');

let buses = 0;

/** The address of a bus in memory that nobody else has. */
const newBus = () => `memory://test-${process.pid}-${++buses}`;

/** An instance that is closed after the test. */
function open(t, name, options) {
	const picom = new Picom(name, { closeTimeout: 200, ...options });
	t.after(() => picom.close());
	return picom;
}

/** A service and a caller on one server, or on a bus of their own. */
async function pair(t, methods, options) {
	const both = { servers: newBus(), ...options };
	const service = open(t, 'svc', both);
	const caller = open(t, undefined, both);
	await service.expose(methods);
	return { service, caller };
}

/** Asserts that a promise rejects with a PicomError of this code, and returns it. */
async function rejects(promise, code, text = /./) {
	let error;
	try {
		await promise;
	} catch (thrown) {
		error = thrown;
	}
	assert.ok(error !== undefined, `${code} was expected, and it succeeded`);
	assert.equal(error.code, code, error.stack);
	assert.ok(error instanceof Picom.PicomError && error instanceof Error);
	assert.equal(typeof error.status, 'number');
	assert.match(error.message, text);
	return error;
}

/** Waits for a condition, for at most ten seconds. */
async function until(condition, what = condition) {
	for (const end = Date.now() + 10000; ;) {
		const value = await condition();
		if (value) return value;
		assert.ok(Date.now() < end, `never happened: ${what}`);
		await pause(5);
	}
}

/** Waits for an event, for at most ten seconds, without taking an `error` event for a failure. */
async function event(emitter, name) {
	return new Promise((resolve, reject) => {
		const late = setTimeout(() => reject(new Error(`no event ${name}`)), 10000);
		emitter.once(name, (value) => {
			clearTimeout(late);
			resolve(value);
		});
	});
}

/** A promise and its functions. */
function deferred() {
	const made = {};
	made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
	return made;
}

/** Reports how long something took that is promised to take `promised` ms; ten times is a failure. */
function promised(t, what, limit, since) {
	const took = performance.now() - since;
	t.diagnostic(`${what}: ${took.toFixed(1)} ms (promised: ${limit} ms)`);
	assert.ok(took < limit * 10, `${what} took ${took} ms`);
}

/** Collects what an instance emits as errors. */
function errorsOf(picom) {
	const errors = [];
	picom.on('error', (error) => errors.push(error));
	return errors;
}

module.exports = {
	Picom, connectRaw, deferred, errorsOf, event, freePort, newBus, once, open, pair, pause,
	promised, rejects, run, start, startServer, until
};
