//! aggregate_usage_metrics: folds events into hourly, daily and monthly rows.
//!
//! Without a range it folds what has moved since the last time: a moving hour's delta is added to its stored rows, which
//! is exact because deltas and rows hold disjoint events. With a range it recomputes whole hours from their events, days
//! from their hours and months from their days. Either way the same events give the same rows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::rows::{add_delta, with_delta};
use super::{Aggregation, MaintainError, ReadError, UsageTracker};
use crate::domain::time::{Period, PeriodType, Timestamp};
use crate::live::{HourDelta, HourLayer};
use crate::store::{FiledDenial, HourMark, MetricsReader, MetricsRow, RowBlocks, Snapshot, StoreError};
use crate::writer::Publication;

/// Tenant hours folded in one transaction, so that the writer is never held up for long: as many as there are tenants, since
/// the rows of their days and months are written with each, within bounds.
const DELTAS_PER_PUBLICATION: (usize, usize) = (2_000, 20_000);

/// One period's rows by tenant number.
pub(super) type Rows = BTreeMap<u32, MetricsRow>;

/// Hours that are folded, with what they bring.
type Layers = Vec<(u32, Arc<HourLayer>)>;

impl UsageTracker {
    /// Folds events into hourly, daily and monthly rows: what is not yet folded, or a range again from its events.
    ///
    /// A range is widened to whole hours; hours not wholly above the retention cut stand untouched and are counted as
    /// skipped. Rows that come out as they were are not written: running it twice changes nothing. Blocks its thread.
    pub fn aggregate_usage_metrics(&self, range: Option<(Timestamp, Timestamp)>) -> Result<Aggregation, MaintainError> {
        if let Some((from, to)) = range
            && to < from
        {
            let reason = "is before the start of the range".to_owned();
            return Err(MaintainError::Read(ReadError::InvalidRange { field: "to", reason }));
        }
        self.writer.file_everything()?;
        let _alone = self.writer.maintenance();
        match range {
            None => self.fold_moving_hours(),
            Some((from, to)) => {
                // First fold what moves, in all three periods at once: a stop between a day and its month then leaves
                // both as they were counted.
                let folded = self.fold_moving_hours()?;
                let again = self.recompute(from, to)?;
                Ok(Aggregation { rows_written: folded.rows_written + again.rows_written, ..again })
            }
        }
    }

    pub(super) fn fold_moving_hours(&self) -> Result<Aggregation, MaintainError> {
        let mut rows_written = 0;
        loop {
            let (publication, layers, more) = self.prepare_fold()?;
            rows_written += publication.rows.iter().map(|rows| rows.rows as u64).sum::<u64>();
            if !publication.folds_hours.is_empty() {
                self.writer.publish(publication)?;
            }
            drop(layers);
            if !more {
                return Ok(Aggregation { rows_written, hours_skipped: 0 });
            }
        }
    }

    /// Folds the oldest moving hours, a bounded number; what it folds, and whether there are more.
    fn prepare_fold(&self) -> Result<(Publication, Layers, bool), StoreError> {
        let shared = self.writer.shared();
        let mut hours = Layers::new();
        let (least, most) = DELTAS_PER_PUBLICATION;
        let deltas_max = shared.counters.len().clamp(least, most);
        let mut deltas = 0;
        let mut more = false;
        {
            let live = shared.live.read();
            for (hour, layer) in live.filed_layers() {
                if deltas > 0 && deltas + layer.tenants.len() > deltas_max {
                    more = true;
                    break;
                }
                deltas += layer.tenants.len();
                hours.push((hour, Arc::clone(layer)));
            }
        }
        let snapshot = shared.store.snapshot()?;
        let metrics = snapshot.metrics()?;
        let mut marks = Vec::new();
        let mut tenants_of: BTreeMap<Period, BTreeSet<u32>> = BTreeMap::new();
        for (hour, layer) in &hours {
            for period in periods_of(*hour) {
                tenants_of.entry(period).or_default().extend(layer.tenants.keys());
            }
            marks.extend(snapshot.hour_marks(*hour..*hour + 1)?.into_iter().map(|(hour, mark)| {
                // Nothing is filed meanwhile: what is filed is what was folded here.
                (hour, HourMark { folded_through: mark.filed_through, ..mark })
            }));
        }
        let mut rows: BTreeMap<Period, Rows> = BTreeMap::new();
        for (period, tenants) in tenants_of {
            let tenants: Vec<u32> = tenants.into_iter().collect();
            rows.insert(period, metrics.rows_of(period, &tenants)?.into_iter().collect());
        }
        let peaks = peaks_with_folded(&snapshot, &hours, &rows)?;
        for (hour, layer) in &hours {
            for period in periods_of(*hour) {
                let of_period = rows.entry(period).or_default();
                for (tenant_no, delta) in &layer.tenants {
                    let peak = peaks.get(&(*hour, *tenant_no)).copied().unwrap_or_else(|| delta.peak());
                    match of_period.entry(*tenant_no) {
                        Entry::Occupied(mut row) => add_delta(row.get_mut(), delta, peak),
                        Entry::Vacant(place) => {
                            place.insert(with_delta(None, delta, peak));
                        }
                    }
                }
            }
        }
        let publication = Publication {
            rows: rows.iter().map(|(period, rows)| row_blocks(&metrics, *period, rows)).collect::<Result<_, _>>()?,
            hours: marks,
            folds_hours: hours.iter().map(|(hour, _)| *hour).collect(),
            ..Publication::default()
        };
        Ok((publication, hours, more))
    }

    fn recompute(&self, from: Timestamp, to: Timestamp) -> Result<Aggregation, MaintainError> {
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
        for day in days {
            let hours = (day * 24).max(first).max(first_kept)..(day * 24 + 24).min(last + 1);
            if hours.is_empty() {
                continue;
            }
            let publication = recompute_day(&snapshot, day, hours, session_key)?;
            done.rows_written += publication.rows.iter().map(|rows| rows.rows as u64).sum::<u64>();
            self.writer.publish(publication)?;
        }
        done.rows_written += self.refold_months(first, last)?;
        Ok(done)
    }

    /// Months again from their days.
    fn refold_months(&self, first_hour: u32, last_hour: u32) -> Result<u64, MaintainError> {
        let mut written = 0;
        let mut month = PeriodType::Monthly.containing(Period::hour(first_hour).start());
        while month.start() <= Period::hour(last_hour).start() {
            let metrics = self.writer.shared().store.snapshot()?.metrics()?;
            let days = (month.start().day()..month.end().day()).map(Period::day);
            if let Some(rows) = changed_rows(&metrics, month, fold(&metrics, days)?)? {
                written += rows.rows as u64;
                self.writer.publish(Publication { rows: vec![rows], ..Publication::default() })?;
            }
            month = month.next();
        }
        Ok(written)
    }
}

/// Hours of one day again from their events and denials, and the day again from its hours.
fn recompute_day(
    snapshot: &Snapshot,
    day: u32,
    hours: std::ops::Range<u32>,
    session_key: u64,
) -> Result<Publication, StoreError> {
    let deltas = deltas_from_events(snapshot, day, hours.clone(), session_key)?;
    let mut fresh: BTreeMap<Period, Rows> = hours.clone().map(|hour| (Period::hour(hour), Rows::new())).collect();
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
            None => metrics.rows(period)?.iter().for_each(|(tenant_no, row)| add_row(&mut of_day, *tenant_no, row)),
        }
    }
    fresh.insert(Period::day(day), of_day);

    let mut publication = Publication { folds_hours: hours.clone().collect(), ..Publication::default() };
    for (period, rows) in fresh {
        publication.rows.extend(changed_rows(&metrics, period, rows)?);
    }
    publication.hours = snapshot
        .hour_marks(hours)?
        .into_iter()
        .map(|(hour, mark)| (hour, HourMark { folded_through: mark.filed_through, ..mark }))
        .collect();
    Ok(publication)
}

/// What the events and denials of a day's hours add up to, by (hour, tenant number).
pub(super) fn deltas_from_events(
    snapshot: &Snapshot,
    day: u32,
    hours: std::ops::Range<u32>,
    session_key: u64,
) -> Result<BTreeMap<(u32, u32), HourDelta>, StoreError> {
    let mut deltas: BTreeMap<(u32, u32), HourDelta> = BTreeMap::new();
    let (from, to) = (Period::hour(hours.start).start(), Period::hour(hours.end).start());
    // They come by tenant and time: most add to the hour that the one before them did.
    let mut open: Option<((u32, u32), HourDelta)> = None;
    snapshot.day_events(day, 0, from, to, |stored| {
        let key = (stored.event_timestamp.hour(), stored.tenant_no);
        if let Some(done) = open.take_if(|(of, _)| *of != key) {
            put_delta(&mut deltas, done);
        }
        let (_, delta) = open.get_or_insert_with(|| (key, HourDelta::default()));
        delta.add(&stored.event, stored.event_timestamp, stored.created_at, session_key);
    })?;
    open.into_iter().for_each(|done| put_delta(&mut deltas, done));
    for FiledDenial { tenant_no, denial, .. } in snapshot.day_denials(day)? {
        if denial.refused() > 0 && hours.contains(&denial.at.hour()) {
            let delta = deltas.entry((denial.at.hour(), tenant_no)).or_default();
            delta.add_denials(denial.refused(), denial.at);
        }
    }
    Ok(deltas)
}

fn put_delta(deltas: &mut BTreeMap<(u32, u32), HourDelta>, (key, delta): ((u32, u32), HourDelta)) {
    match deltas.entry(key) {
        Entry::Vacant(place) => {
            place.insert(delta);
        }
        Entry::Occupied(mut known) => known.get_mut().merge(&delta),
    }
}

/// The sums of the stored rows of `periods`, by tenant number.
pub(super) fn fold(metrics: &MetricsReader, periods: impl Iterator<Item = Period>) -> Result<Rows, StoreError> {
    let mut sums = Rows::new();
    for period in periods {
        metrics.rows(period)?.iter().for_each(|(tenant_no, row)| add_row(&mut sums, *tenant_no, row));
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

/// The rows that differ from the stored ones, ready to be written; `None` when none does.
fn changed_rows(metrics: &MetricsReader, period: Period, mut rows: Rows) -> Result<Option<RowBlocks>, StoreError> {
    for (tenant_no, stored) in metrics.rows(period)? {
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

/// The hour, day and month that an hour is in.
fn periods_of(hour: u32) -> [Period; 3] {
    PeriodType::ALL.map(|kind| kind.containing(Period::hour(hour).start()))
}

/// The peaks, by (hour, tenant number), of tenants that have both a stored row and a delta in the hour: their busiest
/// second needs all events. A day is read once for all of its hours. `stored` has the rows of the hours.
fn peaks_with_folded(
    snapshot: &Snapshot,
    hours: &[(u32, Arc<HourLayer>)],
    stored: &BTreeMap<Period, Rows>,
) -> Result<HashMap<(u32, u32), u64>, StoreError> {
    let mut days: BTreeMap<u32, HashMap<(u32, u32), HourDelta>> = BTreeMap::new();
    for (hour, layer) in hours {
        let Some(rows) = stored.get(&Period::hour(*hour)) else { continue };
        for (tenant_no, _) in layer.tenants.iter().filter(|(_, delta)| delta.events() > 0) {
            if rows.get(tenant_no).is_some_and(|row| row.rollup.api_calls_total > 0) {
                days.entry(hour / 24).or_default().insert((*hour, *tenant_no), HourDelta::default());
            }
        }
    }
    let mut peaks = HashMap::new();
    for (day, mut seconds) in days {
        let period = Period::day(day);
        snapshot.day_events(day, 0, period.start(), period.end(), |stored| {
            if let Some(seconds) = seconds.get_mut(&(stored.event_timestamp.hour(), stored.tenant_no)) {
                seconds.add_second((stored.event_timestamp.seconds() % 3_600) as u16, 1);
            }
        })?;
        peaks.extend(seconds.into_iter().map(|(hour_of_tenant, seconds)| (hour_of_tenant, seconds.peak())));
    }
    Ok(peaks)
}
