//! A server in operator mode: users prove with a JWT and a key who they are.

mod support;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use picom::{ErrorKind, Picom};
use serde_json::{json, Value};
use support::{soon, Server};

/// A claim about `subject`, signed by `issuer` (NATS JWT, version 2).
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats,
    });
    let encode = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// What `nsc` writes into a credentials file.
fn credentials(jwt: &str, key: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        key.seed().unwrap()
    )
}

#[tokio::test]
async fn credentials_open_a_server_in_operator_mode_and_others_do_not() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let user = KeyPair::new_user();
    let operator_jwt =
        jwt(&operator, &operator, "operator", json!({"type": "operator", "version": 2}));
    let unlimited = json!({
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1,
        "payload": -1, "wildcards": true,
    });
    let account_claims = json!({"type": "account", "version": 2, "limits": unlimited});
    let account_jwt = jwt(&operator, &account, "account", account_claims);
    let user_claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let user_jwt = jwt(&account, &user, "user", user_claims.clone());
    let server = Server::with_config(&format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    ));

    let text = credentials(&user_jwt, &user);
    let path = server.dir().join("user.creds");
    std::fs::write(&path, &text).unwrap();
    for given in [text.as_str(), path.to_str().unwrap()] {
        let options = server.options().credentials(given);
        let service = Picom::new("svc", options.clone()).unwrap();
        soon(service.expose(support::echo())).await.unwrap();
        let caller = Picom::new("", options).unwrap();
        assert_eq!(soon(caller.request::<_, i32>("svc.echo", &7)).await.unwrap(), 7);
    }

    let stranger = KeyPair::new_user();
    let forged = jwt(&KeyPair::new_account(), &stranger, "user", user_claims);
    for (jwt, key) in [(&user_jwt, &stranger), (&forged, &stranger)] {
        let options = server.options().credentials(credentials(jwt, key)).retries(0);
        let error = soon(Picom::new("", options).unwrap().connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectFailed);
        assert!(error.message().contains("check the options"), "{error}");
        assert!(!error.message().contains(key.seed().unwrap().as_str()));
    }
}
