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
    let subject = rest.strip_prefix('"')?;
    let subject = subject.split_once('"')?.0.to_owned();
    Some(if publish { Denied::Publish(subject) } else { Denied::Subscribe(subject) })
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
            ("Permissions Violation for Publish with Reply of \"x\"", None),
            ("Authorization Violation", None),
            ("Permissions Violation for Publish to ", None),
            ("", None),
        ] {
            assert_eq!(parse(text), denied, "{text}");
        }
    }
}
