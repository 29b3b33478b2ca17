'use strict';

// Builds the native half and puts it where lib/native.js looks for it.
// `node scripts/build.js --debug` builds without optimisation.

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = path.resolve(__dirname, '..', '..', '..');
const debug = process.argv.includes('--debug');

// The whole workspace, so that the crates below it are built once, with one set of features.
const args = ['build', '--workspace'];
if (!debug) args.push('--release');
execFileSync('cargo', args, { cwd: root, stdio: 'inherit' });

const target = process.env.CARGO_TARGET_DIR || path.join(root, 'target');
const library = {
	linux: 'libpicom_node.so',
	darwin: 'libpicom_node.dylib',
	win32: 'picom_node.dll'
}[process.platform];
const built = path.join(target, debug ? 'debug' : 'release', library);
const place = path.resolve(__dirname, '..', `picom.${process.platform}-${process.arch}.node`);

// A new file in place of the old one: a process that has the old one loaded keeps it.
fs.copyFileSync(built, `${place}.new`);
fs.renameSync(`${place}.new`, place);
