//! TLS, with certificates that are made here.

mod support;

use std::fs;

use picom::{ErrorKind, Options, Picom, TlsOptions};
use pkcs8::pkcs5::pbes2;
use pkcs8::{LineEnding, PrivateKeyInfo};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use support::{soon, Server};

/// A certificate and its key, as PEM.
struct Identity {
    cert: String,
    key: KeyPair,
}

struct Authority {
    cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        Authority { cert, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { cert, key }
    }

    fn client(&self) -> Identity {
        self.issue("client", ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A server whose certificate is for `name`.
    fn server(&self, name: &str, verify: bool) -> Server {
        let mut server = Server::not_started(&format!(
            "tls {{ cert_file: \"DIR/server.pem\", key_file: \"DIR/server.key\", \
             ca_file: \"DIR/ca.pem\", verify: {verify} }}"
        ));
        let identity = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        fs::write(server.dir().join("ca.pem"), &self.cert).unwrap();
        fs::write(server.dir().join("server.pem"), &identity.cert).unwrap();
        fs::write(server.dir().join("server.key"), identity.key.serialize_pem()).unwrap();
        server.start_again();
        server
    }
}

async fn serves(options: Options) {
    let service = Picom::new("svc", options.clone()).unwrap();
    soon(service.expose(support::echo())).await.unwrap();
    let caller = Picom::new("", options).unwrap();
    assert_eq!(soon(caller.request::<_, i32>("svc.echo", &1)).await.unwrap(), 1);
    soon(caller.publish("svc.echo", &1)).await.unwrap();
    soon(service.close()).await.unwrap();
}

async fn refused(options: Options) -> String {
    let caller = Picom::new("", options.retries(0)).unwrap();
    let error = soon(caller.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
    error.message().to_owned()
}

fn invalid(options: Options, names: &str) {
    let error = Picom::new("", options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.message().contains(names), "{error}");
}

#[tokio::test]
async fn a_server_whose_authority_is_known_is_trusted() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", false);
    serves(server.options().tls(TlsOptions::new().ca(&authority.cert))).await;
    let path = server.dir().join("ca.pem").display().to_string();
    serves(server.options().tls(TlsOptions::new().ca(path))).await;
    let other = Authority::new();
    let both = TlsOptions::new().ca(&other.cert).ca(&authority.cert);
    serves(server.options().tls(both)).await;
    let address = format!("tls://127.0.0.1:{}", server.port);
    serves(Options::new().server(address).tls(TlsOptions::new().ca(&authority.cert))).await;
}

#[tokio::test]
async fn a_server_whose_authority_is_not_known_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1", false);
    let text = refused(server.options().tls(TlsOptions::new().ca(&other.cert))).await;
    assert!(text.contains("check the option tls"), "{text}");
    // Also with what the system trusts, asked for or not.
    refused(server.options().tls(TlsOptions::new())).await;
    refused(server.options()).await;
    // Unless the program does not want to know.
    let blind = TlsOptions::new().reject_unauthorized(false);
    serves(server.options().tls(blind)).await;
}

#[tokio::test]
async fn the_name_of_the_certificate_counts() {
    let authority = Authority::new();
    let server = authority.server("nats.example", false);
    let tls = || TlsOptions::new().ca(&authority.cert);
    let text = refused(server.options().tls(tls())).await;
    assert!(text.contains("check the option tls"), "{text}");
    serves(server.options().tls(tls().server_name("nats.example"))).await;
    refused(server.options().tls(tls().server_name("other.example"))).await;
    serves(server.options().tls(tls().reject_unauthorized(false))).await;
    invalid(server.options().tls(tls().server_name("not a name")), "tls.serverName");
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_the_server_asks_for_it() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", true);
    let client = authority.client();
    let tls = || TlsOptions::new().ca(&authority.cert).cert(&client.cert);
    serves(server.options().tls(tls().key(client.key.serialize_pem()))).await;
    refused(server.options().tls(TlsOptions::new().ca(&authority.cert))).await;
    let stranger = Authority::new().client();
    let wrong = TlsOptions::new().ca(&authority.cert).cert(&stranger.cert);
    refused(server.options().tls(wrong.key(stranger.key.serialize_pem()))).await;
    invalid(server.options().tls(tls().key(stranger.key.serialize_pem())), "tls.key");
    invalid(server.options().tls(tls()), "cert and key together");
}

#[tokio::test]
async fn an_encrypted_key_needs_its_passphrase() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", true);
    let client = authority.client();
    let der = client.key.serialize_der();
    let scheme = pbes2::Parameters::pbkdf2_sha256_aes256cbc(2_048, &[7; 16], &[9; 16]).unwrap();
    let encrypted = PrivateKeyInfo::try_from(der.as_slice())
        .unwrap()
        .encrypt_with_params(scheme, "open sesame")
        .unwrap()
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .unwrap();
    let path = server.dir().join("client.key");
    fs::write(&path, encrypted.as_bytes()).unwrap();
    let tls = |key: &str| TlsOptions::new().ca(&authority.cert).cert(&client.cert).key(key);
    for key in [encrypted.as_str(), path.to_str().unwrap()] {
        serves(server.options().tls(tls(key).passphrase("open sesame"))).await;
        invalid(server.options().tls(tls(key).passphrase("wrong")), "tls.passphrase");
        invalid(server.options().tls(tls(key)), "tls.passphrase");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let server = Server::start();
    refused(server.options().tls(TlsOptions::new().reject_unauthorized(false))).await;
}

#[tokio::test]
async fn over_websocket_within_tls() {
    let authority = Authority::new();
    let mut server = Server::not_started("");
    let identity = authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    fs::write(server.dir().join("server.pem"), &identity.cert).unwrap();
    fs::write(server.dir().join("server.key"), identity.key.serialize_pem()).unwrap();
    let port = support::free_port();
    server.configure(&format!(
        "websocket {{ listen: \"127.0.0.1:{port}\", \
         tls {{ cert_file: \"DIR/server.pem\", key_file: \"DIR/server.key\" }} }}"
    ));
    server.start_again();
    let options = Options::new().server(format!("wss://localhost:{port}"));
    serves(options.clone().tls(TlsOptions::new().ca(&authority.cert))).await;
    let text = refused(options.tls(TlsOptions::new())).await;
    assert!(text.contains("check the option tls"), "{text}");
}
