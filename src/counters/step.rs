//! The steps that change a tenant and the platform together: both under their locks, the tenant's always first.

use super::lock::{Mutex, MutexGuard};
use super::platform::Platform;
use super::registry::TenantSlot;
use super::settle::{Released, Settled};
use super::tenant_state::{HoldRequest, Taken, TenantState};
use crate::domain::quota::{Blocked, Charges, Hold, HoldId, Item};
use crate::domain::time::Timestamp;

impl TenantSlot {
    /// Calls `act` on the tenant's state and, where there are ceilings, on the platform's, in one step.
    pub fn with<R>(
        &self,
        platform: Option<&Mutex<Platform>>,
        act: impl FnOnce(&mut TenantState, Option<&mut Platform>) -> R,
    ) -> R {
        let mut state = self.lock();
        let mut platform = platform.map(Mutex::lock);
        act(&mut state, platform.as_deref_mut())
    }

    /// Decides over all items and takes them in one step, under the platform's ceilings where there are some. The tenant
    /// stays locked with the answer: until a grant is queued, or undone, nobody else sees it.
    pub fn take(
        &self,
        platform: Option<&Mutex<Platform>>,
        now: Timestamp,
        items: &[Item],
        request: HoldRequest,
    ) -> (MutexGuard<'_, TenantState>, Result<Taken, Blocked>) {
        let mut state = self.lock();
        let taken = match platform.map(Mutex::lock) {
            Some(mut platform) => state.take_under(now, items, request, Some((&mut platform, self.no))),
            None => state.take(now, items, request),
        };
        (state, taken)
    }

    /// Takes a grant back as though it had never been. `state` is what [`Self::take`] left locked.
    pub fn undo(&self, state: &mut TenantState, platform: Option<&Mutex<Platform>>, now: Timestamp, id: &HoldId) {
        state.undo_hold(now, id);
        if let Some(platform) = platform {
            platform.lock().give_back(now, self.no, id);
        }
    }
}

/// Holds again what was granted; the platform holds what its tenant does.
pub fn insert_hold(tenant_no: u32, state: &mut TenantState, platform: Option<&mut Platform>, hold: &Hold) {
    state.insert_hold(hold);
    if let Some(platform) = platform.filter(|_| state.has_open(&hold.id)) {
        platform.hold(tenant_no, hold);
    }
}

/// Counts what a reservation was settled with, and gives the rest of it back.
pub fn settle(
    tenant_no: u32,
    state: &mut TenantState,
    platform: Option<&mut Platform>,
    now: Timestamp,
    reservation_id: &str,
    charges: &Charges,
) -> Settled {
    if let Some(platform) = platform {
        let granted_at = state.granted_at(now, reservation_id).unwrap_or(now);
        platform.settle(tenant_no, now, reservation_id, granted_at, charges);
    }
    state.settle(now, reservation_id, charges)
}

/// Gives a reservation back.
pub fn release(
    tenant_no: u32,
    state: &mut TenantState,
    platform: Option<&mut Platform>,
    now: Timestamp,
    reservation_id: &str,
) -> Released {
    if let Some(platform) = platform {
        platform.give_back(now, tenant_no, &HoldId::Named(reservation_id.to_owned()));
    }
    state.release(now, reservation_id)
}

/// Counts a recorded event that belongs to no reservation.
pub fn charge(
    tenant_no: u32,
    state: &mut TenantState,
    platform: Option<&mut Platform>,
    (accepted_at, event_time): (Timestamp, Timestamp),
    charges: &Charges,
    rate_limited: bool,
) {
    let closed = state.charge(accepted_at, event_time, charges, rate_limited);
    if let Some(platform) = platform {
        platform.charge(tenant_no, accepted_at, event_time, charges, closed);
    }
}
