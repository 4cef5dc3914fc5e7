//! The end of a reservation: settled with what was really used, or released.

use super::holds::{Key, OpenHold, hash_of};
use super::tenant_state::TenantState;
use crate::domain::quota::{Charges, HoldState};
use crate::domain::time::Timestamp;

/// What a reservation was when it was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Open: the rest was given back.
    Open,
    /// Lapsed: recorded all the same.
    Lapsed,
    /// Released: recorded as overage.
    Released,
    /// Settled before: a repeat.
    Settled,
    /// Never seen, or forgotten: recorded in the current windows.
    Unknown,
}

/// What settling did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What the reservation was.
    pub found: Found,
    /// Whether more was recorded than was reserved, or after it was released. A repeat answers as the first time.
    pub overage: bool,
    /// Whether it had lapsed before it was settled the first time.
    pub lapsed: bool,
}

/// What releasing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Something was held and is given back.
    Held,
    /// It had ended already: nothing changed.
    Nothing,
    /// Never seen, or forgotten.
    Unknown,
}

impl TenantState {
    /// Records the sum of the events of a reservation in the windows of its hold, in full, and gives the hold back.
    pub fn settle(&mut self, now: Timestamp, reservation_id: &str, charges: &Charges) -> Settled {
        let now = self.advance(now);
        let hash = hash_of(reservation_id);
        if let Some(hold) = self.holds.remove(Key::Named(hash)) {
            self.give_back(&hold);
            self.charge_windows(now, hold.granted_at, hold.day_start, hold.month_start, charges);
            let overage = exceeds(charges, &hold.amounts.of);
            self.holds.finish(hash, &hold, HoldState::Settled { overage, lapsed: false });
            return Settled { found: Found::Open, overage, lapsed: false };
        }
        let more = *charges != Charges::default();
        let Some(finished) = self.holds.finished(hash, now).cloned() else {
            self.charge_windows(now, now, self.day.start(), self.month.start(), charges);
            return Settled { found: Found::Unknown, overage: more, lapsed: false };
        };
        self.charge_windows(now, finished.granted_at, finished.day_start, finished.month_start, charges);
        let (found, overage, lapsed) = match finished.state {
            HoldState::Lapsed => {
                let reserved = finished.reserved.as_deref().copied().unwrap_or_default();
                (Found::Lapsed, exceeds(charges, &reserved), true)
            }
            HoldState::Released => (Found::Released, true, false),
            HoldState::Settled { overage, lapsed } => (Found::Settled, overage || more, lapsed),
        };
        self.holds.change_finished(hash, HoldState::Settled { overage, lapsed });
        Settled { found, overage, lapsed }
    }

    /// Gives all of a reservation back. After it has ended, nothing changes.
    pub fn release(&mut self, now: Timestamp, reservation_id: &str) -> Released {
        let now = self.advance(now);
        let hash = hash_of(reservation_id);
        if let Some(hold) = self.holds.remove(Key::Named(hash)) {
            self.give_back(&hold);
            self.holds.finish(hash, &hold, HoldState::Released);
            return Released::Held;
        }
        if self.holds.finished(hash, now).is_some() { Released::Nothing } else { Released::Unknown }
    }

    /// What a reservation is at `now`, and when it lapses or would have; for callers that must know before they act.
    pub fn find(&mut self, now: Timestamp, reservation_id: &str) -> Option<(Found, Timestamp)> {
        let now = self.advance(now);
        let hash = hash_of(reservation_id);
        if let Some(&OpenHold { expires_at, .. }) = self.holds.open(Key::Named(hash)) {
            return Some((Found::Open, expires_at));
        }
        let finished = self.holds.finished(hash, now)?;
        let found = match finished.state {
            HoldState::Lapsed => Found::Lapsed,
            HoldState::Released => Found::Released,
            HoldState::Settled { .. } => Found::Settled,
        };
        Some((found, finished.expires_at))
    }

    /// When a reservation that is open or remembered was granted.
    pub fn granted_at(&mut self, now: Timestamp, reservation_id: &str) -> Option<Timestamp> {
        let now = self.advance(now);
        let hash = hash_of(reservation_id);
        let open = self.holds.open(Key::Named(hash)).map(|hold| hold.granted_at);
        open.or_else(|| self.holds.finished(hash, now).map(|finished| finished.granted_at))
    }

    fn charge_windows(
        &mut self,
        now: Timestamp,
        granted_at: Timestamp,
        day_start: Timestamp,
        month_start: Timestamp,
        charges: &Charges,
    ) {
        self.minute.charge(granted_at, now, charges);
        self.day.charge_window(day_start, charges);
        self.month.charge_window(month_start, charges);
        self.notice(now);
    }
}

/// Whether any type was charged above what was reserved of it. A type that was not reserved at all is recorded as ever:
/// who reserves tokens alone does not run over by the one api_call that used them.
fn exceeds(charges: &Charges, reserved: &Charges) -> bool {
    charges.iter().zip(reserved).any(|(charge, reserved)| *reserved > 0 && charge > reserved)
}
