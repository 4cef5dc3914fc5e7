//! Tenant hours that wait in memory for their fold: when they are folded early, and when recording waits for that.
//!
//! Live traffic of any size is in few hours. Old events that are imported may be in so many that folding them, which writes
//! three rows for each, takes longer than recording.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::shared::Shared;

/// So many are left to be folded when their hours are over, and twice as many as there are tenants: two hours of them all.
const KEPT: usize = 20_000;
const KEPT_PER_TENANT: usize = 2;
/// Who records and can wait does so when there are more, of about 700 bytes each...
pub const WAITING_MAX: usize = 200_000;
/// ...and so many for each tenant.
pub const WAITING_PER_TENANT: usize = 5;

/// Whether somebody folds.
#[derive(Debug)]
pub struct Unfolded {
    is_folded: AtomicBool,
    waiting_max: AtomicUsize,
}

impl Default for Unfolded {
    fn default() -> Self {
        Self { is_folded: AtomicBool::new(false), waiting_max: AtomicUsize::new(WAITING_MAX) }
    }
}

impl Unfolded {
    /// Says whether folding goes on; where it does not, nothing waits for it.
    pub fn set_folded(&self, is_folded: bool) {
        self.is_folded.store(is_folded, Ordering::Relaxed);
    }

    /// Whether folding goes on.
    pub fn is_folded(&self) -> bool {
        self.is_folded.load(Ordering::Relaxed)
    }

    /// Another limit, beside what each tenant adds; for tests.
    #[cfg(test)]
    pub(crate) fn set_waiting_max(&self, waiting_max: usize) {
        self.waiting_max.store(waiting_max, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether there are so many that they are to be folded before their hours are over.
    pub fn has_many_unfolded(&self) -> bool {
        let kept = KEPT.max(self.counters.len() * KEPT_PER_TENANT);
        self.live.read().filed_deltas() > kept
    }

    /// Whether there are so many that recording waits until some are folded. Who cannot wait is refused later: it has more
    /// likely to tell of now, which is in few hours, than who imports.
    pub(super) fn has_too_many_unfolded(&self, waiting: usize, can_wait: bool) -> bool {
        let base = self.unfolded.waiting_max.load(Ordering::Relaxed);
        if waiting <= base || !self.unfolded.is_folded() {
            return false;
        }
        let most = base + self.counters.len() * WAITING_PER_TENANT;
        waiting > if can_wait { most } else { most + most / 2 }
    }
}
