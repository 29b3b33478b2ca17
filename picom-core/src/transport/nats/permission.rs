//! What a nats-server says when it refuses a subject. It says so in words only.

use crate::engine::Denied;

/// Reads `Permissions Violation for Publish to "x"` and `… for Subscription to "x"`, with or
/// without a queue behind it. `None` for any other text.
pub(super) fn parse(text: &str) -> Option<Denied> {
    let rest = strip_prefix_ignoring_case(text.trim_matches('\''), "permissions violation for ")?;
    let (publish, rest) = match strip_prefix_ignoring_case(rest, "publish to ") {
        Some(rest) => (true, rest),
        None => (false, strip_prefix_ignoring_case(rest, "subscription to ")?),
    };
    let subject = quoted(rest)?;
    Some(if publish { Denied::Publish(subject) } else { Denied::Subscribe(subject) })
}

/// The text between the quotes, as Go's `%q` writes it: with escapes for quotes, backslashes and
/// what does not print.
fn quoted(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut subject = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(subject),
            '\\' => {
                let digits = match chars.next()? {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    other => {
                        subject.push(other);
                        continue;
                    }
                };
                let hex: String = chars.by_ref().take(digits).collect();
                subject.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
            }
            other => subject.push(other),
        }
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_servers_are_understood() {
        for (text, denied) in [
            (
                "Permissions Violation for Publish to \"svc.m\"",
                Some(Denied::Publish("svc.m".into())),
            ),
            (
                "'Permissions Violation for Subscription to \"svc.>\"'",
                Some(Denied::Subscribe("svc.>".into())),
            ),
            (
                "permissions violation for subscription to \"svc.>\" using queue \"svc\"",
                Some(Denied::Subscribe("svc.>".into())),
            ),
            (
                r#"Permissions Violation for Publish to "svc.a\"b\\c\u200bd""#,
                Some(Denied::Publish("svc.a\"b\\c\u{200b}d".into())),
            ),
            (
                r#"Permissions Violation for Subscription to "a\"b.>" using queue "a\"b""#,
                Some(Denied::Subscribe("a\"b.>".into())),
            ),
            (r#"Permissions Violation for Publish to "svc.\"#, None),
            (r#"Permissions Violation for Publish to "svc.\ud800""#, None),
            ("Permissions Violation for Publish with Reply of \"x\"", None),
            ("Authorization Violation", None),
            ("Permissions Violation for Publish to ", None),
            ("", None),
        ] {
            assert_eq!(parse(text), denied, "{text}");
        }
    }
}
