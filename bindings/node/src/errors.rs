//! Errors on their way to JavaScript, as JSON: `lib/errors.js` makes them.

use picom::Error;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Described<'a> {
    name: &'static str,
    number: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a RawValue>,
}

/// Appends the JSON of an error.
pub(crate) fn describe(error: &Error, into: &mut Vec<u8>) {
    let described = Described {
        name: error.kind().name(),
        number: error.number(),
        message: error.message(),
        details: error.details(),
    };
    let start = into.len();
    if serde_json::to_writer(&mut *into, &described).is_err() {
        into.truncate(start);
        into.extend_from_slice(b"null");
    }
}

/// An error to throw now; its message is the JSON.
pub(crate) fn thrown(error: Error) -> napi::Error {
    let mut json = Vec::new();
    describe(&error, &mut json);
    napi::Error::from_reason(String::from_utf8_lossy(&json).into_owned())
}
