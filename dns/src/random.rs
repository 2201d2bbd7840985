//! Order without favourites: quick, and nobody's secret.

use std::hash::{BuildHasher, RandomState};

/// A generator of random numbers (xorshift64*), seeded anew for each.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Seeded from the system's randomness.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        // The upper half of a product of two 32-bit numbers has 32 bits.
        u32::try_from((high * u64::from(end)) >> 32).unwrap_or_default()
    }

    /// Puts `items` in random order (Fisher and Yates): each order as likely as any other.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for left in (2..=u32::try_from(items.len()).unwrap_or(u32::MAX)).rev() {
            items.swap(left as usize - 1, self.below(left) as usize);
        }
    }
}
