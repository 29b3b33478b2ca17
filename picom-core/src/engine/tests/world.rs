//! Engines, a simulated server and a simulated clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::server::{Delivery, Op, Server};
use crate::engine::{
    CallId, Denied, Engine, IncomingCall, Notice, Outcome, Settings, Subscription,
};
use crate::error::Result;
use crate::wire::envelope::Payload;
use crate::wire::message::{Inbound, Outbound, Route};

/// How late a call may settle after its deadline (the contract, "Settlement").
pub(super) const LATE: Duration = Duration::from_millis(50);

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What a node's handlers do with a call.
#[derive(Clone, Copy)]
pub(super) enum Handlers {
    /// Keep it in `Node::calls`; the test replies.
    Hold,
    /// Echo its message after this time.
    Echo(Duration),
}

enum Event {
    Connected,
    Disconnected,
    Denied(Denied),
}

pub(super) struct Node {
    pub(super) engine: Engine<u32>,
    pub(super) handlers: Handlers,
    /// Every call that handlers were given.
    pub(super) calls: Vec<IncomingCall>,
    /// Every message that was handed over, and when.
    pub(super) sent: Vec<(Instant, Outbound)>,
    pub(super) notices: Vec<Notice>,
    /// False once it has closed or was lost.
    pub(super) alive: bool,
    /// The number of its connection, while there is one.
    connection: Option<u64>,
    messages: VecDeque<Inbound>,
    events: VecDeque<Event>,
    subscriptions: Vec<Subscription>,
}

/// How a call settled.
pub(super) struct Settled {
    pub(super) at: Instant,
    pub(super) result: Result<Payload>,
}

enum Packet {
    ToServer { node: usize, connection: u64, op: Op },
    ToNode { node: usize, connection: u64, delivery: Delivery },
    Finish { node: usize, call: CallId, body: Bytes },
}

pub(super) struct World {
    pub(super) base: Instant,
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node>,
    pub(super) server: Server,
    /// How long a packet takes, each way.
    pub(super) latency: Duration,
    /// Whether what a node sent just before it lost its connection still reaches the server.
    pub(super) last_words: bool,
    pub(super) settled: BTreeMap<u32, Settled>,
    flight: BTreeMap<(Instant, u64), Packet>,
    /// When the last packet of each connection arrives, each way: they keep their order.
    last: BTreeMap<(u64, bool), Instant>,
    sequence: u64,
    pub(super) next_id: u32,
}

pub(super) fn settings(service: &str, instance: &str) -> Settings {
    Settings {
        service: service.into(),
        instance: instance.into(),
        inbox_prefix: "_INBOX".into(),
        timeout: Some(ms(30_000)),
        retries: 3,
        close_timeout: ms(5_000),
        servers: "sim:1".into(),
    }
}

impl World {
    pub(super) fn new() -> World {
        let base = Instant::now();
        World {
            base,
            now: base,
            nodes: Vec::new(),
            server: Server::default(),
            latency: ms(1),
            last_words: false,
            settled: BTreeMap::new(),
            flight: BTreeMap::new(),
            last: BTreeMap::new(),
            sequence: 0,
            next_id: 0,
        }
    }

    /// A node that is not connected.
    pub(super) fn add(&mut self, settings: Settings) -> usize {
        let seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(self.nodes.len() as u64 + 1);
        self.nodes.push(Node {
            engine: Engine::new(settings, self.now, seed),
            handlers: Handlers::Echo(Duration::ZERO),
            calls: Vec::new(),
            sent: Vec::new(),
            notices: Vec::new(),
            alive: true,
            connection: None,
            messages: VecDeque::new(),
            events: VecDeque::new(),
            subscriptions: Vec::new(),
        });
        self.nodes.len() - 1
    }

    /// A connected caller.
    pub(super) fn caller(&mut self) -> usize {
        let node = self.add(settings("", &format!("c{}", self.nodes.len())));
        self.connect(node);
        node
    }

    /// A connected instance of `service` that has exposed `m`.
    pub(super) fn instance(&mut self, service: &str) -> usize {
        let node = self.add(settings(service, &format!("s{}", self.nodes.len())));
        self.connect(node);
        let exposed = self.expose(node, &["m"]);
        self.run(ms(20));
        self.ok(exposed);
        node
    }

    pub(super) fn is_connected(&self, node: usize) -> bool {
        self.nodes[node].connection.is_some()
    }

    pub(super) fn connect(&mut self, node: usize) {
        if !self.nodes[node].alive || self.is_connected(node) {
            return;
        }
        self.sequence += 1;
        self.nodes[node].connection = Some(self.sequence);
        for subscription in self.nodes[node].subscriptions.clone() {
            self.send_op(node, Op::of(subscription));
        }
        self.nodes[node].events.push_back(Event::Connected);
        self.turn(node);
    }

    /// Loses the connection of a node, with everything that is on its way to it.
    pub(super) fn disconnect(&mut self, node: usize) {
        let Some(connection) = self.nodes[node].connection.take() else { return };
        if self.last_words {
            self.deliver_last_words(connection);
        }
        self.server.leave(node);
        self.nodes[node].events.push_back(Event::Disconnected);
        self.turn(node);
    }

    fn deliver_last_words(&mut self, lost: u64) {
        let flight = std::mem::take(&mut self.flight);
        for (key, packet) in flight {
            match packet {
                Packet::ToServer { node, connection, op } if connection == lost => {
                    self.at_server(node, op);
                }
                other => {
                    self.flight.insert(key, other);
                }
            }
        }
    }

    /// A node that ends without a word.
    pub(super) fn lose(&mut self, node: usize) {
        self.nodes[node].connection = None;
        self.nodes[node].alive = false;
        self.server.leave(node);
    }

    /// A message to a node without a detour over the server.
    pub(super) fn inject(&mut self, node: usize, message: Inbound) {
        self.nodes[node].messages.push_back(message);
        self.turn(node);
    }

    /// Sends something raw in a node's name, as a client of another make would.
    pub(super) fn raw(&mut self, node: usize, subject: &str, reply: Option<&str>, body: &[u8]) {
        let message = Outbound {
            subject: subject.into(),
            reply: reply.map(Into::into),
            headers: Default::default(),
            payload: Bytes::copy_from_slice(body),
        };
        self.send_op(node, Op::Publish(message));
    }

    /// Lets time pass, from event to event.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns_now = 0;
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            turns_now = if next > self.now { 0 } else { turns_now + 1 };
            assert!(turns_now < 100_000, "an engine wants to be woken again and again");
            self.now = self.now.max(next);
            while let Some(entry) = self.flight.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let packet = entry.remove();
                self.arrive(packet);
            }
            for node in 0..self.nodes.len() {
                let due = self.nodes[node].engine.next_wake().is_some_and(|at| at <= self.now);
                if due || !self.nodes[node].messages.is_empty() {
                    self.turn(node);
                }
            }
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<Instant> {
        let packet = self.flight.first_key_value().map(|((at, _), _)| *at);
        let alive = self.nodes.iter().filter(|node| node.alive);
        alive.filter_map(|node| node.engine.next_wake()).chain(packet).min()
    }

    fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::ToServer { node, connection, op } => {
                if self.nodes[node].connection == Some(connection) {
                    self.at_server(node, op);
                }
            }
            Packet::ToNode { node, connection, delivery } => {
                let place = &mut self.nodes[node];
                if place.connection == Some(connection) {
                    match delivery {
                        Delivery::Message(message) => place.messages.push_back(message),
                        Delivery::Denied(denied) => place.events.push_back(Event::Denied(denied)),
                    }
                    self.turn(node);
                }
            }
            Packet::Finish { node, call, body } => {
                if self.nodes[node].alive {
                    let body = Some(body).filter(|body| !body.is_empty());
                    self.nodes[node].engine.reply(call, Outcome::Returned(body));
                    self.turn(node);
                }
            }
        }
    }

    fn at_server(&mut self, from: usize, op: Op) {
        for (node, delivery) in self.server.process(from, op) {
            if let Some(connection) = self.nodes[node].connection {
                self.post((connection, true), Packet::ToNode { node, connection, delivery });
            }
        }
    }

    fn send_op(&mut self, node: usize, op: Op) {
        if let Some(connection) = self.nodes[node].connection {
            self.post((connection, false), Packet::ToServer { node, connection, op });
        }
    }

    fn post(&mut self, way: (u64, bool), packet: Packet) {
        let at = (self.now + self.latency).max(self.last.get(&way).copied().unwrap_or(self.base));
        self.last.insert(way, at);
        self.sequence += 1;
        self.flight.insert((at, self.sequence), packet);
    }

    /// What the driver does in one turn, until it need not come again at once.
    pub(super) fn turn(&mut self, n: usize) {
        if self.nodes[n].alive {
            let now = self.now;
            let node = &mut self.nodes[n];
            for message in node.messages.drain(..) {
                node.engine.receive(now, message);
            }
            for event in node.events.drain(..) {
                match event {
                    Event::Connected => node.engine.connected(self.server.max_payload),
                    Event::Disconnected => node.engine.disconnected(),
                    Event::Denied(denied) => node.engine.denied(&denied),
                }
            }
            node.engine.settle_proven();
            node.engine.tick(now);
            self.send(n);
            self.deliver(n);
        }
    }

    fn send(&mut self, n: usize) {
        while let Some(wish) = self.nodes[n].engine.out.subscriptions.pop_front() {
            let wishes = &mut self.nodes[n].subscriptions;
            match &wish {
                Subscription::Start { .. } => wishes.push(wish.clone()),
                Subscription::Drain(route) => wishes.retain(|other| route_of(other) != *route),
            }
            self.send_op(n, Op::of(wish));
        }
        while self.is_connected(n) {
            let Some(message) = self.nodes[n].engine.next_send(self.now) else { break };
            self.nodes[n].sent.push((self.now, message.clone()));
            self.send_op(n, Op::Publish(message));
        }
    }

    fn deliver(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        for (id, result) in node.engine.out.settled.drain(..) {
            let again = self.settled.insert(id, Settled { at: now, result });
            assert!(again.is_none(), "call {id} settled twice");
        }
        node.notices.append(&mut node.engine.out.notices);
        let calls: Vec<IncomingCall> = node.engine.out.incoming.drain(..).collect();
        let handlers = node.handlers;
        let closed = node.engine.out.closed;
        for call in calls {
            if let Handlers::Echo(time) = handlers {
                self.sequence += 1;
                let packet = Packet::Finish { node: n, call: call.id, body: call.body.clone() };
                self.flight.insert((now + time, self.sequence), packet);
            }
            self.nodes[n].calls.push(call);
        }
        if closed {
            self.lose(n);
        }
    }
}

fn route_of(subscription: &Subscription) -> Route {
    match subscription {
        Subscription::Start { route, .. } | Subscription::Drain(route) => *route,
    }
}
