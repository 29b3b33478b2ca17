'use strict';

// Sessions that something waits for: a service, or a call that has not settled. While there are
// any, one timer keeps the loop alive.
const awake = new Set();
let keepAlive = null;
// As it is when this is loaded: tests that fake timers would stop it.
const { setInterval } = globalThis;

function stayAwake(session) {
	awake.add(session);
	if (keepAlive === null) {
		keepAlive = setInterval(() => {}, 0x7fffffff);
	} else if (awake.size === 1) {
		keepAlive.ref();
	}
}

function letSleep(session) {
	if (awake.delete(session) && awake.size === 0) {
		keepAlive.unref();
	}
}

module.exports = { letSleep, stayAwake };
