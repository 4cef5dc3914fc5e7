//! Seeded randomness: SplitMix64.

/// The state.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 more bits.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Around `median`, with a long tail: eight times the product of three uniform numbers.
    pub fn around(&mut self, median: u64) -> u64 {
        (0..3).fold(8 * median, |value, _| value * (self.next() % 1_000 + 1) / 1_000) + 1
    }
}
