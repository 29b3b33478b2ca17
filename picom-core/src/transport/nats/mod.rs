//! Over a nats-server, by async-nats: plain publish and subscribe on one connection.

mod connect;
mod permission;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::HeaderName;
use async_nats::message::OutboundMessage;
use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::task::AtomicWaker;
use futures_util::{SinkExt, StreamExt};

use super::{Event, Transport};
use crate::engine::Subscription;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::wire::call_mark::{CallMark, CALL_HEADER};
use crate::wire::message::{Headers, Inbound, Outbound, Route};

pub(crate) use connect::shown_servers;

/// A count of messages after which to unsubscribe that is longer than a nats-server reads, so
/// that the server takes it for none and unsubscribes at once, while async-nats goes on handing
/// over what is on its way. `Subscriber::drain` would drop what arrives between the moment it
/// sends the UNSUB and the moment the server has read it.
const NEVER: u64 = u64::MAX;

/// What async-nats tells through its callback, kept for the driver's next turn.
#[derive(Default)]
struct Events {
    queue: Mutex<VecDeque<async_nats::Event>>,
    waker: AtomicWaker,
}

impl Events {
    fn push(&self, event: async_nats::Event) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.waker.wake();
    }

    fn pop(&self) -> Option<async_nats::Event> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Client>> + Send>>;
type Operation = Pin<Box<dyn Future<Output = (Route, Option<Subscriber>)> + Send>>;

/// A connection to a nats-server that is made again when it is lost.
pub struct NatsTransport {
    options: Arc<Options>,
    name: String,
    events: Arc<Events>,
    attempts: usize,
    connecting: Option<Connecting>,
    client: Option<Client>,
    /// Whether the driver was told of a connection, and which one: async-nats counts them. Its
    /// events may be lost, and a connection may be lost and made again between two turns.
    announced: bool,
    connection: u64,
    waiting: VecDeque<Subscription>,
    operation: Option<Operation>,
    inbox: Option<Subscriber>,
    service: Option<Subscriber>,
}

impl NatsTransport {
    /// Begins to connect when it is first polled. `name` is what the server lists the
    /// connection under.
    pub fn new(options: Arc<Options>, name: String) -> NatsTransport {
        NatsTransport {
            options,
            name,
            events: Arc::default(),
            attempts: 0,
            connecting: None,
            client: None,
            announced: false,
            connection: 0,
            waiting: VecDeque::new(),
            operation: None,
            inbox: None,
            service: None,
        }
    }

    fn poll_connecting(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let connecting = self.connecting.get_or_insert_with(|| {
            let delay = match self.attempts {
                0 => Duration::ZERO,
                attempts => connect::reconnect_delay(attempts + 1),
            };
            let (options, name) = (self.options.clone(), self.name.clone());
            Box::pin(connect::connect(options, name, self.events.clone(), delay))
        });
        let result = ready!(connecting.as_mut().poll(cx));
        self.connecting = None;
        match result {
            Ok(client) => {
                self.client = Some(client);
                self.poll_event(cx)
            }
            Err(error) => {
                self.attempts += 1;
                cx.waker().wake_by_ref();
                Poll::Ready(Event::ConnectFailed(error))
            }
        }
    }

    fn translate(&self, event: async_nats::Event) -> Option<Event> {
        match event {
            async_nats::Event::ServerError(error) => {
                let text = match error {
                    async_nats::ServerError::Other(text) => text,
                    other => other.to_string(),
                };
                match permission::parse(&text) {
                    Some(denied) => Some(Event::Denied(denied)),
                    None => {
                        tracing::warn!(error = text, "the server reported an error");
                        None
                    }
                }
            }
            async_nats::Event::SlowConsumer(_) => Some(Event::Trouble(Error::new(
                ErrorKind::Busy,
                "Messages were dropped: they came faster than this process takes them",
            ))),
            async_nats::Event::ClientError(error) => {
                let text = format!("Cannot connect to {}: {error}", shown_servers(&self.options));
                Some(Event::ConnectFailed(Error::new(ErrorKind::ConnectFailed, text)))
            }
            _ => None,
        }
    }

    /// Compares what the driver knows with what is.
    fn check_connection(&mut self) -> Option<Event> {
        let client = self.client.as_ref()?;
        let connected = client.connection_state() == State::Connected;
        let connection = client.statistics().connects.load(Ordering::Relaxed);
        if self.announced && (!connected || connection != self.connection) {
            self.announced = false;
            return Some(Event::Disconnected);
        }
        if !self.announced && connected {
            self.announced = true;
            self.connection = connection;
            return Some(Event::Connected { max_payload: client.max_payload() });
        }
        None
    }

    /// Subscribes and drains what was asked for, in order.
    fn poll_operations(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(operation) = &mut self.operation {
                let (route, subscriber) = ready!(operation.as_mut().poll(cx));
                self.operation = None;
                *self.subscriber(route) = subscriber;
                // Messages that came while it was away woke the driver in vain.
                cx.waker().wake_by_ref();
            }
            let Some(client) = &self.client else { return Poll::Pending };
            let client = client.clone();
            match self.waiting.pop_front() {
                None => return Poll::Ready(()),
                Some(Subscription::Start { route, subject, queue }) => {
                    self.operation = Some(Box::pin(async move {
                        let started = match queue {
                            Some(queue) => client.queue_subscribe(subject, queue).await,
                            None => client.subscribe(subject).await,
                        };
                        if let Err(error) = &started {
                            tracing::error!(%error, "cannot subscribe");
                        }
                        (route, started.ok())
                    }));
                }
                Some(Subscription::Drain(route)) => {
                    if let Some(mut subscriber) = self.subscriber(route).take() {
                        self.operation = Some(Box::pin(async move {
                            let left = subscriber.unsubscribe_after(NEVER).await;
                            (route, left.is_ok().then_some(subscriber))
                        }));
                    }
                }
            }
        }
    }

    fn subscriber(&mut self, route: Route) -> &mut Option<Subscriber> {
        match route {
            Route::Inbox => &mut self.inbox,
            Route::Service => &mut self.service,
        }
    }
}

impl Transport for NatsTransport {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.client.is_none() {
            return self.poll_connecting(cx);
        }
        self.events.waker.register(cx.waker());
        if let Some(event) = self.check_connection() {
            return Poll::Ready(event);
        }
        while let Some(event) = self.events.pop() {
            if let Some(event) = self.translate(event) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        for route in [Route::Inbox, Route::Service] {
            let place = self.subscriber(route);
            if let Some(subscriber) = place {
                match subscriber.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => return Poll::Ready(inbound(route, message)),
                    Poll::Ready(None) => *place = None,
                    Poll::Pending => {}
                }
            }
        }
        Poll::Pending
    }

    fn subscribe(&mut self, subscription: Subscription) {
        self.waiting.push_back(subscription);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_operations(cx));
        match &mut self.client {
            // What is handed over while disconnected might leave much later.
            Some(client) if self.announced => match ready!(client.poll_ready_unpin(cx)) {
                Ok(()) => Poll::Ready(()),
                Err(_) => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }

    fn send(&mut self, message: Outbound) {
        let Some(client) = &mut self.client else { return };
        let sent = client.start_send_unpin(OutboundMessage {
            subject: message.subject,
            reply: message.reply,
            payload: message.payload,
            headers: header_map(&message.headers),
        });
        if let Err(error) = sent {
            // The engine checks sizes; the limit may have changed since it was told.
            tracing::error!(%error, "async-nats refused a message");
        }
    }
}

fn header_map(headers: &Headers) -> Option<HeaderMap> {
    if *headers == Headers::None {
        return None;
    }
    let mut map = HeaderMap::new();
    headers.for_each(|name, value| map.insert(HeaderName::from_static(name), value));
    Some(map)
}

fn inbound(route: Route, message: Message) -> Inbound {
    let call = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(HeaderName::from_static(CALL_HEADER)))
        .and_then(|value| CallMark::parse(value.as_str()));
    Inbound {
        route,
        subject: message.subject,
        reply: message.reply,
        call,
        status: message.status.map(|status| status.as_u16()),
        payload: message.payload,
    }
}
