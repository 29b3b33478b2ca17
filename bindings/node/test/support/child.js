'use strict';

// Programs in processes of their own: for what ends a process, and for what must not.

const { spawn } = require('node:child_process');
const path = require('node:path');

const packageFolder = path.resolve(__dirname, '..', '..');
const prelude = `'use strict';
const Picom = require(${JSON.stringify(packageFolder)});
`;

/**
 * Starts a program, given as its text, in which `Picom` is there. It is killed after `limit` ms,
 * and then `ended` fulfils with `timedOut`.
 */
function start(program, { flags = [], limit = 20000 } = {}) {
	const args = [...flags, '-e', prelude + program];
	const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe', 'ipc'] });
	const result = { code: null, signal: null, stdout: '', stderr: '', timedOut: false, ms: 0 };
	child.stdout.on('data', (text) => { result.stdout += text; });
	child.stderr.on('data', (text) => { result.stderr += text; });
	const began = performance.now();
	const late = setTimeout(() => {
		result.timedOut = true;
		child.kill('SIGKILL');
	}, limit);
	child.result = result;
	child.ended = new Promise((resolve) => {
		child.once('close', (code, signal) => {
			clearTimeout(late);
			resolve(Object.assign(result, { code, signal, ms: performance.now() - began }));
		});
	});
	return child;
}

/** Runs a program to its end. */
const run = (program, options) => start(program, options).ended;

module.exports = { run, start, packageFolder };
