//! What tests ask of the nodes of a world, and what they look at afterwards.

use std::time::Duration;

use super::world::World;
use crate::engine::{CallId, Outcome, Pending, PublishCall, RequestCall};
use crate::error::{Error, ErrorKind};

impl World {
    pub(super) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Submits a request with the service's default timeout.
    pub(super) fn request(&mut self, node: usize, target: &str, body: &str) -> u32 {
        self.request_within(node, target, body, Duration::ZERO)
    }

    /// Submits a request. Its id is also the key to cancel it by.
    pub(super) fn request_within(
        &mut self,
        node: usize,
        target: &str,
        body: &str,
        timeout: Duration,
    ) -> u32 {
        let id = self.new_id();
        let call = RequestCall {
            done: id,
            target: target.into(),
            body: body.to_owned().into(),
            timeout: Some(timeout),
            key: Some(id.into()),
        };
        self.nodes[node].engine.request(self.now, call);
        self.turn(node);
        id
    }

    pub(super) fn publish(&mut self, node: usize, target: &str, body: &str) -> u32 {
        let id = self.new_id();
        let body = body.to_owned().into();
        let call = PublishCall { done: id, target: target.into(), body };
        self.nodes[node].engine.publish(self.now, call);
        self.turn(node);
        id
    }

    pub(super) fn expose(&mut self, node: usize, names: &[&str]) -> u32 {
        let id = self.new_id();
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        self.nodes[node].engine.expose(self.now, &names, false, id);
        self.turn(node);
        id
    }

    pub(super) fn close(&mut self, node: usize, from: Option<CallId>) -> u32 {
        let id = self.new_id();
        self.nodes[node].engine.close(self.now, from, id);
        self.turn(node);
        id
    }

    pub(super) fn cancel(&mut self, node: usize, id: u32) {
        self.nodes[node].engine.cancel(id.into());
        self.turn(node);
    }

    /// Ends the `index`th call that this node was given.
    pub(super) fn reply(&mut self, node: usize, index: usize, outcome: Outcome) {
        let call = self.nodes[node].calls[index].id;
        self.nodes[node].engine.reply(call, outcome);
        self.turn(node);
    }
}

impl World {
    /// The payload with which a call settled.
    #[track_caller]
    pub(super) fn ok(&self, id: u32) -> Option<String> {
        let settled = self.settled.get(&id).unwrap_or_else(|| panic!("call {id} has not settled"));
        let payload = settled.result.as_ref().unwrap_or_else(|error| panic!("{error:?}"));
        payload.as_ref().map(|json| String::from_utf8(json.to_vec()).unwrap())
    }

    /// The error with which a call settled.
    #[track_caller]
    pub(super) fn err(&self, id: u32, kind: ErrorKind) -> &Error {
        let settled = self.settled.get(&id).unwrap_or_else(|| panic!("call {id} has not settled"));
        let error = settled.result.as_ref().expect_err("an error");
        assert_eq!(error.kind(), kind, "{error:?}");
        error
    }

    /// When a call settled, from the beginning of the world.
    pub(super) fn at(&self, id: u32) -> Duration {
        self.settled[&id].at - self.base
    }

    pub(super) fn is_open(&self, id: u32) -> bool {
        !self.settled.contains_key(&id)
    }

    /// How many messages to `subject` a node has handed over.
    pub(super) fn sent_to(&self, node: usize, subject: &str) -> usize {
        self.nodes[node].sent.iter().filter(|(_, message)| *message.subject == *subject).count()
    }

    /// Nothing waits in an engine: no slot, timer, key or message.
    #[track_caller]
    pub(super) fn assert_idle(&self, node: usize) {
        let engine = &self.nodes[node].engine;
        assert_eq!(engine.slots.len(), 0, "slots");
        assert_eq!(engine.by_key.len(), 0, "keys");
        assert_eq!(engine.wheel.next(), None, "timers");
        assert_eq!(engine.queued_replies, 0, "replies");
        let live = engine.queue.iter().filter(|pending| match pending {
            Pending::Request(id) | Pending::Publish(id) => engine.slots.get(*id).is_some(),
            Pending::Reply(_) => true,
        });
        assert_eq!(live.count(), 0, "messages");
    }
}
