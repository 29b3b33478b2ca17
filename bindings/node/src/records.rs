//! Records of four 32-bit numbers, in both directions, and the texts that belong to them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use picom::engine::{CallId, Method, Outcome};
use picom::host::{HostBatch, HostEvent};
use picom::{Notice, Subject};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::errors::describe;

/// Numbers of one record: what it is, and three that depend on it.
const WIDTH: usize = 4;
/// Numbers before the records of a drain: how many there are, and whether there is more.
const HEAD: usize = 2;

/// From JavaScript. The comment is what the numbers and the text are.
mod submission {
    /// id, target, timeout in ms; the message.
    pub(super) const REQUEST: i32 = 0;
    /// As `REQUEST`, and `CANCEL` may follow.
    pub(super) const REQUEST_WITH_SIGNAL: i32 = 1;
    /// id, target; the message.
    pub(super) const PUBLISH: i32 = 2;
    /// call (two halves); the payload.
    pub(super) const RETURNED: i32 = 3;
    /// call; no text.
    pub(super) const RETURNED_NOTHING: i32 = 4;
    /// call; `{"message", "details"}`.
    pub(super) const FAILED: i32 = 5;
    /// call; the method's name as JSON.
    pub(super) const NOT_FOUND: i32 = 6;
    /// id; no text.
    pub(super) const CANCEL: i32 = 7;
    /// id; no text.
    pub(super) const CONNECT: i32 = 8;
    /// id; the names as a JSON array.
    pub(super) const EXPOSE: i32 = 9;
    /// id, call (-1, -1 for none); no text.
    pub(super) const CLOSE: i32 = 10;
    /// call; no text.
    pub(super) const MALFORMED: i32 = 11;
    /// call; no text.
    pub(super) const EXPIRED: i32 = 12;
}

/// To JavaScript.
mod event {
    /// id; the payload.
    pub(super) const SETTLED: i32 = 0;
    /// id; no text.
    pub(super) const SETTLED_NOTHING: i32 = 1;
    /// id; the error.
    pub(super) const SETTLED_ERROR: i32 = 2;
    /// call (two halves), ms left or -1; the method's place and the message.
    pub(super) const CALL: i32 = 3;
    /// call, ms left or -1; the method's name and the message.
    pub(super) const CALL_BY_NAME: i32 = 4;
    pub(super) const CONNECTED: i32 = 5;
    pub(super) const RECONNECTED: i32 = 6;
    pub(super) const DISCONNECTED: i32 = 7;
    /// No numbers; the error.
    pub(super) const FAILED: i32 = 8;
    /// call; the method's name. The message was not JSON.
    pub(super) const CALL_MALFORMED: i32 = 9;
}

/// The lines of one text, without copying them.
pub(crate) struct Lines {
    text: Bytes,
    at: usize,
}

impl Lines {
    pub(crate) fn new(text: Bytes) -> Lines {
        Lines { text, at: 0 }
    }

    fn next(&mut self) -> Bytes {
        let rest = &self.text[self.at..];
        let end = self.at + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = self.text.slice(self.at..end);
        self.at = (end + 1).min(self.text.len());
        line
    }
}

#[derive(Deserialize)]
struct Failed<'a> {
    message: String,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

pub(crate) struct Submissions<'a> {
    pub(crate) numbers: &'a [i32],
    pub(crate) count: usize,
    pub(crate) lines: Lines,
}

impl Submissions<'_> {
    pub(crate) fn submit(
        mut self,
        batch: &mut HostBatch<'_, '_>,
        targets: &[Subject],
        marks: &mut [Option<Subject>],
    ) {
        let numbers = self.numbers;
        for record in numbers.chunks_exact(WIDTH).take(self.count) {
            let [kind, a, b, c] = record else { continue };
            let (id, call) = (*a as u32, call_id(*a, *b));
            match *kind {
                submission::REQUEST | submission::REQUEST_WITH_SIGNAL => {
                    let body = self.lines.next();
                    let target = targets[*b as usize].clone();
                    let timeout = Duration::from_millis(u64::from(*c as u32));
                    let cancellable = *kind == submission::REQUEST_WITH_SIGNAL;
                    batch.request(id, target, body, timeout, cancellable);
                }
                submission::PUBLISH => {
                    let body = self.lines.next();
                    batch.publish(id, targets[*b as usize].clone(), body);
                }
                submission::CANCEL => batch.cancel(id),
                submission::CONNECT => batch.connect(id),
                submission::EXPOSE => {
                    let names = serde_json::from_slice(&self.lines.next()).unwrap_or_default();
                    batch.expose(id, names);
                }
                submission::CLOSE => {
                    let from = (*b != -1 || *c != -1).then(|| call_id(*b, *c));
                    batch.close(id, from);
                }
                kind => {
                    if let Some(mark) = marks.get_mut(*a as u32 as usize) {
                        *mark = None;
                    }
                    batch.reply(call, self.outcome(kind));
                }
            }
        }
    }

    fn outcome(&mut self, kind: i32) -> Outcome {
        match kind {
            submission::RETURNED => Outcome::Returned(Some(self.lines.next())),
            submission::RETURNED_NOTHING => Outcome::Returned(None),
            submission::MALFORMED => Outcome::Malformed,
            submission::EXPIRED => Outcome::Expired,
            submission::NOT_FOUND => {
                let name = serde_json::from_slice(&self.lines.next()).unwrap_or_default();
                Outcome::NotFound(name)
            }
            _ => {
                debug_assert_eq!(kind, submission::FAILED);
                let line = self.lines.next();
                match serde_json::from_slice::<Failed<'_>>(&line) {
                    Ok(failed) => Outcome::Failed {
                        message: failed.message,
                        details: failed.details.map(|details| details.get().to_owned()),
                    },
                    // A message with a lone surrogate cannot become UTF-8.
                    Err(_) => Outcome::Failed {
                        message: String::from_utf8_lossy(&line).into_owned(),
                        details: None,
                    },
                }
            }
        }
    }
}

fn call_id(low: i32, high: i32) -> CallId {
    CallId::from_bits(u64::from(high as u32) << 32 | u64::from(low as u32))
}

pub(crate) struct Drained<'a> {
    pub(crate) numbers: &'a mut [i32],
    pub(crate) count: usize,
    pub(crate) text: &'a mut Vec<u8>,
}

impl Drained<'_> {
    pub(crate) fn put_all(
        &mut self,
        events: &mut VecDeque<HostEvent>,
        marks: &mut Vec<Option<Subject>>,
        expired: &mut Vec<CallId>,
    ) {
        let now = Instant::now();
        for event in events.drain(..) {
            match event {
                HostEvent::Settled(id, Ok(Some(json))) => {
                    self.put([event::SETTLED, id as i32, 0, 0]);
                    self.element(&json);
                }
                HostEvent::Settled(id, Ok(None)) => {
                    self.put([event::SETTLED_NOTHING, id as i32, 0, 0]);
                }
                HostEvent::Settled(id, Err(error)) => {
                    self.put([event::SETTLED_ERROR, id as i32, 0, 0]);
                    self.error(&error);
                }
                HostEvent::Call(call) => {
                    let left = call.expires.map(|at| at.saturating_duration_since(now));
                    // Expired work is dropped before its handler runs.
                    if left.is_some_and(|left| left.is_zero()) {
                        expired.push(call.id);
                        continue;
                    }
                    let left =
                        left.map_or(-1, |left| left.as_millis().min(i32::MAX as u128) as i32);
                    let bits = call.id.to_bits();
                    let (low, high) = (bits as u32 as i32, (bits >> 32) as u32 as i32);
                    match call.method {
                        Method::Known(place) => {
                            self.put([event::CALL, low, high, left]);
                            self.element(place.to_string().as_bytes());
                        }
                        Method::Named(name) if call.malformed => {
                            self.put([event::CALL_MALFORMED, low, high, left]);
                            self.element(serde_json::Value::from(name).to_string().as_bytes());
                            continue;
                        }
                        Method::Named(name) => {
                            self.put([event::CALL_BY_NAME, low, high, left]);
                            self.element(serde_json::Value::from(name).to_string().as_bytes());
                        }
                    }
                    self.element(if call.body.is_empty() { b"null" } else { &call.body });
                    let slot = bits as u32 as usize;
                    if marks.len() <= slot {
                        marks.resize(slot + 1, None);
                    }
                    marks[slot] = call.mark;
                }
                HostEvent::Notice(Notice::Connected) => self.put([event::CONNECTED, 0, 0, 0]),
                HostEvent::Notice(Notice::Reconnected) => self.put([event::RECONNECTED, 0, 0, 0]),
                HostEvent::Notice(Notice::Disconnected) => {
                    self.put([event::DISCONNECTED, 0, 0, 0]);
                }
                HostEvent::Notice(Notice::Failed(error)) => {
                    self.put([event::FAILED, 0, 0, 0]);
                    self.error(&error);
                }
            }
        }
    }

    pub(crate) fn finish(self, more: bool) {
        self.numbers[0] = self.count as i32;
        self.numbers[1] = i32::from(more);
        if !self.text.is_empty() {
            self.text.push(b']');
        }
    }

    fn put(&mut self, record: [i32; WIDTH]) {
        let at = HEAD + self.count * WIDTH;
        self.numbers[at..at + WIDTH].copy_from_slice(&record);
        self.count += 1;
    }

    /// Every element was checked by the core to be one JSON text: nothing can shift the others.
    fn element(&mut self, json: &[u8]) {
        self.text.push(if self.text.is_empty() { b'[' } else { b',' });
        self.text.extend_from_slice(json);
    }

    fn error(&mut self, error: &picom::Error) {
        self.text.push(if self.text.is_empty() { b'[' } else { b',' });
        describe(error, self.text);
    }
}
