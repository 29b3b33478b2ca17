//! Why there is no connection, and what to do about it.

use std::fmt;
use std::io;

use super::connect::shown_servers;
use crate::error::{Error, ErrorKind};
use crate::options::Options;

/// Why there is no connection.
pub(super) enum Trouble {
    Io(io::Error),
    Tls(io::Error),
    /// The server does not let this user in.
    Refused(String),
    /// An option is to blame.
    Own(Error),
}

impl Trouble {
    pub(super) fn other(text: &'static str) -> Trouble {
        Trouble::Io(io::Error::other(text))
    }

    pub(super) fn of_server(text: String) -> Trouble {
        let lower = text.to_lowercase();
        match lower.contains("authorization") || lower.contains("authentication") {
            true => Trouble::Refused(text),
            false => Trouble::Io(io::Error::other(text)),
        }
    }

    /// The error that the program sees, with what to do about it.
    pub(super) fn explain(self, options: &Options) -> Error {
        let advice = match &self {
            Trouble::Tls(_) => TLS_ADVICE,
            // A server's alert may come after our side of the handshake.
            Trouble::Io(error) if comes_from_tls(error) => TLS_ADVICE,
            Trouble::Io(_) => "is a nats-server running there? (option servers)",
            Trouble::Refused(_) => "check the options user and pass, token, nkey or credentials",
            Trouble::Own(_) => "",
        };
        match self {
            Trouble::Own(error) => error,
            trouble => {
                let text =
                    format!("Cannot connect to {}: {trouble}; {advice}", shown_servers(options));
                Error::new(ErrorKind::ConnectFailed, text)
            }
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Io(error) | Trouble::Tls(error) => write!(f, "{error}"),
            Trouble::Refused(text) => f.write_str(text),
            Trouble::Own(error) => write!(f, "{error}"),
        }
    }
}

const TLS_ADVICE: &str = "check the option tls and the server's certificate";

fn comes_from_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
