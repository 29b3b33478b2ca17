'use strict';

// What keeps a process alive, what lets it end, and what it leaves behind.

const assert = require('node:assert/strict');
const net = require('node:net');
const { test } = require('node:test');
const { connectRaw, freePort, open, pause, rejects, run, start, startServer, until } = require('./support');

test('a process ends by itself although its caller was not closed', async (t) => {
	const server = await startServer(t);
	await open(t, 'svc', { servers: server.url }).expose({ echo: (n) => n });
	for (const [what, program] of Object.entries({
		unused: `new Picom('x', { servers: URL })`,
		connected: `new Picom('x', { servers: URL }).connect()`,
		used: `new Picom(null, { servers: URL }).request('svc.echo', 5).then(console.log)`,
		published: `new Picom(null, { servers: URL }).publish('svc.echo', 5)`,
		failed: `new Picom(null, { servers: URL }).request('nobody.home').catch(() => {})`,
		aborted: `{
			const stop = new AbortController();
			new Picom(null, { servers: URL }).request('svc.echo', 5, { signal: stop.signal }).catch(() => {});
			stop.abort();
		}`,
		both: `{
			const picom = new Picom(null, { servers: URL });
			picom.connect();
			const other = new Picom('other', { servers: URL });
			other.expose({ a() {} }).then(() => picom.request('other.a')).then(() => other.close());
		}`
	})) {
		const result = await run(program.replaceAll('URL', JSON.stringify(server.url)));
		assert.deepEqual([result.code, result.stderr, result.timedOut], [0, '', false], what);
		if (what === 'used') assert.equal(result.stdout, '5\n');
	}
});

test('a process does not end while a request is unsettled', async (t) => {
	const server = await startServer(t);
	await open(t, 'svc', { servers: server.url }).expose({ never: () => new Promise(() => {}) });
	const result = await run(`
		const picom = new Picom(null, { servers: ${JSON.stringify(server.url)} });
		picom.request('svc.never', {}, { timeout: 1000 }).catch((error) => console.log(error.code));
	`);
	assert.equal(result.stdout, 'PICOM_TIMED_OUT\n');
	assert.equal(result.code, 0);
	assert.ok(result.ms >= 1000);
});

test('a process does not end while anything else is unsettled', async () => {
	const port = await freePort();
	for (const call of ['connect()', 'expose({ a() {} })', 'publish("a.b")']) {
		const result = await run(`
			const picom = new Picom('svc', { servers: '127.0.0.1:${port}', timeout: 300, retries: 2 });
			picom.${call}.catch((error) => {
				console.log(error.code);
				picom.close().then(() => console.log('closed'));
			});
		`);
		assert.match(result.stdout, /^PICOM_(TIMED_OUT|CONNECT_FAILED)\nclosed\n$/, call);
		assert.equal(result.code, 0);
	}
});

test('a process does not end while a service is exposed, and does when it is closed', async (t) => {
	const server = await startServer(t);
	const caller = open(t, undefined, { servers: server.url, retries: 100 });
	for (const ending of ['service.close()', 'await service.close()']) {
		const child = start(`
			const service = new Picom('held', { servers: ${JSON.stringify(server.url)} });
			service.expose({
				pid: () => process.pid,
				async stop() { ${ending}; return 'bye'; }
			}).then(() => process.send('ready'));
		`);
		await new Promise((resolve) => child.once('message', resolve));
		// Nothing else keeps it: not a call, and not the channel, on which nobody listens.
		await pause(300);
		assert.equal(child.exitCode, null);
		assert.equal(await caller.request('held.pid'), child.pid);
		assert.equal(await caller.request('held.stop'), 'bye');
		const result = await child.ended;
		assert.deepEqual([result.code, result.stderr], [0, '']);
	}
});

test('process.exit in mid-request ends at once, with its code, without a crash', async (t) => {
	const server = await startServer(t);
	await open(t, 'svc', { servers: server.url }).expose({ echo: (n) => n, never: () => new Promise(() => {}) });
	for (const servers of [server.url, 'memory://x']) {
		for (const when of ['setImmediate(exit)', 'exit()', 'setTimeout(exit, 30)']) {
			const result = await run(`
				const servers = ${JSON.stringify(servers)};
				const exit = () => process.exit(3);
				const own = new Picom('own', { servers });
				const picom = new Picom(null, { servers });
				own.expose({ never: () => new Promise(() => {}), echo: (n) => n }).then(() => {
					for (let n = 0; n < 2000; n++) {
						for (const target of ['own.never', 'own.echo', 'svc.echo', 'svc.never']) {
							picom.request(target, n).catch(() => {});
						}
					}
					${when};
				});
			`);
			assert.deepEqual([result.code, result.signal, result.stderr], [3, null, ''], when);
		}
	}
});

test('an uncaught exception in mid-request ends the process as it does elsewhere', async () => {
	const result = await run(`
		const picom = new Picom('svc', { servers: 'memory://x' });
		picom.expose({ never: () => new Promise(() => {}) }).then(() => {
			for (let n = 0; n < 1000; n++) picom.request('svc.never').catch(() => {});
			setTimeout(() => { throw new Error('on purpose'); }, 20);
		});
	`);
	assert.deepEqual([result.code, result.signal], [1, null]);
	assert.match(result.stderr, /on purpose/);
});

test('an instance that is collected gives its connection back', async (t) => {
	const monitor = await freePort();
	const server = await startServer(t, `http: 127.0.0.1:${monitor}`);
	const connections = async () => {
		const response = await fetch(`http://127.0.0.1:${monitor}/varz`);
		return (await response.json()).connections;
	};
	const child = start(`
		const servers = ${JSON.stringify(server.url)};
		const hold = setInterval(() => {}, 1000);
		process.on('message', () => { global.gc(); });
		const use = async (n) => {
			const picom = new Picom('gone' + n, { servers });
			await picom.connect();
			if (n % 2) await picom.request('nobody.home').catch(() => {});
			if (n % 5 === 0) { await picom.expose({ a() {} }); await picom.close(); }
		};
		(async () => {
			for (let n = 0; n < 50; n++) await use(n);
			process.send('ready');
		})();
	`, { flags: ['--expose-gc'] });
	await new Promise((resolve) => child.once('message', resolve));
	let left = await connections();
	assert.ok(left > 0);
	await until(async () => {
		child.send('collect');
		await pause(20);
		left = await connections();
		return left === 0;
	}, 'all connections given back').catch((error) => {
		throw new Error(`${left} connections are left`, { cause: error });
	});
	child.kill();
	await child.ended;
});

test('what is still needed is not collected', async () => {
	const result = await run(`
		const servers = 'memory://x';
		(async () => {
			await new Picom('svc', { servers }).expose({
				slow: () => new Promise((resolve) => setTimeout(resolve, 200, 'slow'))
			});
			let heard = 0;
			const calls = [];
			for (let n = 0; n < 20; n++) calls.push(new Picom(null, { servers }).request('svc.slow'));
			for (let n = 0; n < 20; n++) {
				global.gc();
				await new Promise((resolve) => setTimeout(resolve, 5));
			}
			console.log(new Set(await Promise.all(calls)));
			global.gc();
			console.log(await new Picom(null, { servers }).request('svc.slow'));
			process.exit();
		})();
	`, { flags: ['--expose-gc'] });
	assert.equal(result.stdout, "Set(1) { 'slow' }\nslow\n", result.stderr);
});

test('an instance that was never used never connects, not even when it goes', async (t) => {
	let connections = 0;
	const server = net.createServer((socket) => {
		connections++;
		socket.destroy();
	});
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
	t.after(() => server.close());
	const result = await run(`
		for (let n = 0; n < 100; n++) new Picom('x', { servers: '127.0.0.1:${server.address().port}' });
		(async () => {
			for (let n = 0; n < 10; n++) {
				global.gc();
				await new Promise((resolve) => setTimeout(resolve, 5));
			}
			// Where the system lists threads: the one that moves messages was never started.
			const fs = require('node:fs');
			const list = '/proc/self/task';
			const threads = fs.existsSync(list) ? fs.readdirSync(list) : [];
			const names = threads.map((id) => fs.readFileSync(list + '/' + id + '/comm', 'utf8').trim());
			console.log(names.includes('picom-io'));
		})();
	`, { flags: ['--expose-gc'] });
	assert.deepEqual([result.code, result.stderr, result.stdout], [0, '', 'false\n']);
	assert.equal(connections, 0);
});

test('thousands of requests leave no memory behind', async () => {
	const result = await run(`
		const servers = 'memory://x';
		const service = new Picom('svc', { servers });
		const caller = new Picom(null, { servers });
		const round = async () => {
			const signal = new AbortController().signal;
			const calls = [];
			for (let n = 0; n < 5000; n++) calls.push(caller.request('svc.echo', { n, text: 'x'.repeat(50) }, { signal }));
			await Promise.all(calls);
		};
		const used = () => { global.gc(); return process.memoryUsage().heapUsed / 1e6; };
		(async () => {
			await service.expose({ echo: (message) => message });
			for (let n = 0; n < 3; n++) await round();
			const before = used();
			for (let n = 0; n < 6; n++) await round();
			const grown = used() - before;
			console.log(grown < 4 ? 'flat' : 'grew by ' + grown);
			process.exit();
		})();
	`, { flags: ['--expose-gc'] });
	assert.equal(result.stdout, 'flat\n', result.stderr);
});

test('a server sees the connection go at once when a service closes', async (t) => {
	const server = await startServer(t);
	const raw = await connectRaw(t, server);
	const service = open(t, 'svc', { servers: server.url });
	await service.expose({ a: () => 1 });
	await service.close();
	const { headers } = await raw.request('svc.a', '');
	assert.match(headers, /503/);
	await rejects(service.request('svc.a'), 'PICOM_CLOSED');
});
