//! The sliding minute: 61 buckets of one second, of which only those with something in them exist.

use std::collections::VecDeque;

use super::amounts::{add, subtract};
use crate::domain::quota::{Charges, QuotaType, SecondSnapshot};
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

/// A bucket counts for so many seconds, its own among them: whatever happened in it then counted for more than a minute.
const BUCKETS: u64 = 61;
/// The types that count whole units; cost comes last.
const COUNTED: usize = QuotaType::COUNT - 1;
const COST: usize = QuotaType::Cost.index();

/// One second. Whole units fit in 64 bits (18 million events of the largest size); cost does not and is rare.
#[derive(Clone, Debug)]
struct Bucket {
    second: u64,
    used: [u64; COUNTED],
    held: [u64; COUNTED],
    cost: Option<Box<Cost>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    used: u128,
    held: u128,
}

impl Bucket {
    fn new(second: u64) -> Self {
        Self { second, used: [0; COUNTED], held: [0; COUNTED], cost: None }
    }

    fn used(&self) -> Charges {
        widen(&self.used, self.cost.as_ref().map_or(0, |cost| cost.used))
    }

    fn held(&self) -> Charges {
        widen(&self.held, self.cost.as_ref().map_or(0, |cost| cost.held))
    }

    fn of(&self, quota_type: QuotaType) -> u128 {
        let place = quota_type.index();
        match self.used.get(place) {
            Some(used) => u128::from(*used) + u128::from(self.held[place]),
            None => self.cost.as_ref().map_or(0, |cost| cost.used.saturating_add(cost.held)),
        }
    }

    fn cost(&mut self) -> &mut Cost {
        self.cost.get_or_insert_default()
    }
}

fn widen(counts: &[u64; COUNTED], cost: u128) -> Charges {
    let mut charges = [cost; QuotaType::COUNT];
    for (charge, count) in charges.iter_mut().zip(counts) {
        *charge = u128::from(*count);
    }
    charges
}

fn narrow(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

/// What was used and granted in the last 61 seconds.
#[derive(Clone, Debug)]
pub(super) struct Minute {
    /// In order of their seconds.
    buckets: VecDeque<Bucket>,
    /// The second in which the oldest of them leaves the window, so that it need not be looked at.
    leaves: u64,
    pub(super) used: Charges,
    pub(super) held: Charges,
}

impl Default for Minute {
    fn default() -> Self {
        let nothing = Charges::default();
        Self { buckets: VecDeque::new(), leaves: u64::MAX, used: nothing, held: nothing }
    }
}

impl Minute {
    /// Whether a second has left the window.
    #[inline]
    pub(super) fn slides_by(&self, now: Timestamp) -> bool {
        self.leaves <= now.seconds() as u64
    }

    /// Drops the seconds that have left the window.
    #[inline]
    pub(super) fn slide(&mut self, now: Timestamp) {
        while self.slides_by(now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.buckets.pop_front() else { return };
        subtract(&mut self.used, &oldest.used());
        subtract(&mut self.held, &oldest.held());
        match self.buckets.front() {
            Some(next) => self.leaves = next.second + BUCKETS,
            // An idle tenant keeps no memory for it, and a sum at its end starts anew.
            None => *self = Self::default(),
        }
    }

    /// Counts what was used at `time`; `now` tells whether that still counts.
    #[inline]
    pub(super) fn charge(&mut self, time: Timestamp, now: Timestamp, charges: &Charges) {
        let Some(bucket) = self.bucket(time, now) else { return };
        for (count, charge) in bucket.used.iter_mut().zip(charges) {
            *count = count.saturating_add(narrow(*charge));
        }
        if charges[COST] > 0 {
            let cost = bucket.cost();
            cost.used = cost.used.saturating_add(charges[COST]);
        }
        add(&mut self.used, charges);
    }

    /// Holds `amounts` granted at `time`.
    #[inline]
    pub(super) fn hold(&mut self, time: Timestamp, now: Timestamp, amounts: &Charges) {
        let Some(bucket) = self.bucket(time, now) else { return };
        for (count, amount) in bucket.held.iter_mut().zip(amounts) {
            *count = count.saturating_add(narrow(*amount));
        }
        if amounts[COST] > 0 {
            let cost = bucket.cost();
            cost.held = cost.held.saturating_add(amounts[COST]);
        }
        add(&mut self.held, amounts);
    }

    /// Gives back what was granted at `time`, if that second still counts.
    #[inline]
    pub(super) fn give_back(&mut self, time: Timestamp, amounts: &Charges) {
        let second = time.seconds() as u64;
        // Nearly always the last one.
        let place = match self.buckets.back() {
            Some(last) if last.second == second => self.buckets.len() - 1,
            _ => self.buckets.partition_point(|bucket| bucket.second < second),
        };
        let Some(bucket) = self.buckets.get_mut(place).filter(|bucket| bucket.second == second) else { return };
        for (count, amount) in bucket.held.iter_mut().zip(amounts) {
            *count = count.saturating_sub(narrow(*amount));
        }
        if amounts[COST] > 0 {
            let cost = bucket.cost();
            cost.held = cost.held.saturating_sub(amounts[COST]);
        }
        subtract(&mut self.held, amounts);
    }

    /// The bucket of `time`, made if need be; `None` when its second has left the window.
    #[inline]
    fn bucket(&mut self, time: Timestamp, now: Timestamp) -> Option<&mut Bucket> {
        let second = time.seconds() as u64;
        if second + BUCKETS <= now.seconds() as u64 {
            return None;
        }
        // Nearly always the last one.
        if self.buckets.back().is_some_and(|last| last.second == second) {
            return self.buckets.back_mut();
        }
        self.make_bucket(second)
    }

    fn make_bucket(&mut self, second: u64) -> Option<&mut Bucket> {
        let place = self.buckets.partition_point(|bucket| bucket.second < second);
        if self.buckets.get(place).is_none_or(|bucket| bucket.second != second) {
            self.buckets.insert(place, Bucket::new(second));
            self.leaves = self.leaves.min(second + BUCKETS);
        }
        self.buckets.get_mut(place)
    }

    /// When the oldest second with any of the type in it leaves the window; `now` when there is none.
    pub(super) fn resets_at(&self, quota_type: QuotaType, now: Timestamp) -> Timestamp {
        self.buckets.iter().find(|bucket| bucket.of(quota_type) > 0).map_or(now, |bucket| leaves_at(bucket.second))
    }

    /// When at least `excess` of the type will have left the window.
    pub(super) fn frees_at(&self, quota_type: QuotaType, excess: u128, now: Timestamp) -> Timestamp {
        let mut freed = 0u128;
        for bucket in &self.buckets {
            freed = freed.saturating_add(bucket.of(quota_type));
            if freed >= excess {
                return leaves_at(bucket.second);
            }
        }
        now
    }

    pub(super) fn save(&self) -> Vec<SecondSnapshot> {
        let save = |bucket: &Bucket| SecondSnapshot { second: bucket.second, used: bucket.used(), held: bucket.held() };
        self.buckets.iter().map(save).collect()
    }

    pub(super) fn restore(saved: &[SecondSnapshot]) -> Self {
        let mut minute = Self::default();
        for second in saved {
            let time = Timestamp::from_micros(second.second as i64 * MICROS_PER_SECOND);
            minute.charge(time, time, &second.used);
            minute.hold(time, time, &second.held);
        }
        minute
    }
}

fn leaves_at(second: u64) -> Timestamp {
    Timestamp::from_seconds((second + BUCKETS) as i64)
}
