'use strict';

// The two ends of a bench program in Node. The orchestrator (bench/harness.py) writes one JSON
// command a line; a caller answers each with one JSON line. Every peer runs this same loop.

const readline = require('node:readline');

// The names and braces of a message with a text take 24 bytes; one without it takes 16.
const message = (size) => (size < 24 ? { a: 13, b: -10 } : { a: 1, b: 2, text: 'x'.repeat(size - 24) });
const answer = (request) => ({ sum: request.a + request.b, text: request.text });

const SAMPLES = new Float64Array(1 << 20);

function percentile(sorted, share) {
	return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

// The requests in flight are dealt out to the callers in turn.
async function requests(callers, { inflight, ms, size }) {
	const body = message(size);
	const begin = performance.now();
	let end = begin + ms;
	let count = 0;
	let samples = 0;
	const one = async ({ request }) => {
		for (;;) {
			const sent = performance.now();
			if (sent >= end) return;
			const reply = await request(body);
			if (reply.sum !== 3) throw new Error(`wrong reply ${JSON.stringify(reply)}`);
			count++;
			if (samples < SAMPLES.length) SAMPLES[samples++] = performance.now() - sent;
		}
	};
	const all = Array.from({ length: inflight }, (_, i) => one(callers[i % callers.length]));
	try {
		await Promise.all(all);
	} catch (error) {
		// The other requests must not run on into the next command.
		end = 0;
		await Promise.allSettled(all);
		throw error;
	}
	const took = performance.now() - begin;
	const sorted = SAMPLES.slice(0, samples).sort();
	return { count, seconds: took / 1000, p50: percentile(sorted, 0.5) * 1000, p99: percentile(sorted, 0.99) * 1000 };
}

// How late a 5 ms timer fires while requests keep the loop busy.
async function timerLateness(callers, { inflight, ms, size }) {
	const late = [];
	let last = performance.now();
	const timer = setInterval(() => {
		const now = performance.now();
		late.push(now - last - 5);
		last = now;
	}, 5);
	const { count, seconds } = await requests(callers, { inflight, ms, size }).finally(() => clearInterval(timer));
	// A timer that the requests kept from firing until their end is late as well.
	if (performance.now() - last > 5) late.push(performance.now() - last - 5);
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

function caller(callers) {
	const [{ publishAll }] = callers;
	const lines = readline.createInterface({ input: process.stdin });
	lines.on('line', async (line) => {
		const command = JSON.parse(line);
		let result;
		try {
			if (command.op === 'request') result = await requests(callers, command);
			else if (command.op === 'timer') result = await timerLateness(callers, command);
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
