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
        self.apart.load(Ordering::Relaxed) > 0
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

/// What a shared task has before it, and behind it.
#[derive(Default)]
struct Sharing {
    waiting: VecDeque<Waiting>,
    /// What is to be submitted together.
    replies: Vec<(CallGuard, Outcome)>,
}

type Sharers = Mutex<Sharing>;

/// Collects the calls of a turn, and looks after those that were handed out together.
#[derive(Default)]
pub(crate) struct Dispatch {
    calls: Vec<Waiting>,
    handed_out: Vec<(Instant, Arc<Sharers>)>,
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
                // Only the I/O thread counts down.
                first.1.apart.fetch_sub(1, Ordering::Relaxed);
                runtime.spawn(alone(first));
                continue;
            }
            let mut waiting = VecDeque::with_capacity(calls.len().min(SHARING - 1) + 1);
            waiting.push_back(first);
            while waiting.len() < SHARING {
                let joins =
                    |next: &Waiting| next.1.runtime.id() == runtime.id() && !next.1.is_apart();
                match calls.next_if(joins) {
                    Some(next) => waiting.push_back(next),
                    None => break,
                }
            }
            let replies = Vec::with_capacity(waiting.len());
            let sharers = Arc::new(Mutex::new(Sharing { waiting, replies }));
            self.handed_out.push((now, sharers.clone()));
            runtime.spawn(share(sharers));
        }
    }

    /// When [`Dispatch::run`] should look after the calls again.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.handed_out.first().map(|(since, _)| *since + PATIENCE)
    }

    /// A handler that blocks its thread holds up nobody but itself.
    fn rescue(&mut self, now: Instant) {
        self.handed_out.retain(|(since, sharers)| {
            let ended = Arc::strong_count(sharers) == 1;
            let held_up = now.saturating_duration_since(*since) >= PATIENCE;
            if ended || held_up {
                let left = std::mem::take(&mut *lock(sharers));
                submit(left.replies);
                spawn_each(left.waiting);
            }
            !ended && !held_up
        });
    }
}

fn lock(sharers: &Sharers) -> MutexGuard<'_, Sharing> {
    sharers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn_each(calls: VecDeque<Waiting>) {
    for waiting in calls {
        waiting.1.runtime.clone().spawn(alone(waiting));
    }
}

/// Starts a call. Expired work is dropped before its handler runs, and so is what nobody will
/// answer because the instance is closed.
fn start(method: &Method, call: IncomingCall, guard: &CallGuard) -> Option<Running> {
    let expired = call.expires.is_some_and(|expires| expires <= Instant::now());
    if expired || guard.shared().has_ended() {
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
    let mut done = None;
    let mut oldest = Instant::now();
    let mut before = oldest;
    loop {
        // What is done is in everybody's reach before another handler may block.
        let next = {
            let mut sharing = lock(&sharers);
            sharing.replies.extend(done.take());
            sharing.waiting.pop_front()
        };
        if next.is_none() || before - oldest > SLOW {
            let replies = std::mem::take(&mut lock(&sharers).replies);
            submit(replies);
            oldest = before;
        }
        let Some((guard, method, call)) = next else { return };
        let Some(mut running) = start(&method, call, &guard) else {
            done = Some((guard, Outcome::Expired));
            continue;
        };
        match poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
            Poll::Ready(outcome) => done = Some((guard, outcome)),
            Poll::Pending => {
                method.runtime.spawn(async move { guard.reply(running.await) });
            }
        }
        let took = before.elapsed();
        before += took;
        method.took(took);
        if took > SLOW {
            // What is behind it has waited, and is not to wait for one another too.
            let waiting = std::mem::take(&mut lock(&sharers).waiting);
            spawn_each(waiting);
        }
    }
}

fn submit(replies: Vec<(CallGuard, Outcome)>) {
    let Some(shared) = replies.first().map(|(guard, _)| guard.shared().clone()) else { return };
    // What comes after the end has nobody to go to.
    shared.submit_all(|batch| {
        for (guard, outcome) in replies {
            batch.push(Submission::Reply(guard.release(), outcome));
        }
    });
}
