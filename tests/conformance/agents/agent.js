'use strict';

// What the JavaScript agents share: the commands, one JSON object a line, and the behaviours of
// methods. README.md states both.

const readline = require('node:readline');

/**
 * Serves commands for a peer: `expose(service, methods)`, `request(target, message, timeout)`,
 * `publish(target, message)` and `close()`, each returning a promise, and `describe(error)`.
 */
function serve(peer) {
	const calls = {};
	const verbs = {
		async expose({ service, methods }) {
			const functions = {};
			for (const [name, behaviour] of Object.entries(methods)) {
				const run = handler(behaviour);
				const value = (message) => {
					const target = `${service}.${name}`;
					calls[target] = (calls[target] || 0) + 1;
					return run(message);
				};
				// Not an assignment: that would not make a property called __proto__.
				Object.defineProperty(functions, name, { value, enumerable: true });
			}
			await peer.expose(service, functions);
			return {};
		},
		async request(command) {
			const value = await peer.request(command.target, message(command), command.timeout);
			return value === undefined ? {} : { payload: text(value) };
		},
		async publish(command) {
			await peer.publish(command.target, message(command));
			return {};
		},
		async calls() {
			return { calls };
		},
		async close() {
			await peer.close();
			return {};
		}
	};

	const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\n');
	const lines = readline.createInterface({ input: process.stdin });
	lines.on('line', async (line) => {
		const command = JSON.parse(line);
		try {
			say({ id: command.id, ...(await verbs[command.do](command)) });
		} catch (error) {
			say({ id: command.id, error: peer.describe(error) });
		}
	});
	lines.on('close', () => peer.close().catch(() => {}));
	say({ ready: true });
}

function message(command) {
	if (command.javascript !== undefined) {
		return new Function(`return ${command.javascript}`)();
	}
	return command.message === undefined ? undefined : JSON.parse(command.message);
}

function handler(behaviour) {
	if (typeof behaviour === 'string') {
		return {
			nothing: () => undefined,
			echo: (message) => message,
			hang: () => new Promise(() => {})
		}[behaviour];
	}
	const [[name, value]] = Object.entries(behaviour);
	switch (name) {
	case 'return':
		return () => value;
	case 'throw_text':
	case 'throw_value':
		return () => {
			throw value;
		};
	case 'throw_error':
		return () => {
			throw Object.assign(new Error(value.message), value.fields);
		};
	case 'javascript':
		return new Function('message', value);
	default:
		throw new Error(`no such behaviour: ${name}`);
	}
}

// JSON.stringify cannot write arrays that are nested as deeply as JSON.parse reads them.
function text(value) {
	try {
		return JSON.stringify(value);
	} catch {
		let depth = 0;
		for (; Array.isArray(value) && value.length === 1; value = value[0]) {
			depth++;
		}
		return '['.repeat(depth) + JSON.stringify(value) + ']'.repeat(depth);
	}
}

module.exports = { serve };
