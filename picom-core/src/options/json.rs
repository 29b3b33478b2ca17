//! Options from the JSON object of a binding.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{invalid, Options, TlsOptions};
use crate::error::Result;

pub(super) fn parse(text: &str) -> Result<(Options, Vec<String>)> {
    let object = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => object,
        _ => return Err(invalid("object", "expected: options are a plain object")),
    };
    let mut options = Options::new();
    let mut unknown = Vec::new();
    for (name, value) in &object {
        if value.is_null() {
            continue;
        }
        match name.as_str() {
            "servers" => options.servers = texts(name, value)?,
            "timeout" => options.timeout = milliseconds(name, value)?,
            "ttl" => options.ttl = time_to_live(name, value)?,
            "retries" => options.retries = count(name, value)?,
            "closeTimeout" => options.close_timeout = milliseconds(name, value)?,
            "tls" => options.tls = tls(value, &mut unknown)?,
            "user" => options.user = Some(text_of(name, value)?),
            "pass" => options.pass = Some(text_of(name, value)?),
            "token" => options.token = Some(text_of(name, value)?),
            "nkey" => options.nkey = Some(text_of(name, value)?),
            "credentials" => options.credentials = Some(text_of(name, value)?),
            "inboxPrefix" => options.inbox_prefix = text_of(name, value)?,
            // The service's own name, which picom 0.6 wrote there, and a port, which its README
            // listed and which is reserved for direct connections.
            "name" | "port" => {}
            _ => unknown.push(name.clone()),
        }
    }
    options.validate()?;
    Ok((options, unknown))
}

fn tls(value: &Value, unknown: &mut Vec<String>) -> Result<Option<TlsOptions>> {
    let object: &Map<String, Value> = match value {
        Value::Bool(false) => return Ok(None),
        Value::Bool(true) => return Ok(Some(TlsOptions::new())),
        Value::Object(object) => object,
        _ => return Err(invalid("tls", "has to be true, false or an object")),
    };
    let mut tls = TlsOptions::new();
    for (name, value) in object {
        if value.is_null() {
            continue;
        }
        let option = format!("tls.{name}");
        match name.as_str() {
            "ca" => tls = texts(&option, value)?.into_iter().fold(tls, TlsOptions::ca),
            "cert" => tls = texts(&option, value)?.into_iter().fold(tls, TlsOptions::cert),
            "key" => tls = texts(&option, value)?.into_iter().fold(tls, TlsOptions::key),
            "passphrase" => tls = tls.passphrase(text_of(&option, value)?),
            "serverName" => tls = tls.server_name(text_of(&option, value)?),
            "rejectUnauthorized" => match value {
                Value::Bool(reject) => tls = tls.reject_unauthorized(*reject),
                _ => return Err(invalid(&option, "has to be true or false")),
            },
            _ => unknown.push(option),
        }
    }
    Ok(Some(tls))
}

fn texts(option: &str, value: &Value) -> Result<Vec<String>> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| text_of(option, item)).collect(),
        _ => Err(invalid(option, "has to be a string or a list of strings")),
    }
}

fn text_of(option: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(invalid(option, "has to be a string")),
    }
}

fn milliseconds(option: &str, value: &Value) -> Result<Duration> {
    match value.as_f64() {
        Some(ms) if (0.0..1e12).contains(&ms) => Ok(Duration::from_secs_f64(ms / 1000.0)),
        _ => Err(invalid(option, "has to be a number of milliseconds, 0 or more")),
    }
}

/// picom 0.6 documented `ttl` in seconds (and did not read it). Programs that set it keep their
/// meaning: less than a second would not be a time that a peer can be silent for.
fn time_to_live(option: &str, value: &Value) -> Result<Duration> {
    let ttl = milliseconds(option, value)?;
    Ok(if ttl < Duration::from_secs(1) { ttl * 1000 } else { ttl })
}

fn count(option: &str, value: &Value) -> Result<u32> {
    value
        .as_u64()
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| invalid(option, "has to be a whole number, 0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive() {
        let (options, unknown) = parse(
            r#"{"servers":"h:1","timeout":1500,"ttl":30,"retries":0,"closeTimeout":1,
                "inboxPrefix":"x","port":1,"name":"svc","consulHost":"c","tls":{"sni":1}}"#,
        )
        .unwrap();
        assert_eq!(options.servers, ["h:1"]);
        assert_eq!(options.timeout, Duration::from_millis(1500));
        assert_eq!(options.ttl, Duration::from_secs(30));
        assert_eq!(options.retries, 0);
        assert_eq!(options.inbox_prefix, "x");
        assert_eq!(unknown, ["consulHost", "tls.sni"]);
    }

    #[test]
    fn wrong_types_name_the_option() {
        for (text, names) in [
            (r#"{"servers":1}"#, "Option servers"),
            (r#"{"servers":[1]}"#, "Option servers"),
            (r#"{"timeout":"x"}"#, "Option timeout"),
            (r#"{"timeout":-1}"#, "Option timeout"),
            (r#"{"timeout":1e300}"#, "Option timeout"),
            (r#"{"retries":1.5}"#, "Option retries"),
            (r#"{"user":"u"}"#, "Option user"),
            (r#"{"token":{}}"#, "Option token"),
            (r#"{"tls":"yes"}"#, "Option tls"),
            (r#"{"tls":{"rejectUnauthorized":"no"}}"#, "Option tls.rejectUnauthorized"),
            (r#"{"tls":{"ca":"/does/not/exist"}}"#, "Option tls.ca"),
            (r#"{"tls":{"ca":"-----BEGIN nothing"}}"#, "Option tls.ca"),
            (r#"{"tls":{"cert":"x"}}"#, "Option tls takes cert and key"),
            ("[]", "plain object"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message().contains(names), "{text}: {error}");
        }
    }
}
