'use strict';

// The Node agent.

const Picom = require('../../../bindings/node');
const { serve } = require('./agent');

const options = { servers: [process.argv[2]], closeTimeout: 1000 };
const caller = new Picom(undefined, options);
const services = [];

caller.connect().then(() => serve({
	expose(service, methods) {
		const instance = new Picom(service, options);
		services.push(instance);
		return instance.expose(methods);
	},
	request(target, message, timeout) {
		return caller.request(target, message, { timeout });
	},
	publish(target, message) {
		return caller.publish(target, message);
	},
	async close() {
		for (const service of services) {
			await service.close();
		}
		await caller.close();
	},
	describe(error) {
		return {
			kind: String(error.code).replace(/^PICOM_/, ''),
			number: error.status,
			text: error.message,
			details: error.details
		};
	}
}));
