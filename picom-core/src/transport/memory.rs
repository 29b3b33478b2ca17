//! `memory://name`: a bus inside this process, for tests and for programs of one process.
//!
//! It has what picom uses of a nats-server: subjects with wildcards, queue groups, and the
//! status that says that nobody serves a subject. A bus lives as long as something is on it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use once_cell::sync::Lazy;

use super::{Event, Transport};
use crate::engine::Subscription;
use crate::process;
use crate::wire::message::{Headers, Inbound, Outbound, Route, Subject, NO_RESPONDER};

/// As a nats-server's default.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// By process as well as by name: a forked child has none of its parent's participants.
static BUSES: Lazy<Mutex<Buses>> = Lazy::new(Mutex::default);

type Buses = HashMap<(u64, String), Weak<Bus>>;

#[derive(Default)]
struct Bus {
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    list: Vec<Subscriber>,
    /// Whose turn it is in each queue group. One count for all would let what happens between
    /// two calls, such as their replies, decide who gets them.
    turns: HashMap<String, usize>,
}

struct Subscriber {
    subject: Subject,
    queue: Option<String>,
    route: Route,
    mailbox: Arc<Mailbox>,
}

#[derive(Default)]
struct Mailbox {
    messages: Mutex<VecDeque<Inbound>>,
    waker: AtomicWaker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A participant on a bus.
pub struct MemoryTransport {
    bus: Arc<Bus>,
    mailbox: Arc<Mailbox>,
    announced: bool,
}

impl MemoryTransport {
    /// Joins the bus of this name, which comes into being with its first participant.
    pub fn join(name: &str) -> MemoryTransport {
        let mut buses = lock(&BUSES);
        buses.retain(|_, bus| bus.strong_count() > 0);
        let key = (process::generation(), name.to_owned());
        let bus = buses.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let bus = Arc::new(Bus::default());
            buses.insert(key, Arc::downgrade(&bus));
            bus
        });
        MemoryTransport { bus, mailbox: Arc::default(), announced: false }
    }

    fn leave(&self, mut which: impl FnMut(&Subscriber) -> bool) {
        let mut subscribers = lock(&self.bus.subscribers);
        subscribers.list.retain(|s| !(Arc::ptr_eq(&s.mailbox, &self.mailbox) && which(s)));
    }
}

impl Transport for MemoryTransport {
    fn poll_event(&mut self, _cx: &mut Context<'_>) -> Poll<Event> {
        if std::mem::replace(&mut self.announced, true) {
            return Poll::Pending;
        }
        Poll::Ready(Event::Connected { max_payload: MAX_PAYLOAD })
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        self.mailbox.waker.register(cx.waker());
        match lock(&self.mailbox.messages).pop_front() {
            Some(message) => Poll::Ready(message),
            None => Poll::Pending,
        }
    }

    fn subscribe(&mut self, subscription: Subscription) {
        match subscription {
            Subscription::Start { route, subject, queue } => {
                let mailbox = self.mailbox.clone();
                let subscriber = Subscriber { subject, queue, route, mailbox };
                lock(&self.bus.subscribers).list.push(subscriber);
            }
            Subscription::Drain(route) => self.leave(|subscriber| subscriber.route == route),
        }
    }

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn send(&mut self, message: Outbound) {
        let mut subscribers = lock(&self.bus.subscribers);
        if subscribers.deliver(&message) == 0 {
            if let Some(reply) = message.reply {
                subscribers.deliver_status(reply);
            }
        }
    }

    /// Each message is delivered when it is handed over.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) {}
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.leave(|_| true);
    }
}

impl Subscribers {
    /// To every plain subscriber and to one of each queue group. Returns to how many.
    fn deliver(&mut self, message: &Outbound) -> usize {
        let mut groups: HashMap<&str, Vec<&Subscriber>> = HashMap::new();
        let mut chosen: Vec<&Subscriber> = Vec::new();
        for subscriber in &self.list {
            if matches(&subscriber.subject, &message.subject) {
                match &subscriber.queue {
                    None => chosen.push(subscriber),
                    Some(queue) => groups.entry(queue).or_default().push(subscriber),
                }
            }
        }
        for (queue, members) in &groups {
            if !self.turns.contains_key(*queue) {
                self.turns.insert((*queue).to_owned(), 0);
            }
            if let Some(turn) = self.turns.get_mut(*queue) {
                *turn = turn.wrapping_add(1);
                chosen.push(members[*turn % members.len()]);
            }
        }
        for subscriber in &chosen {
            subscriber.mailbox.put(Inbound {
                route: subscriber.route,
                subject: message.subject.clone(),
                reply: message.reply.clone(),
                call: match &message.headers {
                    Headers::Call(mark) => Some(mark.clone()),
                    _ => None,
                },
                status: None,
                payload: message.payload.clone(),
            });
        }
        chosen.len()
    }

    fn deliver_status(&self, reply: Subject) {
        for subscriber in self.list.iter().filter(|s| matches(&s.subject, &reply)) {
            subscriber.mailbox.put(Inbound {
                route: subscriber.route,
                subject: reply.clone(),
                reply: None,
                call: None,
                status: Some(NO_RESPONDER),
                payload: Bytes::new(),
            });
        }
    }
}

impl Mailbox {
    fn put(&self, message: Inbound) {
        lock(&self.messages).push_back(message);
        self.waker.wake();
    }
}

/// Whether a subscription to `pattern` gets what is sent to `subject`.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn subscribed(bus: &str, subject: &'static str, queue: Option<&str>) -> MemoryTransport {
        let mut transport = MemoryTransport::join(bus);
        transport.subscribe(Subscription::Start {
            route: Route::Service,
            subject: Subject::from_static(subject),
            queue: queue.map(Into::into),
        });
        transport
    }

    fn send(from: &mut MemoryTransport, subject: &'static str, reply: Option<&'static str>) {
        from.send(Outbound {
            subject: Subject::from_static(subject),
            reply: reply.map(Subject::from_static),
            headers: Headers::None,
            payload: Bytes::new(),
        });
    }

    fn received(transport: &mut MemoryTransport) -> Vec<Inbound> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut messages = Vec::new();
        while let Poll::Ready(message) = transport.poll_message(&mut cx) {
            messages.push(message);
        }
        messages
    }

    #[test]
    fn wildcards_match_as_on_a_server() {
        assert!(matches("a.>", "a.b") && matches("a.>", "a.b.c") && !matches("a.>", "a"));
        assert!(matches("a.*", "a.b") && !matches("a.*", "a.b.c") && !matches("a.*", "a"));
        assert!(matches("a.b", "a.b") && !matches("a.b", "a.c") && !matches("a.b", "a.b.c"));
    }

    #[test]
    fn a_queue_group_shares_and_plain_subscribers_all_get_a_copy() {
        let mut one = subscribed("share", "s.>", Some("s"));
        let mut two = subscribed("share", "s.>", Some("s"));
        let mut plain = subscribed("share", "s.*", None);
        for _ in 0..10 {
            send(&mut plain, "s.m", None);
        }
        assert_eq!((received(&mut one).len(), received(&mut two).len()), (5, 5));
        assert_eq!(received(&mut plain).len(), 10);
    }

    #[test]
    fn who_asks_where_nobody_is_gets_the_status() {
        let mut alone = subscribed("status", "inbox.*", None);
        send(&mut alone, "nobody.home", Some("inbox.1"));
        let messages = received(&mut alone);
        assert!(messages.len() == 1 && messages[0].status == Some(NO_RESPONDER));
    }

    #[test]
    fn buses_are_apart_and_a_participant_that_is_dropped_is_gone() {
        let mut here = subscribed("here", "s.>", None);
        let mut there = subscribed("there", "s.>", None);
        send(&mut there, "s.m", None);
        assert_eq!(received(&mut here).len(), 0);
        drop(there);
        let mut again = subscribed("there", "inbox.*", None);
        send(&mut again, "s.m", Some("inbox.1"));
        assert_eq!(received(&mut again)[0].status, Some(NO_RESPONDER));
    }
}
