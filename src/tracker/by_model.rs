//! Usage by model: of one tenant row by row, and of all tenants over a range.

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::rows::TenantRows;
use super::{ReadError, UsageTracker};
use crate::domain::metrics::{Rollup, UsageMetrics};
use crate::domain::models::{ModelKey, ModelSums, by_model};
use crate::domain::tenant::TenantId;
use crate::domain::time::{Period, PeriodType, Timestamp};

/// Models of all tenants that stand apart; those after them by name are told together.
const MODELS_OF_ALL_MAX: usize = 1_000;

/// Sums by model.
pub type ByModel = Vec<(ModelKey, ModelSums)>;

impl UsageTracker {
    /// [`UsageTracker::get_tenant_usage`], each row with its sums by model, which add up to it.
    pub fn get_tenant_usage_by_model(
        &self,
        tenant_id: &TenantId,
        from: Timestamp,
        to: Timestamp,
        period: PeriodType,
    ) -> Result<Vec<(UsageMetrics, ByModel)>, ReadError> {
        let slot = self.known(tenant_id)?;
        let now = self.writer.shared().clock.now();
        let tenant = TenantRows::read(self, &slot, now, from, to)?;
        let mut rows = Vec::new();
        for (period, row) in tenant.rows(period, from, to)? {
            rows.push((tenant.documented(period, &row)?, by_model(&row.rollup)));
        }
        rows.reverse();
        Ok(rows)
    }

    /// The sums by model over all tenants and the periods that start in `from..to`: models by name, then the rest, then
    /// what names none.
    pub fn get_usage_by_model(
        &self,
        period_type: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<ByModel, ReadError> {
        let mut all = AllModels::default();
        if to <= from {
            return Ok(Vec::new());
        }
        let starting_at = |time: Timestamp| {
            let period = period_type.containing(time);
            if period.start() < time { period.next() } else { period }
        };
        let (first, end) = (starting_at(from), starting_at(to));
        let shared = self.writer.shared();
        // Lock first, then snapshot: see `live`.
        let live = shared.live.read();
        let snapshot = shared.store.snapshot()?;
        for (_, _, delta) in live.deltas(first.start().hour()..end.start().hour()) {
            all.add(delta.sums());
        }
        drop(live);
        let metrics = snapshot.metrics()?;
        let mut next = first.index;
        while let Some(index) = metrics.next_period(period_type, next, end.index)? {
            for (_, row) in metrics.rows_within(Period { period_type, index }, &(0..=u32::MAX))? {
                all.add(&row.rollup);
            }
            next = index + 1;
        }
        Ok(all.finish())
    }
}

#[derive(Default)]
struct AllModels {
    models: BTreeMap<CompactString, ModelSums>,
    other: Option<ModelSums>,
    none: Option<ModelSums>,
}

impl AllModels {
    fn add(&mut self, rollup: &Rollup) {
        for (key, sums) in by_model(rollup) {
            match key {
                ModelKey::Model(model) => {
                    self.models.entry(model).or_default().add(&sums);
                    if self.models.len() > MODELS_OF_ALL_MAX
                        && let Some((_, last)) = self.models.pop_last()
                    {
                        self.other.get_or_insert_default().add(&last);
                    }
                }
                ModelKey::Other => self.other.get_or_insert_default().add(&sums),
                ModelKey::None => self.none.get_or_insert_default().add(&sums),
            }
        }
    }

    fn finish(self) -> ByModel {
        let models = self.models.into_iter().map(|(model, sums)| (ModelKey::Model(model), sums));
        let other = self.other.map(|sums| (ModelKey::Other, sums));
        models.chain(other).chain(self.none.map(|sums| (ModelKey::None, sums))).collect()
    }
}
