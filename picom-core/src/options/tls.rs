//! The option `tls`: what it holds, and how it becomes a rustls configuration.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::invalid;
use crate::error::Result;

/// A certificate or key: PEM text, or the path of a file that holds it.
#[derive(Clone)]
pub struct Pem(String);

impl<S: Into<String>> From<S> for Pem {
    fn from(path_or_text: S) -> Pem {
        Pem(path_or_text.into())
    }
}

impl Pem {
    fn load(&self, option: &str) -> Result<Vec<u8>> {
        if self.0.contains("-----BEGIN") {
            return Ok(self.0.clone().into_bytes());
        }
        std::fs::read(Path::new(&self.0)).map_err(|error| {
            // What was meant to be a key and lacks its first line must not show.
            let from = if option == "tls.key" { "its file" } else { &self.0 };
            invalid(option, format!("cannot be read from {from}: {error}"))
        })
    }
}

/// How to speak TLS. The default trusts what the system trusts.
#[derive(Clone)]
#[must_use]
pub struct TlsOptions {
    ca: Vec<Pem>,
    cert: Vec<Pem>,
    key: Option<Pem>,
    passphrase: Option<String>,
    server_name: Option<String>,
    reject_unauthorized: bool,
}

impl Default for TlsOptions {
    fn default() -> TlsOptions {
        TlsOptions::new()
    }
}

impl TlsOptions {
    /// TLS that trusts what the system trusts, without a client certificate.
    pub fn new() -> TlsOptions {
        TlsOptions {
            ca: Vec::new(),
            cert: Vec::new(),
            key: None,
            passphrase: None,
            server_name: None,
            reject_unauthorized: true,
        }
    }

    /// Adds certificates to trust, in place of the system's. May be called several times.
    pub fn ca(mut self, ca: impl Into<Pem>) -> TlsOptions {
        self.ca.push(ca.into());
        self
    }

    /// Adds to this client's certificate chain. Needs [`TlsOptions::key`].
    pub fn cert(mut self, cert: impl Into<Pem>) -> TlsOptions {
        self.cert.push(cert.into());
        self
    }

    /// The private key of the client certificate.
    pub fn key(mut self, key: impl Into<Pem>) -> TlsOptions {
        self.key = Some(key.into());
        self
    }

    /// What the private key is encrypted with (PKCS #8, `BEGIN ENCRYPTED PRIVATE KEY`).
    pub fn passphrase(mut self, passphrase: impl Into<String>) -> TlsOptions {
        self.passphrase = Some(passphrase.into());
        self
    }

    /// The name that the server's certificate has to carry, where it is not the host's.
    pub fn server_name(mut self, name: impl Into<String>) -> TlsOptions {
        self.server_name = Some(name.into());
        self
    }

    /// Whether a certificate that cannot be verified ends the connection. Default true; false
    /// protects from nobody who can reach the network, so use it in tests only.
    pub fn reject_unauthorized(mut self, reject: bool) -> TlsOptions {
        self.reject_unauthorized = reject;
        self
    }

    /// Checks by making the configuration once: files that cannot be read and keys that cannot
    /// be used show when the options are given, not at some later connection.
    pub(crate) fn validate(&self) -> Result<()> {
        self.client_config().map(drop)
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let roots = self.roots()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("tls", error))?;
        let builder = match (&self.server_name, self.reject_unauthorized) {
            (None, true) => builder.with_root_certificates(roots),
            (name, verify) => {
                let inner = if verify {
                    let name = name.clone().unwrap_or_default();
                    let name = ServerName::try_from(name)
                        .map_err(|error| invalid("tls.serverName", error))?;
                    let webpki =
                        WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                            .build()
                            .map_err(|error| invalid("tls.ca", error))?;
                    Some((webpki, name))
                } else {
                    None
                };
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Verifier { inner, provider }))
            }
        };
        match self.identity()? {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| invalid("tls.key", format!("does not fit tls.cert: {error}"))),
        }
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if self.ca.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for pem in &self.ca {
            for certificate in certificates(pem, "tls.ca")? {
                roots.add(certificate).map_err(|error| invalid("tls.ca", error))?;
            }
        }
        Ok(roots)
    }

    fn identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        let key = match (&self.key, self.cert.is_empty()) {
            (None, true) => return Ok(None),
            (Some(key), false) => key,
            _ => return Err(invalid("tls", "takes cert and key together")),
        };
        let mut chain = Vec::new();
        for pem in &self.cert {
            chain.extend(certificates(pem, "tls.cert")?);
        }
        Ok(Some((chain, self.private_key(key)?)))
    }

    fn private_key(&self, pem: &Pem) -> Result<PrivateKeyDer<'static>> {
        let bytes = pem.load("tls.key")?;
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            let Some(passphrase) = &self.passphrase else {
                return Err(invalid("tls.passphrase", "is needed: tls.key is encrypted"));
            };
            let (_, document) = pkcs8::SecretDocument::from_pem(&text)
                .map_err(|error| invalid("tls.key", format!("cannot be read: {error}")))?;
            let key = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes())
                .and_then(|info| info.decrypt(passphrase))
                .map_err(|error| {
                    invalid("tls.passphrase", format!("does not open tls.key: {error}"))
                })?;
            return Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()));
        }
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(invalid(
                "tls.key",
                "is in OpenSSL's old encrypted form; convert it with: openssl pkcs8 -topk8",
            ));
        }
        PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|error| invalid("tls.key", format!("is not a PEM private key: {error}")))
    }
}

fn certificates(pem: &Pem, option: &str) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = pem.load(option)?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| invalid(option, format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(invalid(option, "holds no certificate (PEM text or a path is expected)"));
    }
    Ok(found)
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("ca", &self.ca.len())
            .field("cert", &self.cert.len())
            .field("key", &self.key.as_ref().map(|_| "…"))
            .field("passphrase", &self.passphrase.as_ref().map(|_| "…"))
            .field("server_name", &self.server_name)
            .field("reject_unauthorized", &self.reject_unauthorized)
            .finish()
    }
}

/// Verifies against a given name in place of the host's, or (`inner` is `None`) not at all.
/// Signatures of the handshake are always checked.
#[derive(Debug)]
struct Verifier {
    inner: Option<(Arc<WebPkiServerVerifier>, ServerName<'static>)>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match &self.inner {
            Some((webpki, name)) => {
                webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
