//! Over a nats-server: plain publish and subscribe on one connection, which is made again when
//! it is lost.
//!
//! The NATS client protocol is written and read here, and not by a client library: a library's
//! queue between its caller and its socket, its header maps and its text for each subject cost
//! more than everything else that a call needs (bench/README.md has the figures), and it ends the
//! connection when another client's message is not to its taste.

mod auth;
mod connect;
mod link;
mod parse;
mod permission;
mod websocket;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;

use super::{Event, Transport};
use crate::engine::Subscription;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::wire::call_mark::{CallMark, CALL_HEADER};
use crate::wire::message::{Inbound, Outbound, Route, Subject};
use connect::{Connector, ServerInfo};
use link::Link;
use parse::{Frame, Op};

pub(crate) use connect::shown_servers;

/// The head of a request from here on is copied in parts instead of as a whole.
const LONG_HEAD: usize = 512;

type Round = Pin<Box<dyn Future<Output = (Connector, Result<(Link, ServerInfo)>)> + Send>>;

/// A connection to a nats-server that is made again when it is lost.
pub struct NatsTransport {
    /// Away while it connects.
    connector: Option<Connector>,
    connecting: Option<Round>,
    link: Option<Link>,
    subscriptions: Vec<Active>,
    events: VecDeque<Event>,
}

struct Active {
    route: Route,
    subject: Subject,
    queue: Option<String>,
    /// The server was told to send no more; what is on its way still counts.
    leaving: bool,
}

impl NatsTransport {
    /// Begins to connect when it is first polled. `name` is what the server lists the
    /// connection under.
    pub fn new(options: Arc<Options>, name: String) -> NatsTransport {
        NatsTransport {
            connector: Some(Connector::new(options, name)),
            connecting: None,
            link: None,
            subscriptions: Vec::new(),
            events: VecDeque::new(),
        }
    }

    fn poll_connecting(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(mut connector) = self.connector.take() {
            self.connecting = Some(Box::pin(async move {
                let connected = connector.round().await;
                (connector, connected)
            }));
        }
        let Some(connecting) = &mut self.connecting else { return Poll::Pending };
        let (connector, connected) = ready!(connecting.as_mut().poll(cx));
        self.connecting = None;
        self.connector = Some(connector);
        // The driver asks again, for what follows.
        cx.waker().wake_by_ref();
        match connected {
            Ok((mut link, info)) => {
                for active in &self.subscriptions {
                    link.subscribe(sid(active.route), &active.subject, active.queue.as_deref());
                }
                self.link = Some(link);
                Poll::Ready(Event::Connected { max_payload: info.max_payload })
            }
            Err(error) => Poll::Ready(Event::ConnectFailed(error)),
        }
    }

    /// The connection is gone: the driver is told, and another one is made.
    fn lose(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        tracing::warn!(%error, "the connection to the server was lost");
        self.link = None;
        self.subscriptions.retain(|active| !active.leaving);
        self.events.push_back(Event::Disconnected);
        cx.waker().wake_by_ref();
    }

    fn take_op(&mut self, op: Op) -> Option<Inbound> {
        match op {
            Op::Message(frame) => {
                // A number that is none of ours is of an earlier subscription.
                return [Route::Inbox, Route::Service]
                    .into_iter()
                    .find(|route| sid(*route) == frame.sid)
                    .map(|route| inbound(route, &frame));
            }
            Op::Ping => self.link.iter_mut().for_each(Link::pong),
            Op::Info(json) => match connect::parse_info(&json) {
                Ok(info) => self.connector.iter_mut().for_each(|known| known.discover(&info)),
                Err(error) => tracing::warn!(%error, "the server's INFO cannot be read"),
            },
            Op::Error(text) => match permission::parse(&text) {
                Some(denied) => self.events.push_back(Event::Denied(denied)),
                // The server closes the connection after most of these.
                None => {
                    let text = format!("The server reported an error: {text}");
                    let error = Error::new(ErrorKind::Disconnected, text);
                    self.events.push_back(Event::Trouble(error));
                }
            },
            Op::Pong | Op::Ok => {}
        }
        None
    }
}

/// The number of a route's subscription: it has one at most.
fn sid(route: Route) -> u64 {
    match route {
        Route::Inbox => 1,
        Route::Service => 2,
    }
}

impl Transport for NatsTransport {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(link) = &mut self.link {
            if let Err(error) = link.poll_alarm(cx) {
                self.lose(cx, &error);
            }
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        match self.link {
            Some(_) => Poll::Pending,
            None => self.poll_connecting(cx),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        loop {
            let Some(link) = &mut self.link else { return Poll::Pending };
            match ready!(link.poll_op(cx)) {
                Ok(op) => {
                    if let Some(message) = self.take_op(op) {
                        return Poll::Ready(message);
                    }
                }
                Err(error) => {
                    self.lose(cx, &error);
                    return Poll::Pending;
                }
            }
        }
    }

    fn subscribe(&mut self, subscription: Subscription) {
        match subscription {
            Subscription::Start { route, subject, queue } => {
                if let Some(link) = &mut self.link {
                    link.subscribe(sid(route), &subject, queue.as_deref());
                }
                self.subscriptions.push(Active { route, subject, queue, leaving: false });
            }
            Subscription::Drain(route) => match &mut self.link {
                Some(link) => {
                    link.unsubscribe(sid(route));
                    let ours = self.subscriptions.iter_mut().filter(|a| a.route == route);
                    ours.for_each(|active| active.leaving = true);
                }
                None => self.subscriptions.retain(|active| active.route != route),
            },
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is handed over while disconnected might leave much later.
        let Some(link) = &mut self.link else { return Poll::Pending };
        match ready!(link.poll_room(cx)) {
            Ok(()) => Poll::Ready(()),
            Err(error) => {
                self.lose(cx, &error);
                Poll::Pending
            }
        }
    }

    fn send(&mut self, message: Outbound) {
        if let Some(link) = &mut self.link {
            link.publish(message);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) {
        if let Some(link) = &mut self.link {
            if let Poll::Ready(Err(error)) = link.poll_write(cx) {
                self.lose(cx, &error);
            }
        }
    }
}

fn inbound(route: Route, frame: &Frame) -> Inbound {
    let (status, value) = parse::head(&frame.bytes[frame.head.clone()], CALL_HEADER);
    let value = value.map(|value| value.start + frame.head.start..value.end + frame.head.start);
    // These outlive the turn for as long as the handler works: a slice would keep all that was
    // read with it. They stand side by side, and one copy holds both.
    let (reply, call) = match (&frame.reply, value) {
        (Some(reply), Some(value)) if value.end - reply.start < LONG_HEAD => {
            let both = Bytes::copy_from_slice(&frame.bytes[reply.start..value.end]);
            let value = both.slice(value.start - reply.start..);
            (Some(both.slice(..reply.len())), Some(value))
        }
        (reply, value) => {
            let copy = |range: std::ops::Range<usize>| Bytes::copy_from_slice(&frame.bytes[range]);
            (reply.clone().map(copy), value.map(copy))
        }
    };
    Inbound {
        route,
        subject: text(frame.bytes.slice(frame.subject.clone())),
        reply: reply.map(text),
        call: call.and_then(|value| CallMark::parse(&text(value))),
        status,
        payload: frame.bytes.slice(frame.payload.clone()),
    }
}

/// Subjects are UTF-8, and a server does not see to that: others name nothing that we have.
fn text(bytes: Bytes) -> Subject {
    Subject::try_from(bytes.clone())
        .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
}
