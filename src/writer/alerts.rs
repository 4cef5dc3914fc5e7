//! Crossed thresholds on their way to the disk: noticed when a commit is applied, they ride on the next one.
//!
//! Each becomes one audit record, whose id is derived from what was crossed: noticed again after a crash, a replay or a
//! restart it is a repeat, and is dropped. The id is keyed by the store's secret, so nobody can write it first.

use std::collections::VecDeque;

use parking_lot::Mutex;
use uuid::Uuid;

use super::meter::Counter;
use crate::domain::quota::{QuotaType, Window};
use crate::domain::tenant::TenantId;
use crate::domain::threshold::{Alert, Crossing};
use crate::rules::alerts::crossing_name;

/// Records that one commit takes along: each costs about ten keys.
pub(super) const CROSSINGS_PER_COMMIT: usize = 1_000;

/// See the module. What waits is bounded by what there is to cross: a limit's percentages once a window.
pub struct AlertBook {
    key: u128,
    pending: Mutex<VecDeque<(TenantId, Crossing)>>,
    /// By type, then day and month.
    recorded: [[Counter; 2]; QuotaType::COUNT],
}

impl AlertBook {
    pub(super) fn new(key: u128, noticed: Vec<(TenantId, Crossing)>) -> Self {
        Self { key, pending: Mutex::new(noticed.into()), recorded: Default::default() }
    }

    /// The id of a crossing's record.
    pub(crate) fn event_id(&self, tenant_id: &TenantId, crossing: &Crossing) -> Uuid {
        crate::ids::uuid_of_name(&format!("{:032x} {}", self.key, crossing_name(tenant_id, crossing)))
    }

    pub(super) fn note(&self, noticed: Vec<(TenantId, Crossing)>) {
        // Nearly always none.
        if !noticed.is_empty() {
            self.pending.lock().extend(noticed);
        }
    }

    pub(super) fn is_due(&self) -> bool {
        !self.pending.lock().is_empty()
    }

    pub(super) fn take(&self) -> Vec<(TenantId, Crossing)> {
        let mut pending = self.pending.lock();
        let count = pending.len().min(CROSSINGS_PER_COMMIT);
        pending.drain(..count).collect()
    }

    /// Called once for each crossing, after its record is on disk. Whoever is to be told of it is told from here.
    pub(super) fn recorded(&self, alerts: &[Alert]) {
        for Alert { crossing, .. } in alerts {
            let window = usize::from(crossing.window == Window::Month);
            self.recorded[crossing.quota_type.index()][window].add(1);
        }
    }

    /// How many crossings were recorded since the start, of each type and window that can be crossed.
    pub fn counts(&self) -> Vec<(QuotaType, Window, u64)> {
        let of = |kind: QuotaType| {
            let counts = &self.recorded[kind.index()];
            [(kind, Window::Day, counts[0].get()), (kind, Window::Month, counts[1].get())]
        };
        QuotaType::ALL.into_iter().flat_map(of).collect()
    }
}
