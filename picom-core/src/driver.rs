//! Turns an engine over a transport, on the background thread.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::broadcast;
use tokio::time::Sleep;

use crate::dispatch::{self, Dispatch};
use crate::engine::{Engine, Method, Notice, Settings};
use crate::host::{HostEvent, HostQueue};
use crate::submit::{Completer, Exposure, Shared, Submission};
use crate::transport::{Event, Transport};

/// Messages taken in one turn, so that deadlines and submissions get theirs.
const MESSAGES_PER_TURN: usize = 2048;
/// Submissions taken in one turn: a burst of one instance must not make the others on this
/// thread miss their deadlines.
const SUBMISSIONS_PER_TURN: usize = 2048;
/// While messages come without end, events have their turn this often.
const TURNS_OF_A_FLOOD: u32 = 8;

/// Where the calls of a method go.
enum Target {
    Rust(Arc<dispatch::Method>),
    Host,
}

pub(crate) struct Driver {
    engine: Engine<Completer>,
    transport: Box<dyn Transport>,
    shared: Arc<Shared>,
    host: Option<Arc<HostQueue>>,
    notices: broadcast::Sender<Notice>,
    methods: Vec<Target>,
    dispatch: Dispatch,
    submissions: VecDeque<Submission>,
    host_events: Vec<HostEvent>,
    turns: u32,
    sleep: Option<Pin<Box<Sleep>>>,
    sleeping_until: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        settings: Settings,
        seed: u64,
        transport: Box<dyn Transport>,
        shared: Arc<Shared>,
        host: Option<Arc<HostQueue>>,
        notices: broadcast::Sender<Notice>,
    ) -> Driver {
        Driver {
            engine: Engine::new(settings, Instant::now(), seed),
            transport,
            shared,
            host,
            notices,
            methods: Vec::new(),
            dispatch: Dispatch::default(),
            submissions: VecDeque::new(),
            host_events: Vec::new(),
            turns: 0,
            sleep: None,
            sleeping_until: None,
        }
    }

    /// Messages first: replies that arrived before a connection was lost still count.
    fn take_messages(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..MESSAGES_PER_TURN {
            match self.transport.poll_message(cx) {
                Poll::Ready(message) => self.engine.receive(now, message),
                Poll::Pending => return false,
            }
        }
        true
    }

    fn take_events(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(event) = self.transport.poll_event(cx) {
            match event {
                Event::Connected { max_payload } => self.engine.connected(max_payload),
                Event::Disconnected => self.engine.disconnected(),
                Event::ConnectFailed(error) => self.engine.connect_failed(error),
                Event::Denied(denied) => self.engine.denied(&denied),
                Event::Trouble(error) => self.engine.out.notices.push(Notice::Failed(error)),
            }
        }
    }

    /// Returns whether there may be more, for the next turn.
    fn take_submissions(&mut self, now: Instant) -> bool {
        for _ in 0..SUBMISSIONS_PER_TURN {
            if self.submissions.is_empty() {
                self.shared.take(&mut self.submissions);
            }
            let Some(submission) = self.submissions.pop_front() else { return false };
            match submission {
                Submission::Connect(done) => self.engine.connect(done),
                Submission::Expose(exposure, done) => self.expose(now, exposure, done),
                Submission::Request(at, call) => self.engine.request(at, call),
                Submission::Publish(at, call) => self.engine.publish(at, call),
                Submission::Cancel(key) => self.engine.cancel(key),
                Submission::Reply(id, outcome) => self.engine.reply(id, outcome),
                Submission::Close(from, done) => self.engine.close(now, from, done),
                Submission::Abandon => self.engine.abandon(now, Completer::Nobody),
            }
        }
        true
    }

    fn expose(&mut self, now: Instant, exposure: Exposure, done: Completer) {
        let (names, targets, open_ended) = match exposure {
            Exposure::Rust(methods, runtime) => {
                let (names, handlers): (Vec<_>, Vec<_>) = methods.list.into_iter().unzip();
                let targets: Vec<_> = handlers
                    .into_iter()
                    .map(|h| Target::Rust(dispatch::Method::new(h, runtime.clone()).into()))
                    .collect();
                (names, targets, false)
            }
            Exposure::Host(names) => {
                let targets = names.iter().map(|_| Target::Host).collect();
                (names, targets, true)
            }
        };
        let ids = self.engine.expose(now, &names, open_ended, done);
        for (id, target) in ids.into_iter().zip(targets) {
            let id = id as usize;
            if id < self.methods.len() {
                self.methods[id] = target;
            } else {
                self.methods.push(target);
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, now: Instant) {
        while let Some(subscription) = self.engine.out.subscriptions.pop_front() {
            self.transport.subscribe(subscription);
        }
        while self.transport.poll_ready(cx).is_ready() {
            match self.engine.next_send(now) {
                Some(message) => self.transport.send(message),
                None => break,
            }
        }
        self.transport.poll_flush(cx);
    }

    fn deliver(&mut self, now: Instant) {
        for (done, result) in self.engine.out.settled.drain(..) {
            match done {
                // The receiver may be gone: its caller has given up.
                Completer::Task(sender) => drop(sender.send(result)),
                Completer::Host(id) => self.host_events.push(HostEvent::Settled(id, result)),
                Completer::Nobody => {}
            }
        }
        for call in self.engine.out.incoming.drain(..) {
            let target = match &call.method {
                Method::Known(id) => self.methods.get(*id as usize),
                Method::Named(_) => None,
            };
            match target {
                Some(Target::Rust(method)) => {
                    self.dispatch.add(method, call, &self.shared);
                }
                _ => self.host_events.push(HostEvent::Call(call)),
            }
        }
        self.dispatch.run(now);
        for notice in self.engine.out.notices.drain(..) {
            match &notice {
                Notice::Failed(error) => tracing::warn!(?error, "picom"),
                other => tracing::info!(event = ?other, "picom"),
            }
            let _ = self.notices.send(notice.clone());
            if self.host.is_some() {
                self.host_events.push(HostEvent::Notice(notice));
            }
        }
        match &self.host {
            Some(host) => host.append(&mut self.host_events),
            None => self.host_events.clear(),
        }
    }

    fn set_timer(&mut self, cx: &mut Context<'_>, now: Instant) {
        let wake = match (self.engine.next_wake(), self.dispatch.next_wake()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let Some(wake) = wake else { return };
        // A timer that rings a little early is cheaper than one that is set anew each turn.
        let keep = self.sleeping_until.is_some_and(|until| until <= wake && until > now);
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(wake.into())));
        if !keep {
            sleep.as_mut().reset(wake.into());
            self.sleeping_until = Some(wake);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            self.sleeping_until = None;
            cx.waker().wake_by_ref();
        }
    }

    fn end(&mut self) {
        let left = std::mem::take(&mut self.submissions);
        for late in left.into_iter().chain(self.shared.end()) {
            if let Some((done, result)) = late.refuse() {
                self.engine.out.settled.push((done, result));
            }
        }
        self.deliver(Instant::now());
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        driver.shared.waker.register(cx.waker());
        let now = Instant::now();
        let more = driver.take_messages(cx, now);
        // A flood must not keep them waiting for ever.
        driver.turns = driver.turns.wrapping_add(1);
        if !more || driver.turns.is_multiple_of(TURNS_OF_A_FLOOD) {
            driver.take_events(cx);
            driver.engine.settle_proven();
        }
        driver.engine.tick(now);
        let more = driver.take_submissions(now) | more;
        driver.send(cx, now);
        if driver.engine.out.closed {
            driver.end();
            return Poll::Ready(());
        }
        driver.deliver(now);
        driver.set_timer(cx, now);
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    /// Also when the runtime ends before the engine does: whatever waits is told.
    fn drop(&mut self) {
        if !self.engine.out.closed {
            self.engine.finish_closing();
            self.end();
        }
    }
}
