//! From calls to handlers in Rust: on the runtime that exposed them, never on the I/O thread.
//!
//! A task for each call costs more than most handlers do. So the calls of one turn share a task
//! that polls each handler once; one that waits for something goes on in a task of its own, and
//! methods that were seen to compute for long get one from the start, so that no call has to
//! wait for another's work.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// For so long calls wait for the one that they share a task with.
const PATIENCE: Duration = Duration::from_millis(5);
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

/// A call, and what answers for it if nobody else does.
type Waiting = (CallGuard, Arc<Method>, IncomingCall);

/// Calls that share a task, as far as they have not begun.
type Sharers = Mutex<VecDeque<Waiting>>;

/// Collects the calls of a turn, and looks after those that were handed out together.
#[derive(Default)]
pub(crate) struct Dispatch {
    calls: Vec<Waiting>,
    shared: Vec<(Instant, Arc<Sharers>)>,
}

impl Dispatch {
    pub(crate) fn add(&mut self, method: &Arc<Method>, call: IncomingCall, shared: &Arc<Shared>) {
        self.calls.push((CallGuard::new(shared.clone(), call.id), method.clone(), call));
    }

    /// Hands what was collected to the runtimes.
    pub(crate) fn run(&mut self, now: Instant) {
        self.rescue(now);
        let mut calls = std::mem::take(&mut self.calls).into_iter().peekable();
        while let Some(first) = calls.next() {
            let runtime = first.1.runtime.clone();
            if first.1.is_apart() {
                runtime.spawn(alone(first));
                continue;
            }
            let mut sharers = VecDeque::with_capacity(calls.len().min(SHARING - 1) + 1);
            sharers.push_back(first);
            while sharers.len() < SHARING {
                let joins =
                    |next: &Waiting| next.1.runtime.id() == runtime.id() && !next.1.is_apart();
                match calls.next_if(joins) {
                    Some(next) => sharers.push_back(next),
                    None => break,
                }
            }
            let sharers = Arc::new(Mutex::new(sharers));
            self.shared.push((now, sharers.clone()));
            runtime.spawn(share(sharers));
        }
    }

    /// When [`Dispatch::run`] should look after the calls again.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.shared.first().map(|(since, _)| *since + PATIENCE)
    }

    /// A handler that blocks its thread holds up nobody but itself.
    fn rescue(&mut self, now: Instant) {
        self.shared.retain(|(since, sharers)| {
            if Arc::strong_count(sharers) == 1 && lock(sharers).is_empty() {
                return false;
            }
            let held_up = now.saturating_duration_since(*since) >= PATIENCE;
            if held_up {
                spawn_each(lock(sharers).drain(..));
            }
            !held_up
        });
    }
}

fn lock(sharers: &Sharers) -> MutexGuard<'_, VecDeque<Waiting>> {
    sharers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn_each(calls: impl Iterator<Item = Waiting>) {
    for waiting in calls {
        waiting.1.runtime.clone().spawn(alone(waiting));
    }
}

/// Starts a call. Expired work is dropped before its handler runs.
fn start(method: &Method, call: IncomingCall, guard: &CallGuard) -> Option<Running> {
    if call.expires.is_some_and(|expires| expires <= Instant::now()) {
        return None;
    }
    let handler = method.handler.clone();
    let shared = guard.shared().clone();
    let context = Context { shared, call: call.id, id: call.mark, expires: call.expires };
    Some(Box::pin(CURRENT.scope(context, async move { handler(call.body).await })))
}

/// One call in a task of its own.
async fn alone((guard, method, call): Waiting) {
    let outcome = match start(&method, call, &guard) {
        Some(running) => running.await,
        None => Outcome::Expired,
    };
    guard.reply(outcome);
}

/// Calls that share a task, and one submission for the replies that are there at once.
async fn share(sharers: Arc<Sharers>) {
    let next = || lock(&sharers).pop_front();
    let mut replies = Replies(Vec::new());
    let mut before = Instant::now();
    while let Some((guard, method, call)) = next() {
        let Some(mut running) = start(&method, call, &guard) else {
            replies.0.push((guard, Outcome::Expired));
            continue;
        };
        match poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
            Poll::Ready(outcome) => replies.0.push((guard, outcome)),
            Poll::Pending => {
                method.runtime.spawn(async move { guard.reply(running.await) });
            }
        }
        let took = before.elapsed();
        before += took;
        method.took(took);
        if took > SLOW {
            // What is behind it has waited, and is not to wait for one another too.
            spawn_each(lock(&sharers).drain(..));
        }
    }
}

/// Outcomes that are submitted together, also when the task ends early.
struct Replies(Vec<(CallGuard, Outcome)>);

impl Drop for Replies {
    fn drop(&mut self) {
        let Some(shared) = self.0.first().map(|(guard, _)| guard.shared().clone()) else { return };
        // What comes after the end has nobody to go to.
        shared.submit_all(|batch| {
            for (guard, outcome) in self.0.drain(..) {
                batch.push(Submission::Reply(guard.release(), outcome));
            }
        });
    }
}
