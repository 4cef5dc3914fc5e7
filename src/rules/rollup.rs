//! Counting: what one event adds to its period (SPEC 3.2).

use uuid::{Builder, Uuid};

use crate::domain::compact_event::CompactEvent;
use crate::domain::event::event_types;
use crate::domain::metrics::Rollup;
use crate::domain::models::ModelSums;
use crate::domain::tenant::TenantId;
use crate::domain::time::Period;
use crate::rules::charges::{is_received_chat_message, is_sent_chat_message};

/// Adds one event. `chat_session` is the keyed hash of its chat session, used for chat messages only.
///
/// `peak_qps` stays as it is: it takes all events of a second together.
pub fn count_event(rollup: &mut Rollup, event: &CompactEvent, chat_session: Option<u64>) {
    let status = event.status();
    let tokens = event.tokens();
    let failed = status >= 400 && status != 429;

    rollup.api_calls_total += 1;
    rollup.api_calls_successful += u64::from((200..300).contains(&status));
    rollup.api_calls_rate_limited += u64::from(status == 429);
    rollup.api_calls_failed += u64::from(failed);

    if let Some(latency) = event.api_response_time_ms() {
        rollup.latency_sum_ms += u64::from(latency);
        rollup.latency_count += 1;
        rollup.latency.add(latency);
    }

    match event.event_type() {
        event_types::CHAT_MESSAGE => {
            rollup.chat_messages_sent += u64::from(is_sent_chat_message(event));
            rollup.chat_messages_received += u64::from(is_received_chat_message(event));
            if let Some(session) = chat_session {
                rollup.add_session(session);
            }
            if let Some(latency) = event.api_response_time_ms() {
                rollup.chat_latency_sum_ms += u64::from(latency);
                rollup.chat_latency_count += 1;
            }
        }
        event_types::EMBEDDING => {
            rollup.embeddings_generated += 1;
            add(&mut rollup.embeddings_tokens_used, event.embedding_tokens().unwrap_or(tokens));
        }
        event_types::SEARCH => rollup.semantic_searches_performed += 1,
        event_types::KB_INGEST if status >= 400 => rollup.kb_documents_failed += 1,
        event_types::KB_INGEST => rollup.kb_documents_ingested += 1,
        _ => {}
    }

    add(&mut rollup.total_tokens_used, tokens);
    add(&mut rollup.input_tokens, event.input_tokens().unwrap_or(0));
    add(&mut rollup.cached_input_tokens, event.cached_input_tokens().unwrap_or(0));
    add(&mut rollup.output_tokens, event.output_tokens().unwrap_or(0));
    add(&mut rollup.reasoning_tokens, event.reasoning_tokens().unwrap_or(0));

    match event.cost() {
        Some(cost) => rollup.cost += cost,
        // A refused call has nothing to price; everything else without a cost is unknown, never free.
        None => rollup.unpriced_events += u64::from(status != 429),
    }
    if let Some(model) = event.model() {
        rollup.models.add(model, &model_sums(event, tokens));
    }
}

fn model_sums(event: &CompactEvent, tokens: u64) -> ModelSums {
    let cost = event.cost();
    let embedded =
        if event.event_type() == event_types::EMBEDDING { event.embedding_tokens().unwrap_or(tokens) } else { 0 };
    let usage = event.usage().copied().unwrap_or_default();
    // The order of ModelSums::NAMES.
    let counts = [
        Some(1),
        Some(tokens),
        event.input_tokens(),
        event.cached_input_tokens(),
        event.output_tokens(),
        event.reasoning_tokens(),
        Some(embedded),
        Some(u64::from(cost.is_none() && !event.is_rate_limited())),
        usage.cache_write_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
        usage.image_input_tokens,
        usage.image_output_tokens,
        usage.web_searches,
    ];
    ModelSums { counts: counts.map(|count| count.unwrap_or(0)), cost: cost.unwrap_or_default() }
}

/// Beyond 18 million events of the largest size a sum stays at its end instead of starting over.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// The id of a row: the same tenant and period have the same id for ever (a UUID of version 8, RFC 9562).
pub fn metric_id(tenant_id: &TenantId, period: Period) -> Uuid {
    let name = format!("{}/{}/{}", tenant_id, period.period_type.name(), period.index);
    Builder::from_custom_bytes(xxhash_rust::xxh3::xxh3_128(name.as_bytes()).to_be_bytes()).into_uuid()
}
