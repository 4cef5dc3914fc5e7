//! Tenant hours that wait in memory for their fold: when they are folded early, and when recording waits for that.
//!
//! Live traffic of any size is in few hours. Old events that are imported may be in so many that folding them, which writes
//! three rows for each, takes longer than recording.

use std::sync::atomic::{AtomicBool, Ordering};

use super::shared::Shared;

/// So many are left to be folded when their hours are over, and twice as many as there are tenants: two hours of them all.
const KEPT: usize = 20_000;
const KEPT_PER_TENANT: usize = 2;
/// Recording waits when there are more, of about 1 kB each, and eight for each tenant: see `rules::memory`.
const WAITING_MAX: usize = 200_000;
const WAITING_PER_TENANT: usize = 8;

/// Whether somebody folds.
#[derive(Debug, Default)]
pub struct Unfolded {
    is_folded: AtomicBool,
}

impl Unfolded {
    /// Says whether folding goes on; where it does not, nothing waits for it.
    pub fn set_folded(&self, is_folded: bool) {
        self.is_folded.store(is_folded, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether there are so many that they are to be folded before their hours are over.
    pub fn has_many_unfolded(&self) -> bool {
        self.live.read().filed_deltas() > KEPT.max(self.counters.len() * KEPT_PER_TENANT)
    }

    /// Whether there are so many that recording waits until some are folded.
    pub(super) fn has_too_many_unfolded(&self) -> bool {
        let waiting = self.live.read().waiting_deltas();
        waiting > WAITING_MAX
            && waiting > WAITING_MAX + self.counters.len() * WAITING_PER_TENANT
            && self.unfolded.is_folded.load(Ordering::Relaxed)
    }
}
