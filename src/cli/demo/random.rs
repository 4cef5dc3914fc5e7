//! Numbers that look random and are the same for the same seed.

/// A small generator (SplitMix64): good enough for traffic, and no secret.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that depends on all of `parts`.
    pub fn new(parts: &[u64]) -> Self {
        parts.iter().fold(Self(0x9e37_79b9_7f4a_7c15), |state, part| Self(state.0 ^ part).stirred())
    }

    fn stirred(mut self) -> Self {
        Self(self.next())
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1, without 1.
    pub fn part(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether something of this percentage happens.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// One of them, each as often as its weight.
    pub fn weighted<'a, T>(&mut self, choices: &'a [(u32, T)]) -> &'a T {
        let mut left = self.below(choices.iter().map(|(weight, _)| u64::from(*weight)).sum());
        for (weight, choice) in choices {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return choice,
            }
        }
        &choices[0].1
    }

    /// Log-normal: half of them are below `median`; the larger `spread`, the heavier the tail. From 1 to `max`.
    pub fn log_normal(&mut self, median: f64, spread: f64, max: u64) -> u64 {
        // Box and Muller; 1 - part is never 0.
        let normal = (-2.0 * (1.0 - self.part()).ln()).sqrt() * (std::f64::consts::TAU * self.part()).cos();
        ((median * (spread * normal).exp()).round() as u64).clamp(1, max)
    }
}
