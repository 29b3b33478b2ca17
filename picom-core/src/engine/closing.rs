//! Closing: stop new work, let handlers finish, see their replies off, disconnect.

use std::time::Instant;

use super::barrier::Cover;
use super::caller::Work;
use super::responder::{CallId, Outcome};
use super::{Engine, Subscription};
use crate::error::{Error, ErrorKind};
use crate::wire::message::Route;

pub(super) enum Phase<C> {
    Open,
    Draining { done: Vec<C>, deadline: Instant, stage: Stage },
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until the server has stopped sending us calls.
    Leaving,
    /// Until handlers have replied and their replies are handed over.
    Finishing,
    /// Until the server has taken the replies.
    Flushing,
    /// Closed for everyone, but handlers that called close themselves still run, and what they
    /// return has to reach their callers.
    Parting,
}

impl<C> Phase<C> {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Phase::Draining { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }
}

impl<C> Engine<C> {
    /// Begins to close; `done` completes at the end of it. `from` is the call whose handler asks
    /// for it, which closing does not wait for. Closing twice is closing once.
    pub fn close(&mut self, now: Instant, from: Option<CallId>, done: C) {
        if let Some(from) = from {
            self.responder.active.exempt(from);
        }
        match &mut self.phase {
            Phase::Closed => self.out.settled.push((done, Ok(None))),
            Phase::Draining { stage: Stage::Parting, .. } => {
                self.out.settled.push((done, Ok(None)));
            }
            Phase::Draining { done: waiting, .. } => {
                waiting.push(done);
                self.advance_closing();
            }
            Phase::Open => {
                let deadline = now + self.settings.close_timeout;
                let leaving = self.is_exposed() && self.hears_echoes();
                let stage = if leaving { Stage::Leaving } else { Stage::Finishing };
                self.phase = Phase::Draining { done: vec![done], deadline, stage };
                if self.is_exposed() {
                    self.out.subscriptions.push_back(Subscription::Drain(Route::Service));
                }
                if leaving {
                    self.uncovered.push(Cover::Left);
                }
                self.advance_closing();
            }
        }
    }

    /// Closes for a host that is gone: its calls are answered now, since nobody else will.
    pub fn abandon(&mut self, now: Instant, done: C) {
        self.responder.abandoned = true;
        for id in self.responder.active.ids() {
            let message = "The handler went away before it finished".to_owned();
            self.reply(id, Outcome::Failed { message, details: None });
        }
        self.close(now, None, done);
    }

    pub(super) fn closing_left(&mut self) {
        if let Phase::Draining { stage, .. } = &mut self.phase {
            *stage = Stage::Finishing;
        }
        self.advance_closing();
    }

    pub(super) fn closing_flushed(&mut self) {
        let Phase::Draining { done, stage, .. } = &mut self.phase else { return };
        if self.responder.active.is_empty() && self.queued_replies == 0 {
            self.finish_closing();
            return;
        }
        *stage = Stage::Parting;
        let done = std::mem::take(done);
        self.settle_as_closed();
        self.out.settled.extend(done.into_iter().map(|done| (done, Ok(None))));
        self.advance_closing();
    }

    /// Whether a barrier has an echo to wait for.
    fn hears_echoes(&self) -> bool {
        self.link.connected && !self.link.inbox_denied
    }

    /// Moves on where the present stage is over.
    pub(super) fn advance_closing(&mut self) {
        let Phase::Draining { stage, .. } = &self.phase else { return };
        let sent = self.queued_replies == 0;
        let over = match *stage {
            Stage::Leaving | Stage::Flushing => false,
            // What was published may still leave, also with a first connection that is to come.
            Stage::Finishing => {
                let may_leave = self.link.connected || !self.link.ever_connected;
                sent && self.responder.active.awaited() == 0
                    && !(may_leave && self.waits_to_publish())
            }
            // Whoever waits for the replies has been told of a lost connection.
            Stage::Parting => !self.link.connected || sent && self.responder.active.is_empty(),
        };
        if over {
            if let Phase::Draining { stage, .. } = &mut self.phase {
                *stage = Stage::Flushing;
            }
            if self.hears_echoes() {
                self.uncovered.push(Cover::Flushed);
            } else if self.link.connected {
                self.closing_flushed();
            } else {
                self.finish_closing();
            }
        }
    }

    fn waits_to_publish(&self) -> bool {
        let waits = |work: &Work<C>| matches!(work, Work::Publish { .. }) && !work.is_handed_over();
        !self.slots.find(waits).is_empty()
    }

    pub(super) fn tick_closing(&mut self, now: Instant) {
        self.advance_closing();
        if self.phase.deadline().is_some_and(|deadline| deadline <= now) {
            let calls = self.responder.active.awaited();
            if calls > 0 {
                tracing::warn!(calls, "closeTimeout passed before handlers had finished");
            }
            self.finish_closing();
        }
    }

    /// Settles whatever is left; nothing comes out of the engine after this.
    pub fn finish_closing(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        self.settle_as_closed();
        self.queue.clear();
        self.queued_replies = 0;
        self.uncovered.clear();
        self.echoed.clear();
        self.out.incoming.clear();
        self.out.closed = true;
        if let Phase::Draining { done, .. } = phase {
            self.out.settled.extend(done.into_iter().map(|done| (done, Ok(None))));
        }
    }

    fn settle_as_closed(&mut self) {
        for id in self.slots.find(|_| true) {
            let what = self.slots.get(id).map(|work| work.what()).unwrap_or_default();
            let text = format!("{what} was under way when this Picom was closed");
            self.settle(id, Err(Error::new(ErrorKind::Closed, text)));
        }
    }
}
