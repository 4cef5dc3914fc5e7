//! The content of an event: the caller's own fields, before defaults, as one number to compare retries by.

use xxhash_rust::xxh3::Xxh3;

use crate::domain::event::UsageEvent;

/// A keyed digest of everything the caller gave except the id itself.
///
/// Two events with the same id and the same digest are a retry; with another digest they are in conflict. A time that was
/// left to the server is not part of it.
pub fn content_digest(event: &UsageEvent, key: u64) -> u64 {
    let mut digest = Xxh3::with_seed(key);
    let mut text = |text: Option<&str>| match text {
        Some(text) => {
            digest.update(&(text.len() as u64 + 1).to_le_bytes());
            digest.update(text.as_bytes());
        }
        None => digest.update(&0u64.to_le_bytes()),
    };
    text(Some(event.event_type.as_str()));
    text(event.api_method.as_deref());
    text(event.api_endpoint.as_deref());
    text(event.chat_session_id.as_deref());
    text(event.model.as_deref());
    text(event.metadata.as_deref());
    let numbers = [
        event.event_timestamp.map(|time| time.micros() as u64),
        event.api_status_code.map(u64::from),
        event.api_response_time_ms.map(u64::from),
        event.embedding_tokens,
        event.search_query_tokens,
        event.search_result_count,
        event.tokens_consumed,
        event.input_tokens,
        event.cached_input_tokens,
        event.output_tokens,
        event.reasoning_tokens,
    ];
    let mut bytes = [0u8; 11 * 9 + 17];
    for (place, number) in numbers.into_iter().enumerate() {
        bytes[place * 9] = u8::from(number.is_some());
        bytes[place * 9 + 1..place * 9 + 9].copy_from_slice(&number.unwrap_or(0).to_le_bytes());
    }
    bytes[99] = u8::from(event.cost_usd.is_some());
    bytes[100..].copy_from_slice(&event.cost_usd.map_or(0, |cost| cost.femtos()).to_le_bytes());
    digest.update(&bytes);
    digest.digest()
}
