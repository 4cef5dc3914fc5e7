//! export_usage: everything that is held of one tenant's usage, one by one, in bounded memory.

use std::ops::ControlFlow;

use super::events::{Tail, days_with_events, recorded};
use super::rows::TenantRows;
use super::{ReadError, UsageTracker};
use crate::domain::event::RecordedEvent;
use crate::domain::metrics::UsageMetrics;
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, PeriodType, Timestamp};

/// One thing that is held of a tenant's usage.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportedUsage {
    /// A row of tenant_usage_metrics.
    Metrics(Box<UsageMetrics>),
    /// A row of tenant_usage_realtime.
    Event(Box<RecordedEvent>),
}

impl UsageTracker {
    /// Shows `see` every metrics row (hourly, daily, monthly, oldest first), then every raw event, day by day and in no
    /// order within a day, until it breaks. Also of a deleted tenant. Events recorded after the begin are left out.
    ///
    /// Holds no snapshot for longer than a day of events takes; blocks its thread.
    pub fn export_usage(
        &self,
        tenant_id: &TenantId,
        see: &mut dyn FnMut(ExportedUsage) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let shared = self.writer.shared();
        let slot = shared.counters.get(tenant_id).ok_or_else(|| ReadError::UnknownTenant(tenant_id.clone()))?;
        let now = shared.clock.now();
        let end = now.plus_micros(MICROS_PER_DAY);
        let (horizon, days) = {
            let snapshot = shared.store.snapshot()?;
            let tail = Tail::read(&snapshot, slot.no)?;
            let days = days_with_events(&snapshot, &tail, snapshot.cut()?.cut, end)?;
            (tail.last_entry_id, days.collect::<Vec<u32>>())
        };
        for period_type in [PeriodType::Hourly, PeriodType::Daily, PeriodType::Monthly] {
            let rows = TenantRows::read(self, &slot, now, Timestamp::default(), end)?;
            for (period, row) in rows.rows(period_type, Timestamp::default(), end)? {
                if see(ExportedUsage::Metrics(Box::new(rows.documented(period, &row)?))).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        for day in days.into_iter().rev() {
            // Of one snapshot, so that a filing or a merge between two days shows nothing twice.
            let snapshot = shared.store.snapshot()?;
            let from = snapshot.cut()?.cut;
            let mut show = |stored: crate::store::StoredEvent| {
                if stored.entry_id > horizon || stored.event_timestamp < from {
                    return ControlFlow::Continue(());
                }
                see(ExportedUsage::Event(Box::new(recorded(stored, tenant_id))))
            };
            let (begin, next) = (day_start(day), day_start(day + 1));
            if snapshot.see_tenant_events(day, slot.no, begin, next, &mut show)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if snapshot.checkpoint()?.filed_next_entry_id > horizon {
                // Everything up to the begin is filed by now: the journal has nothing that belongs here.
                continue;
            }
            let mut tail = Tail::read(&snapshot, slot.no)?;
            for stored in tail.by_day.remove(&day).unwrap_or_default() {
                if show(stored).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn day_start(day: u32) -> Timestamp {
    Timestamp::from_micros(i64::from(day) * MICROS_PER_DAY)
}
