//! The caller's side: requests and publishes from submission to settlement.

use std::fmt::Write;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::barrier::{Barrier, Cover};
use super::retry::Tries;
use super::slots::SlotId;
use super::{Engine, Notice, Pending};
use crate::error::{Error, ErrorKind, Result};
use crate::options::MAX_IN_FLIGHT;
use crate::wire::call_mark::CallMark;
use crate::wire::envelope;
use crate::wire::message::{Headers, Inbound, Outbound, Subject, NO_RESPONDER};

/// A request, as submitted. Its target has been checked.
pub struct RequestCall<C> {
    /// What the completion is delivered with.
    pub done: C,
    /// `service.method`.
    pub target: Subject,
    /// The message as JSON text; empty for none.
    pub body: Bytes,
    /// How long it may take; `None` or zero: the service's default.
    pub timeout: Option<Duration>,
    /// A number of the caller's own by which it may cancel.
    pub key: Option<u64>,
}

/// A publish, as submitted. Its target has been checked.
pub struct PublishCall<C> {
    /// What the completion is delivered with.
    pub done: C,
    /// `service.method`.
    pub target: Subject,
    /// The message as JSON text; empty for none.
    pub body: Bytes,
}

/// What a slot holds.
pub(super) enum Work<C> {
    Request(Request<C>),
    Publish { done: C, target: Subject, body: Bytes, handed_over: bool },
    Expose { done: C },
    Connect { done: C, tries_left: u32 },
    Barrier(Barrier),
}

pub(super) struct Request<C> {
    done: C,
    target: Subject,
    body: Bytes,
    deadline: Option<Instant>,
    state: State,
    tries: Tries,
    key: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the queue: certainly not run.
    Queued,
    /// With the transport: possibly run.
    HandedOver,
    /// Refused: certainly not run, and waiting for its next try.
    Waiting,
}

impl<C> Work<C> {
    pub(super) fn is_handed_over(&self) -> bool {
        match self {
            Work::Request(request) => request.state == State::HandedOver,
            Work::Publish { handed_over, .. } => *handed_over,
            Work::Barrier(_) => true,
            Work::Expose { .. } | Work::Connect { .. } => false,
        }
    }

    pub(super) fn what(&self) -> String {
        match self {
            Work::Request(request) => format!("Request {}", request.target),
            Work::Publish { target, .. } => format!("Publish {target}"),
            Work::Expose { .. } => "Expose".into(),
            Work::Connect { .. } => "Connect".into(),
            Work::Barrier(_) => "Barrier".into(),
        }
    }

    pub(super) fn key(&self) -> Option<u64> {
        match self {
            Work::Request(request) => request.key,
            _ => None,
        }
    }

    pub(super) fn into_done(self) -> Option<C> {
        match self {
            Work::Request(request) => Some(request.done),
            Work::Publish { done, .. } | Work::Expose { done } | Work::Connect { done, .. } => {
                Some(done)
            }
            Work::Barrier(_) => None,
        }
    }

    fn target(&self) -> Option<&Subject> {
        match self {
            Work::Request(request) => Some(&request.target),
            Work::Publish { target, .. } => Some(target),
            _ => None,
        }
    }
}

impl<C> Engine<C> {
    /// Takes a request. It settles exactly once, through [`super::Outputs::settled`].
    pub fn request(&mut self, now: Instant, call: RequestCall<C>) {
        if let Err(error) = self.check_room() {
            self.out.settled.push((call.done, Err(error)));
            return;
        }
        let timeout = call.timeout.filter(|timeout| !timeout.is_zero()).or(self.settings.timeout);
        // A moment that no clock reaches is no deadline.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let id = self.slots.insert(Work::Request(Request {
            done: call.done,
            target: call.target,
            body: call.body,
            deadline,
            state: State::Queued,
            tries: Tries::default(),
            key: call.key,
        }));
        if let Some(key) = call.key {
            self.by_key.insert(key, id);
        }
        if let Some(deadline) = deadline {
            self.wheel.arm(id.index, deadline);
        }
        self.enqueue(Pending::Request(id));
    }

    /// Takes a publish. It settles when the server has taken the message, or has not.
    pub fn publish(&mut self, now: Instant, call: PublishCall<C>) {
        if let Err(error) = self.check_room() {
            self.out.settled.push((call.done, Err(error)));
            return;
        }
        let id = self.slots.insert(Work::Publish {
            done: call.done,
            target: call.target,
            body: call.body,
            handed_over: false,
        });
        if let Some(timeout) = self.settings.timeout {
            self.wheel.arm(id.index, now + timeout);
        }
        self.enqueue(Pending::Publish(id));
    }

    /// Gives up the request that was submitted with this key, if it has not settled.
    pub fn cancel(&mut self, key: u64) {
        if let Some(id) = self.by_key.get(&key).copied() {
            let target = self.slots.get(id).map(Work::what).unwrap_or_default();
            let text = format!("{target} was cancelled by the caller");
            self.settle(id, Err(Error::new(ErrorKind::Cancelled, text)));
        }
    }

    fn check_room(&self) -> Result<()> {
        self.check_open()?;
        if self.link.inbox_denied {
            return Err(self.inbox_error());
        }
        if self.slots.len() >= MAX_IN_FLIGHT {
            let text = "65,536 calls are in flight: wait for some of them to settle";
            return Err(Error::new(ErrorKind::Busy, text));
        }
        Ok(())
    }

    pub(super) fn hand_over_request(&mut self, now: Instant, id: SlotId) -> Option<Outbound> {
        let Some(Work::Request(request)) = self.slots.get_mut(id) else { return None };
        if request.state != State::Queued {
            return None;
        }
        let left = request.deadline.map(|deadline| deadline.saturating_duration_since(now));
        // The responder counts from reading the mark, so a rest of less than 1 ms is rounded up.
        let left = left.map(|left| {
            let rest = u64::from(left.subsec_nanos().div_ceil(1_000_000));
            Duration::from_millis(left.as_secs().saturating_mul(1000).saturating_add(rest))
        });
        let reply = token_text(&mut self.scratch, &self.inbox, id);
        // The call's id is the end of its reply subject: the instance and the token.
        let mark = reply.slice_ref(&reply[self.settings.inbox_prefix.len() + 1..]);
        let message = Outbound {
            subject: request.target.clone(),
            reply: Some(reply),
            headers: Headers::Call(CallMark { id: mark, left }),
            payload: request.body.clone(),
        };
        request.state = State::HandedOver;
        self.fit_or_settle(id, message)
    }

    pub(super) fn hand_over_publish(&mut self, id: SlotId) -> Option<Outbound> {
        let Some(Work::Publish { target, body, handed_over, .. }) = self.slots.get_mut(id) else {
            return None;
        };
        *handed_over = true;
        let message = Outbound {
            subject: target.clone(),
            reply: None,
            headers: Headers::None,
            // Kept although it is never handed over again: freed here, while other threads allocate
            // the next ones, it would cost a quarter of the rate.
            payload: body.clone(),
        };
        let message = self.fit_or_settle(id, message)?;
        self.uncovered.push(Cover::Slot(id));
        Some(message)
    }

    /// A message that the server would answer by closing the connection is not sent.
    fn fit_or_settle(&mut self, id: SlotId, message: Outbound) -> Option<Outbound> {
        let size = message.headers.wire_len() + message.payload.len();
        let most = self.link.max_payload;
        if size <= most {
            return Some(message);
        }
        let what = self.slots.get(id).map(Work::what).unwrap_or_default();
        self.settle(id, Err(too_large(&what, size, most)));
        None
    }

    pub(super) fn receive_reply(&mut self, now: Instant, message: Inbound) {
        let token = message.subject.rsplit_once('.').map_or("", |(_, token)| token);
        let Ok(token) = u64::from_str_radix(token, 16) else { return };
        let id = SlotId::from_token(token);
        match self.slots.get(id) {
            Some(Work::Request(_)) if message.status == Some(NO_RESPONDER) => {
                self.not_taken(now, id);
            }
            Some(Work::Request(_)) if message.status.is_some() && message.payload.is_empty() => {
                let status = message.status.unwrap_or_default();
                let text = format!("The server answered with status {status} and no reply");
                self.settle(id, Err(Error::new(ErrorKind::BadResponse, text)));
            }
            Some(Work::Request(_)) => match envelope::parse_reply(&message.payload) {
                // An instance that was about to go: another may be there.
                Err(error) if error.kind() == ErrorKind::NoResponder => self.not_taken(now, id),
                result => self.settle(id, result),
            },
            Some(Work::Barrier(_)) => self.echo(id),
            // Settled before, or never ours: a late reply finds nothing.
            _ => {}
        }
    }

    /// Nobody took the request: it certainly did not run.
    fn not_taken(&mut self, now: Instant, id: SlotId) {
        let random = self.next_random();
        let retries = self.settings.retries;
        let Some(Work::Request(request)) = self.slots.get_mut(id) else { return };
        if request.state != State::HandedOver {
            return;
        }
        match request.tries.next(now, retries, random) {
            Some(at) if request.deadline.is_none_or(|deadline| at < deadline) => {
                request.state = State::Waiting;
                self.wheel.arm(id.index, at);
            }
            _ => {
                let service = request.target.rsplit_once('.').map_or("", |(service, _)| service);
                let text = format!(
                    "Request {} found no responder: no instance of \"{service}\" is connected",
                    request.target
                );
                self.settle(id, Err(Error::new(ErrorKind::NoResponder, text)));
            }
        }
    }

    /// The timer of a slot: its deadline, or its next try.
    pub(super) fn fire(&mut self, now: Instant, id: SlotId) {
        let Some(work) = self.slots.get_mut(id) else { return };
        if let Work::Request(request) = work {
            let due = request.deadline.is_some_and(|deadline| deadline <= now);
            if request.state == State::Waiting && !due {
                request.state = State::Queued;
                if let Some(deadline) = request.deadline {
                    self.wheel.arm(id.index, deadline);
                }
                self.enqueue(Pending::Request(id));
                return;
            }
        }
        let mut text = format!("{} timed out", work.what());
        if !self.link.connected {
            let _ = write!(text, ": not connected to {}", self.settings.servers);
            if let Some(trouble) = &self.link.trouble {
                let _ = write!(text, " ({trouble})");
            }
        }
        self.settle(id, Err(Error::new(ErrorKind::TimedOut, text)));
    }

    pub(super) fn publish_denied(&mut self, subject: &str) {
        if let Some(rest) = subject.strip_prefix(self.inbox.as_str()) {
            // The server has processed our barrier, if only to refuse it.
            let token = rest.strip_prefix('.').and_then(|t| u64::from_str_radix(t, 16).ok());
            if let Some(token) = token {
                self.echo(SlotId::from_token(token));
            }
            return;
        }
        let waiting = self.slots.find(|work| {
            work.is_handed_over() && work.target().is_some_and(|target| **target == *subject)
        });
        for id in &waiting {
            let what = self.slots.get(*id).map(Work::what).unwrap_or_default();
            let text = format!(
                "{what} was refused: this user may not publish to {subject} (see the \
                 permissions in the server's configuration)"
            );
            self.settle(*id, Err(Error::new(ErrorKind::PermissionDenied, text)));
        }
        if waiting.is_empty() && !std::mem::replace(&mut self.link.reply_denied, true) {
            let text = format!(
                "The server refused a message to {subject}: a responder needs the permission \
                 to publish to its callers' inboxes (or allow_responses)"
            );
            self.out.notices.push(Notice::Failed(Error::new(ErrorKind::PermissionDenied, text)));
        }
    }

    pub(super) fn inbox_was_denied(&mut self) {
        self.link.inbox_denied = true;
        let error = self.inbox_error();
        for id in self.slots.find(|work| !matches!(work, Work::Connect { .. })) {
            match self.slots.get(id) {
                Some(Work::Barrier(_)) => self.barrier_lost(id),
                _ => self.settle(id, Err(error.clone())),
            }
        }
        let uncovered = std::mem::take(&mut self.uncovered);
        self.covers_lost(uncovered);
        self.out.notices.push(Notice::Failed(error));
    }

    pub(super) fn inbox_error(&self) -> Error {
        let text = format!(
            "This user may not subscribe to {}.*, where replies arrive: allow it, or set \
             inboxPrefix to a prefix that is allowed",
            self.inbox
        );
        Error::new(ErrorKind::PermissionDenied, text)
    }
}

/// `<before>.<token of the slot>`, in the block of `scratch`.
pub(super) fn token_text(scratch: &mut BytesMut, before: &str, id: SlotId) -> Subject {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    scratch.reserve(before.len() + 17);
    scratch.put_slice(before.as_bytes());
    scratch.put_u8(b'.');
    let token = id.token();
    let digits = (64 - token.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        scratch.put_u8(DIGITS[(token >> (4 * digit)) as usize & 15]);
    }
    Subject::try_from(scratch.split().freeze()).unwrap_or_default()
}

pub(super) fn too_large(what: &str, size: usize, most: usize) -> Error {
    let text = format!(
        "{what} takes {size} bytes with its headers, and the server accepts {most}: send less, \
         or raise max_payload in the server's configuration"
    );
    Error::new(ErrorKind::TooLarge, text)
}
