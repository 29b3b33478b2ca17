//! Who we are, for a server: the `CONNECT` that answers its `INFO`.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde::Serialize;

use crate::error::Result;
use crate::options::{self, Options};

use super::connect::ServerInfo;

/// The fields of `CONNECT` (NATS client protocol, "CONNECT").
#[derive(Default, Serialize)]
pub(super) struct Connect {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

/// What to answer an `INFO` with. `url_user` is the user that stands in the servers' addresses;
/// the options count before it.
///
/// # Errors
/// `INVALID_OPTION` for a key or credentials that cannot be used.
pub(super) fn connect(
    options: &Options,
    name: &str,
    info: &ServerInfo,
    tls_required: bool,
    url_user: Option<(String, Option<String>)>,
) -> Result<Connect> {
    let mut connect = Connect {
        tls_required,
        lang: "picom",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
        name: (!name.is_empty()).then(|| name.to_owned()),
        ..Connect::default()
    };
    if let (Some(user), Some(pass)) = (&options.user, &options.pass) {
        connect.user = Some(user.clone());
        connect.pass = Some(pass.clone());
    } else if let Some(token) = &options.token {
        connect.auth_token = Some(token.clone());
    } else if let Some(seed) = &options.nkey {
        let pair = KeyPair::from_seed(seed).map_err(|error| unusable("nkey", &error))?;
        connect.nkey = Some(pair.public_key());
        connect.sig = Some(sign("nkey", &pair, &info.nonce)?);
    } else if let Some(credentials) = &options.credentials {
        let text =
            credentials_text(credentials).map_err(|error| unusable("credentials", &error))?;
        let mut blocks = blocks(&text);
        let jwt = blocks.next().ok_or_else(|| unusable("credentials", &"it has no JWT"))?;
        let seed = blocks.next().ok_or_else(|| unusable("credentials", &"it has no key"))?;
        let pair = KeyPair::from_seed(seed).map_err(|error| unusable("credentials", &error))?;
        connect.jwt = Some(jwt.to_owned());
        connect.sig = Some(sign("credentials", &pair, &info.nonce)?);
    } else if let Some((user, pass)) = url_user {
        match pass {
            Some(pass) => (connect.user, connect.pass) = (Some(user), Some(pass)),
            // As in other NATS clients, a user without a password is a token.
            None => connect.auth_token = Some(user),
        }
    }
    Ok(connect)
}

fn unusable(option: &str, why: &dyn std::fmt::Display) -> crate::Error {
    options::invalid(option, format!("cannot be used: {why}"))
}

fn sign(option: &str, pair: &KeyPair, nonce: &str) -> Result<String> {
    let signature = pair.sign(nonce.as_bytes()).map_err(|error| unusable(option, &error))?;
    Ok(BASE64URL_NOPAD.encode(&signature))
}

/// The text, or what is in the file of this path. An error does not show the path: it may be
/// text that lacks its first line.
fn credentials_text(path_or_text: &str) -> std::io::Result<Cow<'_, str>> {
    if path_or_text.contains("-----BEGIN") {
        return Ok(path_or_text.into());
    }
    std::fs::read_to_string(path_or_text).map(Cow::Owned)
}

/// The lines that stand between a line `---…BEGIN…` and a line `---…END…`: in a credentials
/// file the user's JWT and then the seed of its key.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().map(str::trim);
    std::iter::from_fn(move || {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN"))?;
        lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY";

    fn credentials(seed: &str) -> Options {
        Options::new().credentials(format!(
            "-----BEGIN NATS USER JWT-----\r\na.b.c\r\n------END NATS USER JWT------\r\n\r\n\
             ******* IMPORTANT *******\r\n\r\n-----BEGIN USER NKEY SEED-----\r\n{seed}\r\n\
             ------END USER NKEY SEED------\r\n"
        ))
    }

    fn with(options: &Options) -> Result<serde_json::Value> {
        let mut info = ServerInfo::default();
        info.nonce = "nonce".into();
        let user = Some(("url".to_owned(), None));
        connect(options, "", &info, false, user).map(|c| serde_json::to_value(c).unwrap())
    }

    #[test]
    fn credentials_give_a_jwt_and_a_signature_of_the_nonce() {
        let connect = with(&credentials(SEED)).unwrap();
        assert_eq!(connect["jwt"], "a.b.c");
        let signature = connect["sig"].as_str().unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let pair = KeyPair::from_seed(SEED).unwrap();
        pair.verify(b"nonce", &signature).unwrap();
        assert_eq!(connect.get("auth_token"), None);
    }

    #[test]
    fn the_options_count_before_the_address() {
        assert_eq!(with(&Options::new()).unwrap()["auth_token"], "url");
        let connect = with(&Options::new().user_and_pass("me", "secret")).unwrap();
        assert_eq!((&connect["user"], &connect["pass"]), (&"me".into(), &"secret".into()));
        assert_eq!(connect.get("auth_token"), None);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_shown() {
        for options in [credentials("SUNO"), Options::new().credentials("/nowhere/secret")] {
            let error = with(&options).unwrap_err();
            assert!(error.message().starts_with("Option credentials cannot be used"), "{error}");
            assert!(!error.message().contains("SUNO") && !error.message().contains("secret"));
        }
    }
}
