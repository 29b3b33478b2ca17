import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import Default, { Picom, PicomError } from '../index.mjs';
import fromCommonJs from '../index.js';
import support from './support/index.js';

const require = createRequire(import.meta.url);

test('a module imports the same class by its name and as the default', async () => {
	assert.equal(Default, Picom);
	assert.equal(Default, require('..'));
	assert.equal(fromCommonJs, Default);
	assert.equal(PicomError, Picom.PicomError);
	const picom = new Picom('svc', { servers: support.newBus() });
	await picom.expose({ hi: () => 'there' });
	assert.equal(await picom.request('svc.hi'), 'there');
	await assert.rejects(picom.request('svc.none'), PicomError);
	await picom.close();
});

test('the package is imported and required by its own name', async () => {
	const self = await import('picom');
	assert.equal(self.default, Picom);
	assert.equal(self.Picom, Picom);
	assert.equal(self.PicomError, PicomError);
	assert.equal(require('picom'), Picom);
	assert.match(require('picom/package.json').version, /^\d+\.\d+\.\d+/);
	const namespace = await import('../index.js');
	assert.equal(namespace.default, Picom);
});

test('a namespace import exposes what it exports', async () => {
	const picom = new Picom('svc', { servers: support.newBus() });
	const methods = await import('data:text/javascript,export const a = () => 1; export default () => 2;');
	await picom.expose(methods);
	assert.equal(await picom.request('svc.a'), 1);
	assert.equal(await picom.request('svc.default'), 2);
	await picom.close();
});
