//! All tenants at once: totals, top consumers, and who exceeds a quota.

use hashbrown::HashMap;

use super::{ConsumerMetric, ExceedingTenant, MultiTenantStats, ReadError, TenantTotals, UsageTracker};
use crate::domain::money::Money;
use crate::domain::quota::{QuotaStatus, QuotaType};
use crate::domain::tenant::TenantStatus;
use crate::domain::time::{Period, PeriodType, Timestamp};
use crate::store::{RowTotals, StoreError};

impl UsageTracker {
    /// Totals over all tenants for the periods that start in `from..to`.
    pub fn get_multi_tenant_stats(
        &self,
        period: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<MultiTenantStats, ReadError> {
        let totals = self.totals(period, from, to)?;
        let mut sum = RowTotals::default();
        totals.values().for_each(|of_tenant| sum.add(of_tenant));
        Ok(MultiTenantStats {
            total_tenants: totals.values().filter(|of_tenant| of_tenant.api_calls > 0).count() as u64,
            total_api_calls: sum.api_calls,
            total_tokens: sum.tokens,
            total_cost: (sum.unpriced_events == 0 || sum.cost > Money::ZERO).then_some(sum.cost),
            unpriced_events: sum.unpriced_events,
            avg_latency_ms: if sum.latency_count == 0 {
                0.0
            } else {
                sum.latency_sum_ms as f64 / sum.latency_count as f64
            },
        })
    }

    /// The tenants with the most of `metric` over the range, most first, ties by id; each tenant once, nothing cut.
    pub fn get_top_consumers(
        &self,
        metric: ConsumerMetric,
        period: PeriodType,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<TenantTotals>, ReadError> {
        let mut consumers = self.named(self.totals(period, from, to)?);
        consumers.retain(|tenant| tenant.api_calls > 0);
        consumers.sort_by(|a, b| {
            let most_first = match metric {
                ConsumerMetric::Tokens => b.tokens.cmp(&a.tokens),
                ConsumerMetric::Cost => b.cost.cmp(&a.cost),
                ConsumerMetric::ApiCalls => b.api_calls.cmp(&a.api_calls),
            };
            most_first.then_with(|| a.tenant_id.cmp(&b.tenant_id))
        });
        consumers.truncate(limit);
        Ok(consumers)
    }

    /// Tenants at or over a limit now, or denied in the range; by id.
    pub fn get_tenants_exceeding_quota(
        &self,
        period: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<ExceedingTenant>, ReadError> {
        let shared = self.writer.shared();
        let now = shared.clock.now();
        let mut totals = self.totals(period, from, to)?;
        let mut exceeding = Vec::new();
        for slot in shared.counters.all() {
            let status = {
                let mut state = slot.lock();
                if state.tenant().status == TenantStatus::Deleted {
                    continue;
                }
                state.status(now)
            };
            let of_tenant = totals.remove(&slot.no).unwrap_or_default();
            if status.any_exceeded() || of_tenant.quota_exceeded_count > 0 {
                exceeding.push(ExceedingTenant {
                    tenant_id: slot.id.clone(),
                    quota_limit: tokens(&status, |state| state.limit),
                    quota_remaining: tokens(&status, |state| state.remaining()),
                    total_tokens_used: of_tenant.tokens,
                    quota_exceeded_count: of_tenant.quota_exceeded_count,
                });
            }
        }
        exceeding.sort_by(|a, b| a.tenant_id.cmp(&b.tenant_id));
        Ok(exceeding)
    }

    /// Each tenant's totals over the periods that start in `from..to`, by number.
    fn totals(
        &self,
        period_type: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<HashMap<u32, RowTotals>, StoreError> {
        let mut totals: HashMap<u32, RowTotals> = HashMap::new();
        if to <= from {
            return Ok(totals);
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
        for (_, tenant_no, delta) in live.deltas(first.start().hour()..end.start().hour()) {
            totals.entry(tenant_no).or_default().add(&RowTotals::of(delta.sums()));
        }
        drop(live);
        let mut next = first.index;
        while let Some(index) = snapshot.next_period_with_rows(period_type, next, end.index)? {
            snapshot.totals(Period { period_type, index }, |tenant_no, row| {
                totals.entry(tenant_no).or_default().add(&row);
            })?;
            next = index + 1;
        }
        Ok(totals)
    }

    /// Deleted tenants' usage happened, but they are not listed.
    fn named(&self, totals: HashMap<u32, RowTotals>) -> Vec<TenantTotals> {
        let counters = &self.writer.shared().counters;
        let named = totals.into_iter().filter_map(|(tenant_no, row)| {
            let slot = counters.by_no(tenant_no)?;
            let deleted = slot.lock().tenant().status == TenantStatus::Deleted;
            (!deleted).then(|| TenantTotals {
                tenant_id: slot.id.clone(),
                tokens: row.tokens,
                cost: row.cost,
                unpriced_events: row.unpriced_events,
                api_calls: row.api_calls,
                latency: (row.latency_sum_ms, row.latency_count),
                quota_exceeded_count: row.quota_exceeded_count,
            })
        });
        named.collect()
    }
}

fn tokens(status: &QuotaStatus, amount: impl Fn(&crate::domain::quota::LimitState) -> Option<u128>) -> Option<u64> {
    let state = status.primary(QuotaType::Tokens)?;
    amount(state).map(|amount| u64::try_from(amount).unwrap_or(u64::MAX))
}
