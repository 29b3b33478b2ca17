'use strict';

// A certificate authority for one test, made by the openssl command.

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

function createCertificates() {
	const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'picom-tls-'));
	const at = (name) => path.join(folder, name);
	const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
	const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

	function authority(name) {
		openssl('req', '-x509', ...newKey, '-days', '2', '-subj', `/CN=${name}`,
			'-addext', 'keyUsage=critical,keyCertSign', '-keyout', `${name}.key`, '-out', `${name}.pem`);
	}

	function issue(name, subject, extensions) {
		fs.writeFileSync(at(`${name}.ext`), extensions);
		openssl('req', ...newKey, '-subj', `/CN=${subject}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
		openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key',
			'-CAcreateserial', '-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.pem`);
	}

	authority('ca');
	authority('stranger');
	issue('server', 'server', 'subjectAltName=DNS:localhost,DNS:nats.test,IP:127.0.0.1\nextendedKeyUsage=serverAuth');
	issue('elsewhere', 'elsewhere', 'subjectAltName=DNS:nats.test\nextendedKeyUsage=serverAuth');
	issue('client', 'client', 'subjectAltName=DNS:client\nextendedKeyUsage=clientAuth');
	openssl('pkcs8', '-topk8', '-in', 'client.key', '-v2', 'aes-256-cbc', '-passout', 'pass:opensesame',
		'-out', 'client.enc.key');
	openssl('ec', '-in', 'client.key', '-aes128', '-passout', 'pass:opensesame', '-out', 'client.old.key');
	return {
		path: at,
		text: (name) => fs.readFileSync(at(name), 'utf8'),
		remove: () => fs.rmSync(folder, { recursive: true, force: true })
	};
}

module.exports = { createCertificates };
