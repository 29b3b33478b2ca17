// The same without a server: memory://name is a bus inside this process, for tests and trials.
const Picom = require('picom');

async function main() {
	const servers = 'memory://example';
	const math = new Picom('math', { servers });
	await math.expose({ add: ({ a, b }) => a + b });

	const caller = new Picom('caller', { servers });
	console.log('1 + 2 =', await caller.request('math.add', { a: 1, b: 2 }));

	await caller.close();
	await math.close();
}

main();
