//! Every option: its default, its unit and what it may be.

mod json;
mod server;
mod tls;

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::name;

pub(crate) use server::ServerAddress;
pub use tls::{Pem, TlsOptions};

/// How many calls of its own one `Picom` may have in flight.
pub const MAX_IN_FLIGHT: usize = 65_536;

/// The longest duration that an option takes: a week less than 25 days, the limit of a 32-bit
/// count of milliseconds, which some hosts' timers have.
const MAX_DURATION: Duration = Duration::from_secs(18 * 24 * 3600);

/// How a `Picom` behaves and what it connects to. Make one with [`Options::new`], change what
/// you need, and hand it to [`Picom::new`](crate::Picom::new), which checks it.
#[derive(Clone)]
#[must_use]
pub struct Options {
    pub(crate) servers: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) ttl: Duration,
    pub(crate) retries: u32,
    pub(crate) close_timeout: Duration,
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) user: Option<String>,
    pub(crate) pass: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) nkey: Option<String>,
    pub(crate) credentials: Option<String>,
    pub(crate) inbox_prefix: String,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// The defaults: a nats-server on this machine, 30 s for a request.
    pub fn new() -> Options {
        Options {
            servers: vec!["nats://127.0.0.1:4222".into()],
            timeout: Duration::from_secs(30),
            ttl: Duration::from_secs(30),
            retries: 3,
            close_timeout: Duration::from_secs(5),
            tls: None,
            user: None,
            pass: None,
            token: None,
            nkey: None,
            credentials: None,
            inbox_prefix: "_INBOX".into(),
        }
    }

    /// Reads options from the JSON object that a binding hands over: camelCase names, durations
    /// in milliseconds. Also returns the names that are not options, for the binding to report
    /// in its language's way.
    ///
    /// # Errors
    /// `INVALID_OPTION`, naming the option, where a value has the wrong type or range.
    pub fn from_json(text: &str) -> Result<(Options, Vec<String>)> {
        json::parse(text)
    }

    /// One server. Default `nats://127.0.0.1:4222`. Takes `nats://`, `tls://`, `ws://`,
    /// `wss://`, `memory://name` (a bus inside this process, no server needed) and `host:port`.
    pub fn server(mut self, server: impl Into<String>) -> Options {
        self.servers = vec![server.into()];
        self
    }

    /// Several servers of one cluster, tried in random order. See [`Options::server`].
    pub fn servers<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Options {
        self.servers = servers.into_iter().map(Into::into).collect();
        self
    }

    /// How long a request may take in all, connecting included. Default 30 s; zero: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout;
        self
    }

    /// How long a silent peer counts as alive. Default 30 s, at least 1 s. A server that is
    /// silent for a third of it is pinged.
    pub fn ttl(mut self, ttl: Duration) -> Options {
        self.ttl = ttl;
        self
    }

    /// How often a call that certainly did not run is tried again. Default 3, at most 100.
    pub fn retries(mut self, retries: u32) -> Options {
        self.retries = retries;
        self
    }

    /// How long `close` may take to let handlers finish. Default 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Options {
        self.close_timeout = timeout;
        self
    }

    /// TLS, with its own settings. Without this, TLS is used where the server asks for it.
    pub fn tls(mut self, tls: TlsOptions) -> Options {
        self.tls = Some(tls);
        self
    }

    /// User name and password.
    pub fn user_and_pass(mut self, user: impl Into<String>, pass: impl Into<String>) -> Options {
        self.user = Some(user.into());
        self.pass = Some(pass.into());
        self
    }

    /// An authentication token.
    pub fn token(mut self, token: impl Into<String>) -> Options {
        self.token = Some(token.into());
        self
    }

    /// An NKEY seed (`SU…`), with which the server's nonce is signed.
    pub fn nkey(mut self, seed: impl Into<String>) -> Options {
        self.nkey = Some(seed.into());
        self
    }

    /// Credentials of decentralised authentication: the path of a `.creds` file, or its text.
    pub fn credentials(mut self, path_or_text: impl Into<String>) -> Options {
        self.credentials = Some(path_or_text.into());
        self
    }

    /// The beginning of the subjects that replies come to. Default `_INBOX`.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Options {
        self.inbox_prefix = prefix.into();
        self
    }

    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.servers.is_empty() {
            return Err(invalid("servers", "has to name at least one server"));
        }
        for server in &self.servers {
            check_server(server)?;
        }
        if self.memory_bus().is_some() && self.servers.len() > 1 {
            return Err(invalid("servers", "memory:// cannot be combined with other servers"));
        }
        for (name, duration) in
            [("timeout", self.timeout), ("ttl", self.ttl), ("closeTimeout", self.close_timeout)]
        {
            if duration > MAX_DURATION {
                return Err(invalid(name, "is longer than 18 days"));
            }
        }
        if self.ttl < Duration::from_secs(1) {
            return Err(invalid("ttl", "has to be at least 1,000 ms"));
        }
        if self.retries > 100 {
            return Err(invalid("retries", "has to be from 0 to 100"));
        }
        if self.user.is_some() != self.pass.is_some() {
            return Err(invalid("user", "and pass go together"));
        }
        let ways = [
            self.user.is_some(),
            self.token.is_some(),
            self.nkey.is_some(),
            self.credentials.is_some(),
        ];
        if ways.iter().filter(|set| **set).count() > 1 {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                "Use one of the options user and pass, token, nkey and credentials, not several",
            ));
        }
        name::check_inbox_prefix(&self.inbox_prefix)
            .map_err(|error| Error::new(ErrorKind::InvalidOption, error.message().to_owned()))?;
        if let Some(tls) = &self.tls {
            tls.validate()?;
        }
        Ok(())
    }

    /// The name of the in-process bus, where `servers` asks for one.
    pub(crate) fn memory_bus(&self) -> Option<&str> {
        self.servers.iter().find_map(|server| server.strip_prefix("memory://"))
    }
}

fn check_server(server: &str) -> Result<()> {
    let shown = without_secrets(server);
    let rest = match server.split_once("://") {
        None => server,
        Some(("memory", name)) => {
            return name::check_method(name).map_err(|_| {
                invalid("servers", format!("\"{shown}\" needs a name, as in memory://test"))
            });
        }
        Some(("nats" | "tls" | "ws" | "wss", rest)) => rest,
        Some((scheme, _)) => {
            return Err(invalid(
                "servers",
                format!(
                    "\"{shown}\" begins with {scheme}://; it takes nats://, tls://, ws://, \
                     wss://, memory:// and host:port"
                ),
            ));
        }
    };
    if rest.is_empty() || ServerAddress::parse(server).is_none() {
        return Err(invalid("servers", format!("\"{shown}\" is not an address, as host:port is")));
    }
    Ok(())
}

/// A server's address without user, password and token, for texts that people read.
pub(crate) fn without_secrets(server: &str) -> String {
    match (server.find("://").map_or(0, |at| at + 3), server.rfind('@')) {
        (start, Some(at)) if at >= start => format!("{}…{}", &server[..start], &server[at..]),
        _ => server.to_owned(),
    }
}

pub(crate) fn invalid(option: &str, why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOption, format!("Option {option} {why}"))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |value: &Option<String>| value.as_ref().map(|_| "…");
        f.debug_struct("Options")
            .field("servers", &self.servers.iter().map(|s| without_secrets(s)).collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .field("ttl", &self.ttl)
            .field("retries", &self.retries)
            .field("close_timeout", &self.close_timeout)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("pass", &secret(&self.pass))
            .field("token", &secret(&self.token))
            .field("nkey", &secret(&self.nkey))
            .field("credentials", &secret(&self.credentials))
            .field("inbox_prefix", &self.inbox_prefix)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: Options, says: &str) {
        let error = options.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.message().contains(says), "{error}");
    }

    #[test]
    fn every_form_of_server_is_taken() {
        for server in [
            "127.0.0.1:4222",
            "localhost",
            "nats://h:1",
            "tls://h",
            "ws://h:80",
            "wss://h",
            "nats://u:p@h:4222",
            "nats://[::1]:4222",
            "memory://bus-1",
        ] {
            Options::new().server(server).validate().unwrap();
        }
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        refused(Options::new().servers(Vec::<String>::new()), "servers");
        refused(Options::new().server("http://h"), "http://");
        refused(Options::new().server("nats://"), "not an address");
        refused(Options::new().server("memory://"), "needs a name");
        refused(Options::new().servers(["memory://a", "h:1"]), "cannot be combined");
        refused(Options::new().ttl(Duration::from_millis(5)), "ttl");
        refused(Options::new().timeout(Duration::MAX), "timeout");
        refused(Options::new().retries(1000), "retries");
        refused(Options::new().inbox_prefix("a b"), "inboxPrefix");
        refused(Options::new().token("t").nkey("s"), "one of the options");
    }

    #[test]
    fn secrets_show_nowhere() {
        let options = Options::new()
            .server("nats://bob:hidden1@h:4222")
            .user_and_pass("u", "hidden2")
            .token("hidden3")
            .nkey("hidden4")
            .credentials("hidden5")
            .tls(TlsOptions::new().passphrase("hidden6").key("-----BEGIN hidden7"));
        assert!(!format!("{options:?}").contains("hidden"), "{options:?}");
        let error = Options::new().server("http://bob:hidden@h").validate().unwrap_err();
        assert!(!error.message().contains("hidden"), "{error}");
    }
}
