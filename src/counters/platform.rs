//! The platform: what all tenants together use and hold, against ceilings that no grant passes.
//!
//! A [`Platform`] follows the tenants' states: whoever changes one tells the platform of it in the same step, with the
//! tenant's lock held (always the tenant's first). It lapses its holds by its own clock, since a tenant that nobody looks
//! at lapses late. Its windows are those of `default_zone`; what was used under a hold counts in the windows that the hold
//! was granted in, as it does for the tenant.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono_tz::Tz;
use hashbrown::HashMap;

use super::amounts::{Amounts, add};
use super::calendar::Calendar;
use super::holds::{Holds, Key, OpenHold, hash_of};
use super::minute::Minute;
use crate::domain::quota::{Charges, DeniedBy, Hold, HoldId, Limit, LimitState, QuotaSnapshot, Scope, Window};
use crate::domain::time::Timestamp;
use crate::rules::window::CalendarWindow;

/// See the module. Deterministic, as [`super::TenantState`] is.
#[derive(Clone, Debug)]
pub struct Platform {
    zone: Tz,
    ceilings: Arc<[Limit]>,
    as_of: Timestamp,
    minute: Minute,
    day: Calendar,
    month: Calendar,
    open: HashMap<(u32, Key), OpenHold>,
    lapses: BTreeSet<(Timestamp, u32, Key)>,
}

/// A ceiling that said no, without its figures: those are other tenants' business.
#[derive(Debug)]
pub(super) struct CeilingDenial {
    pub(super) denied: DeniedBy,
    /// When it can fit; `None` when it never can.
    pub(super) fits_at: Option<Timestamp>,
}

impl Platform {
    /// Nothing used yet. Without ceilings it only counts.
    pub fn new(zone: Tz, ceilings: Arc<[Limit]>) -> Self {
        Self {
            zone,
            ceilings,
            as_of: Timestamp::default(),
            minute: Minute::default(),
            day: Calendar::new(CalendarWindow::Day),
            month: Calendar::new(CalendarWindow::Month),
            open: HashMap::new(),
            lapses: BTreeSet::new(),
        }
    }

    /// Moves on to `now`: windows roll, seconds leave the minute, holds lapse. Gives the time that counts.
    pub(super) fn advance(&mut self, now: Timestamp) -> Timestamp {
        let now = now.max(self.as_of);
        self.as_of = now;
        self.minute.slide(now);
        self.day.roll(|| self.zone, now);
        self.month.roll(|| self.zone, now);
        while let Some(&(_, tenant_no, key)) = self.lapses.first().filter(|(expires_at, ..)| *expires_at <= now) {
            self.remove(tenant_no, key);
        }
        now
    }

    /// The ceilings that `amounts` do not fit under: used + held + granted <= ceiling, over all tenants.
    pub(super) fn judge(&mut self, now: Timestamp, amounts: &Amounts) -> Vec<CeilingDenial> {
        let now = self.advance(now);
        let (mut denials, ceilings) = (Vec::new(), Arc::clone(&self.ceilings));
        for ceiling in ceilings.iter().filter(|ceiling| amounts.asks(ceiling.quota_type)) {
            let (used, held) = self.counted(ceiling);
            let asked = amounts.amount(ceiling.quota_type);
            let wanted = used + held + asked;
            if wanted <= ceiling.limit {
                continue;
            }
            let &Limit { quota_type, window, limit, .. } = ceiling;
            let fits_at = match window {
                Window::Minute => self.minute.frees_at(quota_type, wanted - limit, now),
                Window::Day => self.day.end(),
                Window::Month => self.month.end(),
            };
            let fits_at = Some(fits_at).filter(|_| asked <= limit);
            let resets_at = fits_at.unwrap_or(now);
            let state = LimitState { quota_type, window, limit: None, used: 0, held: 0, resets_at };
            denials.push(CeilingDenial { denied: DeniedBy { state, asked, scope: Scope::Platform }, fits_at });
        }
        denials
    }

    /// Holds what a tenant was granted; what is held already changes nothing.
    pub fn hold(&mut self, tenant_no: u32, hold: &Hold) {
        self.hold_open(tenant_no, Holds::key(&hold.id), OpenHold::of(hold));
    }

    fn hold_open(&mut self, tenant_no: u32, key: Key, hold: OpenHold) {
        let now = self.advance(hold.granted_at);
        if hold.expires_at <= now || self.open.contains_key(&(tenant_no, key)) {
            return;
        }
        self.open.insert((tenant_no, key), hold);
        self.lapses.insert((hold.expires_at, tenant_no, key));
        self.minute.hold(hold.granted_at, now, &hold.amounts.of);
        for calendar in [&mut self.day, &mut self.month] {
            if calendar.contains(hold.granted_at) {
                add(&mut calendar.held, &hold.amounts.of);
            }
        }
    }

    /// Gives a tenant's hold back, if it has not lapsed.
    pub fn give_back(&mut self, now: Timestamp, tenant_no: u32, id: &HoldId) {
        self.advance(now);
        self.remove(tenant_no, Holds::key(id));
    }

    fn remove(&mut self, tenant_no: u32, key: Key) {
        let Some(hold) = self.open.remove(&(tenant_no, key)) else { return };
        self.lapses.remove(&(hold.expires_at, tenant_no, key));
        self.minute.give_back(hold.granted_at, &hold.amounts.of);
        for calendar in [&mut self.day, &mut self.month] {
            if calendar.contains(hold.granted_at) {
                calendar.give_back(calendar.start(), &hold.amounts.of);
            }
        }
        if self.open.is_empty() && self.open.capacity() > 1_024 {
            self.open = HashMap::new();
        }
    }

    /// Counts a recorded event: the minute by `accepted_at`, day and month by `event_time`. `closed` is the number of the
    /// tenant's anonymous hold that it closed.
    pub fn charge(
        &mut self,
        tenant_no: u32,
        accepted_at: Timestamp,
        event_time: Timestamp,
        charges: &Charges,
        closed: Option<u64>,
    ) {
        let now = self.advance(accepted_at);
        if let Some(number) = closed {
            self.remove(tenant_no, Key::Anonymous(number));
        }
        self.minute.charge(accepted_at, now, charges);
        self.day.charge(event_time, charges);
        self.month.charge(event_time, charges);
    }

    /// Counts what a reservation was settled with, by the time of its grant, and gives its hold back.
    pub fn settle(
        &mut self,
        tenant_no: u32,
        now: Timestamp,
        reservation_id: &str,
        granted_at: Timestamp,
        charges: &Charges,
    ) {
        let now = self.advance(now);
        self.remove(tenant_no, Key::Named(hash_of(reservation_id)));
        self.minute.charge(granted_at, now, charges);
        self.day.charge(granted_at, charges);
        self.month.charge(granted_at, charges);
    }

    fn counted(&self, ceiling: &Limit) -> (u128, u128) {
        let (used, held) = match ceiling.window {
            Window::Minute => (&self.minute.used, &self.minute.held),
            Window::Day => (&self.day.used, &self.day.held),
            Window::Month => (&self.month.used, &self.month.held),
        };
        (used[ceiling.quota_type.index()], held[ceiling.quota_type.index()])
    }

    /// The ceilings now, for the operator: figures of all tenants together.
    pub fn status(&mut self, now: Timestamp) -> Vec<LimitState> {
        self.advance(now);
        let look = |ceiling: &Limit| {
            let &Limit { quota_type, window, limit, .. } = ceiling;
            let (used, held) = self.counted(ceiling);
            let resets_at = match window {
                Window::Minute => self.minute.resets_at(quota_type, self.as_of),
                Window::Day => self.day.end(),
                Window::Month => self.month.end(),
            };
            LimitState { quota_type, window, limit: Some(limit), used, held, resets_at }
        };
        self.ceilings.iter().map(look).collect()
    }

    /// What was used, to be saved. Holds are saved with their tenants.
    pub fn snapshot(&self) -> QuotaSnapshot {
        QuotaSnapshot {
            as_of: self.as_of,
            day: self.day.save(),
            month: self.month.save(),
            minute: self.minute.save(),
            ..QuotaSnapshot::default()
        }
    }

    /// What was saved, with the holds that the tenants' saved states have open.
    pub fn restore(zone: Tz, ceilings: Arc<[Limit]>, saved: &QuotaSnapshot, tenants: &[(u32, QuotaSnapshot)]) -> Self {
        // What is held follows from the holds alone, so that none is counted that would never be given back.
        let mut used = saved.clone();
        (used.day.held, used.month.held) = Default::default();
        used.minute.iter_mut().for_each(|second| second.held = Charges::default());
        let mut platform = Self {
            as_of: used.as_of,
            minute: Minute::restore(&used.minute),
            day: Calendar::restore(CalendarWindow::Day, &used.day),
            month: Calendar::restore(CalendarWindow::Month, &used.month),
            ..Self::new(zone, ceilings)
        };
        platform.hold_all(tenants);
        platform
    }

    /// From the tenants' states alone, where nothing was saved of the platform: exact for tenants in its own zone; the
    /// days and months of other zones count as though they were its own.
    pub fn of_tenants(zone: Tz, ceilings: Arc<[Limit]>, tenants: &[(u32, QuotaSnapshot)]) -> Self {
        let mut platform = Self::new(zone, ceilings);
        let Some(latest) = tenants.iter().map(|(_, state)| state.as_of).max() else { return platform };
        platform.advance(latest);
        for (_, state) in tenants {
            for (calendar, saved) in [(&mut platform.day, &state.day), (&mut platform.month, &state.month)] {
                if saved.end > calendar.start() {
                    add(&mut calendar.used, &saved.used);
                }
            }
            for second in &state.minute {
                let time = Timestamp::from_seconds(second.second as i64);
                platform.minute.charge(time, latest, &second.used);
            }
        }
        platform.hold_all(tenants);
        platform
    }

    fn hold_all(&mut self, tenants: &[(u32, QuotaSnapshot)]) {
        for (tenant_no, state) in tenants {
            state.open.iter().for_each(|hold| self.hold(*tenant_no, hold));
        }
    }
}
