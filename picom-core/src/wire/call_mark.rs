//! The header `Picom-Call`: the id of a call and the milliseconds left of its deadline.
//!
//! One header for both, because a second one costs every request another allocation on each
//! side (docs/protocol.md, "Level 1").

use std::fmt;
use std::time::Duration;

use async_nats::Subject;

/// The name of the header.
pub const CALL_HEADER: &str = "Picom-Call";

/// What a picom request says of itself beside its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallMark {
    /// Unique in the world: the caller's instance, a dot, a number in hexadecimal digits.
    pub id: Subject,
    /// What was left of the deadline when the request left; `None` is no deadline.
    pub left: Option<Duration>,
}

impl CallMark {
    /// Reads the header's value: `<id>` or `<id> <milliseconds>`. A value of another shape is
    /// as no header at all, for a later version may say more.
    pub fn parse(value: &str) -> Option<CallMark> {
        let mut parts = value.split(' ');
        let id = parts.next().filter(|id| !id.is_empty() && id.len() <= 128)?;
        let left = match parts.next() {
            None => None,
            Some(ms) => Some(Duration::from_millis(ms.parse::<u32>().ok()?.into())),
        };
        Some(CallMark { id: id.into(), left })
    }
}

impl fmt::Display for CallMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            None => f.write_str(&self.id),
            Some(left) => write!(f, "{} {}", self.id, left.as_millis().min(u32::MAX.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_the_way() {
        for mark in [
            CallMark { id: "a.1f".into(), left: Some(Duration::from_millis(1234)) },
            CallMark { id: "a.0".into(), left: None },
        ] {
            assert_eq!(CallMark::parse(&mark.to_string()), Some(mark));
        }
    }

    #[test]
    fn other_shapes_are_no_mark_and_more_fields_are_for_later_versions() {
        for value in ["", " 1", "a x", "a -1", "a 99999999999"] {
            assert_eq!(CallMark::parse(value), None, "{value}");
        }
        let mark = CallMark::parse("a 5 more").unwrap();
        assert_eq!(mark.left, Some(Duration::from_millis(5)));
    }
}
