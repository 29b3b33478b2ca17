//! From options to a connected async-nats client, and what to say when that fails.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::rustls;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerAddr};

use super::Events;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{self, Options};

/// Messages that may wait for the I/O thread to take them. async-nats drops what is beyond;
/// the number only bounds, memory is taken as messages come.
const INBOUND_CAPACITY: usize = 1 << 20;
/// Messages that may wait for the socket.
const OUTBOUND_CAPACITY: usize = 8192;

/// One try, at all servers in turn, after a delay.
pub(super) async fn connect(
    options: Arc<Options>,
    name: String,
    events: Arc<Events>,
    delay: Duration,
) -> Result<Client> {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let mut addresses = Vec::with_capacity(options.servers.len());
    for server in &options.servers {
        addresses.push(server.parse::<ServerAddr>().map_err(|error| {
            options::invalid("servers", format!("has an address that cannot be used: {error}"))
        })?);
    }
    let connect_options = connect_options(&options, &addresses, name, events).await?;
    connect_options.connect(addresses).await.map_err(|error| explain(&options, &error))
}

async fn connect_options(
    options: &Options,
    addresses: &[ServerAddr],
    name: String,
    events: Arc<Events>,
) -> Result<ConnectOptions> {
    let mut connect = ConnectOptions::new()
        .ping_interval(options.ttl / 3)
        .subscription_capacity(INBOUND_CAPACITY)
        .client_capacity(OUTBOUND_CAPACITY)
        .reconnect_delay_callback(reconnect_delay)
        // Targets and names are checked before they come here.
        .skip_subject_validation(true)
        .event_callback(move |event| {
            events.push(event);
            std::future::ready(())
        });
    if !name.is_empty() {
        connect = connect.name(name);
    }
    if let Some(tls) = &options.tls {
        connect = connect.require_tls(true).tls_client_config(tls.client_config()?);
    }
    if let (Some(user), Some(pass)) = (&options.user, &options.pass) {
        connect = connect.user_and_password(user.clone(), pass.clone());
    } else if let Some(token) = &options.token {
        connect = connect.token(token.clone());
    } else if let Some(seed) = &options.nkey {
        connect = connect.nkey(seed.clone());
    } else if let Some(credentials) = &options.credentials {
        connect = credentials_text(credentials)
            .and_then(|text| connect.credentials(&text))
            .map_err(|error| options::invalid("credentials", format!("cannot be used: {error}")))?;
    } else if let Some(address) = addresses.iter().find(|address| address.has_user_pass()) {
        let user = decode(address.username().unwrap_or_default());
        connect = match address.password() {
            Some(pass) => connect.user_and_password(user, decode(pass)),
            // As in other NATS clients, a user without a password is a token.
            None => connect.token(user),
        };
    }
    Ok(connect)
}

/// The text, or what is in the file of this path. An error does not show the path: it may be
/// text that lacks its first line.
fn credentials_text(path_or_text: &str) -> std::io::Result<Cow<'_, str>> {
    if path_or_text.contains("-----BEGIN") {
        return Ok(path_or_text.into());
    }
    std::fs::read_to_string(path_or_text).map(Cow::Owned)
}

/// The part of a URL before the `@`, without its percent escapes.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Between tries: at once, then longer each time up to 2 s, never the same for all clients of a
/// server that comes back.
pub(super) fn reconnect_delay(attempt: usize) -> Duration {
    let full = match attempt {
        0 | 1 => Duration::from_millis(20),
        n => Duration::from_millis(25 << n.min(7)).min(Duration::from_secs(2)),
    };
    full / 2 + full.mul_f64((random() % 1024) as f64 / 2048.0)
}

/// A random number from the keys that the standard library draws for its hash maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

const TLS_ADVICE: &str = "check the option tls and the server's certificate";

/// async-nats reports what fails in a handshake as an I/O error.
fn comes_from_tls(error: &async_nats::ConnectError) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

fn explain(options: &Options, error: &async_nats::ConnectError) -> Error {
    let advice = match error.kind() {
        _ if comes_from_tls(error) => TLS_ADVICE,
        ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns => {
            "is a nats-server running there? (option servers)"
        }
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            "check the options user and pass, token, nkey or credentials"
        }
        ConnectErrorKind::Tls => TLS_ADVICE,
        _ => "check the option servers",
    };
    let text = format!("Cannot connect to {}: {error}; {advice}", shown_servers(options));
    Error::new(ErrorKind::ConnectFailed, text)
}

/// The servers, as texts that people read show them.
pub(crate) fn shown_servers(options: &Options) -> String {
    let shown: Vec<String> =
        options.servers.iter().map(|server| options::without_secrets(server)).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_differ_and_end_at_two_seconds() {
        for attempt in 0..1000 {
            let delay = reconnect_delay(attempt);
            assert!(delay >= Duration::from_millis(10) && delay <= Duration::from_secs(2));
        }
        let delays: std::collections::HashSet<_> = (0..20).map(|_| reconnect_delay(9)).collect();
        assert!(delays.len() > 1);
    }

    #[test]
    fn escapes_of_a_url_are_decoded() {
        assert_eq!(decode("p%40ss%"), "p@ss%");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
