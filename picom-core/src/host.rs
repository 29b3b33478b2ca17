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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::Arc;

    use super::*;

    fn queue() -> (HostQueue, Arc<AtomicU32>) {
        let wakes = Arc::new(AtomicU32::new(0));
        let count = wakes.clone();
        let queue = HostQueue::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (queue, wakes)
    }

    /// Appends completions of ten bytes each, numbered from `first`.
    fn append(queue: &HostQueue, first: u32, count: u32) {
        let json = || Ok(Some(Bytes::from_static(b"1234567890")));
        let mut events = (first..first + count).map(|n| HostEvent::Settled(n, json())).collect();
        queue.append(&mut events);
    }

    fn drain(queue: &HostQueue, most: usize, most_bytes: usize) -> (Vec<u32>, bool) {
        let mut events = VecDeque::new();
        let more = queue.drain(most, most_bytes, &mut events);
        let number = |event| match event {
            HostEvent::Settled(number, _) => number,
            other => panic!("{other:?}"),
        };
        (events.into_iter().map(number).collect(), more)
    }

    #[test]
    fn a_drain_ends_at_its_bounds_and_says_that_there_is_more() {
        let (queue, _) = queue();
        append(&queue, 0, 10);
        assert_eq!(drain(&queue, 3, 1000), (vec![0, 1, 2], true));
        assert_eq!(drain(&queue, 100, 25), (vec![3, 4, 5], true));
        assert_eq!(drain(&queue, 1, 1), (vec![6], true));
        append(&queue, 10, 1);
        assert_eq!(drain(&queue, 100, 41), (vec![7, 8, 9, 10], false));
        // All bytes were given back: what is within the bounds comes whole.
        append(&queue, 11, 4);
        assert_eq!(drain(&queue, 4, 41), (vec![11, 12, 13, 14], false));
        assert_eq!(drain(&queue, 4, 41), (vec![], false));
    }

    #[test]
    fn the_host_is_woken_once_until_it_drains_and_not_while_there_is_more() {
        let (queue, wakes) = queue();
        let woken = || wakes.load(Ordering::Relaxed);
        append(&queue, 0, 2);
        append(&queue, 2, 2);
        assert_eq!(woken(), 1);
        assert!(drain(&queue, 1, 1000).1);
        append(&queue, 4, 1);
        assert_eq!(woken(), 1);
        assert_eq!(drain(&queue, 100, 1000), (vec![1, 2, 3, 4], false));
        append(&queue, 5, 1);
        assert_eq!(woken(), 2);
    }

    #[test]
    fn what_the_host_still_holds_keeps_its_place() {
        let (queue, _) = queue();
        let mut held = VecDeque::from([HostEvent::Settled(0, Ok(None))]);
        append(&queue, 1, 2);
        assert!(!queue.drain(100, 1000, &mut held));
        assert_eq!(held.len(), 3);
        assert!(matches!(held[0], HostEvent::Settled(0, _)));
    }
}
