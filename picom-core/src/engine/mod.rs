//! The rules, without I/O, threads or clocks of their own.
//!
//! Messages, submissions and the time go in; messages, completions and calls come out. The
//! driver turns an engine over a transport; tests turn it with a simulated clock.
//!
//! What a message is handed to is decided late: the driver asks [`Engine::next_send`] while its
//! transport takes messages, so nothing is handed over while there is no connection, and a call
//! that was not handed over certainly did not run.

mod barrier;
mod caller;
mod closing;
mod responder;
mod retry;
mod slots;
mod wheel;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustc_hash::FxHashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::envelope::Payload;
use crate::wire::message::{Inbound, Outbound, Route, Subject};

use barrier::Cover;
use caller::Work;
use closing::Phase;
use responder::Responder;
use slots::{SlotId, Slots};
use wheel::Wheel;

pub use caller::{PublishCall, RequestCall};
pub use responder::{CallId, IncomingCall, Method, MethodId, Outcome};

/// Short texts and replies are written into blocks of this size.
const SCRATCH: usize = 16 << 10;

/// What an engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The service's name; empty for a caller that exposes nothing.
    pub service: String,
    /// The id of this instance, unique in the world, one token.
    pub instance: String,
    /// What the subject begins with under which replies arrive; the instance's id follows.
    pub inbox_prefix: String,
    /// The default deadline of a call; `None`: none.
    pub timeout: Option<Duration>,
    /// How often a call that certainly did not run is tried again.
    pub retries: u32,
    /// How long closing may take.
    pub close_timeout: Duration,
    /// Where the servers are, for texts that people read.
    pub servers: String,
}

/// What the engine wants of the transport's subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Subscribe, now and after each reconnection.
    Start {
        /// How its messages are marked.
        route: Route,
        /// What to subscribe to.
        subject: Subject,
        /// The queue group, where there is one.
        queue: Option<String>,
    },
    /// Leave, without losing what is on its way.
    Drain(Route),
}

/// What a program may want to know although no call of its own tells it.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Connected for the first time.
    Connected,
    /// Connected again.
    Reconnected,
    /// The connection was lost.
    Disconnected,
    /// Something failed that has no call to report it; told once, until it is well again.
    Failed(Error),
}

/// A subject that the server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// To publish to.
    Publish(String),
    /// To subscribe to.
    Subscribe(String),
}

/// What came out of the engine, for the driver to take.
pub struct Outputs<C> {
    /// Calls that settled, each exactly once.
    pub settled: Vec<(C, Result<Payload>)>,
    /// Calls for this service's handlers.
    pub incoming: Vec<IncomingCall>,
    /// Wishes for the transport's subscriptions, in order.
    pub subscriptions: VecDeque<Subscription>,
    /// What to tell the program.
    pub notices: Vec<Notice>,
    /// The transport has to be closed: the engine is done.
    pub closed: bool,
}

/// Whether the transport can take messages, and how large.
struct Link {
    connected: bool,
    ever_connected: bool,
    max_payload: usize,
    /// Why there is no connection, where that is known.
    trouble: Option<Error>,
    inbox_denied: bool,
    reply_denied: bool,
}

enum Pending {
    Request(SlotId),
    Publish(SlotId),
    Reply(Outbound),
}

/// The engine of one instance. `C` is what the driver needs to deliver a completion.
pub struct Engine<C> {
    settings: Settings,
    /// Where replies arrive, without the token of the call.
    inbox: String,
    link: Link,
    slots: Slots<Work<C>>,
    wheel: Wheel,
    fired: Vec<u32>,
    by_key: FxHashMap<u64, SlotId>,
    queue: VecDeque<Pending>,
    queued_replies: usize,
    uncovered: Vec<Cover>,
    echoed: Vec<SlotId>,
    responder: Responder,
    phase: Phase<C>,
    scratch: BytesMut,
    random: u64,
    /// What came out since the driver last took it.
    pub out: Outputs<C>,
}

impl<C> Engine<C> {
    /// An engine without a connection. Its inbox is the first subscription that it asks for.
    /// `seed` makes its jitter differ from that of other instances.
    pub fn new(settings: Settings, now: Instant, seed: u64) -> Engine<C> {
        let inbox = format!("{}.{}", settings.inbox_prefix, settings.instance);
        let subscriptions = VecDeque::from([Subscription::Start {
            route: Route::Inbox,
            subject: format!("{inbox}.*").into(),
            queue: None,
        }]);
        Engine {
            settings,
            inbox,
            link: Link {
                connected: false,
                ever_connected: false,
                max_payload: usize::MAX,
                trouble: None,
                inbox_denied: false,
                reply_denied: false,
            },
            slots: Slots::new(),
            wheel: Wheel::new(now),
            fired: Vec::new(),
            by_key: FxHashMap::default(),
            queue: VecDeque::new(),
            queued_replies: 0,
            uncovered: Vec::new(),
            echoed: Vec::new(),
            responder: Responder::default(),
            phase: Phase::Open,
            scratch: BytesMut::with_capacity(SCRATCH),
            random: seed | 1,
            out: Outputs {
                settled: Vec::new(),
                incoming: Vec::new(),
                subscriptions,
                notices: Vec::new(),
                closed: false,
            },
        }
    }

    /// The transport is connected to a server that takes messages up to `max_payload` bytes.
    pub fn connected(&mut self, max_payload: usize) {
        self.link.connected = true;
        self.link.max_payload = max_payload;
        self.link.trouble = None;
        self.link.inbox_denied = false;
        self.link.reply_denied = false;
        self.responder.denied = false;
        let again = std::mem::replace(&mut self.link.ever_connected, true);
        self.out.notices.push(if again { Notice::Reconnected } else { Notice::Connected });
        for id in self.slots.find(|work| matches!(work, Work::Connect { .. })) {
            self.settle(id, Ok(None));
        }
    }

    /// The connection was lost: what was handed over may have run, and settles so.
    pub fn disconnected(&mut self) {
        if !self.link.connected {
            return;
        }
        self.link.connected = false;
        self.out.notices.push(Notice::Disconnected);
        // Their echoes came before the end, and every refusal before them.
        self.settle_proven();
        for id in self.slots.find(Work::is_handed_over) {
            match self.slots.get(id) {
                Some(Work::Barrier(_)) => self.barrier_lost(id),
                Some(work) => {
                    let text =
                        format!("{} was under way when the connection was lost", work.what());
                    self.settle(id, Err(Error::new(ErrorKind::Disconnected, text)));
                }
                None => {}
            }
        }
        let uncovered = std::mem::take(&mut self.uncovered);
        self.covers_lost(uncovered);
        self.advance_closing();
    }

    /// A try to connect failed. Told to the program once, until a connection is made.
    pub fn connect_failed(&mut self, error: Error) {
        for id in self.slots.find(|work| matches!(work, Work::Connect { .. })) {
            let Some(Work::Connect { tries_left, .. }) = self.slots.get_mut(id) else { continue };
            *tries_left = tries_left.saturating_sub(1);
            if *tries_left == 0 {
                self.settle(id, Err(error.clone()));
            }
        }
        if self.link.trouble.is_none() {
            self.out.notices.push(Notice::Failed(error.clone()));
        }
        self.link.trouble = Some(error);
    }

    /// The server refused a subject.
    pub fn denied(&mut self, denied: &Denied) {
        match denied {
            Denied::Publish(subject) => self.publish_denied(subject),
            Denied::Subscribe(subject) => self.subscribe_denied(subject),
        }
    }

    /// Completes, as `done`, when there is a connection, or with the reason after as many tries
    /// as `retries` allows.
    pub fn connect(&mut self, done: C) {
        if let Err(error) = self.check_open() {
            self.out.settled.push((done, Err(error)));
        } else if self.link.connected {
            self.out.settled.push((done, Ok(None)));
        } else {
            let tries_left = self.settings.retries + 1;
            self.slots.insert(Work::Connect { done, tries_left });
        }
    }

    /// Takes a message from the transport.
    pub fn receive(&mut self, now: Instant, message: Inbound) {
        match message.route {
            Route::Inbox => self.receive_reply(now, message),
            Route::Service => self.receive_call(now, message),
        }
    }

    /// Does what is due at `now`. To be called at the beginning of each turn, after the
    /// transport's events.
    pub fn tick(&mut self, now: Instant) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now, &mut fired);
        for index in fired.drain(..) {
            if let Some(id) = self.slots.id_at(index) {
                self.fire(now, id);
            }
        }
        self.fired = fired;
        self.tick_closing(now);
    }

    /// When [`Engine::tick`] should be called next at the latest.
    pub fn next_wake(&self) -> Option<Instant> {
        let closing = self.phase.deadline();
        match (self.wheel.next(), closing) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The next message to hand to the transport, which has to be connected and to take it.
    pub fn next_send(&mut self, now: Instant) -> Option<Outbound> {
        while let Some(pending) = self.queue.pop_front() {
            let message = match pending {
                Pending::Request(id) => self.hand_over_request(now, id),
                Pending::Publish(id) => self.hand_over_publish(id),
                Pending::Reply(message) => {
                    self.queued_replies -= 1;
                    Some(self.fit_reply(message))
                }
            };
            if message.is_some() {
                return message;
            }
        }
        self.advance_closing();
        self.next_barrier()
    }

    /// Queues a message. A call that settles while it waits leaves its place in the queue
    /// behind; such places are cleared before they outnumber what waits, or a long time without
    /// a connection would fill the memory.
    fn enqueue(&mut self, pending: Pending) {
        if self.queue.len() > 2 * (self.slots.len() + self.queued_replies) + 64 {
            let slots = &self.slots;
            self.queue.retain(|pending| match pending {
                Pending::Request(id) | Pending::Publish(id) => slots.get(*id).is_some(),
                Pending::Reply(_) => true,
            });
        }
        self.queue.push_back(pending);
    }

    fn check_open(&self) -> Result<()> {
        match self.phase {
            Phase::Open => Ok(()),
            _ => Err(Error::new(ErrorKind::Closed, "This Picom is closed: make a new one")),
        }
    }

    /// Settles a call: frees its slot, its timer and its key, and queues its completion.
    fn settle(&mut self, id: SlotId, result: Result<Payload>) {
        // A stale id is nobody's: the timer may be that of the slot's next user.
        let Some(work) = self.slots.remove(id) else { return };
        self.wheel.disarm(id.index);
        if let Some(key) = work.key() {
            self.by_key.remove(&key);
        }
        if let Some(done) = work.into_done() {
            self.out.settled.push((done, result));
        }
    }

    /// A number for jitter (xorshift: nothing depends on its quality).
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
