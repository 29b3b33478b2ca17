'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Worker } = require('node:worker_threads');
const { newBus, open, promised, rejects, run, startServer, until } = require('./support');
const { packageFolder } = require('./support/child');

const prelude = `'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const Picom = require(${JSON.stringify(packageFolder)});
const { servers } = workerData;
`;

function startWorker(t, program, data) {
	const worker = new Worker(prelude + program, { eval: true, workerData: data });
	worker.failed = new Promise((resolve) => worker.once('error', resolve));
	worker.ended = new Promise((resolve) => worker.once('exit', resolve));
	worker.says = (what) => new Promise((resolve) => {
		worker.on('message', (said) => {
			if (what === undefined || said === what) resolve(said);
		});
	});
	t.after(() => worker.terminate());
	return worker;
}

test('it works in several worker threads at once, as caller and as responder', async (t) => {
	const server = await startServer(t);
	for (const servers of [server.url, newBus()]) {
		const workers = [];
		for (let id = 0; id < 3; id++) {
			const worker = startWorker(t, `
				const { id } = workerData;
				const picom = new Picom('worker' + id, { servers });
				picom.expose({
					echo: (n) => [id, n],
					relay: ({ to, n }) => picom.request('worker' + to + '.echo', n),
					fail() { throw Object.assign(new Error('from ' + id), { id }); }
				}).then(() => parentPort.postMessage('ready'));
			`, { servers, id });
			workers.push(worker);
		}
		await Promise.all(workers.map((worker) => worker.says('ready')));
		const caller = open(t, undefined, { servers });
		const calls = [];
		for (let n = 0; n < 900; n++) {
			calls.push(caller.request(`worker${n % 3}.relay`, { to: (n + 1) % 3, n }));
		}
		assert.deepEqual(await Promise.all(calls), calls.map((_, n) => [(n + 1) % 3, n]));
		const error = await rejects(caller.request('worker1.fail'), 'PICOM_HANDLER_FAILED', /from 1/);
		assert.deepEqual(error.details, { id: 1 });
		await Promise.all(workers.map((worker) => worker.terminate()));
	}
});

test('a worker with an idle caller ends by itself, and process.exit ends it too', async (t) => {
	const servers = newBus();
	await open(t, 'svc', { servers }).expose({ hi: () => 1, never: () => new Promise(() => {}) });
	const idle = startWorker(t, `
		new Picom(null, { servers }).request('svc.hi').then((n) => parentPort.postMessage(n));
	`, { servers });
	assert.equal(await idle.says(), 1);
	assert.equal(await idle.ended, 0);
	const exits = startWorker(t, `
		const picom = new Picom('exits', { servers });
		picom.expose({ a() {} }).then(() => {
			for (let n = 0; n < 100; n++) picom.request('svc.never').catch(() => {});
			setImmediate(() => process.exit(4));
		});
	`, { servers });
	assert.equal(await exits.ended, 4);
});

test('callers of a worker that is terminated in mid-request hear of it at once, 50 times', async (t) => {
	const server = await startServer(t);
	const began = performance.now();
	let worst = 0;
	for (let round = 0; round < 50; round++) {
		const servers = round % 2 ? server.url : newBus();
		const worker = startWorker(t, `
			const picom = new Picom('mortal', { servers });
			let held = 0;
			picom.expose({
				hold() {
					if (++held === 20) parentPort.postMessage('holding');
					return new Promise(() => {});
				}
			}).then(() => parentPort.postMessage('ready'));
		`, { servers });
		await worker.says('ready');
		const caller = open(t, undefined, { servers, timeout: 20000 });
		const calls = Promise.allSettled(Array.from({ length: 20 }, () => caller.request('mortal.hold')));
		await worker.says('holding');
		const since = performance.now();
		const [settled] = await Promise.all([calls, worker.terminate()]);
		worst = Math.max(worst, performance.now() - since);
		for (const { reason } of settled) {
			assert.equal(reason.code, 'PICOM_HANDLER_FAILED');
			assert.match(reason.message, /went away before it finished/);
		}
		await until(async () => {
			const code = await caller.request('mortal.hold', {}, { timeout: 100 }).catch((error) => error.code);
			return code === 'PICOM_NO_RESPONDER';
		});
		await caller.close();
	}
	t.diagnostic(`50 rounds in ${((performance.now() - began) / 1000).toFixed(1)} s`);
	assert.ok(worst < 1000, `${worst} ms`);
	t.diagnostic(`callers heard of it within ${worst.toFixed(1)} ms (promised: 100 ms)`);
});

test('a worker that is terminated while it calls leaves the process and the responder well, 50 times', async (t) => {
	const server = await startServer(t);
	for (const servers of [server.url, newBus()]) {
		const service = open(t, 'steady', { servers });
		await service.expose({ hold: () => new Promise(() => {}), echo: (n) => n });
		const caller = open(t, undefined, { servers });
		for (let round = 0; round < 25; round++) {
			const worker = startWorker(t, `
				const picom = new Picom(null, { servers });
				let sent = 0;
				const more = () => {
					for (let n = 0; n < 50; n++) {
						picom.request('steady.hold').catch(() => {});
						picom.request('steady.echo', n).catch(() => {});
						picom.publish('steady.echo', n);
					}
					if (++sent === 3) parentPort.postMessage('flooding');
					setImmediate(more);
				};
				more();
			`, { servers });
			await worker.says('flooding');
			await worker.terminate();
			assert.equal(await caller.request('steady.echo', round), round);
		}
	}
});

test('a worker that is terminated under a flood of calls leaves no caller waiting', async (t) => {
	const server = await startServer(t);
	for (let round = 0; round < 6; round++) {
		const servers = round % 2 ? server.url : newBus();
		const worker = startWorker(t, `
			const picom = new Picom('flooded', { servers });
			picom.expose({ echo: (n) => n }).then(() => parentPort.postMessage('ready'));
		`, { servers });
		await worker.says('ready');
		const caller = open(t, undefined, { servers, timeout: 20000, retries: 0 });
		const codes = new Map();
		let going = true;
		const loops = Array.from({ length: 200 }, async () => {
			while (going) {
				const code = await caller.request('flooded.echo', 1).then(() => 'ok', (error) => error.code);
				codes.set(code, (codes.get(code) ?? 0) + 1);
				if (code === 'PICOM_NO_RESPONDER') return;
			}
		});
		await until(() => codes.get('ok') > 2000);
		const since = performance.now();
		await worker.terminate();
		await Promise.all(loops);
		going = false;
		if (round === 0) promised(t, 'every caller settled after the termination', 100, since);
		assert.ok(performance.now() - since < 3000);
		assert.equal(codes.get('PICOM_TIMED_OUT'), undefined);
	}
});

test('the process survives workers that end in every way while calls are under way', async () => {
	const result = await run(`
		const { Worker, isMainThread } = require('node:worker_threads');
		const servers = 'memory://shared';
		const source = 'const Picom = require(' + JSON.stringify(${JSON.stringify(packageFolder)}) + ');' + \`
			const servers = 'memory://shared';
			const picom = new Picom('w', { servers });
			picom.expose({ hold: () => new Promise(() => {}) });
			for (let n = 0; n < 100; n++) picom.request('w.hold').catch(() => {});
		\`;
		(async () => {
			for (let round = 0; round < 20; round++) {
				const end = ['', 'process.exit(0);', 'throw new Error("x");', 'setTimeout(() => process.exit(0), 5);'][round % 4];
				const worker = new Worker(source + end, { eval: true });
				worker.on('error', () => {});
				const ended = new Promise((resolve) => worker.once('exit', resolve));
				if (round % 4 === 0) setTimeout(() => worker.terminate(), round);
				await ended;
			}
			console.log('survived');
		})();
	`, { limit: 60000 });
	assert.deepEqual([result.stdout, result.code], ['survived\n', 0], result.stderr);
});
