'use strict';

// A real nats-server on a free port of 127.0.0.1, gone at the end of its test.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const root = path.resolve(__dirname, '..', '..', '..', '..');
const binary = process.env.PICOM_NATS_SERVER || path.join(root, '.venv', 'bin', 'nats-server');
const running = new Set();
const folders = new Set();

process.on('exit', () => {
	for (const child of running) child.kill('SIGKILL');
	for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});
// What stops a test, such as its runner's time limit, must not leave servers behind.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

function freePort() {
	return new Promise((resolve, reject) => {
		const server = net.createServer();
		server.once('error', reject);
		server.listen(0, '127.0.0.1', () => {
			const { port } = server.address();
			server.close(() => resolve(port));
		});
	});
}

function answers(port) {
	return new Promise((resolve) => {
		const socket = net.connect(port, '127.0.0.1');
		const done = (yes) => {
			socket.destroy();
			resolve(yes);
		};
		socket.once('data', () => done(true));
		socket.once('error', () => done(false));
		socket.once('close', () => done(false));
	});
}

class Server {
	constructor(port, config) {
		this.port = port;
		this.url = `nats://127.0.0.1:${port}`;
		this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'picom-test-'));
		folders.add(this.folder);
		this.config = path.join(this.folder, 'nats.conf');
		fs.writeFileSync(this.config, config);
		this.child = null;
	}

	async start() {
		const args = ['-a', '127.0.0.1', '-p', String(this.port), '-c', this.config];
		const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
		let log = '';
		child.stderr.on('data', (text) => { log = (log + text).slice(-4000); });
		this.child = child;
		running.add(child);
		this.ended = new Promise((resolve) => {
			child.once('error', (error) => { log += error.message; resolve(); });
			child.once('exit', resolve);
		});
		this.ended.then(() => running.delete(child));
		const end = Date.now() + 10000;
		while (!await answers(this.port)) {
			if (child.exitCode !== null || Date.now() > end || !running.has(child)) {
				throw new Error(`nats-server does not start: ${log}`);
			}
		}
	}

	// Without a goodbye to its clients, as a machine that loses its power.
	async kill() {
		this.child.kill('SIGKILL');
		await this.ended;
	}

	async remove() {
		await this.kill();
		fs.rmSync(this.folder, { recursive: true, force: true });
		folders.delete(this.folder);
	}
}

/** Starts a server, and ends it after the test `t`. `config` is text for its configuration. */
async function startServer(t, config = '') {
	for (let left = 3; ; left--) {
		const server = new Server(await freePort(), config);
		try {
			await server.start();
			t.after(() => server.remove());
			return server;
		} catch (error) {
			await server.remove();
			// Somebody else may have taken the port in between.
			if (left === 0 || !/address already in use/.test(error.message)) throw error;
		}
	}
}

module.exports = { startServer, freePort };
