//! The way from any thread to the engine: submissions, taken by the driver in batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use crate::engine::{CallId, Outcome, PublishCall, RequestCall};
use crate::error::{Error, ErrorKind, Result};
use crate::methods::Methods;
use crate::wire::envelope::Payload;

/// Where a completion goes.
pub(crate) enum Completer {
    /// To a Rust future.
    Task(oneshot::Sender<Result<Payload>>),
    /// To the host's queue, under the host's own number.
    Host(u32),
    /// Nobody asked.
    Nobody,
}

/// Something for the engine to do.
pub(crate) enum Submission {
    Connect(Completer),
    Expose(Exposure, Completer),
    Request(Instant, RequestCall<Completer>),
    Publish(Instant, PublishCall<Completer>),
    Cancel(u64),
    Reply(CallId, Outcome),
    Close(Option<CallId>, Completer),
    /// The host is gone: nothing that it has will ever be answered.
    Abandon,
}

impl Submission {
    /// How it settles when this instance has ended.
    pub(crate) fn refuse(self) -> Option<(Completer, Result<Payload>)> {
        let closed = Error::new(ErrorKind::Closed, "This Picom is closed: make a new one");
        match self {
            Submission::Close(_, done) => Some((done, Ok(None))),
            Submission::Request(_, call) => Some((call.done, Err(closed))),
            Submission::Publish(_, call) => Some((call.done, Err(closed))),
            Submission::Connect(done) | Submission::Expose(_, done) => Some((done, Err(closed))),
            Submission::Cancel(_) | Submission::Reply(..) | Submission::Abandon => None,
        }
    }
}

pub(crate) enum Exposure {
    Rust(Methods, tokio::runtime::Handle),
    /// The host's method names; it is asked for other names too.
    Host(Vec<String>),
}

#[derive(Default)]
struct Queue {
    submissions: VecDeque<Submission>,
    /// The driver has ended and takes nothing more.
    ended: bool,
}

/// What the handle, the handlers and the driver of one instance share.
#[derive(Default)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    awake: AtomicBool,
    /// As in the queue, for those who only look.
    ended: AtomicBool,
    pub(crate) waker: AtomicWaker,
    next_key: AtomicU64,
}

/// Several submissions under one lock and with one wake.
pub(crate) struct Batch<'a> {
    queue: MutexGuard<'a, Queue>,
    refused: Vec<Submission>,
}

impl Batch<'_> {
    pub(crate) fn push(&mut self, submission: Submission) {
        if self.queue.ended {
            self.refused.push(submission);
        } else {
            self.queue.submissions.push_back(submission);
        }
    }
}

impl Shared {
    /// A number that no other call of this instance has, to cancel by.
    pub(crate) fn next_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Submits what `fill` pushes. Returns what came too late, because the driver has ended.
    pub(crate) fn submit_all(&self, fill: impl FnOnce(&mut Batch<'_>)) -> Vec<Submission> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch { queue, refused: Vec::new() };
        fill(&mut batch);
        let Batch { queue, refused } = batch;
        drop(queue);
        if !self.awake.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
        refused
    }

    /// Submits one thing. What comes too late completes here, as closed.
    pub(crate) fn submit(&self, submission: Submission) {
        for late in self.submit_all(|batch| batch.push(submission)) {
            if let Some((Completer::Task(sender), result)) = late.refuse() {
                let _ = sender.send(result);
            }
        }
    }

    /// Takes what was submitted. The flag falls before the queue is taken: a submission that
    /// comes in between wakes the driver once too often, and never once too little.
    pub(crate) fn take(&self, into: &mut VecDeque<Submission>) {
        self.awake.store(false, Ordering::Release);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.submissions, into);
    }

    /// Whether the driver has ended: nothing that is submitted will be done.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the queue, and returns what was left in it.
    pub(crate) fn end(&self) -> VecDeque<Submission> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.ended = true;
        self.ended.store(true, Ordering::Release);
        std::mem::take(&mut queue.submissions)
    }
}

/// A completion for a Rust future, and the future's end of it.
pub(crate) fn task_completer() -> (Completer, oneshot::Receiver<Result<Payload>>) {
    let (sender, receiver) = oneshot::channel();
    (Completer::Task(sender), receiver)
}

/// Ends a call with an error if its handler goes away without an outcome: its task was
/// cancelled, or the runtime that ran it was shut down.
pub(crate) struct CallGuard {
    shared: Arc<Shared>,
    id: CallId,
    open: bool,
}

impl CallGuard {
    pub(crate) fn new(shared: Arc<Shared>, id: CallId) -> CallGuard {
        CallGuard { shared, id, open: true }
    }

    /// Ends the call.
    pub(crate) fn reply(self, outcome: Outcome) {
        let shared = self.shared.clone();
        shared.submit(Submission::Reply(self.release(), outcome));
    }

    /// Where the outcome goes.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Leaves the call to whoever asks for its id.
    pub(crate) fn release(mut self) -> CallId {
        self.open = false;
        self.id
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if self.open {
            let message = "The handler was dropped before it finished".to_owned();
            let outcome = Outcome::Failed { message, details: None };
            self.shared.submit(Submission::Reply(self.id, outcome));
        }
    }
}
