//! The address of a nats-server, as users write it.

use std::fmt;

use url::{Host, Url};

/// Where a server is, and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerAddress(Url);

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url_without_user())
    }
}

impl ServerAddress {
    /// Reads `nats://`, `tls://`, `ws://` and `wss://` URLs, and `host:port`. `None` for
    /// anything else.
    pub(crate) fn parse(text: &str) -> Option<ServerAddress> {
        let url = match text.contains("://") {
            true => Url::parse(text),
            false => Url::parse(&format!("nats://{text}")),
        };
        let url = url.ok()?;
        let known = matches!(url.scheme(), "nats" | "tls" | "ws" | "wss");
        (known && url.host_str().is_some_and(|host| !host.is_empty())).then_some(ServerAddress(url))
    }

    /// The host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.host() {
            Some(Host::Ipv6(_)) => host.trim_matches(['[', ']']),
            _ => host,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(4222)
    }

    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.0.scheme(), "ws" | "wss")
    }

    /// Whether the scheme asks for TLS.
    pub(crate) fn wants_tls(&self) -> bool {
        matches!(self.0.scheme(), "tls" | "wss")
    }

    /// The address without user and password.
    pub(crate) fn url_without_user(&self) -> String {
        let mut url = self.0.clone();
        // They fail only for URLs that cannot have a user at all.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }

    /// The user and the password that stand before the `@`, without percent escapes.
    pub(crate) fn user(&self) -> Option<(String, Option<String>)> {
        let user = self.0.username();
        (!user.is_empty()).then(|| (decode(user), self.0.password().map(decode)))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_users_write_them() {
        for (text, host, port, tls) in [
            ("127.0.0.1", "127.0.0.1", 4222, false),
            ("example.org:7", "example.org", 7, false),
            ("nats://example.org", "example.org", 4222, false),
            ("tls://[::1]:9", "::1", 9, true),
            ("[::1]:9", "::1", 9, false),
            ("ws://example.org", "example.org", 80, false),
            ("wss://user:pass@example.org/path", "example.org", 443, true),
        ] {
            let address = ServerAddress::parse(text).expect(text);
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.wants_tls(), tls, "{text}");
            assert_eq!(address.is_websocket(), text.starts_with("ws"), "{text}");
        }
        for text in ["", "nats://", "http://example.org", "nats://:4222", "a b", "host:99999"] {
            assert_eq!(ServerAddress::parse(text), None, "{text}");
        }
    }

    #[test]
    fn users_come_without_their_escapes_and_leave_the_address() {
        let address = ServerAddress::parse("nats://me:p%40ss%25@host:1").unwrap();
        assert_eq!(address.user(), Some(("me".into(), Some("p@ss%".into()))));
        assert_eq!(address.url_without_user(), "nats://host:1");
        assert_eq!(
            ServerAddress::parse("token@host").unwrap().user(),
            Some(("token".into(), None))
        );
        assert_eq!(ServerAddress::parse("host").unwrap().user(), None);
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
