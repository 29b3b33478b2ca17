//! The bodies of replies: `{"payload": …}`, `{}`, and `{"error": "text"}` with `code` and
//! `details` (docs/protocol.md, "Level 0" and "Failures").

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::Headers;
use crate::error::{Error, ErrorKind, Result};

/// The header that carries a failure's text (NATS service protocol, ADR-32).
pub const ERROR_HEADER: &str = "Nats-Service-Error";
/// The header that carries a failure's number (NATS service protocol, ADR-32).
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// How much of a failure's text its header carries, in bytes.
const MAX_HEADER_TEXT: usize = 256;

/// What the body of a successful reply begins with, as this end writes it.
const PAYLOAD_BEGIN: &[u8] = b"{\"payload\":";

/// The text of a failure that has none of its own.
const NO_TEXT: &str = "Handler failed";

/// A value as JSON text, or nothing at all: `undefined` in JavaScript, `None` in Python.
pub type Payload = Option<Bytes>;

/// What a handler failed with, in the parts that the rule of the wire joins.
#[derive(Debug)]
pub struct Failure<'a> {
    /// The number of the kind.
    pub number: u32,
    /// The message.
    pub message: &'a str,
    /// The error's own fields, as JSON.
    pub details: Option<&'a str>,
}

/// Whether these bytes are one JSON text (RFC 8259): a host may parse many of them as the
/// elements of one array, so nothing that could end or begin an element may pass.
pub fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Appends the body of a successful reply.
pub fn put_payload(out: &mut BytesMut, payload: Option<&[u8]>) {
    match payload {
        None => out.put_slice(b"{}"),
        Some(json) => {
            out.reserve(PAYLOAD_BEGIN.len() + json.len() + 1);
            out.put_slice(PAYLOAD_BEGIN);
            out.put_slice(json);
            out.put_u8(b'}');
        }
    }
}

/// The body and headers of a failure.
///
/// `error` is what level 0 knows: the message, followed by a space and the error's own fields
/// as JSON if it has any, and never empty, since picom 0.6 takes an empty text for success.
pub fn failure(failure: &Failure<'_>) -> (Bytes, Headers) {
    let details = failure.details.filter(|json| *json != "{}" && is_json(json.as_bytes()));
    let mut text = failure.message.to_owned();
    if let Some(details) = details {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(details);
    }
    if text.is_empty() {
        text.push_str(NO_TEXT);
    }
    let mut body = String::with_capacity(text.len() + 48);
    body.push_str("{\"error\":");
    body.push_str(&serde_json::Value::from(text.as_str()).to_string());
    body.push_str(",\"code\":");
    body.push_str(&failure.number.to_string());
    if let Some(details) = details {
        body.push_str(",\"details\":");
        body.push_str(details);
    }
    body.push('}');
    (body.into(), Headers::Failure { text: one_line(&text), number: failure.number })
}

fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let mut end = MAX_HEADER_TEXT.min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    match line.trim() {
        "" => NO_TEXT.to_owned(),
        line => line.to_owned(),
    }
}

/// Reads the body of a reply.
///
/// # Errors
/// The responder's error, or `BAD_RESPONSE` where the body is not an envelope.
pub fn parse_reply(body: &Bytes) -> Result<Payload> {
    if body.is_empty() {
        return Ok(None);
    }
    // What nearly every reply is. What else may stand between the braces fails this check.
    let inner = body.strip_prefix(PAYLOAD_BEGIN).and_then(|rest| rest.strip_suffix(b"}"));
    if let Some(json) = inner.filter(|json| is_json(json)) {
        return Ok(Some(body.slice_ref(json)));
    }
    let envelope = std::str::from_utf8(body)
        .ok()
        .and_then(|text| serde_json::from_str::<Envelope<'_>>(text).ok())
        .ok_or_else(|| Error::new(ErrorKind::BadResponse, "Bad JSON response"))?;
    match envelope.error {
        Some(error) if error != "null" => Err(remote_error(error, &envelope)),
        _ => Ok(envelope.payload.map(|json| body.slice_ref(json.as_bytes()))),
    }
}

fn remote_error(error: &str, envelope: &Envelope<'_>) -> Error {
    // Lone surrogates in the text cannot become UTF-8; its JSON text is what is left to show.
    let mut text = serde_json::from_str::<String>(error).unwrap_or_else(|_| error.to_owned());
    if text.is_empty() {
        text.push_str(NO_TEXT);
    }
    let number = envelope.code.and_then(|code| code.parse().ok()).unwrap_or_else(|| guess(&text));
    let details = envelope.details.and_then(|json| RawValue::from_string(json.to_owned()).ok());
    Error::remote(number, text, details)
}

/// A peer of level 0 gives no number, but two of its texts have one meaning each.
fn guess(text: &str) -> u32 {
    if text.starts_with("Method not found \"") {
        ErrorKind::MethodNotFound.number()
    } else if text == "Bad JSON request" {
        ErrorKind::BadRequest.number()
    } else {
        ErrorKind::HandlerFailed.number()
    }
}

/// An object of which the last of several equal keys counts, as in JavaScript.
#[derive(Default)]
struct Envelope<'a> {
    payload: Option<&'a str>,
    error: Option<&'a str>,
    code: Option<&'a str>,
    details: Option<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reply object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key_seed(Key)? {
                    let place = match key {
                        Field::Payload => &mut envelope.payload,
                        Field::Error => &mut envelope.error,
                        Field::Code => &mut envelope.code,
                        Field::Details => &mut envelope.details,
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *place = Some(map.next_value::<&RawValue>()?.get());
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

enum Field {
    Payload,
    Error,
    Code,
    Details,
    Other,
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> std::result::Result<Field, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E: serde::de::Error>(self, key: &[u8]) -> std::result::Result<Field, E> {
                Ok(match key {
                    b"payload" => Field::Payload,
                    b"error" => Field::Error,
                    b"code" => Field::Code,
                    b"details" => Field::Details,
                    _ => Field::Other,
                })
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> std::result::Result<Field, E> {
                self.visit_bytes(key.as_bytes())
            }
        }
        // As bytes: a key with a lone surrogate is legal JSON and no reason to fail.
        d.deserialize_bytes(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Result<Option<String>> {
        let payload = parse_reply(&Bytes::copy_from_slice(text.as_bytes()))?;
        Ok(payload.map(|json| String::from_utf8(json.to_vec()).unwrap()))
    }

    fn error_of(text: &str) -> Error {
        reply(text).unwrap_err()
    }

    #[test]
    fn payloads_of_every_shape_come_back_as_they_were_written() {
        for json in
            ["1", "0", "null", "false", "\"\"", "[1, 2]", "{\"a\":{\"b\":[]}}", "\"\\ud800\""]
        {
            let mut body = BytesMut::new();
            put_payload(&mut body, Some(json.as_bytes()));
            assert_eq!(parse_reply(&body.freeze()).unwrap().unwrap(), json.as_bytes());
        }
        assert_eq!(reply("{}").unwrap(), None);
        assert_eq!(reply("").unwrap(), None);
        assert_eq!(reply(" {\"payload\" : 1 } ").unwrap().as_deref(), Some("1"));
        assert_eq!(reply("{\"error\":null,\"payload\":2}").unwrap().as_deref(), Some("2"));
        assert_eq!(reply("{\"payload\":1,\"payload\":2}").unwrap().as_deref(), Some("2"));
        assert_eq!(reply("{\"other\":[{}],\"\\ud800\":1}").unwrap(), None);
    }

    #[test]
    fn errors_of_old_peers_get_a_kind() {
        let error = error_of("{\"error\":\"Method not found \\\"x\\\"\"}");
        assert_eq!(error.kind(), ErrorKind::MethodNotFound);
        assert_eq!(error_of("{\"error\":\"Bad JSON request\"}").kind(), ErrorKind::BadRequest);
        assert_eq!(error_of("{\"error\":\"boom\"}").kind(), ErrorKind::HandlerFailed);
    }

    #[test]
    fn any_error_value_that_is_not_null_is_an_error_with_a_text() {
        assert_eq!(error_of("{\"error\":\"\"}").message(), "Handler failed");
        assert_eq!(error_of("{\"error\":0}").message(), "0");
        assert_eq!(error_of("{\"error\":{\"a\":1},\"payload\":1}").message(), "{\"a\":1}");
        assert_eq!(error_of("{\"error\":\"\\ud800\"}").message(), "\"\\ud800\"");
    }

    #[test]
    fn bodies_that_are_no_envelope_are_bad_responses() {
        for text in ["5", "[]", "null", "{", "{\"payload\":}", "{\"payload\":1}x", "\u{feff}{}"] {
            assert_eq!(error_of(text).kind(), ErrorKind::BadResponse, "{text}");
        }
        let broken = Bytes::from_static(b"{\"payload\":\"\xff\"}");
        assert_eq!(parse_reply(&broken).unwrap_err().kind(), ErrorKind::BadResponse);
    }

    #[test]
    fn a_failure_follows_the_rule_of_the_wire() {
        let (body, headers) =
            failure(&Failure { number: 500, message: "no\r\nstock", details: Some("{\"sku\":7}") });
        let text = std::str::from_utf8(&body).unwrap();
        assert_eq!(
            text,
            "{\"error\":\"no\\r\\nstock {\\\"sku\\\":7}\",\"code\":500,\"details\":{\"sku\":7}}"
        );
        assert_eq!(headers, Headers::Failure { text: "no  stock {\"sku\":7}".into(), number: 500 });
        let error = error_of(text);
        assert_eq!(error.message(), "no\r\nstock {\"sku\":7}");
        assert_eq!(error.details().unwrap().get(), "{\"sku\":7}");
    }

    #[test]
    fn a_failure_always_has_a_text_and_its_header_is_one_short_line() {
        let (body, _) = failure(&Failure { number: 500, message: "", details: Some("{}") });
        assert_eq!(&body[..], b"{\"error\":\"Handler failed\",\"code\":500}");
        let long = "ä\n".repeat(1000);
        let (_, headers) = failure(&Failure { number: 500, message: &long, details: None });
        let Headers::Failure { text, .. } = headers else { panic!("no failure") };
        assert!(text.len() <= MAX_HEADER_TEXT && !text.contains('\n'));
        let (_, headers) = failure(&Failure { number: 500, message: "\n", details: None });
        assert_eq!(headers, Headers::Failure { text: NO_TEXT.into(), number: 500 });
    }

    #[test]
    fn only_whole_json_texts_are_json() {
        for good in ["1", " null ", "\"x\"", "{\"a\":[1,2]}", "\"\\ud800\""] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in ["", "1],[2", "1,2", "{", "nul", "'x'", "\u{feff}1", "NaN"] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(b"\"\xff\""));
        assert!(!is_json("[".repeat(100_000).as_bytes()));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_json(deep.as_bytes()));
    }
}
