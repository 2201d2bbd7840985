//! Medians, percentiles, and how sure a ratio of medians is.

use serde::Serialize;

/// Samples drawn anew from the rounds to see how far the ratio could have been elsewhere.
const RESAMPLES: usize = 10_000;

/// A ratio of two medians with its 95 % bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// Ours divided by theirs.
    pub ratio: f64,
    /// 2.5 % of the resampled ratios are lower.
    pub low: f64,
    /// 2.5 % of the resampled ratios are higher.
    pub high: f64,
}

/// Numbers that look random and are the same in every run (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Ratio {
    /// The ratio of the medians, and what bootstrap says of it: rounds are drawn with replacement, ours and theirs of a round
    /// together, because what disturbs a round disturbs both. `None` without rounds or if theirs is zero.
    pub fn of_medians(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let rounds = ours.len().min(theirs.len());
        let ratio = quotient(median(&ours[..rounds])?, median(&theirs[..rounds])?)?;
        let mut sequence = Sequence::new(1);
        let mut drawn = (vec![0.0; rounds], vec![0.0; rounds]);
        let mut ratios = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            for place in 0..rounds {
                let round = sequence.below(rounds);
                (drawn.0[place], drawn.1[place]) = (ours[round], theirs[round]);
            }
            ratios.push(quotient(median(&drawn.0)?, median(&drawn.1)?)?);
        }
        Some(Self { ratio, low: percentile(&ratios, 2.5)?, high: percentile(&ratios, 97.5)? })
    }
}

fn quotient(ours: f64, theirs: f64) -> Option<f64> {
    (theirs != 0.0).then(|| ours / theirs)
}

/// The middle one; of an even number, the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The smallest value that is not exceeded by `percent` of all.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

impl Sequence {
    /// The sequence of that number.
    pub fn new(number: u64) -> Self {
        // Zero would stay zero.
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let wide = u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * limit as u128;
        // The high half of the product is below `limit`.
        (wide >> 64) as usize
    }

    /// Brings `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_those_of_the_books() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (percent, expected) in [(50.0, 50.0), (99.0, 99.0), (100.0, 100.0), (0.5, 1.0)] {
            assert_eq!(percentile(&hundred, percent), Some(expected), "{percent} %");
        }
    }

    #[test]
    fn bounds_enclose_the_ratio_and_shrink_with_the_noise() {
        let theirs = [100.0, 104.0, 96.0, 101.0, 99.0, 103.0, 97.0, 102.0, 98.0];
        let ours = theirs.map(|value| value * 1.5);
        let exact = Ratio::of_medians(&ours, &theirs).unwrap();
        assert!((exact.ratio - 1.5).abs() < 1e-9 && exact.high - exact.low < 1e-9, "{exact:?}");

        let mut shuffled = ours;
        shuffled.reverse();
        let noisy = Ratio::of_medians(&shuffled, &theirs).unwrap();
        assert!(noisy.low < 1.5 && 1.5 < noisy.high && noisy.low > 1.4 && noisy.high < 1.6, "{noisy:?}");
        assert_eq!(Ratio::of_medians(&[], &[]), None);
        assert_eq!(Ratio::of_medians(&[1.0], &[0.0]), None);
    }

    #[test]
    fn a_shuffle_keeps_everything_and_draws_are_even() {
        let mut sequence = Sequence::new(7);
        let mut items: Vec<usize> = (0..1000).collect();
        sequence.shuffle(&mut items);
        let moved = items.iter().enumerate().filter(|(place, item)| place != *item).count();
        assert!(moved > 900, "only {moved} moved");
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());

        let mut counts = [0_u32; 10];
        (0..100_000).for_each(|_| counts[sequence.below(10)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
