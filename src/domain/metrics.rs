//! Metrics: what a period's events add up to, and the documented row that shows it.

use uuid::Uuid;

use super::models::ModelTable;
use super::money::Money;
use super::sketch::Sketch;
use super::tenant::TenantId;
use super::time::Period;

/// The sums of one tenant and one period, mergeable without loss.
///
/// Two rollups of disjoint events merge into the rollup of both, except for `peak_qps`, which needs `seconds` of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    /// All events.
    pub api_calls_total: u64,
    /// Status 200-299, or none given.
    pub api_calls_successful: u64,
    /// Status 400 and above, except 429.
    pub api_calls_failed: u64,
    /// Status 429.
    pub api_calls_rate_limited: u64,
    /// Milliseconds, over the events that name a response time.
    pub latency_sum_ms: u64,
    /// The distribution of the same; its count is theirs.
    pub latency: Sketch,
    /// Events that name a response time.
    pub latency_count: u64,
    /// Chat messages without a method or with POST.
    pub chat_messages_sent: u64,
    /// Chat messages with GET or marked as a response.
    pub chat_messages_received: u64,
    /// Keyed hashes of the distinct chat sessions, sorted.
    pub chat_sessions: Vec<u64>,
    /// Milliseconds, over the chat messages that name a response time.
    pub chat_latency_sum_ms: u64,
    /// Chat messages that name a response time.
    pub chat_latency_count: u64,
    /// Embedding events.
    pub embeddings_generated: u64,
    /// Their tokens.
    pub embeddings_tokens_used: u64,
    /// Search events.
    pub semantic_searches_performed: u64,
    /// Documents taken in.
    pub kb_documents_ingested: u64,
    /// Documents that failed, status 400 and above.
    pub kb_documents_failed: u64,
    /// Tokens consumed.
    pub total_tokens_used: u64,
    /// Input tokens, as far as they were given apart.
    pub input_tokens: u64,
    /// Cached input tokens.
    pub cached_input_tokens: u64,
    /// Output tokens, as far as they were given apart.
    pub output_tokens: u64,
    /// Reasoning tokens.
    pub reasoning_tokens: u64,
    /// Cost of the priced events.
    pub cost: Money,
    /// Events that could cost something and have no price: their cost is unknown, not 0.
    pub unpriced_events: u64,
    /// Quota denials.
    pub quota_exceeded_count: u64,
    /// The most events in any one second.
    pub peak_qps: u64,
    /// The same by model, as far as events name one.
    pub models: ModelTable,
}

impl Rollup {
    /// Adds every sum of `other`; the peak becomes the larger of the two.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            api_calls_total,
            api_calls_successful,
            api_calls_failed,
            api_calls_rate_limited,
            latency_sum_ms,
            latency,
            latency_count,
            chat_messages_sent,
            chat_messages_received,
            chat_sessions,
            chat_latency_sum_ms,
            chat_latency_count,
            embeddings_generated,
            embeddings_tokens_used,
            semantic_searches_performed,
            kb_documents_ingested,
            kb_documents_failed,
            total_tokens_used,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            reasoning_tokens,
            cost,
            unpriced_events,
            quota_exceeded_count,
            peak_qps,
            models,
        } = other;
        // Sums of at most 10^12 each: 18 million of the largest events fit in 64 bits; beyond that a sum stays at its end.
        for (sum, more) in [
            (&mut self.api_calls_total, api_calls_total),
            (&mut self.api_calls_successful, api_calls_successful),
            (&mut self.api_calls_failed, api_calls_failed),
            (&mut self.api_calls_rate_limited, api_calls_rate_limited),
            (&mut self.latency_sum_ms, latency_sum_ms),
            (&mut self.latency_count, latency_count),
            (&mut self.chat_messages_sent, chat_messages_sent),
            (&mut self.chat_messages_received, chat_messages_received),
            (&mut self.chat_latency_sum_ms, chat_latency_sum_ms),
            (&mut self.chat_latency_count, chat_latency_count),
            (&mut self.embeddings_generated, embeddings_generated),
            (&mut self.embeddings_tokens_used, embeddings_tokens_used),
            (&mut self.semantic_searches_performed, semantic_searches_performed),
            (&mut self.kb_documents_ingested, kb_documents_ingested),
            (&mut self.kb_documents_failed, kb_documents_failed),
            (&mut self.total_tokens_used, total_tokens_used),
            (&mut self.input_tokens, input_tokens),
            (&mut self.cached_input_tokens, cached_input_tokens),
            (&mut self.output_tokens, output_tokens),
            (&mut self.reasoning_tokens, reasoning_tokens),
            (&mut self.unpriced_events, unpriced_events),
            (&mut self.quota_exceeded_count, quota_exceeded_count),
        ] {
            *sum = sum.saturating_add(*more);
        }
        self.latency.merge(latency);
        self.cost += *cost;
        self.peak_qps = self.peak_qps.max(*peak_qps);
        self.add_sessions(chat_sessions);
        self.models.merge(models);
    }

    /// Adds a chat session by its hash, once.
    pub fn add_session(&mut self, session: u64) {
        if let Err(place) = self.chat_sessions.binary_search(&session) {
            self.chat_sessions.insert(place, session);
        }
    }

    /// Adds sorted chat sessions in one pass: a month may have a million of them.
    fn add_sessions(&mut self, more: &[u64]) {
        if more.is_empty() {
            return;
        }
        let known = std::mem::take(&mut self.chat_sessions);
        self.chat_sessions.reserve(known.len() + more.len());
        let (mut known, mut more) = (known.into_iter().peekable(), more.iter().copied().peekable());
        while let Some(next) = known.peek().into_iter().chain(more.peek()).min().copied() {
            self.chat_sessions.push(next);
            known.next_if_eq(&next);
            more.next_if_eq(&next);
        }
    }

    /// What the documented row shows for this tenant and period.
    pub fn to_row(&self, tenant_id: &TenantId, period: Period, quota: RowQuota, written: RowWritten) -> UsageMetrics {
        let mean = |sum: u64, count: u64| {
            if count == 0 { 0.0 } else { sum as f64 / count as f64 }
        };
        UsageMetrics {
            metric_id: written.metric_id,
            tenant_id: tenant_id.clone(),
            period,
            api_calls_total: self.api_calls_total,
            api_calls_successful: self.api_calls_successful,
            api_calls_failed: self.api_calls_failed,
            api_calls_rate_limited: self.api_calls_rate_limited,
            api_latency_avg_ms: mean(self.latency_sum_ms, self.latency_count),
            api_latency_p95_ms: self.latency.percentile(95),
            api_latency_p99_ms: self.latency.percentile(99),
            chat_messages_sent: self.chat_messages_sent,
            chat_messages_received: self.chat_messages_received,
            chat_sessions_created: self.chat_sessions.len() as u64,
            chat_avg_response_time_ms: mean(self.chat_latency_sum_ms, self.chat_latency_count),
            embeddings_generated: self.embeddings_generated,
            embeddings_tokens_used: self.embeddings_tokens_used,
            semantic_searches_performed: self.semantic_searches_performed,
            kb_documents_ingested: self.kb_documents_ingested,
            kb_documents_failed: self.kb_documents_failed,
            total_tokens_used: self.total_tokens_used,
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            estimated_cost_usd: self.known_cost(),
            unpriced_events: self.unpriced_events,
            quota_limit: quota.limit,
            quota_remaining: quota.remaining,
            quota_exceeded_count: self.quota_exceeded_count,
            error_count: self.api_calls_failed,
            error_rate: mean(self.api_calls_failed * 100, self.api_calls_total),
            peak_qps: self.peak_qps as f64,
            created_at: written.created_at,
            updated_at: written.updated_at,
        }
    }

    /// The cost of the priced events; `None` when there are unpriced ones and no priced cost beside them.
    pub fn known_cost(&self) -> Option<Money> {
        if self.unpriced_events > 0 && self.cost == Money::ZERO { None } else { Some(self.cost) }
    }
}

/// The quota columns of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowQuota {
    /// The tokens limit in force at the end of the period; `None` is unlimited.
    pub limit: Option<u64>,
    /// What was left of it then.
    pub remaining: Option<u64>,
}

/// The identity columns of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowWritten {
    /// A name-based UUID of tenant, period type and start: the same row keeps its id.
    pub metric_id: Uuid,
    /// When the period was first written.
    pub created_at: super::time::Timestamp,
    /// When the row last changed.
    pub updated_at: super::time::Timestamp,
}

/// One row of `tenant_usage_metrics`, by its documented names.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the columns are documented in the README's table of the documented interface")]
pub struct UsageMetrics {
    pub metric_id: Uuid,
    pub tenant_id: TenantId,
    /// Gives period_type, period_start and period_end.
    pub period: Period,
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
    /// `None`: nothing in the period has a price, and something should.
    pub estimated_cost_usd: Option<Money>,
    pub unpriced_events: u64,
    pub quota_limit: Option<u64>,
    pub quota_remaining: Option<u64>,
    pub quota_exceeded_count: u64,
    pub error_count: u64,
    /// Percent, 0 to 100.
    pub error_rate: f64,
    pub peak_qps: f64,
    pub created_at: super::time::Timestamp,
    pub updated_at: super::time::Timestamp,
}
