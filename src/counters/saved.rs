//! A tenant's counters as a plain value, to be saved, and back.

use std::sync::Arc;

use super::calendar::Calendar;
use super::holds::Holds;
use super::minute::Minute;
use super::tenant_state::TenantState;
use crate::domain::quota::{Limit, QuotaSnapshot};
use crate::domain::tenant::Tenant;
use crate::rules::window::CalendarWindow;

impl TenantState {
    /// Everything that [`TenantState::restore`] needs to behave the same.
    pub fn snapshot(&self) -> QuotaSnapshot {
        let (open, finished) = self.holds.save();
        QuotaSnapshot {
            as_of: self.as_of,
            zone: Some(self.tenant.zone),
            day: self.day.save(),
            month: self.month.save(),
            minute: self.minute.save(),
            open,
            finished,
        }
    }

    /// A state that behaves as the one that was saved did: also its windows end by the zone that it had then, until a
    /// change of the tenant is replayed.
    pub fn restore(tenant: Arc<Tenant>, plan_limits: Arc<[Limit]>, saved: &QuotaSnapshot) -> Self {
        let tenant = match saved.zone.filter(|zone| *zone != tenant.zone) {
            Some(zone) => Arc::new(Tenant { zone, ..(*tenant).clone() }),
            None => tenant,
        };
        Self {
            as_of: saved.as_of,
            day: Calendar::restore(CalendarWindow::Day, &saved.day),
            month: Calendar::restore(CalendarWindow::Month, &saved.month),
            minute: Minute::restore(&saved.minute),
            holds: Holds::restore(&saved.open, &saved.finished),
            ..Self::new(tenant, plan_limits)
        }
    }
}
