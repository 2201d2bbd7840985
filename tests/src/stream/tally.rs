//! Which numbers came, how often, in which order.

use std::time::{Duration, Instant};

/// The echoes of a stream so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Indexed by number.
    seen: Vec<bool>,
    different: u64,
    highest: Option<u64>,
    last: Option<Instant>,
    pub repeated: u64,
    pub reordered: u64,
    pub overflowed: u64,
    pub longest_silence: Duration,
    pub broken: Option<String>,
}

impl Tally {
    /// Different numbers that came.
    pub fn echoed(&self) -> u64 {
        self.different
    }

    /// Counts the echo of `number`.
    pub fn count(&mut self, number: u64, now: Instant) {
        self.longest_silence = self.longest_silence.max(self.last.map_or(Duration::ZERO, |last| now - last));
        self.last = Some(now);
        // Numbers are made by a sender that lives on the same machine: they fit.
        let index = usize::try_from(number).expect("a machine that counts so far has 64 bits");
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.seen[index], true) {
            self.repeated += 1;
            return;
        }
        self.different += 1;
        self.reordered += u64::from(self.highest.is_some_and(|highest| number < highest));
        self.highest = self.highest.max(Some(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_repetitions_order_and_silences_are_told_apart() {
        let (mut tally, began) = (Tally::default(), Instant::now());
        for (at, number) in [(0, 0), (1, 1), (9, 4), (10, 3), (11, 3), (12, 5)] {
            tally.count(number, began + Duration::from_millis(at));
        }
        assert_eq!((tally.echoed(), tally.repeated, tally.reordered), (5, 1, 1));
        assert_eq!(tally.longest_silence, Duration::from_millis(8));
    }
}
