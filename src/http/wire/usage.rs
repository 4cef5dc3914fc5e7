//! What is read back: metrics rows, event rows, totals and receipts, by their documented names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::scalar::{money_or_null, raw, text};
use crate::domain::event::{EventId, RecordedEvent, UsageEvent, event_types};
use crate::domain::metrics::UsageMetrics;
use crate::domain::models::{ModelKey, ModelSums};
use crate::domain::money::Money;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;
use crate::tracker::{ExceedingTenant, MultiTenantStats};

/// One row of `tenant_usage_metrics`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the documented columns")]
pub struct UsageRow {
    #[serde(with = "text")]
    pub metric_id: Uuid,
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    #[serde(with = "text")]
    pub period_start: Timestamp,
    #[serde(with = "text")]
    pub period_end: Timestamp,
    pub period_type: String,
    pub api_calls_total: u64,
    pub api_calls_successful: u64,
    pub api_calls_failed: u64,
    pub api_calls_rate_limited: u64,
    pub api_latency_avg_ms: f64,
    pub api_latency_p95_ms: f64,
    pub api_latency_p99_ms: f64,
    pub chat_messages_sent: u64,
    pub chat_messages_received: u64,
    pub chat_sessions_created: u64,
    pub chat_avg_response_time_ms: f64,
    pub embeddings_generated: u64,
    pub embeddings_tokens_used: u64,
    pub semantic_searches_performed: u64,
    pub kb_documents_ingested: u64,
    pub kb_documents_failed: u64,
    pub total_tokens_used: u64,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    /// Null: nothing in the period has a price, and something should.
    #[serde(with = "money_or_null")]
    pub estimated_cost_usd: Option<Money>,
    pub unpriced_events: u64,
    /// Null is unlimited.
    pub quota_limit: Option<u64>,
    pub quota_remaining: Option<u64>,
    pub quota_exceeded_count: u64,
    pub error_count: u64,
    pub error_rate: f64,
    pub peak_qps: f64,
    #[serde(with = "text")]
    pub created_at: Timestamp,
    #[serde(with = "text")]
    pub updated_at: Timestamp,
    /// Only with `group_by=model`; its rows add up to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_model: Option<Vec<ModelRow>>,
}

impl UsageRow {
    /// With its sums by model.
    pub fn with_models(row: UsageMetrics, models: Vec<(ModelKey, ModelSums)>) -> Self {
        Self { by_model: Some(models.into_iter().map(ModelRow::from).collect()), ..Self::from(row) }
    }
}

/// One model's part of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of ModelSums")]
pub struct ModelRow {
    /// Null: the events that name no model.
    pub model: Option<String>,
    /// Whether it stands for all models beyond the 64 that stand apart; `model` is `other` then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other: bool,
    pub requests: u64,
    pub total_tokens: u64,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub embedding_tokens: u64,
    pub cache_write_tokens: u64,
    pub audio_input_tokens: u64,
    pub audio_output_tokens: u64,
    pub image_input_tokens: u64,
    pub image_output_tokens: u64,
    pub web_searches: u64,
    #[serde(with = "money_or_null")]
    pub estimated_cost_usd: Option<Money>,
    pub unpriced_events: u64,
}

impl From<(ModelKey, ModelSums)> for ModelRow {
    fn from((key, sums): (ModelKey, ModelSums)) -> Self {
        let [
            requests,
            total_tokens,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            reasoning_tokens,
            embedding_tokens,
            unpriced_events,
            cache_write_tokens,
            audio_input_tokens,
            audio_output_tokens,
            image_input_tokens,
            image_output_tokens,
            web_searches,
        ] = sums.counts;
        let other = key == ModelKey::Other;
        Self {
            model: match key {
                ModelKey::Model(model) => Some(model.into_string()),
                ModelKey::Other => Some("other".to_owned()),
                ModelKey::None => None,
            },
            other,
            requests,
            total_tokens,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            reasoning_tokens,
            embedding_tokens,
            cache_write_tokens,
            audio_input_tokens,
            audio_output_tokens,
            image_input_tokens,
            image_output_tokens,
            web_searches,
            // Nothing priced and something unpriced is unknown, not 0.
            estimated_cost_usd: (unpriced_events == 0 || sums.cost > Money::ZERO).then_some(sums.cost),
            unpriced_events,
        }
    }
}

impl From<UsageMetrics> for UsageRow {
    fn from(row: UsageMetrics) -> Self {
        Self {
            metric_id: row.metric_id,
            tenant_id: row.tenant_id,
            period_start: row.period.start(),
            period_end: row.period.end(),
            period_type: row.period.period_type.name().to_owned(),
            api_calls_total: row.api_calls_total,
            api_calls_successful: row.api_calls_successful,
            api_calls_failed: row.api_calls_failed,
            api_calls_rate_limited: row.api_calls_rate_limited,
            api_latency_avg_ms: row.api_latency_avg_ms,
            api_latency_p95_ms: row.api_latency_p95_ms,
            api_latency_p99_ms: row.api_latency_p99_ms,
            chat_messages_sent: row.chat_messages_sent,
            chat_messages_received: row.chat_messages_received,
            chat_sessions_created: row.chat_sessions_created,
            chat_avg_response_time_ms: row.chat_avg_response_time_ms,
            embeddings_generated: row.embeddings_generated,
            embeddings_tokens_used: row.embeddings_tokens_used,
            semantic_searches_performed: row.semantic_searches_performed,
            kb_documents_ingested: row.kb_documents_ingested,
            kb_documents_failed: row.kb_documents_failed,
            total_tokens_used: row.total_tokens_used,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            estimated_cost_usd: row.estimated_cost_usd,
            unpriced_events: row.unpriced_events,
            quota_limit: row.quota_limit,
            quota_remaining: row.quota_remaining,
            quota_exceeded_count: row.quota_exceeded_count,
            error_count: row.error_count,
            error_rate: row.error_rate,
            peak_qps: row.peak_qps,
            created_at: row.created_at,
            updated_at: row.updated_at,
            by_model: None,
        }
    }
}

/// One row of `tenant_usage_realtime`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the documented columns")]
pub struct EventRow {
    pub entry_id: u64,
    #[serde(with = "text")]
    pub event_id: EventId,
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    pub event_type: String,
    #[serde(with = "text")]
    pub event_timestamp: Timestamp,
    pub api_method: Option<String>,
    pub api_endpoint: Option<String>,
    pub api_status_code: Option<u16>,
    pub api_response_time_ms: Option<u32>,
    pub chat_session_id: Option<String>,
    pub model: Option<String>,
    #[serde(default)]
    pub provider: Option<String>,
    pub embedding_tokens: Option<u64>,
    pub search_query_tokens: Option<u64>,
    pub search_result_count: Option<u64>,
    pub tokens_consumed: u64,
    pub input_tokens: Option<u64>,
    pub cached_input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    /// Counts of the provider's own usage that have no field here, those that it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<BTreeMap<String, u64>>,
    /// As the caller said, else by the price book; null is unknown, never free.
    #[serde(with = "money_or_null")]
    pub cost_usd: Option<Money>,
    /// Whether `cost_usd` was reckoned by the price book.
    #[serde(default)]
    pub cost_estimated: bool,
    pub metadata: Option<Box<RawValue>>,
    #[serde(with = "text")]
    pub created_at: Timestamp,
}

impl From<RecordedEvent> for EventRow {
    /// Shows what is counted: the defaults of tokens are filled in.
    fn from(recorded: RecordedEvent) -> Self {
        let event = recorded.event;
        let tokens = event.tokens();
        let cost_usd = event.cost();
        let cost_estimated = event.cost_usd.is_none() && cost_usd.is_some();
        let given = |usage: &UsageCounts| {
            let counts = usage.all().into_iter();
            counts.filter_map(|(name, count)| Some((name.to_owned(), count?))).collect()
        };
        let tokens_of = |kind: &str| (event.event_type == kind).then_some(tokens);
        Self {
            entry_id: recorded.entry_id,
            event_id: recorded.event_id,
            embedding_tokens: event.embedding_tokens.or(tokens_of(event_types::EMBEDDING)),
            search_query_tokens: event.search_query_tokens.or(tokens_of(event_types::SEARCH)),
            event_type: event.event_type.into_string(),
            event_timestamp: recorded.event_timestamp,
            api_method: event.api_method.map(Into::into),
            api_endpoint: event.api_endpoint.map(Into::into),
            api_status_code: event.api_status_code,
            api_response_time_ms: event.api_response_time_ms,
            chat_session_id: event.chat_session_id.map(Into::into),
            model: event.model.map(Into::into),
            provider: event.provider.map(Into::into),
            search_result_count: event.search_result_count,
            tokens_consumed: tokens,
            input_tokens: event.input_tokens,
            cached_input_tokens: event.cached_input_tokens,
            output_tokens: event.output_tokens,
            reasoning_tokens: event.reasoning_tokens,
            usage: event.usage.as_deref().map(given),
            cost_usd,
            cost_estimated,
            // It was JSON when it was recorded.
            metadata: event.metadata.map(|json| raw(json.into())),
            created_at: recorded.created_at,
            tenant_id: event.tenant_id,
        }
    }
}

/// An event as a caller sends it, for our own clients; what is not given is left out, and so is what was read out of a
/// provider's own usage and has no field.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct SentEvent(serde_json::Map<String, serde_json::Value>);

impl From<&UsageEvent> for SentEvent {
    fn from(event: &UsageEvent) -> Self {
        let mut fields = serde_json::Map::new();
        let texts = [
            ("tenant_id", Some(event.tenant_id.to_string())),
            ("event_type", Some(event.event_type.to_string())),
            ("event_id", event.event_id.as_ref().map(ToString::to_string)),
            ("event_timestamp", event.event_timestamp.map(|time| time.to_string())),
            ("api_method", event.api_method.as_ref().map(ToString::to_string)),
            ("api_endpoint", event.api_endpoint.as_ref().map(ToString::to_string)),
            ("chat_session_id", event.chat_session_id.as_ref().map(ToString::to_string)),
            ("model", event.model.as_ref().map(ToString::to_string)),
            ("provider", event.provider.as_ref().map(ToString::to_string)),
            // As text, which keeps every digit in every JSON library.
            ("cost_usd", event.cost_usd.map(|cost| cost.to_string())),
        ];
        let counts = [
            ("api_status_code", event.api_status_code.map(u64::from)),
            ("api_response_time_ms", event.api_response_time_ms.map(u64::from)),
            ("embedding_tokens", event.embedding_tokens),
            ("search_query_tokens", event.search_query_tokens),
            ("search_result_count", event.search_result_count),
            ("tokens_consumed", event.tokens_consumed),
            ("input_tokens", event.input_tokens),
            ("cached_input_tokens", event.cached_input_tokens),
            ("output_tokens", event.output_tokens),
            ("reasoning_tokens", event.reasoning_tokens),
        ];
        for (field, text) in texts {
            text.map(|text| fields.insert(field.to_owned(), text.into()));
        }
        for (field, count) in counts {
            count.map(|count| fields.insert(field.to_owned(), count.into()));
        }
        let metadata = event.metadata.as_deref().and_then(|json| serde_json::from_str(json).ok());
        metadata.map(|json| fields.insert("metadata".to_owned(), json));
        Self(fields)
    }
}

/// What became of a submission.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recorded {
    /// Recorded now.
    pub accepted: u64,
    /// Recorded before, with the same content.
    pub duplicates: u64,
    /// Only of audit events: left out by the sampling of their type, and counted; left out when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sampled_out: u64,
    /// At most [`REJECTED_LISTED_MAX`] of what was not recorded.
    pub rejected: Vec<RejectedEvent>,
    /// How many were not recorded; left out when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejected_total: u64,
}

/// The answer to `?ack=queued`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Queued {
    /// On their way to the disk.
    pub queued: u64,
    /// At most [`REJECTED_LISTED_MAX`] of what was not queued.
    pub rejected: Vec<RejectedEvent>,
    /// How many were not queued; left out when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejected_total: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What settling answers: as events, and how it stood with the reservation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settled {
    /// Of the events.
    #[serde(flatten)]
    pub recorded: Recorded,
    /// Whether more was recorded than was reserved, or the reservation was released before.
    pub overage: bool,
    /// Whether the reservation had lapsed.
    pub lapsed: bool,
}

/// The most rejected events an answer lists; their number is always whole.
pub const REJECTED_LISTED_MAX: usize = 100;

/// One event that was not recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectedEvent {
    /// Its place in the batch, or its line, from 0.
    pub index: u64,
    /// A stable code.
    pub code: String,
    /// What to change.
    pub error: String,
}

/// All tenants' totals, as `summary` shows them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the documented names")]
pub struct Summary {
    pub total_tenants: u64,
    pub total_api_calls: u64,
    pub total_tokens: u64,
    #[serde(with = "money_or_null")]
    pub total_cost: Option<Money>,
    pub avg_latency_ms: f64,
}

impl From<MultiTenantStats> for Summary {
    fn from(stats: MultiTenantStats) -> Self {
        Self {
            total_tenants: stats.total_tenants,
            total_api_calls: stats.total_api_calls,
            total_tokens: stats.total_tokens,
            total_cost: stats.total_cost,
            avg_latency_ms: stats.avg_latency_ms,
        }
    }
}

/// A tenant at or over a limit, or denied in the range.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the documented names")]
pub struct Exceeding {
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    pub quota_limit: Option<u64>,
    pub quota_remaining: Option<u64>,
    pub total_tokens_used: u64,
    pub quota_exceeded_count: u64,
}

impl From<ExceedingTenant> for Exceeding {
    fn from(tenant: ExceedingTenant) -> Self {
        Self {
            tenant_id: tenant.tenant_id,
            quota_limit: tenant.quota_limit,
            quota_remaining: tenant.quota_remaining,
            total_tokens_used: tenant.total_tokens_used,
            quota_exceeded_count: tenant.quota_exceeded_count,
        }
    }
}

/// A page of a tenant's events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventRows {
    /// Newest first.
    pub events: Vec<EventRow>,
    /// Where to go on; null at the end.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A tenant's open UTC day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TodayUsage {
    /// Whose.
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    /// The row of the day so far.
    pub usage: UsageRow,
}

/// A tenant's metrics rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantUsage {
    /// Whose.
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    /// `hourly`, `daily` or `monthly`.
    pub period: String,
    /// Newest first.
    pub usage: Vec<UsageRow>,
}
