//! Random numbers of a seed (splitmix64): the same seed, the same run.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::ops::Range;

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A place among so many; 0 where there is none.
    pub fn place(&mut self, of: usize) -> usize {
        self.below(of.max(1) as u64) as usize
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// One of these, if there are some.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| self.one_of(of))
    }

    /// One of these, which must be some.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.place(of.len())]
    }

    /// A range within `0..length`, mostly a short one.
    pub fn range(&mut self, length: usize) -> Range<usize> {
        let from = self.place(length + 1);
        let most = if self.place(4) == 0 { length } else { 16 };
        from..(from + self.place(most + 1)).min(length)
    }
}
