//! When a call that certainly did not run is tried again.

use std::time::{Duration, Instant};

/// All tries of one call begin within this time of the first refusal.
const BUDGET: Duration = Duration::from_millis(150);
const FIRST_DELAY: Duration = Duration::from_millis(10);

/// The tries of one call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    made: u32,
    first_refusal: Option<Instant>,
}

impl Tries {
    /// The moment of the next try after a refusal at `now`, or `None` when `retries` more tries
    /// or the time for them are used up. `jitter` is a random number: instances that were
    /// refused together do not come back together.
    pub(super) fn next(&mut self, now: Instant, retries: u32, jitter: u64) -> Option<Instant> {
        let first = *self.first_refusal.get_or_insert(now);
        if self.made >= retries {
            return None;
        }
        let full = FIRST_DELAY * 2_u32.saturating_pow(self.made).min(1 << 10);
        let half = full / 2;
        let spread = Duration::from_nanos(jitter % (half.as_nanos() as u64 + 1));
        let at = now + half + spread;
        if at > first + BUDGET {
            return None;
        }
        self.made += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tries_begin_within_the_budget_whatever_the_jitter() {
        for jitter in [0, 1, u64::MAX / 3, u64::MAX] {
            for retries in [0, 1, 3, 100] {
                let start = Instant::now();
                let (mut now, mut tries, mut count) = (start, Tries::default(), 0);
                while let Some(at) = tries.next(now, retries, jitter) {
                    assert!(at > now && at <= start + BUDGET);
                    now = at;
                    count += 1;
                }
                assert!(count <= retries);
                if retries <= 3 {
                    assert_eq!(count, retries, "jitter {jitter}");
                }
            }
        }
    }
}
