//! All tenants at once: totals, top consumers, and who exceeds a quota.

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
        totals.iter().for_each(|of_tenant| sum.add(of_tenant));
        Ok(MultiTenantStats {
            total_tenants: totals.iter().filter(|of_tenant| of_tenant.api_calls > 0).count() as u64,
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
        let of = |totals: &RowTotals| match metric {
            ConsumerMetric::Tokens => u128::from(totals.tokens),
            ConsumerMetric::Cost => totals.cost.femtos(),
            ConsumerMetric::ApiCalls => u128::from(totals.api_calls),
        };
        let totals = self.totals(period, from, to)?;
        let mut consumers: Vec<(u128, u32)> = totals.iter().map(of).zip(0..).collect();
        consumers.retain(|(_, no)| totals[*no as usize].api_calls > 0);
        consumers.sort_unstable_by_key(|(amount, _)| std::cmp::Reverse(*amount));
        // Names are needed of those at the top alone, and of all who share a place.
        let mut top: Vec<TenantTotals> = Vec::new();
        for equals in consumers.chunk_by(|(one, _), (other, _)| one == other) {
            if top.len() >= limit {
                break;
            }
            let mut named: Vec<TenantTotals> =
                equals.iter().filter_map(|(_, no)| self.named(*no, &totals[*no as usize])).collect();
            named.sort_by(|a, b| a.tenant_id.cmp(&b.tenant_id));
            top.extend(named);
        }
        top.truncate(limit);
        Ok(top)
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
        let totals = self.totals(period, from, to)?;
        let mut exceeding = Vec::new();
        for slot in shared.counters.all() {
            let status = {
                let mut state = slot.lock();
                if state.tenant().status == TenantStatus::Deleted {
                    continue;
                }
                state.status(now)
            };
            let of_tenant = totals.get(slot.no as usize).copied().unwrap_or_default();
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

    /// Each tenant's totals over the periods that start in `from..to`, at the place of its number.
    fn totals(&self, period_type: PeriodType, from: Timestamp, to: Timestamp) -> Result<Vec<RowTotals>, StoreError> {
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
        let key = shared.stored_totals.key(period_type, first.index, end.index);
        let mut moving = Vec::new();
        for (_, tenant_no, delta) in live.deltas(first.start().hour()..end.start().hour()) {
            add(&mut moving, tenant_no, &RowTotals::of(delta.sums()));
        }
        drop(live);
        let stored = shared.stored_totals.get(key, || {
            let metrics = snapshot.metrics()?;
            let mut stored = vec![RowTotals::default(); shared.store.names().read().len()];
            let (mut unknown, mut next) = (false, first.index);
            while let Some(index) = metrics.next_period(period_type, next, end.index)? {
                metrics.totals(Period { period_type, index }, |tenant_no, row| {
                    match stored.get_mut(tenant_no as usize) {
                        Some(totals) => totals.add(&row),
                        None => unknown = true,
                    }
                })?;
                next = index + 1;
            }
            if unknown { Err(StoreError::Damaged("a row is of a tenant that does not exist")) } else { Ok(stored) }
        })?;
        let mut totals = Vec::clone(&stored);
        (0..).zip(&moving).for_each(|(tenant_no, more)| add(&mut totals, tenant_no, more));
        Ok(totals)
    }

    /// Deleted tenants' usage happened, but they are not listed.
    fn named(&self, tenant_no: u32, totals: &RowTotals) -> Option<TenantTotals> {
        let slot = self.writer.shared().counters.by_no(tenant_no)?;
        let deleted = slot.lock().tenant().status == TenantStatus::Deleted;
        (!deleted).then(|| TenantTotals {
            tenant_id: slot.id.clone(),
            tokens: totals.tokens,
            cost: totals.cost,
            unpriced_events: totals.unpriced_events,
            api_calls: totals.api_calls,
            latency: (totals.latency_sum_ms, totals.latency_count),
            quota_exceeded_count: totals.quota_exceeded_count,
        })
    }
}

/// Adds to a tenant's totals. Tenants are numbered without gaps, and rows come by number.
fn add(totals: &mut Vec<RowTotals>, tenant_no: u32, more: &RowTotals) {
    let place = tenant_no as usize;
    if totals.len() <= place {
        totals.resize(place + 1, RowTotals::default());
    }
    totals[place].add(more);
}

fn tokens(status: &QuotaStatus, amount: impl Fn(&crate::domain::quota::LimitState) -> Option<u128>) -> Option<u64> {
    let state = status.primary(QuotaType::Tokens)?;
    amount(state).map(|amount| u64::try_from(amount).unwrap_or(u64::MAX))
}
