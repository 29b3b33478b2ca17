// The same without a server: memory://name is a bus inside this process, for tests and trials.
const Picom = require('picom');

async function main() {
	const servers = 'memory://example';
	const orders = new Picom('orders', { servers });
	await orders.expose({
		create({ item, count }) {
			if (item !== 'apple') {
				throw new Error(`We do not sell ${item}`);
			}
			return { item, count, total: count * 0.5 };
		}
	});

	const shop = new Picom('shop', { servers });
	console.log('ordered', await shop.request('orders.create', { item: 'apple', count: 3 }));
	await shop.request('orders.create', { item: 'plum', count: 1 })
		.catch((error) => console.log('refused:', error.message, error.code));

	await shop.close();
	await orders.close();
}

main();
