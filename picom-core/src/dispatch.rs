//! From calls to handlers in Rust: on the runtime that exposed them, never on the I/O thread.
//!
//! A task for each call costs more than most handlers do. So the calls of one turn share a task
//! that polls each handler once; one that waits for something goes on in a task of its own, and
//! methods that were seen to compute for long get one from the start, so that no call has to
//! wait for another's work.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::context::{Context, CURRENT};
use crate::engine::{IncomingCall, Outcome};
use crate::methods::{Handler, Running};
use crate::submit::{CallGuard, Shared, Submission};

/// Calls that share a task: a longer turn is divided among the threads of the runtime.
const SHARING: usize = 64;
/// A handler that computes for longer is no company for others.
const SLOW: Duration = Duration::from_micros(100);
/// So often in a row, for the machine may have been busy elsewhere.
const SLOW_IN_A_ROW: u32 = 3;
/// How many calls of a slow method get a task of their own before it is looked at again.
const CALLS_APART: u32 = 1000;

/// A method's handler, and where it runs.
pub(crate) struct Method {
    handler: Handler,
    runtime: Handle,
    /// Slow calls in a row.
    slow: AtomicU32,
    /// Calls that are still to get a task of their own.
    apart: AtomicU32,
}

impl Method {
    pub(crate) fn new(handler: Handler, runtime: Handle) -> Method {
        Method { handler, runtime, slow: AtomicU32::new(0), apart: AtomicU32::new(0) }
    }

    fn is_apart(&self) -> bool {
        let apart = self.apart.load(Ordering::Relaxed);
        if apart > 0 {
            self.apart.store(apart - 1, Ordering::Relaxed);
        }
        apart > 0
    }

    fn took(&self, time: Duration) {
        if time <= SLOW {
            self.slow.store(0, Ordering::Relaxed);
        } else if self.slow.fetch_add(1, Ordering::Relaxed) + 1 >= SLOW_IN_A_ROW {
            self.apart.store(CALLS_APART, Ordering::Relaxed);
        }
    }
}

/// Collects the calls of a turn.
#[derive(Default)]
pub(crate) struct Dispatch {
    calls: Vec<(Arc<Method>, IncomingCall)>,
}

impl Dispatch {
    pub(crate) fn add(&mut self, method: &Arc<Method>, call: IncomingCall) {
        self.calls.push((method.clone(), call));
    }

    /// Hands what was collected to the runtimes.
    pub(crate) fn run(&mut self, shared: &Arc<Shared>) {
        let mut calls = std::mem::take(&mut self.calls).into_iter().peekable();
        while let Some((first, call)) = calls.next() {
            let runtime = first.runtime.clone();
            if first.is_apart() {
                runtime.spawn(alone(first, call, shared.clone()));
                continue;
            }
            let mut together = Vec::with_capacity(calls.len().min(SHARING - 1) + 1);
            together.push((first, call));
            while together.len() < SHARING {
                let id = runtime.id();
                match calls.next_if(|(next, _)| next.runtime.id() == id && !next.is_apart()) {
                    Some(next) => together.push(next),
                    None => break,
                }
            }
            runtime.spawn(share(together, shared.clone()));
        }
    }
}

/// Starts a call. Expired work is dropped before its handler runs.
fn start(method: &Method, call: IncomingCall, shared: &Arc<Shared>) -> Option<Running> {
    if call.expires.is_some_and(|expires| expires <= Instant::now()) {
        return None;
    }
    let handler = method.handler.clone();
    let context =
        Context { shared: shared.clone(), call: call.id, id: call.mark, expires: call.expires };
    Some(Box::pin(CURRENT.scope(context, async move { handler(call.body).await })))
}

/// One call in a task of its own.
async fn alone(method: Arc<Method>, call: IncomingCall, shared: Arc<Shared>) {
    let guard = CallGuard::new(shared.clone(), call.id);
    let outcome = match start(&method, call, &shared) {
        Some(running) => running.await,
        None => Outcome::Expired,
    };
    guard.reply(outcome);
}

/// Calls that share a task, and one submission for the replies that are there at once.
async fn share(calls: Vec<(Arc<Method>, IncomingCall)>, shared: Arc<Shared>) {
    // From the beginning: a task that is dropped takes no call with it unanswered.
    let guard = |call: &IncomingCall| CallGuard::new(shared.clone(), call.id);
    let calls: Vec<_> =
        calls.into_iter().map(|(method, call)| (guard(&call), method, call)).collect();
    let mut replies = Replies { shared: &shared, list: Vec::with_capacity(calls.len()) };
    let mut calls = calls.into_iter();
    let mut before = Instant::now();
    while let Some((guard, method, call)) = calls.next() {
        let Some(mut running) = start(&method, call, &shared) else {
            replies.list.push((guard, Outcome::Expired));
            continue;
        };
        match poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
            Poll::Ready(outcome) => replies.list.push((guard, outcome)),
            Poll::Pending => {
                method.runtime.spawn(async move { guard.reply(running.await) });
            }
        }
        let took = before.elapsed();
        before += took;
        method.took(took);
        if took > SLOW {
            // What is behind it has waited, and is not to wait for one another too.
            for (guard, method, call) in calls.by_ref() {
                guard.release();
                method.runtime.clone().spawn(alone(method, call, shared.clone()));
            }
        }
    }
}

/// Outcomes that are submitted together, also when the task ends early.
struct Replies<'a> {
    shared: &'a Shared,
    list: Vec<(CallGuard, Outcome)>,
}

impl Drop for Replies<'_> {
    fn drop(&mut self) {
        // What comes after the end has nobody to go to.
        self.shared.submit_all(|batch| {
            for (guard, outcome) in self.list.drain(..) {
                batch.push(Submission::Reply(guard.release(), outcome));
            }
        });
    }
}
