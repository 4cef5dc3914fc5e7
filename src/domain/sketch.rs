//! A mergeable sketch of latencies: integer bins of at most 0.8 % relative error.

/// Linear steps in each doubling: values below twice this are exact.
const STEPS: u32 = 64;

/// Counts of whole milliseconds in bins that double every `STEPS` steps.
///
/// Merging adds bins, so any order of merging gives the same sketch. A quantile is the middle of its bin,
/// which is within 1/128 of every value in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// (bin, count), sorted by bin; no count is 0.
    bins: Vec<(u16, u64)>,
}

impl Sketch {
    /// From sorted `(bin, count)` pairs, as [`Sketch::bins`] gives them.
    pub fn from_bins(bins: Vec<(u16, u64)>) -> Self {
        Self { bins }
    }

    /// The bins in use, sorted.
    pub fn bins(&self) -> &[(u16, u64)] {
        &self.bins
    }

    /// Adds one value.
    pub fn add(&mut self, value: u32) {
        self.add_bin(bin_of(value), 1);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.bins.is_empty() {
            self.bins.clone_from(&other.bins);
            return;
        }
        for &(bin, count) in &other.bins {
            self.add_bin(bin, count);
        }
    }

    fn add_bin(&mut self, bin: u16, count: u64) {
        match self.bins.binary_search_by_key(&bin, |&(bin, _)| bin) {
            Ok(place) => self.bins[place].1 += count,
            Err(place) => {
                if self.bins.capacity() == 0 {
                    // Many stay with one.
                    self.bins.reserve_exact(1);
                }
                self.bins.insert(place, (bin, count));
            }
        }
    }

    /// The value at rank ceil(percent x n / 100), counted from 1; 0 when empty.
    pub fn percentile(&self, percent: u64) -> f64 {
        let total: u64 = self.bins.iter().map(|&(_, count)| count).sum();
        let rank = (u128::from(percent) * u128::from(total)).div_ceil(100).max(1);
        let mut seen = 0u128;
        for &(bin, count) in &self.bins {
            seen += u128::from(count);
            if seen >= rank {
                return middle_of(bin);
            }
        }
        0.0
    }
}

fn bin_of(value: u32) -> u16 {
    if value < 2 * STEPS {
        return value as u16;
    }
    let doublings = value.ilog2() - STEPS.ilog2();
    // The top seven bits, then 64 steps for each doubling: at most 64 x 26 + 63.
    (STEPS * doublings + (value >> doublings)) as u16
}

fn middle_of(bin: u16) -> f64 {
    let bin = u32::from(bin);
    if bin < 2 * STEPS {
        return f64::from(bin);
    }
    let doublings = bin / STEPS - 1;
    let low = u64::from(bin - STEPS * doublings) << doublings;
    let high = low + (1u64 << doublings) - 1;
    (low + high) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_values_are_exact() {
        let mut sketch = Sketch::default();
        (1..=100).for_each(|value| sketch.add(value));
        assert_eq!((sketch.percentile(50), sketch.percentile(95), sketch.percentile(99)), (50.0, 95.0, 99.0));
        assert_eq!(Sketch::default().percentile(99), 0.0);
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_one_percent_and_merging_is_adding(
            mut values in prop::collection::vec(prop_oneof![0u32..200, 0u32..100_000, any::<u32>()], 1..200),
            percent in 1u64..=100,
            split in 0usize..200,
        ) {
            let (mut whole, mut left, mut right) = (Sketch::default(), Sketch::default(), Sketch::default());
            for (place, &value) in values.iter().enumerate() {
                whole.add(value);
                if place < split { left.add(value) } else { right.add(value) }
            }
            left.merge(&right);
            prop_assert_eq!(&left, &whole);

            values.sort_unstable();
            let rank = (percent as usize * values.len()).div_ceil(100).max(1);
            let exact = f64::from(values[rank - 1]);
            prop_assert!((whole.percentile(percent) - exact).abs() <= exact * 0.01);
        }
    }
}
