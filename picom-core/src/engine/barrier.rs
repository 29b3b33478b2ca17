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

/// Different subjects of publishes that no barrier has proven yet.
const MOST_UNPROVEN: usize = 64;

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
        self.barriers_out += 1;
        Some(Outbound {
            subject: token_text(&mut self.scratch, &self.settings.inbox, id),
            reply: None,
            headers: Headers::None,
            payload: Bytes::new(),
        })
    }

    /// The server has processed a barrier. A refusal that it sent before may still be on its
    /// way through the transport's events, so what the barrier covers settles one turn later.
    pub(super) fn echo(&mut self, id: SlotId) {
        if let Some(Work::Barrier(_)) = self.slots.get(id) {
            self.echoed.push(id);
        }
    }

    /// Settles what barriers have proven. To be called in each turn that has taken all messages
    /// and then all events: an echo that is new in this turn counts in the next one.
    pub fn settle_proven(&mut self) {
        let echoed = std::mem::take(&mut self.echoed);
        self.out.again |= !echoed.is_empty();
        for id in std::mem::replace(&mut self.proven, echoed) {
            let Some(Work::Barrier(barrier)) = self.slots.remove(id) else { continue };
            self.barriers_out -= 1;
            for cover in barrier.covers {
                match cover {
                    Cover::Slot(id) => self.settle(id, Ok(None)),
                    Cover::Left => self.closing_left(),
                    Cover::Flushed => self.closing_flushed(),
                }
            }
        }
        if self.barriers_out == 0 && self.uncovered.is_empty() {
            self.unproven.clear();
        }
    }

    /// Whether a publish may go out now. Its only sign of failure is the server's refusal, and a
    /// transport may lose refusals that come in a heap; so no more subjects may be refused at once
    /// than it is sure to report.
    pub(super) fn may_prove(&mut self, id: SlotId) -> bool {
        let Some(Work::Publish { target, .. }) = self.slots.get(id) else { return true };
        if self.unproven.contains(target) {
            return true;
        }
        let room = self.unproven.len() < MOST_UNPROVEN;
        if room {
            self.unproven.insert(target.clone());
        }
        room
    }

    /// The connection was lost: publishes settle by themselves, exposures wait for the next
    /// connection, and closing has no server to wait for.
    pub(super) fn barrier_lost(&mut self, id: SlotId) {
        let Some(Work::Barrier(barrier)) = self.slots.remove(id) else { return };
        self.barriers_out -= 1;
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
