// Calls the service, wherever it runs and whatever it is written in.
//     node caller.js [server]
const Picom = require('picom');

const servers = process.argv[2] || 'nats://127.0.0.1:4222';
const shop = new Picom('shop', { servers });

async function main() {
	const order = await shop.request('orders.create', { item: 'apple', count: 3 });
	console.log('node caller: ordered', order);

	try {
		await shop.request('orders.create', { item: 'pear', count: 1 });
	} catch (error) {
		console.log('node caller: refused:', error.message, error.code, error.details);
	}

	try {
		await shop.request('billing.charge', {}, { timeout: 1000 });
	} catch (error) {
		console.log('node caller: nobody there:', error.code);
	}

	await shop.publish('orders.create', { item: 'apple', count: 1 });
	await shop.close();
}

main();
