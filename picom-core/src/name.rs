//! Names of services and methods, and the targets made of them.
//!
//! NATS decides what a subject may hold: tokens between dots, no white space, `*` and `>` only
//! as wildcards (docs.nats.io, "Subject-Based Messaging"). picom is stricter where a name would
//! be legal and yet unreachable or taken.

use crate::error::{Error, ErrorKind, Result};

/// The longest target, in bytes. A server takes 4,096 for a whole protocol line, in which the
/// reply subject and the numbers stand too.
pub const MAX_TARGET: usize = 1024;

/// Beginnings of subjects that belong to NATS or to picom itself.
const RESERVED: [&str; 2] = ["_picom", "_INBOX"];

/// Checks a service name: one or more tokens between dots, such as `orders` or `shop.orders`.
///
/// `inbox_prefix` is the beginning of reply subjects, which no service may use.
pub fn check_service(name: &str, inbox_prefix: &str) -> Result<()> {
    check_tokens("service name", name)?;
    let first = name.split('.').next().unwrap_or_default();
    let taken = RESERVED.iter().any(|reserved| first.starts_with(reserved))
        || first.starts_with('$')
        || name == inbox_prefix
        || name.strip_prefix(inbox_prefix).is_some_and(|rest| rest.starts_with('.'));
    if taken {
        return Err(invalid(
            "service name",
            name,
            "names that begin with _picom, _INBOX, $ or the inbox prefix are reserved",
        ));
    }
    Ok(())
}

/// Checks a method name: one token, since the method is the last token of a subject.
pub fn check_method(name: &str) -> Result<()> {
    if name.contains('.') {
        return Err(invalid("method name", name, "a method name has no dots"));
    }
    check_tokens("method name", name)
}

/// Checks a target, `service.method`, before a request or a publish.
pub fn check_target(target: &str, inbox_prefix: &str) -> Result<()> {
    check_tokens("target", target)?;
    match target.rsplit_once('.') {
        None => Err(invalid("target", target, "a target is service.method")),
        Some((service, _)) => check_service(service, inbox_prefix),
    }
}

/// The method of a subject that was received: its last token.
pub fn method_of(subject: &str) -> &str {
    subject.rsplit_once('.').map_or(subject, |(_, method)| method)
}

/// Checks the beginning of reply subjects (the option `inboxPrefix`).
pub fn check_inbox_prefix(prefix: &str) -> Result<()> {
    check_tokens("inboxPrefix", prefix)
}

fn check_tokens(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(invalid(what, name, "it is empty"));
    }
    if name.len() > MAX_TARGET {
        return Err(invalid(what, name, "it is longer than 1,024 bytes"));
    }
    if name.split('.').any(str::is_empty) {
        return Err(invalid(what, name, "it has an empty part between dots"));
    }
    match name.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>')) {
        None => Ok(()),
        Some('*' | '>') => Err(invalid(what, name, "it has a wildcard, * or >")),
        Some(_) => Err(invalid(what, name, "it has white space or a control character")),
    }
}

fn invalid(what: &str, name: &str, why: &str) -> Error {
    let mut shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
    if name.chars().nth(80).is_some() {
        shown.push('…');
    }
    Error::new(ErrorKind::InvalidName, format!("Invalid {what} \"{shown}\": {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["orders", "shop.orders", "a-b_c", "größe", "constructor", "__proto__", "_x"]
        {
            check_service(name, "_INBOX").unwrap();
        }
        for target in ["orders.create", "shop.orders.create", "svc.__proto__"] {
            check_target(target, "_INBOX").unwrap();
        }
    }

    #[test]
    fn hostile_targets_are_refused_with_the_reason() {
        let long = format!("svc.{}", "x".repeat(4096));
        for (target, why) in [
            ("", "empty"),
            ("svc", "service.method"),
            ("svc. m", "white space"),
            ("svc.m\r\nPUB x 0", "white space"),
            ("svc.m\0", "control"),
            ("svc.*", "wildcard"),
            ("svc.>", "wildcard"),
            ("svc..m", "empty part"),
            (".m", "empty part"),
            ("svc.", "empty part"),
            (long.as_str(), "1,024"),
            ("$SYS.x", "reserved"),
            ("_INBOX.x", "reserved"),
            ("_picom.x.y", "reserved"),
        ] {
            let error = check_target(target, "_INBOX").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{target}");
            assert!(error.message().contains(why), "{target}: {error}");
            assert!(error.message().len() < 400);
            assert!(!error.message().contains(['\r', '\n', '\0']));
        }
    }

    #[test]
    fn a_custom_inbox_prefix_is_reserved_too() {
        assert!(check_service("my.inbox", "my.inbox").is_err());
        assert!(check_service("my.inbox.x", "my.inbox").is_err());
        check_service("my.inboxes", "my.inbox").unwrap();
    }

    #[test]
    fn the_method_is_the_last_token() {
        assert_eq!(method_of("shop.orders.create"), "create");
        assert_eq!(method_of("create"), "create");
    }
}
