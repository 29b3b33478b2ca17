//! The header `Picom-Call`: the id of a call and the milliseconds left of its deadline.
//!
//! One header for both, because a second one costs every request more bytes (docs/protocol.md,
//! "Level 1").

use std::time::Duration;

use super::message::Subject;

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
    pub fn parse(value: &Subject) -> Option<CallMark> {
        let mut parts = value.split(' ');
        let id = parts.next().filter(|id| !id.is_empty() && id.len() <= 128)?;
        let left = match parts.next() {
            None => None,
            Some(ms) => Some(Duration::from_millis(ms.parse::<u32>().ok()?.into())),
        };
        Some(CallMark { id: value.slice_ref(id), left })
    }

    /// The milliseconds that are left, as far as they can be written.
    fn milliseconds(left: Duration) -> u32 {
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        seconds.saturating_mul(1000).saturating_add(left.subsec_millis())
    }

    /// How long the header's value is, in bytes.
    pub fn wire_len(&self) -> usize {
        let left = self.left.map(|left| itoa::Buffer::new().format(Self::milliseconds(left)).len());
        self.id.len() + left.map_or(0, |digits| " ".len() + digits)
    }

    /// Appends the header's value.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        if let Some(left) = self.left {
            out.push(b' ');
            out.extend_from_slice(itoa::Buffer::new().format(Self::milliseconds(left)).as_bytes());
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
            CallMark { id: "a.0".into(), left: Some(Duration::from_millis(u32::MAX.into())) },
        ] {
            let mut value = Vec::new();
            mark.put(&mut value);
            assert_eq!(value.len(), mark.wire_len());
            let value = Subject::try_from(value).unwrap();
            assert_eq!(CallMark::parse(&value), Some(mark));
        }
    }

    #[test]
    fn other_shapes_are_no_mark_and_more_fields_are_for_later_versions() {
        for value in ["", " 1", "a x", "a -1", "a 99999999999"] {
            assert_eq!(CallMark::parse(&value.into()), None, "{value}");
        }
        let mark = CallMark::parse(&"a 5 more".into()).unwrap();
        assert_eq!(mark.left, Some(Duration::from_millis(5)));
    }
}
