//! One timer for every call: a hashed wheel over the slots of the engine.
//!
//! Arming and disarming cost the same however many calls wait, and a call that settles leaves
//! nothing behind; a heap would keep every settled call until its deadline.

use std::time::{Duration, Instant};

/// How exactly the wheel fires: never early, and at most this late.
pub(super) const TICK: Duration = Duration::from_millis(4);

const TICK_NANOS: u32 = TICK.subsec_nanos();

const BUCKETS: usize = 1024;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    /// The tick at which the entry fires; `u64::MAX` when it is not armed.
    tick: u64,
}

const UNLINKED: Link = Link { prev: NONE, next: NONE, tick: u64::MAX };

/// Timers of slots, each armed at most once.
pub(super) struct Wheel {
    origin: Instant,
    /// Every tick before this one has fired.
    next_tick: u64,
    links: Vec<Link>,
    heads: Vec<u32>,
    occupied: [u64; BUCKETS / 64],
}

impl Wheel {
    pub(super) fn new(origin: Instant) -> Wheel {
        Wheel {
            origin,
            next_tick: 0,
            links: Vec::new(),
            heads: vec![NONE; BUCKETS],
            occupied: [0; BUCKETS / 64],
        }
    }

    /// Arms the timer of `slot` for `at`, in place of an earlier one.
    pub(super) fn arm(&mut self, slot: u32, at: Instant) {
        self.disarm(slot);
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, UNLINKED);
        }
        let tick = (self.ticks_until(at, TICK_NANOS - 1)).max(self.next_tick);
        let bucket = tick as usize % BUCKETS;
        let head = self.heads[bucket];
        self.links[slot as usize] = Link { prev: NONE, next: head, tick };
        if head != NONE {
            self.links[head as usize].prev = slot;
        }
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    /// The ticks from the origin to `at`, a rest counting as one when `round_up` is added to it.
    /// Without the division of 128-bit numbers that a count of nanoseconds would take.
    fn ticks_until(&self, at: Instant, round_up: u32) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        let whole = since.as_secs().saturating_mul(u64::from(1_000_000_000 / TICK_NANOS));
        let rest = (since.subsec_nanos() + round_up) / TICK_NANOS;
        whole.saturating_add(rest.into()).min(u64::MAX - 2)
    }

    /// Takes the timer of `slot` back, if it is armed.
    pub(super) fn disarm(&mut self, slot: u32) {
        let Some(link) = self.links.get(slot as usize).copied() else { return };
        if link.tick == u64::MAX {
            return;
        }
        let bucket = link.tick as usize % BUCKETS;
        match link.prev {
            NONE => self.heads[bucket] = link.next,
            prev => self.links[prev as usize].next = link.next,
        }
        if link.next != NONE {
            self.links[link.next as usize].prev = link.prev;
        }
        if self.heads[bucket] == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
        self.links[slot as usize] = UNLINKED;
    }

    /// Moves the slots whose time has come to `fired`.
    pub(super) fn advance(&mut self, now: Instant, fired: &mut Vec<u32>) {
        let now_tick = self.ticks_until(now, 0);
        if now_tick < self.next_tick {
            return;
        }
        let span = (now_tick - self.next_tick + 1).min(BUCKETS as u64);
        let first = self.next_tick;
        self.next_tick = now_tick + 1;
        for offset in 0..span {
            let bucket = ((first + offset) % BUCKETS as u64) as usize;
            let mut slot = self.heads[bucket];
            while slot != NONE {
                let link = self.links[slot as usize];
                if link.tick <= now_tick {
                    self.disarm(slot);
                    fired.push(slot);
                }
                slot = link.next;
            }
        }
    }

    /// When [`Wheel::advance`] should run next, if any timer is armed. It may be early, by
    /// whole turns of the wheel, for a timer that is far away.
    pub(super) fn next(&self) -> Option<Instant> {
        let start = self.next_tick as usize % BUCKETS;
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                let ticks = self.next_tick + ahead as u64;
                return Some(self.origin + Duration::from_nanos(ticks * TICK.as_nanos() as u64));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns the wheel from wake to wake, as the driver does, until `slot` fires.
    fn fires_at(wheel: &mut Wheel, slot: u32) -> Instant {
        let mut fired = Vec::new();
        for _ in 0..100_000 {
            let at = wheel.next().expect("a timer is armed");
            wheel.advance(at, &mut fired);
            if fired.contains(&slot) {
                return at;
            }
        }
        panic!("slot {slot} never fired");
    }

    #[test]
    fn a_timer_is_never_early_and_less_than_a_tick_late() {
        let origin = Instant::now();
        for micros in [0, 1, 3_999, 4_000, 4_001, 500_000, 4_096_000, 30_000_000, 90_000_001] {
            let mut wheel = Wheel::new(origin);
            let at = origin + Duration::from_micros(micros);
            wheel.arm(3, at);
            let fired = fires_at(&mut wheel, 3);
            assert!(fired >= at && fired < at + TICK, "{micros}: {:?}", fired - origin);
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn a_timer_that_was_taken_back_does_not_fire() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        let at = origin + Duration::from_millis(10);
        for slot in 0..5 {
            wheel.arm(slot, at);
        }
        wheel.disarm(0);
        wheel.disarm(2);
        wheel.disarm(4);
        wheel.disarm(4);
        wheel.arm(3, at + Duration::from_secs(60));
        let mut fired = Vec::new();
        wheel.advance(at + TICK, &mut fired);
        assert_eq!(fired, [1]);
    }

    #[test]
    fn a_long_sleep_fires_everything_that_is_due() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        for slot in 0..5_000 {
            wheel.arm(slot, origin + Duration::from_millis(u64::from(slot) * 7));
        }
        let mut fired = Vec::new();
        wheel.advance(origin + Duration::from_secs(60), &mut fired);
        fired.sort_unstable();
        assert_eq!(fired, (0..5_000).collect::<Vec<_>>());
        assert_eq!(wheel.next(), None);
    }
}
