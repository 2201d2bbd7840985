//! When a dead role is started again.

use std::time::Duration;

/// A role that lived this long has recovered.
const RECOVERED: Duration = Duration::from_secs(60);
/// Wait before the second restart; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The restarts so far.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    restarts: u32,
}

impl Backoff {
    /// How long to wait after a role that has lived for `lived`: not at all the first time, then ever longer.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= RECOVERED {
            self.restarts = 0;
        }
        let wait = match self.restarts.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT),
        };
        self.restarts = self.restarts.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_start_over() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(10);
        let waits: Vec<u128> = (0..9).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(backoff.after(RECOVERED).as_millis(), 0);
        assert_eq!(backoff.after(RECOVERED - short).as_millis(), 250);
        assert_eq!(backoff.after(RECOVERED).as_millis(), 0);

        let mut tireless = Backoff { restarts: u32::MAX };
        assert_eq!(tireless.after(short), LONGEST_WAIT);
    }
}
