//! Folding what has moved: deltas of the filed layer are added to the stored rows of their hours, days and months.
//!
//! A transaction has one slice's hours, as many as are bounded: the rows of a tenant's day and month are then written once for
//! several of its hours.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::rows::{add_delta, with_delta};
use super::{Aggregation, MaintainError, UsageTracker};
use crate::domain::slice::SliceHour;
use crate::domain::time::{Period, PeriodType};
use crate::live::{HourDelta, HourLayer};
use crate::store::{EventsWanted, HourMark, MetricsRow, Snapshot, StoreError};
use crate::writer::Publication;

/// Tenant hours folded in one transaction, unless one hour of a slice has more: so that the writer is never held up for long.
const DELTAS_PER_PUBLICATION: usize = 8_192;

/// A slice's hours that are folded, with what they bring.
type Layers = Vec<(SliceHour, Arc<HourLayer>)>;

/// What a tenant's hour brings.
struct Moving<'a> {
    hour: u32,
    /// The period that is folded: the hour itself, then its day, then its month.
    period: u32,
    tenant_no: u32,
    delta: &'a HourDelta,
    /// The busiest second of all of the hour's events.
    peak: u64,
}

impl UsageTracker {
    /// Folds all that is filed. Nothing may be filed meanwhile.
    pub(super) fn fold_moving_hours(&self) -> Result<Aggregation, MaintainError> {
        let mut rows_written = 0;
        while let Some(rows) = self.fold_next()? {
            rows_written += rows;
        }
        Ok(Aggregation { rows_written, hours_skipped: 0 })
    }

    /// Folds the first moving hours of one slice in one transaction; gives how many rows it wrote, `None` when nothing moves.
    pub(crate) fn fold_next(&self) -> Result<Option<u64>, MaintainError> {
        let layers = self.next_to_fold();
        if layers.is_empty() {
            return Ok(None);
        }
        let publication = fold(&self.writer.shared().store.snapshot()?, &layers)?;
        let rows = publication.rows.iter().map(|rows| rows.rows as u64).sum();
        // The layers are kept until then: so the writer need not free them.
        self.writer.publish(publication)?;
        Ok(Some(rows))
    }

    /// The first moving hours of one slice, a bounded number of deltas.
    fn next_to_fold(&self) -> Layers {
        let (mut layers, mut deltas) = (Layers::new(), 0);
        for (of, layer) in self.writer.shared().live.read().filed_layers() {
            deltas += layer.tenants.len();
            if layers.last().is_some_and(|((slice, _), _)| *slice != of.0 || deltas > DELTAS_PER_PUBLICATION) {
                break;
            }
            layers.push((of, Arc::clone(layer)));
        }
        layers
    }
}

/// The rows of these hours and of their days and months, with what the hours bring.
fn fold(snapshot: &Snapshot, layers: &Layers) -> Result<Publication, StoreError> {
    let metrics = snapshot.metrics()?;
    let mut moving: Vec<Moving<'_>> = Vec::with_capacity(layers.iter().map(|(_, layer)| layer.tenants.len()).sum());
    for ((_, hour), layer) in layers {
        let deltas = layer.tenants.iter();
        moving.extend(deltas.map(|(tenant_no, delta)| Moving {
            hour: *hour,
            period: *hour,
            tenant_no: *tenant_no,
            delta,
            peak: delta.peak(),
        }));
    }
    let mut publication =
        Publication { folds_hours: layers.iter().map(|(of, _)| *of).collect(), ..Publication::default() };
    for period_type in PeriodType::ALL {
        let index_of = |hour: u32| period_type.containing(Period::hour(hour).start()).index;
        let index_of: HashMap<u32, u32> = layers.iter().map(|((_, hour), _)| (*hour, index_of(*hour))).collect();
        moving.iter_mut().for_each(|moving| moving.period = index_of[&moving.hour]);
        moving.sort_unstable_by_key(|moving| (moving.period, moving.tenant_no, moving.hour));
        let mut stored = Vec::new();
        for of_period in moving.chunk_by(|one, other| one.period == other.period) {
            let period = Period { period_type, index: of_period[0].period };
            let mut tenants: Vec<u32> = of_period.iter().map(|moving| moving.tenant_no).collect();
            tenants.dedup();
            stored.push((period, metrics.rows_of(period, &tenants)?));
        }
        if period_type == PeriodType::Hourly {
            find_peaks(snapshot, layers, &mut moving, &stored)?;
        }
        let periods = moving.chunk_by(|one, other| one.period == other.period);
        for ((period, stored), of_period) in stored.into_iter().zip(periods) {
            let rows = added(stored, of_period);
            let rows: Vec<(u32, &MetricsRow)> = rows.iter().map(|(tenant_no, row)| (*tenant_no, row)).collect();
            publication.rows.push(metrics.row_blocks(period, &rows)?);
        }
    }
    // Nothing is filed meanwhile: what is filed is what was folded here.
    let marks = snapshot.hour_marks_of(publication.folds_hours.iter().copied())?.into_iter();
    publication.hours = marks.map(|(of, mark)| (of, HourMark { folded_through: mark.filed_through, ..mark })).collect();
    Ok(publication)
}

/// Stored rows with what moves added; both of one period and sorted by tenant, and no row is of another tenant.
fn added(stored: Vec<(u32, MetricsRow)>, moving: &[Moving<'_>]) -> Vec<(u32, MetricsRow)> {
    let mut rows: Vec<(u32, MetricsRow)> = Vec::with_capacity(moving.len());
    let mut stored = stored.into_iter().peekable();
    for Moving { tenant_no, delta, peak, .. } in moving {
        match rows.last_mut() {
            Some((last, row)) if last == tenant_no => add_delta(row, delta, *peak),
            _ => {
                let row = stored.next_if(|(of, _)| of == tenant_no).map(|(_, row)| row);
                rows.push((*tenant_no, with_delta(row, delta, *peak)));
            }
        }
    }
    rows
}

/// Finds the peaks of tenants that have both a stored row and a delta in the hour: their busiest second needs all events. A
/// day is read once for all of its hours. `stored` has the rows of each hour.
fn find_peaks(
    snapshot: &Snapshot,
    layers: &Layers,
    moving: &mut [Moving<'_>],
    stored: &[(Period, Vec<(u32, MetricsRow)>)],
) -> Result<(), StoreError> {
    let mut days: BTreeMap<u32, HashMap<(u32, u32), HourDelta>> = BTreeMap::new();
    for (of_hour, (_, rows)) in moving.chunk_by(|one, other| one.hour == other.hour).zip(stored) {
        let mut rows = rows.iter().peekable();
        for Moving { hour, tenant_no, delta, .. } in of_hour {
            let row = rows.next_if(|(of, _)| of == tenant_no);
            if delta.events() > 0 && row.is_some_and(|(_, row)| row.rollup.api_calls_total > 0) {
                days.entry(hour / 24).or_default().insert((*hour, *tenant_no), HourDelta::default());
            }
        }
    }
    let Some(((slice, _), _)) = layers.first() else { return Ok(()) };
    for (day, seconds) in &mut days {
        let hours = || seconds.keys().map(|(hour, _)| *hour);
        let wanted = EventsWanted {
            tenants: slice.tenants(),
            first_entry: 0,
            from: Period::hour(hours().min().unwrap_or_default()).start(),
            to: Period::hour(hours().max().unwrap_or_default()).end(),
        };
        snapshot.day_events(*day, &wanted, |filed| {
            if let Some(seconds) = seconds.get_mut(&(filed.event_timestamp.hour(), filed.tenant_no)) {
                seconds.add_second((filed.event_timestamp.seconds() % 3_600) as u16, 1);
            }
        })?;
    }
    for Moving { hour, tenant_no, peak, .. } in moving {
        if let Some(seconds) = days.get(&(*hour / 24)).and_then(|seconds| seconds.get(&(*hour, *tenant_no))) {
            *peak = seconds.peak();
        }
    }
    Ok(())
}
