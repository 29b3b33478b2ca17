//! Barriers: the proof that the server has processed what was sent before.
//!
//! A barrier is a message to a fresh subject under our own inbox. The server keeps the order of
//! one connection, so its echo proves the rest, and so does the server's refusal of it. It needs
//! no permission beyond those that replies need, and no subscriber to all subjects can swallow
//! it (docs/protocol.md, "Barriers").

use bytes::Bytes;

use super::caller::{token_text, Work};
use super::slots::SlotId;
use super::Engine;
use crate::wire::message::{Headers, Outbound};

/// What waits for a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// A publish or an exposure.
    Slot(SlotId),
    /// Closing: the server has stopped sending us calls.
    Left,
    /// Closing: the server has taken our replies.
    Flushed,
}

pub(super) struct Barrier {
    covers: Vec<Cover>,
}

impl<C> Engine<C> {
    /// One barrier for everything that was handed over since the last one.
    pub(super) fn next_barrier(&mut self) -> Option<Outbound> {
        if self.uncovered.is_empty() {
            return None;
        }
        let covers = std::mem::take(&mut self.uncovered);
        let id = self.slots.insert(Work::Barrier(Barrier { covers }));
        Some(Outbound {
            subject: token_text(&mut self.scratch, &self.inbox, id),
            reply: None,
            headers: Headers::None,
            payload: Bytes::new(),
        })
    }

    /// The server has processed a barrier. What it refused before came before the echo, but as
    /// an event, and events are taken after messages.
    pub(super) fn echo(&mut self, id: SlotId) {
        if let Some(Work::Barrier(_)) = self.slots.get(id) {
            self.echoed.push(id);
        }
    }

    /// Settles what barriers have proven. To be called in each turn that has taken all messages
    /// and then all events.
    pub fn settle_proven(&mut self) {
        let mut echoed = std::mem::take(&mut self.echoed);
        for id in echoed.drain(..) {
            let Some(Work::Barrier(barrier)) = self.slots.remove(id) else { continue };
            for cover in barrier.covers {
                match cover {
                    Cover::Slot(id) => self.settle(id, Ok(None)),
                    Cover::Left => self.closing_left(),
                    Cover::Flushed => self.closing_flushed(),
                }
            }
        }
        self.echoed = echoed;
    }

    /// The connection was lost: publishes settle by themselves, exposures wait for the next
    /// connection, and closing has no server to wait for.
    pub(super) fn barrier_lost(&mut self, id: SlotId) {
        let Some(Work::Barrier(barrier)) = self.slots.remove(id) else { return };
        self.covers_lost(barrier.covers);
    }

    pub(super) fn covers_lost(&mut self, covers: Vec<Cover>) {
        for cover in covers {
            match cover {
                Cover::Slot(id) => {
                    if let Some(Work::Expose { .. }) = self.slots.get(id) {
                        self.uncovered.push(cover);
                    }
                }
                Cover::Left => self.closing_left(),
                Cover::Flushed => self.closing_flushed(),
            }
        }
    }
}
