//! The one table of error kinds, and the error that every call settles with.
//!
//! The numbers are stable for ever: those below 1000 travel on the wire (docs/protocol.md,
//! "Failures"), those from 1001 on are made on this side and never travel.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// What went wrong. One entry for each row of the table in README.md, "Errors".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$variant,)*];

            /// The stable number of this kind.
            pub const fn number(self) -> u32 {
                match self { $(ErrorKind::$variant => $code,)* }
            }

            /// The stable name of this kind, such as `TIMED_OUT`. A Node error's `code` is
            /// this name behind `PICOM_`.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorKind::$variant => $name,)* }
            }

            /// The kind that has this number, if there is one.
            pub const fn from_number(number: u32) -> Option<ErrorKind> {
                match number { $($code => Some(ErrorKind::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    /// The message is not JSON, or not the JSON that the method takes.
    BadRequest = 400, "BAD_REQUEST";
    /// The service does not expose this method.
    MethodNotFound = 404, "METHOD_NOT_FOUND";
    /// The deadline passed.
    TimedOut = 408, "TIMED_OUT";
    /// The message or the reply is larger than the server takes (`max_payload`).
    TooLarge = 413, "TOO_LARGE";
    /// The caller gave up.
    Cancelled = 499, "CANCELLED";
    /// The handler threw, returned an error or panicked.
    HandlerFailed = 500, "HANDLER_FAILED";
    /// Nobody exposes a service of this name, or all of its instances are closing.
    NoResponder = 503, "NO_RESPONDER";
    /// The connection was lost while the call was under way; it may or may not have run.
    Disconnected = 1001, "DISCONNECTED";
    /// The server does not let this user publish or subscribe to the subject.
    PermissionDenied = 1003, "PERMISSION_DENIED";
    /// This `Picom` was closed.
    Closed = 1004, "CLOSED";
    /// The process was forked after this `Picom` was made: make a new one in the child.
    Forked = 1005, "FORKED";
    /// A service name, method name or target that cannot be addressed.
    InvalidName = 1006, "INVALID_NAME";
    /// An option of the wrong type or out of range, or one that does not exist.
    InvalidOption = 1007, "INVALID_OPTION";
    /// The reply is not one that this protocol allows.
    BadResponse = 1008, "BAD_RESPONSE";
    /// The server cannot be reached, or refuses the credentials.
    ConnectFailed = 1009, "CONNECT_FAILED";
    /// A value that JSON cannot hold.
    InvalidMessage = 1010, "INVALID_MESSAGE";
    /// More than 65,536 calls are in flight.
    Busy = 1011, "BUSY";
}

/// What a call settles with when it does not succeed.
///
/// `message` says what was wrong and, where there is something to do, what to do.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    number: u32,
    message: Cow<'static, str>,
    details: Option<Box<RawValue>>,
}

/// The result of everything in picom that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with this text.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, number: kind.number(), message: message.into(), details: None }
    }

    /// An error as a remote peer described it: its number may be one that this version does
    /// not know, and then the kind is [`ErrorKind::HandlerFailed`].
    pub(crate) fn remote(number: u32, message: String, details: Option<Box<RawValue>>) -> Error {
        let kind = match ErrorKind::from_number(number) {
            Some(kind) if number < 1000 => kind,
            _ => ErrorKind::HandlerFailed,
        };
        Error { kind, number, message: message.into(), details }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The kind's number or, for an error of a peer that is newer than this library, the
    /// number that the peer gave.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The handler error's own fields, as JSON, where it had any.
    pub fn details(&self) -> Option<&RawValue> {
        self.details.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.kind.name(), self.number, self.message)?;
        match &self.details {
            Some(details) => write!(f, " {}", details.get()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_lead_back_to_their_kind() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_number(kind.number()), Some(*kind));
        }
    }

    #[test]
    fn a_local_number_from_a_peer_is_not_taken_for_a_local_error() {
        let error = Error::remote(1004, "x".into(), None);
        assert_eq!(error.kind(), ErrorKind::HandlerFailed);
        assert_eq!(error.number(), 1004);
    }
}
