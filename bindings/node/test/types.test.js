'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const Picom = require('..');
const { packageFolder } = require('./support/child');

const compiler = require.resolve('typescript/bin/tsc');
const flags = [
	'--noEmit', '--strict', '--noUncheckedIndexedAccess', '--exactOptionalPropertyTypes',
	'--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--module', 'nodenext',
	'--types', 'node', '--typeRoots', path.join(packageFolder, 'node_modules', '@types')
];

function compile(...files) {
	return new Promise((resolve) => {
		execFile(process.execPath, [compiler, ...flags, ...files], (error, stdout, stderr) => {
			resolve({ failed: error !== null, text: stdout + stderr });
		});
	});
}

test('programs in TypeScript compile, as CommonJS and as modules', async () => {
	const folder = path.join(__dirname, 'support', 'types');
	const { failed, text } = await compile(path.join(folder, 'right.ts'), path.join(folder, 'right.mts'));
	assert.equal(text, '');
	assert.equal(failed, false);
});

test('each wrong use is an error of the compiler', async (t) => {
	const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'picom-types-'));
	t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
	const wrong = [
		"new Picom(5);",
		"new Picom('x', 'nats://h');",
		"new Picom('x', { timeout: '5' });",
		"new Picom('x', { servers: 5 });",
		"new Picom('x', { consulHost: 'h' });",
		"new Picom('x', { tls: { rejectUnauthorized: 'no' } });",
		"new Picom('x', { tls: 'yes' });",
		"picom.request(5);",
		"picom.request();",
		"picom.request('a.b', {}, { timeout: '5' });",
		"picom.request('a.b', {}, { signal: 5 });",
		"picom.request('a.b', {}, 500);",
		"picom.expose(5);",
		"picom.expose();",
		"picom.publish(5);",
		"picom.publish('a.b', {}, { timeout: 5 });",
		"const a: number = picom.publish('a.b');",
		"const b: string = picom.request<number>('a.b');",
		"picom.serviceName = 'other';",
		"picom.nothing();",
		"const c: Picom.ErrorCode = 'PICOM_NOTHING';",
		"Picom.current().id;",
		"new Picom.PicomError().code = 'x';"
	];
	const source = [
		`import Picom = require(${JSON.stringify(packageFolder)});`,
		"declare const picom: Picom;", ...wrong.map((line) => `{ ${line} }`)
	];
	const file = path.join(folder, 'wrong.ts');
	fs.writeFileSync(file, source.join('\n'));
	const { failed, text } = await compile(file);
	assert.equal(failed, true);
	const lines = new Set([...text.matchAll(/wrong\.ts\((\d+),/g)].map(([, line]) => Number(line) - 3));
	for (const [at, line] of wrong.entries()) assert.ok(lines.has(at), `compiles: ${line}`);
	assert.ok(!lines.has(-1) && !lines.has(-2), text);
});

test('what the types declare is there', () => {
	const declared = fs.readFileSync(path.join(packageFolder, 'index.d.ts'), 'utf8');
	for (const name of ['connect', 'expose', 'request', 'publish', 'close']) {
		assert.match(declared, new RegExp(`\\n\\t${name}[<(]`));
		assert.equal(typeof Picom.prototype[name], 'function');
	}
	assert.equal(typeof Picom.current, 'function');
	// The codes that the core has, and no others.
	const core = fs.readFileSync(path.join(packageFolder, '..', '..', 'picom-core', 'src', 'error.rs'), 'utf8');
	const kinds = [...core.matchAll(/ = \d+, "([A-Z_]+)";/g)].map(([, name]) => `PICOM_${name}`);
	const codes = [...declared.matchAll(/\| '(PICOM_[A-Z_]+)'/g)].map(([, code]) => code);
	assert.ok(codes.length > 10);
	assert.deepEqual(codes.sort(), kinds.sort());
});
