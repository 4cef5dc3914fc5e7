//! Rows again from what is under them: hours from their events and denials, days from their hours, months from their days.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Range, RangeInclusive};

use super::rows::with_delta;
use super::{Aggregation, MaintainError, UsageTracker};
use crate::domain::slice::Slice;
use crate::domain::time::{Period, PeriodType, Timestamp};
use crate::live::HourDelta;
use crate::store::{EventsWanted, FiledDenial, MetricsReader, MetricsRow, RowBlocks, Snapshot, StoreError};
use crate::writer::Publication;

/// About so many events are read in one step: a snapshot that is kept for long holds up the freeing of pages, and whoever
/// records after it waits while they are freed together.
const EVENTS_PER_STEP: u64 = 100_000;

/// One period's rows by tenant number.
pub(super) type Rows = BTreeMap<u32, MetricsRow>;

impl UsageTracker {
    pub(super) fn recompute(&self, from: Timestamp, to: Timestamp) -> Result<Aggregation, MaintainError> {
        let shared = self.writer.shared();
        let snapshot = shared.store.snapshot()?;
        let session_key = shared.live.read().session_key();
        let cut = snapshot.cut()?.cut;
        let end = if to.plus_micros(-1) < from { from } else { to.plus_micros(-1) };
        let (first, last) = (from.hour(), end.hour());
        let first_kept = if Period::hour(cut.hour()).start() < cut { cut.hour() + 1 } else { cut.hour() };
        let mut done =
            Aggregation { rows_written: 0, hours_skipped: u64::from(first_kept.min(last + 1).saturating_sub(first)) };
        let days = snapshot.days(first / 24..=last / 24)?;
        drop(snapshot);
        for day in days {
            let hours = (day * 24).max(first).max(first_kept)..(day * 24 + 24).min(last + 1);
            if hours.is_empty() {
                continue;
            }
            let snapshot = shared.store.snapshot()?;
            let again = DayAgain::read(&snapshot, day, hours, session_key)?;
            let events: u64 = snapshot.runs(day..=day)?.iter().map(|(.., info)| info.events).sum();
            drop(snapshot);
            let steps = u32::try_from(events.div_ceil(EVENTS_PER_STEP)).unwrap_or(u32::MAX);
            for tenants in Slice::ranges(shared.counters.len(), steps) {
                let snapshot = shared.store.snapshot()?;
                let publication = recompute_day(&snapshot, &again, &tenants)?;
                drop(snapshot);
                done.rows_written += publication.rows.iter().map(|rows| rows.rows as u64).sum::<u64>();
                if !publication.rows.is_empty() {
                    self.writer.publish(publication)?;
                }
            }
        }
        done.rows_written += self.refold_months(first, last)?;
        Ok(done)
    }

    /// Months again from their days.
    fn refold_months(&self, first_hour: u32, last_hour: u32) -> Result<u64, MaintainError> {
        let shared = self.writer.shared();
        let mut written = 0;
        let mut month = PeriodType::Monthly.containing(Period::hour(first_hour).start());
        while month.start() <= Period::hour(last_hour).start() {
            for slice in Slice::of_all(shared.counters.len()) {
                // What the slice before changed may stand in the same block as this one's first rows.
                let metrics = shared.store.snapshot()?.metrics()?;
                let days = (month.start().day()..month.end().day()).map(Period::day);
                let rows = sum_of_rows(&metrics, days, &slice.tenants())?;
                if let Some(rows) = changed_rows(&metrics, month, rows, &slice.tenants())? {
                    written += rows.rows as u64;
                    self.writer.publish(Publication { rows: vec![rows], ..Publication::default() })?;
                }
            }
            month = month.next();
        }
        Ok(written)
    }
}

/// Hours of some tenants' day again from their events and denials, and the day again from its hours. All that is filed is
/// folded.
fn recompute_day(
    snapshot: &Snapshot,
    again: &DayAgain,
    tenants: &RangeInclusive<u32>,
) -> Result<Publication, StoreError> {
    let deltas = again.deltas(snapshot, tenants)?;
    let (day, hours) = (again.day, again.hours.clone());
    let mut fresh: BTreeMap<Period, Rows> = hours.map(|hour| (Period::hour(hour), Rows::new())).collect();
    for ((hour, tenant_no), delta) in &deltas {
        let row = with_delta(None, delta, delta.peak());
        fresh.entry(Period::hour(*hour)).or_default().insert(*tenant_no, row);
    }

    let metrics = snapshot.metrics()?;
    let mut of_day = Rows::new();
    for hour in day * 24..day * 24 + 24 {
        let period = Period::hour(hour);
        match fresh.get(&period) {
            Some(rows) => rows.iter().for_each(|(tenant_no, row)| add_row(&mut of_day, *tenant_no, row)),
            None => {
                let stored = metrics.rows_within(period, tenants)?;
                stored.iter().for_each(|(tenant_no, row)| add_row(&mut of_day, *tenant_no, row));
            }
        }
    }
    fresh.insert(Period::day(day), of_day);

    let mut publication = Publication::default();
    for (period, rows) in fresh {
        publication.rows.extend(changed_rows(&metrics, period, rows, tenants)?);
    }
    Ok(publication)
}

/// Hours of a day that are counted again.
pub(super) struct DayAgain {
    day: u32,
    hours: Range<u32>,
    session_key: u64,
    /// Of all tenants: they are few, and stand together.
    denials: Vec<FiledDenial>,
}

impl DayAgain {
    pub(super) fn read(snapshot: &Snapshot, day: u32, hours: Range<u32>, session_key: u64) -> Result<Self, StoreError> {
        Ok(Self { day, hours, session_key, denials: snapshot.day_denials(day)? })
    }

    /// What some tenants' events and denials of these hours add up to, by (hour, tenant number).
    pub(super) fn deltas(
        &self,
        snapshot: &Snapshot,
        tenants: &RangeInclusive<u32>,
    ) -> Result<BTreeMap<(u32, u32), HourDelta>, StoreError> {
        let mut deltas: BTreeMap<(u32, u32), HourDelta> = BTreeMap::new();
        let wanted = EventsWanted {
            tenants: tenants.clone(),
            first_entry: 0,
            from: Period::hour(self.hours.start).start(),
            to: Period::hour(self.hours.end).start(),
        };
        // They come by tenant and time: most add to the hour that the one before them did.
        let mut open: Option<((u32, u32), HourDelta)> = None;
        snapshot.day_events(self.day, &wanted, |filed| {
            let key = (filed.event_timestamp.hour(), filed.tenant_no);
            if let Some(done) = open.take_if(|(of, _)| *of != key) {
                put_delta(&mut deltas, done);
            }
            let (_, delta) = open.get_or_insert_with(|| (key, HourDelta::default()));
            delta.add(&filed.event, filed.event_timestamp, filed.created_at, self.session_key);
        })?;
        open.into_iter().for_each(|done| put_delta(&mut deltas, done));
        for FiledDenial { tenant_no, denial, .. } in &self.denials {
            if denial.refused() > 0 && self.hours.contains(&denial.at.hour()) && tenants.contains(tenant_no) {
                let delta = deltas.entry((denial.at.hour(), *tenant_no)).or_default();
                delta.add_denials(denial.refused(), denial.at);
            }
        }
        Ok(deltas)
    }
}

fn put_delta(deltas: &mut BTreeMap<(u32, u32), HourDelta>, (key, delta): ((u32, u32), HourDelta)) {
    match deltas.entry(key) {
        Entry::Vacant(place) => {
            place.insert(delta);
        }
        Entry::Occupied(mut known) => known.get_mut().merge(&delta),
    }
}

/// The sums of some tenants' stored rows of `periods`, by tenant number.
pub(super) fn sum_of_rows(
    metrics: &MetricsReader,
    periods: impl Iterator<Item = Period>,
    tenants: &RangeInclusive<u32>,
) -> Result<Rows, StoreError> {
    let mut sums = Rows::new();
    for period in periods {
        metrics.rows_within(period, tenants)?.iter().for_each(|(tenant_no, row)| add_row(&mut sums, *tenant_no, row));
    }
    Ok(sums)
}

fn add_row(sums: &mut Rows, tenant_no: u32, row: &MetricsRow) {
    match sums.get_mut(&tenant_no) {
        None => {
            sums.insert(tenant_no, row.clone());
        }
        Some(sum) => {
            sum.rollup.merge(&row.rollup);
            sum.created_at = sum.created_at.min(row.created_at);
            sum.updated_at = sum.updated_at.max(row.updated_at);
        }
    }
}

/// Some tenants' rows that differ from the stored ones, ready to be written; `None` when none does.
fn changed_rows(
    metrics: &MetricsReader,
    period: Period,
    mut rows: Rows,
    tenants: &RangeInclusive<u32>,
) -> Result<Option<RowBlocks>, StoreError> {
    for (tenant_no, stored) in metrics.rows_within(period, tenants)? {
        if rows.get(&tenant_no) == Some(&stored) {
            rows.remove(&tenant_no);
        }
    }
    if rows.is_empty() { Ok(None) } else { row_blocks(metrics, period, &rows).map(Some) }
}

/// Rows, ready to be written.
pub(super) fn row_blocks(metrics: &MetricsReader, period: Period, rows: &Rows) -> Result<RowBlocks, StoreError> {
    let rows: Vec<(u32, &MetricsRow)> = rows.iter().map(|(tenant_no, row)| (*tenant_no, row)).collect();
    metrics.row_blocks(period, &rows)
}
