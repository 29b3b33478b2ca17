//! A message as the engine sees it, whatever transport brings it.

use bytes::Bytes;

use super::call_mark::{CallMark, CALL_HEADER};
use super::envelope::{ERROR_CODE_HEADER, ERROR_HEADER};

/// A subject: text that is shared, not copied.
pub type Subject = bytestring::ByteString;

/// What each block of headers begins with.
const HEAD: &[u8] = b"NATS/1.0\r\n";

/// The headers that picom writes and reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// None.
    #[default]
    None,
    /// A request's mark.
    Call(CallMark),
    /// A failure: one line of text, and the number.
    Failure {
        /// The text, without line breaks, cut to length.
        text: String,
        /// The error's number.
        number: u32,
    },
}

impl Headers {
    /// The bytes that these headers take of a server's `max_payload`.
    pub fn wire_len(&self) -> usize {
        let line = |name: &str, value: usize| name.len() + ": \r\n".len() + value;
        let lines = match self {
            Headers::None => return 0,
            Headers::Call(mark) => line(CALL_HEADER, mark.wire_len()),
            Headers::Failure { text, number } => {
                let digits = itoa::Buffer::new().format(*number).len();
                line(ERROR_HEADER, text.len()) + line(ERROR_CODE_HEADER, digits)
            }
        };
        HEAD.len() + lines + "\r\n".len()
    }

    /// Appends the headers as they are on the wire.
    pub fn put(&self, out: &mut Vec<u8>) {
        if *self == Headers::None {
            return;
        }
        out.extend_from_slice(HEAD);
        match self {
            Headers::None => {}
            Headers::Call(mark) => {
                out.extend_from_slice(CALL_HEADER.as_bytes());
                out.extend_from_slice(b": ");
                mark.put(out);
            }
            Headers::Failure { text, number } => {
                out.extend_from_slice(ERROR_HEADER.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(ERROR_CODE_HEADER.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where to.
    pub subject: Subject,
    /// Where an answer is expected.
    pub reply: Option<Subject>,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub payload: Bytes,
}

/// The status that says that nobody serves the subject of a request.
pub const NO_RESPONDER: u16 = 503;

/// Which subscription a message came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// Replies and echoes: `<inbox>.*`.
    Inbox,
    /// Calls of this service: `<service>.>`.
    Service,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The subscription that brought it.
    pub route: Route,
    /// The subject it was sent to.
    pub subject: Subject,
    /// Where its sender expects an answer.
    pub reply: Option<Subject>,
    /// The mark of a picom request.
    pub call: Option<CallMark>,
    /// The status of a message that the server made itself, such as [`NO_RESPONDER`].
    pub status: Option<u16>,
    /// Its body.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn headers_are_as_long_as_they_say() {
        let call = |left| Headers::Call(CallMark { id: "instance.1f".into(), left });
        for (headers, text) in [
            (Headers::None, ""),
            (call(None), "NATS/1.0\r\nPicom-Call: instance.1f\r\n\r\n"),
            (
                call(Some(Duration::from_millis(30_000))),
                "NATS/1.0\r\nPicom-Call: instance.1f 30000\r\n\r\n",
            ),
            (
                Headers::Failure { text: "no stock".into(), number: 500 },
                "NATS/1.0\r\nNats-Service-Error: no stock\r\nNats-Service-Error-Code: 500\r\n\r\n",
            ),
        ] {
            let mut out = Vec::new();
            headers.put(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(headers.wire_len(), text.len());
        }
    }
}
