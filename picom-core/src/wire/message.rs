//! A message as the engine sees it, whatever transport brings it.

use async_nats::Subject;
use bytes::Bytes;

use super::call_mark::{CallMark, CALL_HEADER};
use super::envelope::{ERROR_CODE_HEADER, ERROR_HEADER};

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
    /// Hands each header's name and value to `each`, in the order in which they are written.
    pub fn for_each(&self, mut each: impl FnMut(&'static str, String)) {
        match self {
            Headers::None => {}
            Headers::Call(mark) => each(CALL_HEADER, mark.to_string()),
            Headers::Failure { text, number } => {
                each(ERROR_HEADER, text.clone());
                each(ERROR_CODE_HEADER, number.to_string());
            }
        }
    }

    /// The bytes that these headers take of a server's `max_payload`.
    pub fn wire_len(&self) -> usize {
        let mut len = 0;
        self.for_each(|name, value| len += name.len() + value.len() + ": \r\n".len());
        if len == 0 {
            0
        } else {
            "NATS/1.0\r\n\r\n".len() + len
        }
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
