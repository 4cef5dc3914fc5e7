//! verify: recomputes what can be recomputed and reports every difference.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::recompute::{DayAgain, sum_of_rows};
use super::rows::with_delta;
use super::{Difference, MaintainError, UsageTracker, Verification};
use crate::domain::slice::Slice;
use crate::domain::time::{Period, PeriodType};
use crate::store::MetricsRow;

/// Differences listed at most; the rest would say the same.
const MAX_DIFFERENCES: usize = 1_000;

impl UsageTracker {
    /// Reads every kept event (each block's checksum with it) and compares hours with their events, days with their hours
    /// and months with their days. Changes no row. Blocks its thread, and holds up filing while it runs.
    pub fn verify(&self) -> Result<Verification, MaintainError> {
        self.writer.file_everything()?;
        let _alone = self.writer.maintenance();
        let shared = self.writer.shared();
        let (snapshot, session_key) = (shared.store.snapshot()?, shared.live.read().session_key());
        let (cut, metrics) = (snapshot.cut()?.cut, snapshot.metrics()?);
        let mut found = Verification::default();
        let name = |tenant_no: u32| {
            shared
                .counters
                .by_no(tenant_no)
                .map_or_else(|| format!("tenant number {tenant_no}"), |slot| slot.id.to_string())
        };
        // Slice by slice, so that memory holds those of a few thousand tenants; the last has whatever number there may be.
        let mut slices: Vec<RangeInclusive<u32>> = Slice::of_all(shared.counters.len()).map(Slice::tenants).collect();
        let beyond = slices.last().map_or(0, |slice| slice.end().saturating_add(1));
        slices.push(beyond..=u32::MAX);
        for day in snapshot.days(0..=u32::MAX)? {
            let first_kept = if Period::hour(cut.hour()).start() < cut { cut.hour() + 1 } else { cut.hour() };
            let hours = (day * 24).max(first_kept)..day * 24 + 24;
            if hours.is_empty() {
                continue;
            }
            let again = DayAgain::read(&snapshot, day, hours, session_key)?;
            for slice in &slices {
                let deltas = again.deltas(&snapshot, slice)?;
                for ((hour, tenant_no), delta) in &deltas {
                    found.events += delta.events();
                    found.rows += 1;
                    let recomputed = with_delta(None, delta, delta.peak());
                    let stored = metrics.row(Period::hour(*hour), *tenant_no)?;
                    let moving = shared.live.read().delta(*hour, *tenant_no);
                    let exact_peak = stored.is_none() || moving.is_none();
                    let mut stored = match moving {
                        Some(moving) => Some(with_delta(stored, &moving, moving.peak())),
                        None => stored,
                    };
                    if let (Some(stored), false) = (&mut stored, exact_peak) {
                        // Two parts of a second are only put together when the row is read or folded.
                        stored.rollup.peak_qps = recomputed.rollup.peak_qps;
                    }
                    found.compare(&name(*tenant_no), Period::hour(*hour), stored.as_ref(), &recomputed);
                }
            }
        }
        // Hourly rows are kept 90 days, so older days have nothing to be compared with.
        let hourly_from = metrics.next_period(PeriodType::Hourly, 0, u32::MAX)?;
        let first_day = hourly_from.map_or(u32::MAX, |hour| hour.div_ceil(24));
        let mut next = first_day;
        while let Some(day) = metrics.next_period(PeriodType::Daily, next, u32::MAX)? {
            for slice in &slices {
                let hours = (day * 24..day * 24 + 24).map(Period::hour);
                let recomputed = sum_of_rows(&metrics, hours, slice)?;
                let stored = metrics.rows_within(Period::day(day), slice)?;
                found.compare_all(&name, Period::day(day), stored, &recomputed);
            }
            next = day + 1;
        }
        let mut next = 0;
        while let Some(index) = metrics.next_period(PeriodType::Monthly, next, u32::MAX)? {
            let month = Period { period_type: PeriodType::Monthly, index };
            for slice in &slices {
                let days = (month.start().day()..month.end().day()).map(Period::day);
                let recomputed = sum_of_rows(&metrics, days, slice)?;
                found.compare_all(&name, month, metrics.rows_within(month, slice)?, &recomputed);
            }
            next = index + 1;
        }
        Ok(found)
    }
}

impl Verification {
    fn compare_all(
        &mut self,
        name: &impl Fn(u32) -> String,
        period: Period,
        stored: Vec<(u32, MetricsRow)>,
        recomputed: &BTreeMap<u32, MetricsRow>,
    ) {
        let none = MetricsRow::default();
        self.rows += stored.len() as u64;
        for (tenant_no, row) in stored {
            let recomputed = recomputed.get(&tenant_no).unwrap_or(&none);
            self.compare(&name(tenant_no), period, Some(&row), recomputed);
        }
    }

    fn compare(&mut self, tenant: &str, period: Period, stored: Option<&MetricsRow>, recomputed: &MetricsRow) {
        let same = match stored {
            // Written before there were sums by model: the rest must be the same.
            Some(stored) if stored.rollup.models.is_empty() && !recomputed.rollup.models.is_empty() => {
                let mut recomputed = recomputed.clone();
                recomputed.rollup.models.clone_from(&stored.rollup.models);
                *stored == recomputed
            }
            stored => stored == Some(recomputed),
        };
        if same || self.differences.len() >= MAX_DIFFERENCES {
            return;
        }
        let show = |row: &MetricsRow| {
            let sums = &row.rollup;
            format!(
                "{} calls, {} tokens, cost {}, {} failed, {} denials, peak {}, {} sessions, {} unpriced, {} models",
                sums.api_calls_total,
                sums.total_tokens_used,
                sums.cost,
                sums.api_calls_failed,
                sums.quota_exceeded_count,
                sums.peak_qps,
                sums.chat_sessions.len(),
                sums.unpriced_events,
                sums.models.models().len(),
            )
        };
        self.differences.push(Difference {
            what: format!("{tenant}, {} from {}", period.period_type.name(), period.start()),
            stored: stored.map_or_else(|| "no row".to_owned(), show),
            recomputed: show(recomputed),
        });
    }
}
