//! What a nats-server does, as far as an engine sees it.

use bytes::Bytes;

use crate::engine::{Denied, Subscription};

use crate::wire::message::{Headers, Inbound, Outbound, Route, Subject};

/// What a node sends to the server.
#[derive(Clone)]
pub(super) enum Op {
    Subscribe { route: Route, subject: Subject, queue: Option<String> },
    Unsubscribe(Route),
    Publish(Outbound),
}

impl Op {
    pub(super) fn of(subscription: Subscription) -> Op {
        match subscription {
            Subscription::Start { route, subject, queue } => {
                Op::Subscribe { route, subject, queue }
            }
            Subscription::Drain(route) => Op::Unsubscribe(route),
        }
    }
}

/// What the server sends to a node.
pub(super) enum Delivery {
    Message(Inbound),
    Denied(Denied),
}

struct Subscriber {
    node: usize,
    route: Route,
    subject: Subject,
    queue: Option<String>,
}

pub(super) struct Server {
    pub(super) max_payload: usize,
    /// Patterns that a node may not use.
    pub(super) denied: Vec<(usize, Denied)>,
    subscribers: Vec<Subscriber>,
    turn: usize,
}

impl Default for Server {
    fn default() -> Server {
        Server { max_payload: 1 << 20, denied: Vec::new(), subscribers: Vec::new(), turn: 0 }
    }
}

impl Server {
    pub(super) fn leave(&mut self, node: usize) {
        self.subscribers.retain(|subscriber| subscriber.node != node);
    }

    pub(super) fn process(&mut self, from: usize, op: Op) -> Vec<(usize, Delivery)> {
        match op {
            Op::Subscribe { route, subject, queue } => {
                let denied = self.denied.iter().any(|(node, denied)| {
                    *node == from
                        && matches!(denied, Denied::Subscribe(p) if matches(p, &subject) || **p == *subject)
                });
                if denied {
                    let denied = Denied::Subscribe(subject.to_string());
                    return vec![(from, Delivery::Denied(denied))];
                }
                self.subscribers.push(Subscriber { node: from, route, subject, queue });
                Vec::new()
            }
            Op::Unsubscribe(route) => {
                self.subscribers.retain(|s| s.node != from || s.route != route);
                Vec::new()
            }
            Op::Publish(message) => self.publish(from, &message),
        }
    }

    fn publish(&mut self, from: usize, message: &Outbound) -> Vec<(usize, Delivery)> {
        let size = message.headers.wire_len() + message.payload.len();
        assert!(size <= self.max_payload, "the server would close the connection");
        let denied = self.denied.iter().any(|(node, denied)| {
            *node == from && matches!(denied, Denied::Publish(p) if matches(p, &message.subject))
        });
        if denied {
            return vec![(from, Delivery::Denied(Denied::Publish(message.subject.to_string())))];
        }
        let mut reached: Vec<(usize, Delivery)> = Vec::new();
        let mut groups: Vec<(&str, Vec<&Subscriber>)> = Vec::new();
        for subscriber in &self.subscribers {
            if !matches(&subscriber.subject, &message.subject) {
                continue;
            }
            match &subscriber.queue {
                None => reached.push((subscriber.node, delivery(subscriber.route, message))),
                Some(queue) => match groups.iter_mut().find(|(name, _)| name == queue) {
                    Some((_, members)) => members.push(subscriber),
                    None => groups.push((queue, vec![subscriber])),
                },
            }
        }
        self.turn += 1;
        for (_, members) in groups {
            let chosen = members[self.turn % members.len()];
            reached.push((chosen.node, delivery(chosen.route, message)));
        }
        if let (true, Some(reply)) = (reached.is_empty(), &message.reply) {
            reached.push((from, Delivery::Message(no_responder(reply.clone()))));
        }
        reached
    }
}

fn delivery(route: Route, message: &Outbound) -> Delivery {
    Delivery::Message(Inbound {
        route,
        subject: message.subject.clone(),
        reply: message.reply.clone(),
        call: match &message.headers {
            Headers::Call(mark) => Some(mark.clone()),
            _ => None,
        },
        status: None,
        payload: message.payload.clone(),
    })
}

pub(super) fn no_responder(reply: Subject) -> Inbound {
    Inbound {
        route: Route::Inbox,
        subject: reply,
        reply: None,
        call: None,
        status: Some(503),
        payload: Bytes::new(),
    }
}

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
