'use strict';

const file = `picom.${process.platform}-${process.arch}.node`;

try {
	module.exports = require(`../${file}`).Native;
} catch (cause) {
	throw new Error(
		`picom cannot load its native half, ${file}. Either there is none for this platform in ` +
		'the package, or it does not fit this system. In a checkout, `npm run build` in ' +
		'bindings/node builds it (Rust is needed).',
		{ cause }
	);
}
