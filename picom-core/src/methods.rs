//! Handlers: async functions over serde types.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::engine::Outcome;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::envelope::Payload;
use crate::wire::message::Subject;

pub(crate) type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Bytes) -> Running + Send + Sync>;

/// The methods that a service exposes. Hand them to [`Picom::expose`](crate::Picom::expose).
#[derive(Default, Clone)]
#[must_use]
pub struct Methods {
    pub(crate) list: Vec<(String, Handler)>,
}

impl Methods {
    /// No methods yet.
    pub fn new() -> Methods {
        Methods::default()
    }

    /// Adds a method: an async function from a message to a reply, each any serde type.
    ///
    /// An error reaches the caller as its text; use [`HandlerError`] to send fields with it. A
    /// message that does not fit the type is answered with `BAD_REQUEST` and the reason. A reply
    /// of `()` is "nothing" (`undefined`, `None`). A panic is answered as a failure, and the
    /// service goes on.
    pub fn add<In, Out, Failed, Fut>(
        mut self,
        name: impl Into<String>,
        handler: impl Fn(In) -> Fut + Send + Sync + 'static,
    ) -> Methods
    where
        In: DeserializeOwned,
        Out: Serialize + 'static,
        Failed: Display + 'static,
        Fut: Future<Output = std::result::Result<Out, Failed>> + Send + 'static,
    {
        let handler = move |body: Bytes| -> Running {
            let message = match read(&body) {
                Ok(message) => message,
                Err(error) => {
                    let outcome = Outcome::BadRequest(format!("Bad request: {error}"));
                    return Box::pin(std::future::ready(outcome));
                }
            };
            // Calling it may panic too, before there is a future to catch anything in.
            match std::panic::catch_unwind(AssertUnwindSafe(|| handler(message))) {
                Ok(running) => Box::pin(AssertUnwindSafe(running).catch_unwind().map(outcome)),
                Err(panic) => Box::pin(std::future::ready(panicked(&*panic))),
            }
        };
        self.list.push((name.into(), Arc::new(handler)));
        self
    }
}

/// A failure with fields of its own, which a caller finds in the error's `details`.
#[derive(Debug)]
pub struct HandlerError {
    message: String,
    details: Option<String>,
}

impl HandlerError {
    /// A failure with this text.
    pub fn new(message: impl Into<String>) -> HandlerError {
        HandlerError { message: message.into(), details: None }
    }

    /// Adds the fields: a value that serialises to a JSON object.
    ///
    /// # Errors
    /// `INVALID_MESSAGE` where JSON cannot hold the value.
    pub fn with_details(mut self, details: &impl Serialize) -> Result<HandlerError> {
        self.details = Some(serde_json::to_string(details).map_err(unfit)?);
        Ok(self)
    }
}

impl Display for HandlerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

fn outcome<Out: Serialize, Failed: Display + 'static>(
    ended: std::thread::Result<std::result::Result<Out, Failed>>,
) -> Outcome {
    match ended {
        Ok(Ok(value)) => match write(&value) {
            Ok(payload) => Outcome::Returned(payload),
            Err(error) => Outcome::Failed { message: error.message().to_owned(), details: None },
        },
        Ok(Err(failed)) => {
            let fields = (&failed as &dyn Any).downcast_ref::<HandlerError>();
            let details = fields.and_then(|failed| failed.details.clone());
            Outcome::Failed { message: failed.to_string(), details }
        }
        Err(panic) => panicked(&*panic),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Outcome::Failed { message: format!("Handler panicked: {text}"), details: None }
}

/// A value as a message: "nothing" for `()` and other types without content.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> Result<Payload> {
    let json = serde_json::to_vec(value).map_err(unfit)?;
    Ok((!is_nothing(value, &json)).then(|| json.into()))
}

/// A target and a message to it, empty for "nothing". Both are in one block of memory: another
/// thread frees it, which costs both threads more than the bytes do.
pub(crate) fn write_call<T: Serialize + ?Sized>(
    target: &str,
    message: &T,
) -> Result<(Subject, Bytes)> {
    let mut text = Vec::with_capacity(target.len() + 128);
    text.extend_from_slice(target.as_bytes());
    serde_json::to_writer(&mut text, message).map_err(unfit)?;
    if is_nothing(message, &text[target.len()..]) {
        text.truncate(target.len());
    }
    let mut body = Bytes::from(text);
    let subject = body.split_to(target.len());
    Ok((Subject::try_from(subject).unwrap_or_else(|_| target.into()), body))
}

fn is_nothing<T: ?Sized>(value: &T, json: &[u8]) -> bool {
    size_of_val(value) == 0 && json == b"null"
}

/// A message as a value; "nothing" reads as JSON null.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(if body.is_empty() { b"null" } else { body })
}

fn unfit(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidMessage, format!("A value that JSON cannot hold: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_null_stay_apart() {
        assert_eq!(write(&()).unwrap(), None);
        assert_eq!(write(&None::<i32>).unwrap().as_deref(), Some(&b"null"[..]));
        assert_eq!(write("").unwrap().as_deref(), Some(&b"\"\""[..]));
        read::<()>(b"").unwrap();
        assert_eq!(read::<Option<i32>>(b"").unwrap(), None);
    }

    #[test]
    fn a_call_is_its_target_and_its_message() {
        let written = |value: &serde_json::Value| {
            let (target, body) = write_call("svc.m", value).unwrap();
            (target.to_string(), String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(written(&serde_json::json!({"a": 1})), ("svc.m".into(), "{\"a\":1}".into()));
        assert_eq!(written(&serde_json::Value::Null), ("svc.m".into(), "null".into()));
        let (target, body) = write_call("svc.m", &()).unwrap();
        assert_eq!((&*target, &body[..]), ("svc.m", &b""[..]));
    }

    #[test]
    fn a_map_without_string_keys_is_an_invalid_message() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(write(&map).unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}
