//! Bytes to meaning and back, without I/O: what docs/protocol.md states.

pub mod call_mark;
pub mod envelope;
pub mod message;
