'use strict';

// The NATS protocol as text over a socket: what sends the bytes that no picom would send.

const net = require('node:net');

class Raw {
	constructor(socket) {
		this.socket = socket;
		this.buffer = Buffer.alloc(0);
		this.subscribers = new Map();
		this.sids = 0;
		this.pongs = [];
		this.errors = [];
		socket.on('data', (data) => {
			this.buffer = Buffer.concat([this.buffer, data]);
			while (this.step());
		});
		socket.on('error', () => {});
	}

	step() {
		const end = this.buffer.indexOf('\r\n');
		if (end < 0) return false;
		const words = this.buffer.toString('latin1', 0, end).split(' ');
		const kind = words[0].toUpperCase();
		let used = end + 2;
		if (kind === 'MSG' || kind === 'HMSG') {
			const size = Number(words.at(-1));
			if (this.buffer.length < used + size + 2) return false;
			const head = kind === 'HMSG' ? Number(words.at(-2)) : 0;
			const content = this.buffer.subarray(used, used + size);
			used += size + 2;
			const fixed = kind === 'HMSG' ? 5 : 4;
			this.subscribers.get(words[2])?.({
				subject: words[1],
				reply: words.length > fixed ? words[3] : undefined,
				headers: content.toString('utf8', 0, head),
				body: content.toString('utf8', head)
			});
		} else if (kind === 'PING') {
			this.socket.write('PONG\r\n');
		} else if (kind === 'PONG') {
			this.pongs.shift()?.();
		} else if (kind === '-ERR') {
			this.errors.push(words.slice(1).join(' '));
		}
		this.buffer = this.buffer.subarray(used);
		return true;
	}

	flush() {
		return new Promise((resolve) => {
			this.pongs.push(resolve);
			this.socket.write('PING\r\n');
		});
	}

	async subscribe(subject, queue, listener) {
		const sid = String(++this.sids);
		this.subscribers.set(sid, listener);
		this.socket.write(`SUB ${subject} ${queue ? `${queue} ` : ''}${sid}\r\n`);
		await this.flush();
		return () => this.socket.write(`UNSUB ${sid}\r\n`);
	}

	publish(subject, body = '', { reply, headers } = {}) {
		const content = Buffer.from(body);
		const to = reply ? `${subject} ${reply}` : subject;
		if (headers === undefined) {
			this.socket.write(`PUB ${to} ${content.length}\r\n`);
		} else {
			const head = `NATS/1.0\r\n${headers}\r\n\r\n`;
			const size = Buffer.byteLength(head);
			this.socket.write(`HPUB ${to} ${size} ${size + content.length}\r\n${head}`);
		}
		this.socket.write(content);
		this.socket.write('\r\n');
	}

	/** Sends a body and resolves with the first answer: `{ subject, headers, body }`. */
	async request(subject, body, options) {
		const reply = `_INBOX.raw.${process.pid}.${++this.sids}`;
		let unsubscribe;
		const answer = new Promise((resolve) => {
			unsubscribe = this.subscribe(reply, '', resolve);
		});
		this.publish(subject, body, { ...options, reply });
		const message = await answer;
		(await unsubscribe)();
		return message;
	}
}

/** A raw client of a server, gone after the test `t`. */
async function connectRaw(t, server, login = {}) {
	const socket = net.connect(server.port, '127.0.0.1');
	t.after(() => socket.destroy());
	const raw = new Raw(socket);
	const options = { verbose: false, headers: true, no_responders: true, protocol: 1, ...login };
	socket.write(`CONNECT ${JSON.stringify(options)}\r\n`);
	await raw.flush();
	return raw;
}

module.exports = { connectRaw };
