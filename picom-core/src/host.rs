//! The batch queue between the I/O thread and a foreign event loop: Node's, asyncio's, a C
//! program's.
//!
//! The driver appends completions and calls; the host is woken once, when the queue turns from
//! empty to not empty, and drains it in one go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::engine::{CallId, IncomingCall, Notice, Outcome, PublishCall, RequestCall};
use crate::error::Result;
use crate::submit::{Batch, Completer, Exposure, Shared, Submission};
use crate::wire::envelope::Payload;
use crate::wire::message::Subject;

/// Something for the host.
#[derive(Debug)]
pub enum HostEvent {
    /// What the host submitted under this number has settled.
    Settled(u32, Result<Payload>),
    /// A method of the host's is called.
    Call(IncomingCall),
    /// What no call of the host's tells.
    Notice(Notice),
}

impl HostEvent {
    fn size(&self) -> usize {
        match self {
            HostEvent::Settled(_, Ok(Some(json))) => json.len(),
            HostEvent::Settled(_, Err(error)) | HostEvent::Notice(Notice::Failed(error)) => {
                error.message().len() + error.details().map_or(0, |details| details.get().len())
            }
            HostEvent::Call(call) => call.body.len(),
            _ => 0,
        }
    }
}

/// The queue of one instance.
pub struct HostQueue {
    waiting: Mutex<Waiting>,
    awake: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<HostEvent>,
    /// The sizes of their bodies.
    bytes: usize,
}

impl HostQueue {
    /// A queue that calls `wake` when there is something to drain. `wake` is called on the I/O
    /// thread and on threads that submit; it must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> HostQueue {
        HostQueue { waiting: Mutex::default(), awake: AtomicBool::new(false), wake: Box::new(wake) }
    }

    /// Moves up to `most` events to `into`, and stops after `most_bytes` of bodies. Returns
    /// whether there is more: then the host is not woken, and has to drain again by itself once
    /// everything else on its loop has had a turn. (A wake from in here may run at once.)
    #[must_use]
    pub fn drain(&self, most: usize, most_bytes: usize, into: &mut VecDeque<HostEvent>) -> bool {
        // The flag falls before the queue is taken, or a wake could be lost.
        self.awake.store(false, Ordering::Release);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if into.is_empty() && waiting.events.len() <= most && waiting.bytes < most_bytes {
            waiting.bytes = 0;
            std::mem::swap(&mut waiting.events, into);
            return false;
        }
        let mut bytes = 0;
        for _ in 0..most {
            let Some(event) = waiting.events.pop_front() else { break };
            bytes += event.size();
            into.push_back(event);
            if bytes >= most_bytes {
                break;
            }
        }
        waiting.bytes -= bytes;
        let more = !waiting.events.is_empty();
        if more {
            self.awake.store(true, Ordering::Release);
        }
        more
    }

    pub(crate) fn append(&self, from: &mut Vec<HostEvent>) {
        if from.is_empty() {
            return;
        }
        let bytes: usize = from.iter().map(HostEvent::size).sum();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += bytes;
        waiting.events.extend(from.drain(..));
        drop(waiting);
        self.notify();
    }

    fn notify(&self) {
        if !self.awake.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }
}

/// Collects what the host submits in one go. Each `id` is the host's own number for what it
/// waits for, and comes back in [`HostEvent::Settled`].
pub struct HostBatch<'a, 'b> {
    pub(crate) batch: &'a mut Batch<'b>,
    pub(crate) now: Instant,
}

impl HostBatch<'_, '_> {
    /// See [`Picom::connect`](crate::Picom::connect).
    pub fn connect(&mut self, id: u32) {
        self.batch.push(Submission::Connect(Completer::Host(id)));
    }

    /// Exposes the host's methods. Names that cannot be addressed are never called.
    pub fn expose(&mut self, id: u32, names: Vec<String>) {
        self.batch.push(Submission::Expose(Exposure::Host(names), Completer::Host(id)));
    }

    /// A request. `target` has been checked; `body` is one JSON text, or empty. `timeout`: zero
    /// for the service's default. With `cancellable`, [`HostBatch::cancel`] finds it.
    pub fn request(
        &mut self,
        id: u32,
        target: Subject,
        body: Bytes,
        timeout: Duration,
        cancellable: bool,
    ) {
        self.batch.push(Submission::Request(
            self.now,
            RequestCall {
                done: Completer::Host(id),
                target,
                body,
                timeout: Some(timeout),
                key: cancellable.then_some(u64::from(id)),
            },
        ));
    }

    /// A publish. `target` has been checked; `body` is one JSON text, or empty.
    pub fn publish(&mut self, id: u32, target: Subject, body: Bytes) {
        let call = PublishCall { done: Completer::Host(id), target, body };
        self.batch.push(Submission::Publish(self.now, call));
    }

    /// Gives up a cancellable request.
    pub fn cancel(&mut self, id: u32) {
        self.batch.push(Submission::Cancel(u64::from(id)));
    }

    /// Ends a call.
    pub fn reply(&mut self, call: CallId, outcome: Outcome) {
        self.batch.push(Submission::Reply(call, outcome));
    }

    /// The host goes away, without waiting for anything: its calls are answered with an error.
    pub fn abandon(&mut self) {
        self.batch.push(Submission::Abandon);
    }

    /// See [`Picom::close`](crate::Picom::close). `from` is the call whose handler closes.
    pub fn close(&mut self, id: u32, from: Option<CallId>) {
        self.batch.push(Submission::Close(from, Completer::Host(id)));
    }
}

/// Submits, and settles at once what comes after the end.
pub(crate) fn submit(
    shared: &Shared,
    queue: &HostQueue,
    fill: impl FnOnce(&mut HostBatch<'_, '_>),
) {
    let late = shared.submit_all(|batch| fill(&mut HostBatch { batch, now: Instant::now() }));
    let mut settled = Vec::new();
    for submission in late {
        if let Some((Completer::Host(id), result)) = submission.refuse() {
            settled.push(HostEvent::Settled(id, result));
        }
    }
    queue.append(&mut settled);
}
