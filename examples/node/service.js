// A service with two methods. Run it as often as you like: instances share the load.
//     node service.js [server]
const Picom = require('picom');

const servers = process.argv[2] || 'nats://127.0.0.1:4222';
const orders = new Picom('orders', { servers });

const stock = { apple: 12, pear: 0 };

orders.expose({
	// The return value, or what a promise fulfils with, is the reply.
	async create({ item, count }) {
		if (!(item in stock)) {
			throw new Error(`We do not sell ${item}`);
		}
		if (stock[item] < count) {
			// An error's own fields travel with it.
			throw Object.assign(new Error(`Not enough of ${item}`), { left: stock[item] });
		}
		stock[item] -= count;
		return { item, count, total: count * 0.5 };
	},

	stock: () => stock
}).then(() => console.log('orders: ready'));

process.once('SIGTERM', () => orders.close());
process.once('SIGINT', () => orders.close());
