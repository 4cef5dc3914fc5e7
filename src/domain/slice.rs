//! Slices: tenants whose rows are written together, so that a write is bounded however many tenants there are.

use std::ops::RangeInclusive;

/// Tenants of one slice. The rows of an hour, a day and a month of so many are some 2.5 MB.
const TENANTS: u32 = 4_096;

/// Tenants with neighbouring numbers: slice 0 has those from 0, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice(pub u32);

impl Slice {
    /// The slice that the tenant is in.
    pub const fn of(tenant_no: u32) -> Self {
        Self(tenant_no / TENANTS)
    }

    /// The slices of so many tenants, numbered from 0.
    pub fn of_all(tenants: usize) -> impl Iterator<Item = Self> {
        (0..u32::try_from(tenants).unwrap_or(u32::MAX).div_ceil(TENANTS)).map(Self)
    }

    /// Ranges of the numbers of so many tenants, at most a slice each and at least `least`, as far as there are tenants.
    pub fn ranges(tenants: usize, least: u32) -> impl Iterator<Item = RangeInclusive<u32>> {
        let tenants = u32::try_from(tenants).unwrap_or(u32::MAX);
        let size = tenants.div_ceil(least.max(1)).clamp(1, TENANTS);
        (0..tenants.div_ceil(size)).map(move |place| place * size..=(place * size).saturating_add(size - 1))
    }

    /// The numbers of its tenants.
    pub const fn tenants(self) -> RangeInclusive<u32> {
        let first = self.0.saturating_mul(TENANTS);
        first..=first.saturating_add(TENANTS - 1)
    }
}

/// One hour (since 1970) of one slice, in order of slices: what is filed and folded as one.
pub type SliceHour = (Slice, u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenant_is_in_one_slice() {
        for tenant_no in [0, 1, TENANTS - 1, TENANTS, 99_999, u32::MAX - 1, u32::MAX] {
            assert!(Slice::of(tenant_no).tenants().contains(&tenant_no));
        }
        assert_eq!(Slice(0).tenants(), 0..=TENANTS - 1);
        assert_eq!(*Slice(1).tenants().start(), TENANTS);
        let slices = |tenants| Slice::of_all(tenants).count() as u32;
        assert_eq!([slices(0), slices(1), slices(TENANTS as usize), slices(TENANTS as usize + 1)], [0, 1, 1, 2]);
        assert_eq!(Slice::of_all(100_000).last(), Some(Slice::of(99_999)));

        let ranges = |tenants, least| Slice::ranges(tenants, least).collect::<Vec<_>>();
        assert_eq!((ranges(0, 3), ranges(2, 9), ranges(5, 2)), (vec![], vec![0..=0, 1..=1], vec![0..=2, 3..=5]));
        assert_eq!(ranges(TENANTS as usize + 1, 0), [0..=TENANTS - 1, TENANTS..=2 * TENANTS - 1]);
        assert!(Slice::ranges(usize::MAX, 1).last().unwrap().contains(&(u32::MAX - 1)));
    }
}
