//! The responder's side: the method table, and calls from arrival to reply.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::barrier::Cover;
use super::caller::{too_large, Work};
use super::slots::{SlotId, Slots};
use super::{Engine, Notice, Pending, Subscription};
use crate::error::{Error, ErrorKind};
use crate::name;
use crate::wire::envelope::{self, Failure, Payload};
use crate::wire::message::{Headers, Inbound, Outbound, Route, Subject};

const BAD_JSON: &str = "Bad JSON request";

/// The place of a method in the table. It stays the same for the life of the instance.
pub type MethodId = u32;

/// A call that was handed to a handler and waits for its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(SlotId);

impl CallId {
    /// As one number, for a host.
    pub fn to_bits(self) -> u64 {
        self.0.token()
    }

    /// From the number that [`CallId::to_bits`] gave.
    pub fn from_bits(bits: u64) -> CallId {
        CallId(SlotId::from_token(bits))
    }
}

/// Which method a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// One of the table.
    Known(MethodId),
    /// Not in the table, but the host decides when it is called (see [`Engine::expose`]).
    Named(String),
}

/// A call for a handler.
#[derive(Clone, Debug)]
pub struct IncomingCall {
    /// What to give [`Engine::reply`].
    pub id: CallId,
    /// The method.
    pub method: Method,
    /// The message as JSON text that has been checked; empty for none.
    pub body: Bytes,
    /// The message was not JSON, which is the answer if the host has the method: a method is
    /// looked up before its message is read.
    pub malformed: bool,
    /// When nobody waits for the reply any longer.
    pub expires: Option<Instant>,
    /// The caller's id of this call, where the caller gave one.
    pub mark: Option<Subject>,
}

/// What became of a call.
#[derive(Debug)]
pub enum Outcome {
    /// The handler returned: JSON text, or nothing.
    Returned(Payload),
    /// The handler failed, with a message and its error's own fields as JSON.
    Failed {
        /// The message.
        message: String,
        /// The fields.
        details: Option<String>,
    },
    /// The message is not one that the method takes.
    BadRequest(String),
    /// The message is not JSON.
    Malformed,
    /// The host has no method of this name.
    NotFound(String),
    /// The call expired before its handler ran, so it did not run.
    Expired,
}

#[derive(Default)]
pub(super) struct Responder {
    methods: FxHashMap<String, MethodId>,
    open_ended: bool,
    subscribed: bool,
    pub(super) denied: bool,
    /// Whoever runs the handlers is gone.
    pub(super) abandoned: bool,
    pub(super) active: Active,
}

/// The calls that handlers have.
pub(super) struct Active {
    calls: Slots<ActiveCall>,
    exempt: usize,
}

impl Default for Active {
    fn default() -> Active {
        Active { calls: Slots::new(), exempt: 0 }
    }
}

struct ActiveCall {
    reply: Option<Subject>,
    /// Closing does not wait for it: the handler itself called close.
    exempt: bool,
}

impl Active {
    /// How many calls closing waits for.
    pub(super) fn awaited(&self) -> usize {
        self.calls.len() - self.exempt
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.len() == 0
    }

    pub(super) fn exempt(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(id.0).filter(|call| !call.exempt) {
            call.exempt = true;
            self.exempt += 1;
        }
    }

    pub(super) fn ids(&self) -> Vec<CallId> {
        self.calls.find(|_| true).into_iter().map(CallId).collect()
    }

    fn end(&mut self, id: CallId) -> Option<ActiveCall> {
        let call = self.calls.remove(id.0)?;
        self.exempt -= usize::from(call.exempt);
        Some(call)
    }
}

impl<C> Engine<C> {
    /// Exposes methods: adds the names to the table and subscribes if that is not done yet.
    /// Completes when the server has processed the subscription. Returns the names' places: a
    /// name's place is its rank among all names, in the order in which they were first exposed.
    ///
    /// With `open_ended`, calls of other names are handed out too, for a host whose methods may
    /// change at any time.
    pub fn expose(
        &mut self,
        now: Instant,
        names: &[String],
        open_ended: bool,
        done: C,
    ) -> Vec<MethodId> {
        if let Err(error) = self.check_open() {
            self.out.settled.push((done, Err(error)));
            return Vec::new();
        }
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            let next = self.responder.methods.len() as MethodId;
            ids.push(*self.responder.methods.entry(name.clone()).or_insert(next));
        }
        self.responder.open_ended |= open_ended;
        if !self.responder.subscribed {
            self.responder.subscribed = true;
            self.out.subscriptions.push_back(Subscription::Start {
                route: Route::Service,
                subject: self.service_subject().into(),
                queue: Some(self.settings.service.clone()),
            });
        }
        if self.responder.denied || self.link.inbox_denied {
            let denied = self.responder.denied;
            let error = if denied { self.service_denied() } else { self.inbox_error() };
            self.out.settled.push((done, Err(error)));
            return ids;
        }
        let id = self.slots.insert(Work::Expose { done });
        if let Some(timeout) = self.settings.timeout {
            self.wheel.arm(id.index, now + timeout);
        }
        self.uncovered.push(Cover::Slot(id));
        ids
    }

    pub(super) fn is_exposed(&self) -> bool {
        self.responder.subscribed
    }

    pub(super) fn receive_call(&mut self, now: Instant, message: Inbound) {
        if self.responder.abandoned {
            // Sent before the server knew that we leave.
            let text = format!("This instance of \"{}\" is going away", self.settings.service);
            self.refuse(message.reply, ErrorKind::NoResponder, &text);
            return;
        }
        let name = name::method_of(&message.subject);
        let method = match self.responder.methods.get(name) {
            Some(id) => Method::Known(*id),
            None if self.responder.open_ended => Method::Named(name.to_owned()),
            None => {
                let failure = not_found(name);
                self.refuse(message.reply, ErrorKind::MethodNotFound, &failure);
                return;
            }
        };
        let malformed = !message.payload.is_empty() && !envelope::is_json(&message.payload);
        if malformed && matches!(method, Method::Known(_)) {
            self.refuse(message.reply, ErrorKind::BadRequest, BAD_JSON);
            return;
        }
        let body = if malformed { Bytes::new() } else { message.payload };
        let (mark, left) = match message.call {
            Some(call) => (Some(call.id), call.left),
            None => (None, None),
        };
        let expires = left.map(|left: Duration| now + left);
        let call = ActiveCall { reply: message.reply, exempt: false };
        let id = CallId(self.responder.active.calls.insert(call));
        self.out.incoming.push(IncomingCall { id, method, body, malformed, expires, mark });
    }

    /// Ends a call. A call ends once; what comes after that is ignored.
    pub fn reply(&mut self, id: CallId, outcome: Outcome) {
        let Some(call) = self.responder.active.end(id) else { return };
        match outcome {
            Outcome::Returned(payload) => {
                if let Some(reply) = call.reply {
                    envelope::put_payload(&mut self.scratch, payload.as_deref());
                    let payload = self.scratch.split().freeze();
                    self.queue_reply(reply, Headers::None, payload);
                }
            }
            Outcome::Failed { message, details } => self.send_failure(
                call.reply,
                &Failure {
                    number: ErrorKind::HandlerFailed.number(),
                    message: &message,
                    details: details.as_deref(),
                },
            ),
            Outcome::BadRequest(message) => {
                self.refuse(call.reply, ErrorKind::BadRequest, &message);
            }
            Outcome::Malformed => self.refuse(call.reply, ErrorKind::BadRequest, BAD_JSON),
            Outcome::NotFound(name) => {
                self.refuse(call.reply, ErrorKind::MethodNotFound, &not_found(&name));
            }
            Outcome::Expired => tracing::debug!("a call expired before its handler ran"),
        }
        self.advance_closing();
    }

    fn refuse(&mut self, reply: Option<Subject>, kind: ErrorKind, message: &str) {
        self.send_failure(reply, &Failure { number: kind.number(), message, details: None });
    }

    fn send_failure(&mut self, reply: Option<Subject>, failure: &Failure<'_>) {
        if let Some(reply) = reply {
            let (payload, headers) = envelope::failure(failure);
            self.queue_reply(reply, headers, payload);
        }
    }

    fn queue_reply(&mut self, subject: Subject, headers: Headers, payload: Bytes) {
        let message = Outbound { subject, reply: None, headers, payload };
        self.enqueue(Pending::Reply(message));
        self.queued_replies += 1;
    }

    /// A reply that the server would answer by closing the connection becomes an error.
    pub(super) fn fit_reply(&mut self, message: Outbound) -> Outbound {
        let size = message.headers.wire_len() + message.payload.len();
        let most = self.link.max_payload;
        if size <= most {
            return message;
        }
        let error = too_large("A reply", size, most);
        let number = error.kind().number();
        let failure = Failure { number, message: error.message(), details: None };
        let (payload, headers) = envelope::failure(&failure);
        self.out.notices.push(Notice::Failed(error));
        Outbound { headers, payload, ..message }
    }

    pub(super) fn subscribe_denied(&mut self, subject: &str) {
        if subject.starts_with(self.inbox.as_str()) {
            self.inbox_was_denied();
        } else if subject == self.service_subject() {
            self.responder.denied = true;
            let error = self.service_denied();
            for id in self.slots.find(|work| matches!(work, Work::Expose { .. })) {
                self.settle(id, Err(error.clone()));
            }
            self.out.notices.push(Notice::Failed(error));
        }
    }

    fn service_subject(&self) -> String {
        format!("{}.>", self.settings.service)
    }

    fn service_denied(&self) -> Error {
        let text = format!(
            "This user may not subscribe to {}, which exposing needs (see the permissions in \
             the server's configuration)",
            self.service_subject()
        );
        Error::new(ErrorKind::PermissionDenied, text)
    }
}

fn not_found(name: &str) -> String {
    format!("Method not found \"{name}\"")
}
