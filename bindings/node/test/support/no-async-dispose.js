'use strict';

// As a Node that does not know Symbol.asyncDispose, for what is loaded after this.
const real = Symbol;
globalThis.Symbol = function Symbol(text) {
	return real(text);
};
for (const name of Object.getOwnPropertyNames(real)) {
	if (name !== 'asyncDispose' && typeof real[name] !== 'number' && name !== 'prototype') {
		Object.defineProperty(globalThis.Symbol, name, { value: real[name] });
	}
}
