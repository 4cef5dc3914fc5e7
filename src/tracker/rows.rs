//! One tenant's metrics rows: stored rows and what memory has beyond them, in one consistent view.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{ReadError, UsageTracker};
use crate::counters::TenantSlot;
use crate::domain::metrics::{RowQuota, RowWritten, UsageMetrics};
use crate::domain::quota::{QuotaType, Window};
use crate::domain::tenant::{Tenant, TenantId, TenantStatus, TokenLimits};
use crate::domain::time::{MICROS_PER_DAY, Period, PeriodType, Timestamp};
use crate::live::HourDelta;
use crate::rules::rollup::metric_id;
use crate::rules::window::{CalendarWindow, window_at};
use crate::store::{MetricsReader, MetricsRow, Snapshot, StoreError};

impl UsageTracker {
    /// The rows of one tenant whose periods start in `from..to`, newest first; periods without events have no row.
    pub fn get_tenant_usage(
        &self,
        tenant_id: &TenantId,
        from: Timestamp,
        to: Timestamp,
        period: PeriodType,
    ) -> Result<Vec<UsageMetrics>, ReadError> {
        let slot = self.known(tenant_id)?;
        let now = self.writer.shared().clock.now();
        let tenant = TenantRows::read(self, &slot, now, from, to)?;
        let mut rows = Vec::new();
        for (period, row) in tenant.rows(period, from, to)? {
            rows.push(tenant.documented(period, &row)?);
        }
        rows.reverse();
        Ok(rows)
    }

    /// The open UTC day's row; all zero before its first event.
    pub fn get_today_usage(&self, tenant_id: &TenantId) -> Result<UsageMetrics, ReadError> {
        let slot = self.known(tenant_id)?;
        let now = self.writer.shared().clock.now();
        let today = PeriodType::Daily.containing(now);
        let tenant = TenantRows::read(self, &slot, now, today.start(), today.end())?;
        let row = tenant.rows(PeriodType::Daily, today.start(), today.end())?.pop_last();
        let row = row
            .map_or_else(|| MetricsRow { created_at: now, updated_at: now, ..MetricsRow::default() }, |(_, row)| row);
        Ok(tenant.documented(today, &row)?)
    }

    /// The tenant, unless it was never seen or is deleted.
    pub(super) fn known(&self, tenant_id: &TenantId) -> Result<std::sync::Arc<TenantSlot>, ReadError> {
        let slot = self.writer.shared().counters.get(tenant_id);
        slot.filter(|slot| slot.lock().tenant().status != TenantStatus::Deleted)
            .ok_or_else(|| ReadError::UnknownTenant(tenant_id.clone()))
    }
}

/// A consistent view of one tenant's usage.
pub(super) struct TenantRows {
    /// What memory has beyond the stored rows, by hour.
    moving: BTreeMap<u32, Moving>,
    snapshot: Snapshot,
    metrics: MetricsReader,
    tenant_no: u32,
    tenant: std::sync::Arc<Tenant>,
    /// What is left of tokens a day and a month now, with its limit.
    open: (RowQuota, RowQuota),
    now: Timestamp,
    /// Tokens of the part hour that a quota day begins with, by its begin: many rows ask for the same.
    part_hours: RefCell<BTreeMap<Timestamp, u64>>,
}

/// An hour that is still moving.
struct Moving {
    delta: HourDelta,
    /// The part of the delta that is not filed.
    unfiled: HourDelta,
}

impl TenantRows {
    /// A view that can answer for periods that start in `from..to`.
    pub(super) fn read(
        tracker: &UsageTracker,
        slot: &TenantSlot,
        now: Timestamp,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Self, StoreError> {
        let shared = tracker.writer.shared();
        let (tenant, status) = {
            let mut state = slot.lock();
            (std::sync::Arc::clone(state.tenant()), state.status(now))
        };
        let quota = |window| {
            let limits = status.limits.iter();
            let state =
                limits.into_iter().find(|state| (state.quota_type, state.window) == (QuotaType::Tokens, window));
            let count = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
            state.map_or(RowQuota::default(), |state| RowQuota {
                limit: state.limit.map(count),
                remaining: state.remaining().map(count),
            })
        };
        // A quota day may begin before the first period; the last period may end a month after it starts.
        let hours = from.plus_micros(-2 * MICROS_PER_DAY).hour()..to.plus_micros(32 * MICROS_PER_DAY).hour();
        // Lock first, then snapshot (see `live`); the lock is not held while the disk is read.
        let live = shared.live.read();
        let moving = live
            .hours_of(slot.no, hours)
            .into_iter()
            .filter_map(|hour| {
                let delta = live.delta(hour, slot.no)?;
                Some((hour, Moving { delta, unfiled: live.unfiled_delta(hour, slot.no) }))
            })
            .collect();
        let snapshot = shared.store.snapshot()?;
        drop(live);
        let open = (quota(Window::Day), quota(Window::Month));
        let metrics = snapshot.metrics()?;
        Ok(Self { moving, snapshot, metrics, tenant_no: slot.no, tenant, open, now, part_hours: RefCell::default() })
    }

    pub(super) fn rows(
        &self,
        period_type: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<BTreeMap<Period, MetricsRow>, StoreError> {
        let mut rows = BTreeMap::new();
        if to <= from {
            return Ok(rows);
        }
        // The first period that starts at or after an instant.
        let starting_at = |time: Timestamp| {
            let period = period_type.containing(time);
            if period.start() < time { period.next() } else { period }
        };
        let (first, end) = (starting_at(from), starting_at(to));
        for (index, row) in self.metrics.rows_of_tenant(period_type, first.index..end.index, self.tenant_no)? {
            let period = Period { period_type, index };
            rows.extend(self.with_moving(period, Some(row))?.map(|row| (period, row)));
        }
        for (hour, _) in self.moving.range(first.start().hour()..end.start().hour()) {
            let period = period_type.containing(Period::hour(*hour).start());
            if let Entry::Vacant(place) = rows.entry(period)
                && let Some(row) = self.with_moving(period, None)?
            {
                place.insert(row);
            }
        }
        Ok(rows)
    }

    /// The stored row of a period and the deltas of the moving hours in it.
    fn with_moving(&self, period: Period, stored: Option<MetricsRow>) -> Result<Option<MetricsRow>, StoreError> {
        let mut row = stored;
        for (hour, moving) in self.moving.range(period.start().hour()..period.end().hour()) {
            let peak = self.true_peak(*hour, moving)?;
            row = Some(with_delta(row, &moving.delta, peak));
        }
        Ok(row)
    }

    /// The busiest second of an hour that has both a stored row and a delta needs all of its events together.
    fn true_peak(&self, hour: u32, Moving { delta, unfiled }: &Moving) -> Result<u64, StoreError> {
        let period = Period::hour(hour);
        let folded = self.metrics.row(period, self.tenant_no)?.is_some_and(|row| row.rollup.api_calls_total > 0);
        if !folded || delta.events() == 0 {
            return Ok(delta.peak());
        }
        let mut seconds = unfiled.clone();
        let filed = self.snapshot.tenant_events(hour / 24, self.tenant_no, period.start(), period.end())?;
        filed.iter().for_each(|stored| seconds.add_second((stored.event_timestamp.seconds() % 3_600) as u16, 1));
        Ok(seconds.peak())
    }

    pub(super) fn documented(&self, period: Period, row: &MetricsRow) -> Result<UsageMetrics, StoreError> {
        let written = RowWritten {
            metric_id: metric_id(&self.tenant.tenant_id, period),
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        let quota = self.quota_at_end(period, row)?;
        Ok(row.rollup.to_row(&self.tenant.tenant_id, period, quota, written))
    }

    /// The limit in force at the end of the period (now, while it is open), and what was left of it then.
    fn quota_at_end(&self, period: Period, row: &MetricsRow) -> Result<RowQuota, StoreError> {
        let monthly = period.period_type == PeriodType::Monthly;
        let end = period.end();
        if end > self.now {
            return Ok(if monthly { self.open.1 } else { self.open.0 });
        }
        let last = end.plus_micros(-1);
        let in_force = self.tenant.token_limits.iter().rev().find(|limits| limits.since <= last);
        // Before the first entry the oldest one is the best that is known.
        let in_force = in_force.or(self.tenant.token_limits.first()).copied();
        let limit = in_force.and_then(|TokenLimits { day, month, .. }| if monthly { month } else { day });
        let Some(limit) = limit else { return Ok(RowQuota::default()) };
        let used = if monthly {
            row.rollup.total_tokens_used
        } else {
            let quota_day = window_at(CalendarWindow::Day, self.tenant.zone, last);
            if period.period_type == PeriodType::Daily && quota_day.start == period.start() {
                row.rollup.total_tokens_used
            } else {
                self.tokens_between(quota_day.start, end)?
            }
        };
        Ok(RowQuota { limit: Some(limit), remaining: Some(limit.saturating_sub(used)) })
    }

    /// Tokens of the events in `from..to`, where `to` is a full hour; whole hours from their rows, the rest from events.
    fn tokens_between(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        let first_whole = if Period::hour(from.hour()).start() < from { from.hour() + 1 } else { from.hour() };
        let mut tokens = 0u64;
        for hour in first_whole..to.hour() {
            let stored = self.metrics.row(Period::hour(hour), self.tenant_no)?;
            let moving = self.moving.get(&hour);
            tokens = tokens
                .saturating_add(stored.map_or(0, |row| row.rollup.total_tokens_used))
                .saturating_add(moving.map_or(0, |moving| moving.delta.sums().total_tokens_used));
        }
        if first_whole > from.hour() {
            // Zones off the hour: the quota day begins inside a UTC hour.
            tokens = tokens.saturating_add(self.part_hour_tokens(from, Period::hour(first_whole).start())?);
        }
        Ok(tokens)
    }

    /// Tokens from `from` to the end of its hour, from the events.
    fn part_hour_tokens(&self, from: Timestamp, end: Timestamp) -> Result<u64, StoreError> {
        if let Some(&tokens) = self.part_hours.borrow().get(&from) {
            return Ok(tokens);
        }
        // The journal is read only for an hour that has something in it.
        let unfiled = self.moving.get(&from.hour()).is_some_and(|moving| moving.unfiled.events() > 0);
        let events = if unfiled {
            super::events::tenant_events(&self.snapshot, self.tenant_no, from, end)?
        } else {
            self.snapshot.tenant_events(from.day(), self.tenant_no, from, end)?
        };
        let tokens = events.iter().fold(0u64, |sum, stored| sum.saturating_add(stored.event.tokens()));
        self.part_hours.borrow_mut().insert(from, tokens);
        Ok(tokens)
    }
}

/// A stored row with one hour's delta added, whose hour's true peak is `peak`.
pub(super) fn with_delta(row: Option<MetricsRow>, delta: &HourDelta, peak: u64) -> MetricsRow {
    let (first, last) = delta.written();
    let mut row = row.unwrap_or_else(|| MetricsRow { created_at: first, updated_at: last, ..MetricsRow::default() });
    add_delta(&mut row, delta, peak);
    row
}

/// [`with_delta`], in its place.
pub(super) fn add_delta(row: &mut MetricsRow, delta: &HourDelta, peak: u64) {
    let (first, last) = delta.written();
    row.rollup.merge(delta.sums());
    row.rollup.peak_qps = row.rollup.peak_qps.max(peak);
    row.created_at = row.created_at.min(first);
    row.updated_at = row.updated_at.max(last);
}
