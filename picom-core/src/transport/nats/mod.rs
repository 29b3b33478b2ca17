//! Over a nats-server: plain publish and subscribe on one connection, which is made again when
//! it is lost.
//!
//! The NATS client protocol is written and read here, and not by a client library: a library's
//! queue between its caller and its socket, its header maps and its text for each subject cost
//! more than everything else that a call needs (bench/README.md has the figures), and it ends the
//! connection when another client's message is not to its taste.

mod auth;
mod connect;
mod connection;
mod parse;
mod permission;
mod trouble;
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
use connection::Connection;
use parse::{Frame, Op};

pub(crate) use connect::shown_servers;

/// The head of a request from here on is copied in parts instead of as a whole.
const LONG_HEAD: usize = 512;
/// A server's `max_control_line` is 4,096 bytes by default.
const LONGEST_REPLY: usize = 2048;

type Round = Pin<Box<dyn Future<Output = (Connector, Result<(Connection, ServerInfo)>)> + Send>>;

/// A connection to a nats-server that is made again when it is lost.
pub struct NatsTransport {
    /// Away while it connects.
    connector: Option<Connector>,
    connecting: Option<Round>,
    connection: Option<Connection>,
    subscriptions: Vec<Active>,
    events: VecDeque<Event>,
    /// The program was told of an error of this connection's server.
    complained: bool,
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
            connection: None,
            subscriptions: Vec::new(),
            events: VecDeque::new(),
            complained: false,
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
            Ok((mut connection, info)) => {
                for active in &self.subscriptions {
                    connection.subscribe(
                        sid(active.route),
                        &active.subject,
                        active.queue.as_deref(),
                    );
                }
                self.connection = Some(connection);
                self.complained = false;
                Poll::Ready(Event::Connected { max_payload: info.max_payload() })
            }
            Err(error) => Poll::Ready(Event::ConnectFailed(error)),
        }
    }

    /// The connection is gone: the driver is told, and another one is made.
    fn lose(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        tracing::warn!(%error, "the connection to the server was lost");
        self.connection = None;
        self.subscriptions.retain(|active| !active.leaving);
        self.events.push_back(Event::Disconnected);
        cx.waker().wake_by_ref();
    }

    fn take_op(&mut self, op: Op) -> Option<Inbound> {
        match op {
            Op::Message(frame) => {
                return [Route::Inbox, Route::Service]
                    .into_iter()
                    .find(|route| sid(*route) == frame.sid)
                    .map(|route| inbound(route, &frame));
            }
            Op::Ping => self.connection.iter_mut().for_each(Connection::pong),
            Op::Info(json) => match connect::parse_info(&json) {
                Ok(info) => self.connector.iter_mut().for_each(|known| known.discover(&info)),
                Err(error) => tracing::warn!(%error, "the server's INFO cannot be read"),
            },
            Op::Error(text) => match permission::parse(&text) {
                Some(denied) => self.events.push_back(Event::Denied(denied)),
                // The server closes the connection after most of these.
                None => {
                    tracing::warn!(error = text, "the server reported an error");
                    if !std::mem::replace(&mut self.complained, true) {
                        let text = format!("The server reported an error: {text}");
                        let error = Error::new(ErrorKind::Disconnected, text);
                        self.events.push_back(Event::Trouble(error));
                    }
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
        if let Some(connection) = &mut self.connection {
            if let Err(error) = connection.poll_alarm(cx) {
                self.lose(cx, &error);
            }
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        match self.connection {
            Some(_) => Poll::Pending,
            None => self.poll_connecting(cx),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Pending };
            match ready!(connection.poll_op(cx)) {
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
                if let Some(connection) = &mut self.connection {
                    connection.subscribe(sid(route), &subject, queue.as_deref());
                }
                self.subscriptions.push(Active { route, subject, queue, leaving: false });
            }
            Subscription::Drain(route) => match &mut self.connection {
                Some(connection) => {
                    connection.unsubscribe(sid(route));
                    let ours = self.subscriptions.iter_mut().filter(|a| a.route == route);
                    ours.for_each(|active| active.leaving = true);
                }
                None => self.subscriptions.retain(|active| active.route != route),
            },
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is handed over while disconnected might leave much later.
        let Some(connection) = &mut self.connection else { return Poll::Pending };
        connection.poll_room(cx)
    }

    fn send(&mut self, message: Outbound) {
        if let Some(connection) = &mut self.connection {
            connection.publish(message);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection {
            // What cannot be written now wakes the driver when it can be.
            let _ = connection.poll_write(cx);
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
    let subject = frame.bytes.slice(frame.subject.clone());
    Inbound {
        route,
        // Subjects are UTF-8, and a server does not see to that: others name nothing of ours.
        subject: Subject::try_from(subject.clone())
            .unwrap_or_else(|_| String::from_utf8_lossy(&subject).into_owned().into()),
        reply: reply.and_then(reply_subject),
        call: call.and_then(|value| CallMark::parse(&Subject::try_from(value).ok()?)),
        status,
        payload: frame.bytes.slice(frame.payload.clone()),
    }
}

/// Where a reply can go. A subject that is not UTF-8, or that makes the line which carries it longer
/// than servers take, would cost the connection and not only this call.
fn reply_subject(bytes: Bytes) -> Option<Subject> {
    let reply = (bytes.len() <= LONGEST_REPLY).then(|| Subject::try_from(bytes).ok()).flatten();
    if reply.is_none() {
        tracing::debug!("a call has a reply subject that nothing can be sent to");
    }
    reply
}
