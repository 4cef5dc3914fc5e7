//! `GET /api/admin/usage`: usage, cost and quotas over all tenants, or everything about one.

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use serde::Serialize;

use super::super::HttpState;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::wire::quota::QuotaStatusJson;
use super::super::wire::scalar::{Number, number};
use super::super::wire::usage::{EventRow, Exceeding, ModelRow, Summary, UsageRow};
use super::blocking;
use super::usage::{groups_by_model, tenant_rows};
use crate::domain::money::Money;
use crate::domain::tenant::TenantId;
use crate::domain::time::{PeriodType, Timestamp};
use crate::tracker::{ConsumerMetric, EventQuery, TenantTotals};

/// Events shown beside a tenant's rows.
const RECENT_EVENTS: usize = 50;
const CONSUMERS: usize = 10;
const CONSUMERS_MAX: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metric {
    All,
    Of(ConsumerMetric),
}

/// `?tenantId&period&startDate&endDate&metric&limit&group_by`; `group_by=model` gives sums by model instead, with a tenant
/// beside each of its rows.
pub async fn show(State(state): State<HttpState>, uri: Uri) -> Result<Response, ApiError> {
    let params = Params::read(&uri, &["tenantId", "period", "startDate", "endDate", "metric", "limit", "group_by"])?;
    let now = state.engine.now();
    let period = params.period()?;
    let metric = read_metric(&params)?;
    let limit = params.limit(CONSUMERS, CONSUMERS_MAX)?;
    let range = params.range(period, now)?;
    let tenant_id: Option<TenantId> = params.parsed("tenantId")?;
    let asked = Asked { state, period, range, now, by_model: groups_by_model(&params)? };
    match tenant_id {
        None if asked.by_model => blocking(move || asked.by_model()).await?,
        Some(tenant_id) => blocking(move || asked.one_tenant(tenant_id)).await?,
        None => blocking(move || asked.all_tenants(metric, limit)).await?,
    }
}

fn read_metric(params: &Params) -> Result<Metric, ApiError> {
    match params.get("metric") {
        None | Some("all") => Ok(Metric::All),
        Some("tokens") => Ok(Metric::Of(ConsumerMetric::Tokens)),
        Some("cost") => Ok(Metric::Of(ConsumerMetric::Cost)),
        Some("api_calls") => Ok(Metric::Of(ConsumerMetric::ApiCalls)),
        Some(_) => Err(ApiError::parameter("metric", "must be all, tokens, cost or api_calls")),
    }
}

struct Asked {
    state: HttpState,
    period: PeriodType,
    range: (Timestamp, Timestamp),
    now: Timestamp,
    by_model: bool,
}

#[derive(Serialize)]
struct OneTenant {
    #[serde(rename = "tenantId")]
    tenant_id: String,
    period: &'static str,
    usage: Vec<UsageRow>,
    quota: QuotaStatusJson,
    #[serde(rename = "recentEvents")]
    recent_events: Vec<EventRow>,
    timestamp: String,
}

#[derive(Serialize)]
struct Models {
    period: &'static str,
    #[serde(rename = "byModel")]
    by_model: Vec<ModelRow>,
    timestamp: String,
}

#[derive(Serialize)]
struct Consumers {
    period: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
    #[serde(rename = "topConsumers")]
    top_consumers: Vec<Consumer>,
    #[serde(rename = "exceedingQuota", skip_serializing_if = "Option::is_none")]
    exceeding_quota: Option<Vec<Exceeding>>,
    timestamp: String,
}

/// One of the top consumers, by the metric that was asked for.
#[derive(Serialize)]
struct Consumer {
    tenant_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_tokens_used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_cost_usd: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_calls_total: Option<u64>,
}

impl Consumer {
    fn new(order: ConsumerMetric, totals: &TenantTotals) -> Self {
        // Nothing priced and something unpriced is unknown, not 0.
        let cost = match (totals.cost, totals.unpriced_events) {
            (Money::ZERO, 1..) => number("null".to_owned()),
            (cost, _) => number(cost.to_string()),
        };
        Self {
            tenant_id: totals.tenant_id.to_string(),
            total_tokens_used: (order == ConsumerMetric::Tokens).then_some(totals.tokens),
            estimated_cost_usd: (order == ConsumerMetric::Cost).then_some(cost),
            api_calls_total: (order == ConsumerMetric::ApiCalls).then_some(totals.api_calls),
        }
    }
}

impl Asked {
    fn one_tenant(self, tenant_id: TenantId) -> Result<Response, ApiError> {
        let (from, to) = self.range;
        let usage = tenant_rows(&self.state, &tenant_id, self.range, self.period, self.by_model)?;
        let quota = self.state.enforcer.get_quota_status(&tenant_id)?;
        let query = EventQuery { from, to, event_type: None, limit: RECENT_EVENTS, after: None };
        let page = self.state.tracker.get_tenant_events(&tenant_id, &query)?;
        let answer = OneTenant {
            tenant_id: tenant_id.to_string(),
            period: self.period.name(),
            usage,
            quota: QuotaStatusJson::from(&quota),
            recent_events: page.events.into_iter().map(EventRow::from).collect(),
            timestamp: self.now.to_string(),
        };
        Ok((StatusCode::OK, Json(answer)).into_response())
    }

    fn by_model(self) -> Result<Response, ApiError> {
        let (from, to) = self.range;
        let models = self.state.tracker.get_usage_by_model(self.period, from, to)?;
        let answer = Models {
            period: self.period.name(),
            by_model: models.into_iter().map(ModelRow::from).collect(),
            timestamp: self.now.to_string(),
        };
        Ok((StatusCode::OK, Json(answer)).into_response())
    }

    fn all_tenants(self, metric: Metric, limit: usize) -> Result<Response, ApiError> {
        let (tracker, (from, to)) = (&self.state.tracker, self.range);
        let order = match metric {
            Metric::All => ConsumerMetric::Tokens,
            Metric::Of(order) => order,
        };
        let top = tracker.get_top_consumers(order, self.period, from, to, limit)?;
        let (summary, exceeding) = match order {
            ConsumerMetric::Tokens => {
                let summary = tracker.get_multi_tenant_stats(self.period, from, to)?;
                let exceeding = tracker.get_tenants_exceeding_quota(self.period, from, to)?;
                let exceeding = exceeding.into_iter().map(Exceeding::from).collect();
                (Some(Summary::from(summary)), Some(exceeding))
            }
            ConsumerMetric::Cost | ConsumerMetric::ApiCalls => (None, None),
        };
        let answer = Consumers {
            period: self.period.name(),
            summary,
            top_consumers: top.iter().map(|totals| Consumer::new(order, totals)).collect(),
            exceeding_quota: exceeding,
            timestamp: self.now.to_string(),
        };
        Ok((StatusCode::OK, Json(answer)).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_shows_the_metric_that_was_asked_for() {
        let totals = |cost: &str, unpriced_events| TenantTotals {
            tenant_id: "acme".parse().unwrap(),
            tokens: 7,
            cost: cost.parse().unwrap(),
            unpriced_events,
            api_calls: 3,
            latency: (0, 0),
            quota_exceeded_count: 0,
        };
        for (order, cost, unpriced, shown) in [
            (ConsumerMetric::Tokens, "1", 0, r#"{"tenant_id":"acme","total_tokens_used":7}"#),
            (ConsumerMetric::ApiCalls, "1", 0, r#"{"tenant_id":"acme","api_calls_total":3}"#),
            (
                ConsumerMetric::Cost,
                "0.000000000000001",
                2,
                r#"{"tenant_id":"acme","estimated_cost_usd":0.000000000000001}"#,
            ),
            (ConsumerMetric::Cost, "0", 2, r#"{"tenant_id":"acme","estimated_cost_usd":null}"#),
            (ConsumerMetric::Cost, "0", 0, r#"{"tenant_id":"acme","estimated_cost_usd":0}"#),
        ] {
            assert_eq!(serde_json::to_string(&Consumer::new(order, &totals(cost, unpriced))).unwrap(), shown);
        }
    }

    #[test]
    fn an_unknown_metric_is_named() {
        let params = |query: &str| Params::read(&format!("/x?{query}").parse().unwrap(), &["metric"]).unwrap();
        assert!(read_metric(&params("metric=cost")).is_ok_and(|metric| metric == Metric::Of(ConsumerMetric::Cost)));
        assert!(read_metric(&params("metric=money")).is_err_and(|error| error.message().starts_with("metric")));
    }
}
