//! Metrics rows, added up from the list of events each time.

use std::collections::{BTreeMap, BTreeSet};

use metergate::domain::metrics::UsageMetrics;
use metergate::domain::time::{PeriodType, Timestamp};

use super::model::Tenant;

#[derive(Debug, Default, PartialEq)]
pub struct Row {
    calls: [u64; 4],
    latencies: Vec<u32>,
    chats: (u64, u64),
    sessions: BTreeSet<String>,
    chat_latencies: Vec<u32>,
    embeddings: (u64, u64),
    searches: u64,
    documents: (u64, u64),
    tokens: [u64; 5],
    /// Of priced events in femto-dollars, and how many have no price.
    cost: (u128, u64),
    denials: u64,
    seconds: BTreeMap<i64, u64>,
}

/// The rows of a tenant by the start of their period.
pub fn rows(tenant: &Tenant, period: PeriodType) -> BTreeMap<Timestamp, Row> {
    let mut rows: BTreeMap<Timestamp, Row> = BTreeMap::new();
    for event in &tenant.events {
        let row = rows.entry(period.containing(event.at).start()).or_default();
        let given = &event.given;
        let (status, tokens) = (given.status(), given.tokens());
        let failed = status >= 400 && status != 429;
        row.calls[0] += 1;
        row.calls[1] += u64::from((200..300).contains(&status));
        row.calls[2] += u64::from(failed);
        row.calls[3] += u64::from(status == 429);
        row.latencies.extend(given.api_response_time_ms);
        let method = given.api_method.as_deref();
        match given.event_type.as_str() {
            "chat_message" => {
                row.chats.0 += u64::from(method != Some("GET"));
                row.chats.1 += u64::from(method == Some("GET"));
                row.sessions.extend(given.chat_session_id.as_ref().map(ToString::to_string));
                row.chat_latencies.extend(given.api_response_time_ms);
            }
            "embedding" => {
                row.embeddings.0 += 1;
                row.embeddings.1 += given.embedding_tokens.unwrap_or(tokens);
            }
            "search" => row.searches += 1,
            "kb_ingest" => {
                row.documents.0 += u64::from(status < 400);
                row.documents.1 += u64::from(status >= 400);
            }
            _ => {}
        }
        row.tokens[0] += tokens;
        row.tokens[1] += given.input_tokens.unwrap_or(0);
        row.tokens[2] += given.output_tokens.unwrap_or(0);
        match event.cost {
            Some(cost) => row.cost.0 += cost,
            None => row.cost.1 += u64::from(status != 429),
        }
        *row.seconds.entry(event.at.seconds()).or_default() += 1;
    }
    for at in &tenant.denials {
        rows.entry(period.containing(*at).start()).or_default().denials += 1;
    }
    rows
}

impl Row {
    /// What of a stored row is not as it must be.
    pub fn differs_from(&self, row: &UsageMetrics) -> Option<String> {
        let sorted = |times: &[u32]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times
        };
        let mean = |times: &[u32]| match times.len() {
            0 => 0.0,
            count => times.iter().map(|time| u64::from(*time)).sum::<u64>() as f64 / count as f64,
        };
        let quantile = |percent: usize| {
            let times = sorted(&self.latencies);
            let rank = (percent * times.len()).div_ceil(100);
            times.get(rank.max(1) - 1).map_or(0.0, |time| f64::from(*time))
        };
        let seen = (
            [row.api_calls_total, row.api_calls_successful, row.api_calls_failed, row.api_calls_rate_limited],
            (row.chat_messages_sent, row.chat_messages_received, row.chat_sessions_created),
            (row.embeddings_generated, row.embeddings_tokens_used, row.semantic_searches_performed),
            (row.kb_documents_ingested, row.kb_documents_failed),
            [row.total_tokens_used, row.input_tokens, row.output_tokens, row.cached_input_tokens, row.reasoning_tokens],
            (row.estimated_cost_usd.map(|cost| cost.femtos()), row.unpriced_events),
            (row.quota_exceeded_count, row.peak_qps as u64),
        );
        let cost = (self.cost.0 > 0 || self.cost.1 == 0).then_some(self.cost.0);
        let wanted = (
            self.calls,
            (self.chats.0, self.chats.1, self.sessions.len() as u64),
            (self.embeddings.0, self.embeddings.1, self.searches),
            self.documents,
            self.tokens,
            (cost, self.cost.1),
            (self.denials, self.seconds.values().max().copied().unwrap_or(0)),
        );
        if seen != wanted {
            return Some(format!("{seen:?}, not {wanted:?}"));
        }
        let error_rate = if self.calls[0] == 0 { 0.0 } else { self.calls[2] as f64 * 100.0 / self.calls[0] as f64 };
        let close = |seen: f64, wanted: f64, share: f64| (seen - wanted).abs() <= share * wanted + 1e-9;
        let checks = [
            ("average", row.api_latency_avg_ms, mean(&self.latencies), 0.0),
            ("chat average", row.chat_avg_response_time_ms, mean(&self.chat_latencies), 0.0),
            ("95 %", row.api_latency_p95_ms, quantile(95), 0.01),
            ("99 %", row.api_latency_p99_ms, quantile(99), 0.01),
            ("error rate", row.error_rate, error_rate, 0.0),
        ];
        let wrong = checks.into_iter().find(|(_, seen, wanted, share)| !close(*seen, *wanted, *share));
        wrong.map(|(name, seen, wanted, _)| format!("{name}: {seen}, not {wanted}"))
    }
}
