//! reprice: estimates of a past range again, by the price book in force; what callers gave stays.
//!
//! Run by run of the filed events: the run with its new estimates, the rows that follow from them, and the audit record go
//! to the disk in one transaction. What was charged to limits stays charged: no window is decided again.

use std::collections::BTreeMap;

use super::recompute::row_blocks;
use super::{MaintainError, UsageTracker};
use crate::counters::OwnPrices;
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::event::Estimate;
use crate::domain::models::ModelSums;
use crate::domain::money::Money;
use crate::domain::tenant::TenantId;
use crate::domain::time::{Period, PeriodType, Timestamp};
use crate::store::{MetricsReader, MetricsRow, RowBlocks, StoreError, StoredEvent, prepare_runs};
use crate::writer::{PriceTable, Publication, rewritten_run};

/// Tenants and models told apart in a report and in an audit record; the rest is told together.
const DIFFERENCES_MAX: usize = 1_000;
/// The same in an audit record.
const AUDITED_MAX: usize = 200;

/// Which events to price again.
#[derive(Clone, Debug)]
pub struct RepriceRequest {
    /// From this instant, by the time of the event.
    pub from: Timestamp,
    /// Up to and not including this instant.
    pub to: Timestamp,
    /// Only this tenant's.
    pub tenant_id: Option<TenantId>,
    /// Only report.
    pub dry_run: bool,
    /// Who asks, for the audit record.
    pub actor: Actor,
}

/// What repricing changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repriced {
    /// Events in the range that have a model and no cost of their caller's.
    pub events: u64,
    /// Those of them whose cost is another by now.
    pub changed: u64,
    /// Those of them that the book has no price for: they keep what they had.
    pub without_price: u64,
    /// By tenant and model.
    pub differences: BTreeMap<(TenantId, String), RepricedModel>,
    /// Changed events that found no place in `differences`.
    pub untold: u64,
}

/// The difference of one tenant's model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepricedModel {
    /// Events changed.
    pub events: u64,
    /// Those of them that had no cost.
    pub newly_priced: u64,
    /// What they cost together before.
    pub before: Money,
    /// And after.
    pub after: Money,
    /// Price rows by which they were priced before, and how many events by each; without those that had none.
    pub old_prices: BTreeMap<u32, u64>,
}

/// One event's change.
struct Change {
    tenant_no: u32,
    at: Timestamp,
    model: compact_str::CompactString,
    before: Option<Money>,
    after: Money,
}

impl UsageTracker {
    /// Prices the kept events of a range again, a day after the other. Blocks its thread, and holds up filing for as long as
    /// a day takes.
    ///
    /// An event that the book has no price for keeps what it had. A run that broke off is finished by the next one.
    pub fn reprice(&self, request: &RepriceRequest) -> Result<Repriced, MaintainError> {
        self.writer.file_everything()?;
        let shared = self.writer.shared();
        let prices = shared.prices.load_full();
        let (from, to) = (request.from.max(shared.store.snapshot()?.cut()?.cut), request.to);
        let mut all = Repriced::default();
        if from >= to {
            return Ok(all);
        }
        let days = shared.store.snapshot()?.days(from.day()..=to.day())?;
        for day in days {
            self.reprice_day(request, (from, to), day, &prices, &mut all)?;
        }
        Ok(all)
    }

    fn reprice_day(
        &self,
        request: &RepriceRequest,
        (from, to): (Timestamp, Timestamp),
        day: u32,
        prices: &PriceTable,
        all: &mut Repriced,
    ) -> Result<(), MaintainError> {
        // Runs stay what they are as long as this is held; between two days filing, and a stop, have their turn.
        let _alone = self.writer.maintenance();
        // Every filed event is in its rows from here on: they can follow from what changes.
        self.fold_moving_hours()?;
        let shared = self.writer.shared();
        // Of a tenant that is not there, there are no events.
        let only = match &request.tenant_id {
            Some(tenant_id) => match shared.counters.get(tenant_id) {
                Some(slot) => Some(slot.no),
                None => return Ok(()),
            },
            None => None,
        };
        let runs = shared.store.snapshot()?.runs(day..=day)?;
        for (day, run, info) in runs {
            if info.last_time < from.micros() || info.first_time >= to.micros() {
                continue;
            }
            let mut events = Vec::new();
            // A snapshot of each run's own: what the last one freed can be used again.
            let snapshot = shared.store.snapshot()?;
            snapshot.run_events(day, &[run], &(0..=u32::MAX), |stored| events.push(stored))?;
            let mut of_run = Repriced::default();
            let in_range = |stored: &StoredEvent| {
                (from..to).contains(&stored.event_timestamp) && only.is_none_or(|only| stored.tenant_no == only)
            };
            let mut changes = Vec::new();
            for stored in events.iter_mut().filter(|stored| in_range(stored)) {
                let tenant_id = snapshot.tenant_id(stored.tenant_no)?;
                let own = shared.own_prices(&tenant_id);
                changes.extend(of_run.price((prices, own.as_deref()), stored, tenant_id));
            }
            drop(snapshot);
            if !changes.is_empty() && !request.dry_run {
                // Like a merge: the same events under a name of its own.
                let merged = prepare_runs(&events)?.pop().ok_or(StoreError::Damaged("a run has no events"))?;
                self.writer.publish(Publication {
                    run: rewritten_run(run),
                    merged: Some((vec![run], merged)),
                    rows: adjusted_rows(&shared.store.snapshot()?.metrics()?, &changes)?,
                    audit: Some(audit_entry(request, (from, to), &of_run)),
                    ..Publication::default()
                })?;
            }
            all.add(of_run);
        }
        Ok(())
    }
}

impl Repriced {
    /// Prices one event again; its change, if it costs something else by now.
    fn price(
        &mut self,
        (prices, own): (&PriceTable, Option<&OwnPrices>),
        stored: &mut StoredEvent,
        tenant_id: TenantId,
    ) -> Option<Change> {
        let event = stored.to_usage(tenant_id);
        if event.cost_usd.is_some() || event.is_rate_limited() {
            return None;
        }
        let model = event.model.clone()?;
        self.events += 1;
        let Ok(estimate) = prices.estimate_for(own, &event, stored.event_timestamp) else {
            self.without_price += 1;
            return None;
        };
        let before: Option<Estimate> = event.estimate;
        if before.is_some_and(|before| before.cost == estimate.cost) {
            return None;
        }
        stored.event.set_estimate(estimate);
        let difference = RepricedModel {
            events: 1,
            newly_priced: u64::from(before.is_none()),
            before: before.map_or(Money::ZERO, |before| before.cost),
            after: estimate.cost,
            old_prices: before.iter().map(|before| (before.price_no, 1)).collect(),
        };
        self.changed += 1;
        self.differ((event.tenant_id.clone(), model.to_string()), &difference);
        let before = before.map(|before| before.cost);
        Some(Change { tenant_no: stored.tenant_no, at: stored.event_timestamp, model, before, after: estimate.cost })
    }

    fn differ(&mut self, key: (TenantId, String), more: &RepricedModel) {
        if self.differences.len() >= DIFFERENCES_MAX && !self.differences.contains_key(&key) {
            self.untold += more.events;
            return;
        }
        let known = self.differences.entry(key).or_default();
        known.events += more.events;
        known.newly_priced += more.newly_priced;
        known.before += more.before;
        known.after += more.after;
        for (price_no, events) in &more.old_prices {
            *known.old_prices.entry(*price_no).or_default() += events;
        }
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.changed += other.changed;
        self.without_price += other.without_price;
        self.untold += other.untold;
        other.differences.into_iter().for_each(|(key, difference)| self.differ(key, &difference));
    }
}

/// The hours, days and months that the changed events are in, with their new costs.
fn adjusted_rows(metrics: &MetricsReader, changes: &[Change]) -> Result<Vec<RowBlocks>, StoreError> {
    let mut rows: BTreeMap<Period, BTreeMap<u32, MetricsRow>> = BTreeMap::new();
    for change in changes {
        for period in PeriodType::ALL.map(|kind| kind.containing(change.at)) {
            let of_period = rows.entry(period).or_default();
            let row = match of_period.entry(change.tenant_no) {
                std::collections::btree_map::Entry::Occupied(row) => row.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let row = metrics.row(period, change.tenant_no)?;
                    place.insert(row.ok_or(StoreError::Damaged("a filed event is in no row"))?)
                }
            };
            let newly_priced = u64::from(change.before.is_none());
            let cost = |sum: Money| {
                let before = change.before.unwrap_or_default().femtos();
                Money::from_femtos(sum.femtos().saturating_sub(before)) + change.after
            };
            row.rollup.cost = cost(row.rollup.cost);
            row.rollup.unpriced_events = row.rollup.unpriced_events.saturating_sub(newly_priced);
            if let Some(sums) = row.rollup.models.sums_of_mut(&change.model) {
                sums.cost = cost(sums.cost);
                let unpriced = &mut sums.counts[ModelSums::UNPRICED];
                *unpriced = unpriced.saturating_sub(newly_priced);
            }
        }
    }
    rows.iter().map(|(period, rows)| row_blocks(metrics, *period, rows)).collect()
}

fn audit_entry(request: &RepriceRequest, (from, to): (Timestamp, Timestamp), repriced: &Repriced) -> AuditEntry {
    let told = repriced.differences.iter().take(AUDITED_MAX);
    let told: Vec<_> = told
        .map(|((tenant_id, model), difference)| {
            serde_json::json!({
                "tenant_id": tenant_id.as_str(),
                "model": model,
                "events": difference.events,
                "newly_priced": difference.newly_priced,
                "before": difference.before.to_string(),
                "after": difference.after.to_string(),
                "old_prices": difference.old_prices,
            })
        })
        .collect();
    let range = serde_json::json!({"from": from.to_string(), "to": to.to_string(), "differences": told});
    let mut entry = AuditEntry::system(request.tenant_id.clone(), "events_repriced", "price_book", AuditAction::Update);
    entry.new_values = Some(range.to_string());
    entry.changes_summary = Some(format!("{} events priced again", repriced.changed));
    request.actor.sign(&mut entry);
    entry
}
