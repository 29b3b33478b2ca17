//! What moves bytes.

pub mod memory;
pub mod nats;

use std::task::{Context, Poll};

use crate::engine::{Denied, Subscription};
use crate::error::Error;
use crate::wire::message::{Inbound, Outbound};

/// What a transport says beside the messages.
#[derive(Debug)]
pub enum Event {
    /// There is a connection, to a server that takes messages of up to so many bytes.
    Connected {
        /// The limit, headers included.
        max_payload: usize,
    },
    /// The connection was lost; the transport tries to make another.
    Disconnected,
    /// A try to connect failed; the transport goes on trying.
    ConnectFailed(Error),
    /// The server refused a subject.
    Denied(Denied),
    /// The server reported an error that no call can report.
    Trouble(Error),
}

/// What a driver turns an engine over. All calls come from one task; a `Pending` promises a
/// wake of the task when it is worth asking again. Dropping it disconnects.
pub trait Transport: Send {
    /// What happened, in order.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event>;

    /// The next message.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Inbound>;

    /// Starts or drains a subscription, before whatever is sent after this.
    fn subscribe(&mut self, subscription: Subscription);

    /// Whether [`Transport::send`] may be called: there is a connection, and room.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Hands a message over, once after each [`Transport::poll_ready`] that was ready.
    fn send(&mut self, message: Outbound);

    /// Sends what was handed over on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>);
}
