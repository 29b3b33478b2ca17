'use strict';

// The two ends of a bench program in Node. The orchestrator (bench/run.py) writes one JSON
// command a line; a caller answers each with one JSON line. Every peer runs this same loop.

const readline = require('node:readline');

const message = (size) => ({ a: 1, b: 2, text: 'x'.repeat(Math.max(0, size - 24)) });
const answer = (request) => ({ sum: request.a + request.b, text: request.text });

const SAMPLES = new Float64Array(1 << 20);

function percentile(sorted, share) {
	return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

async function requests(request, { inflight, ms, size }) {
	const body = message(size);
	const begin = performance.now();
	const end = begin + ms;
	let count = 0;
	let samples = 0;
	const one = async () => {
		for (;;) {
			const sent = performance.now();
			if (sent >= end) return;
			const reply = await request(body);
			if (reply.sum !== 3) throw new Error(`wrong reply ${JSON.stringify(reply)}`);
			count++;
			if (samples < SAMPLES.length) SAMPLES[samples++] = performance.now() - sent;
		}
	};
	await Promise.all(Array.from({ length: inflight }, one));
	const took = performance.now() - begin;
	const sorted = SAMPLES.slice(0, samples).sort();
	return { count, seconds: took / 1000, p50: percentile(sorted, 0.5) * 1000, p99: percentile(sorted, 0.99) * 1000 };
}

// How late a 5 ms timer fires while requests keep the loop busy.
async function timerLateness(request, { inflight, ms, size }) {
	const late = [];
	let last = performance.now();
	const timer = setInterval(() => {
		const now = performance.now();
		late.push(now - last - 5);
		last = now;
	}, 5);
	const { count, seconds } = await requests(request, { inflight, ms, size });
	clearInterval(timer);
	late.sort((a, b) => a - b);
	return { count, seconds, p50: percentile(late, 0.5) * 1000, p99: percentile(late, 0.99) * 1000 };
}

// `publishAll(body, n)` resolves when the server has taken n messages.
async function publishes(publishAll, { inflight, ms, size }) {
	const body = message(size);
	const begin = performance.now();
	let count = 0;
	while (performance.now() - begin < ms) {
		await publishAll(body, inflight);
		count += inflight;
	}
	return { count, seconds: (performance.now() - begin) / 1000, p50: 0, p99: 0 };
}

function caller({ request, publishAll }) {
	const lines = readline.createInterface({ input: process.stdin });
	lines.on('line', async (line) => {
		const command = JSON.parse(line);
		let result;
		try {
			if (command.op === 'request') result = await requests(request, command);
			else if (command.op === 'timer') result = await timerLateness(request, command);
			else if (publishAll) result = await publishes(publishAll, command);
			else result = { absent: true };
		} catch (error) {
			result = { error: String(error?.stack ?? error) };
		}
		process.stdout.write(`${JSON.stringify(result)}\n`);
	});
	lines.on('close', () => process.exit(0));
	process.stdout.write('{"ready":true}\n');
}

function responder() {
	process.stdin.on('end', () => process.exit(0)).resume();
	process.stdout.write('{"ready":true}\n');
}

module.exports = { answer, caller, responder };
