//! The content of an event: the caller's own fields, before defaults, as one number to compare retries by.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::domain::audit::AuditEntry;
use crate::domain::event::UsageEvent;

/// A keyed digest of everything the caller gave except the id itself.
///
/// Two events with the same id and the same digest are a retry; with another digest they are in conflict. A time that was
/// left to the server is not part of it.
pub fn content_digest(event: &UsageEvent, key: u64) -> u64 {
    let texts = [
        Some(event.event_type.as_str()),
        event.api_method.as_deref(),
        event.api_endpoint.as_deref(),
        event.chat_session_id.as_deref(),
        event.model.as_deref(),
        event.metadata.as_deref(),
    ];
    let mut numbers = [None; 3 + UsageEvent::COUNTS.len()];
    numbers[0] = event.event_timestamp.map(|time| time.micros() as u64);
    numbers[1] = event.api_status_code.map(u64::from);
    numbers[2] = event.api_response_time_ms.map(u64::from);
    numbers[3..].copy_from_slice(&event.counts());
    // Which fields are given comes first, then the numbers: a fixed layout that needs no buffer beyond the stack.
    let mut bytes = [0u8; 4 + 11 * 8 + 16];
    let mut present = 0u32;
    for (place, number) in numbers.into_iter().enumerate() {
        present |= u32::from(number.is_some()) << place;
        bytes[4 + place * 8..12 + place * 8].copy_from_slice(&number.unwrap_or(0).to_le_bytes());
    }
    for (place, text) in texts.iter().enumerate() {
        present |= u32::from(text.is_some()) << (numbers.len() + place);
    }
    present |= u32::from(event.cost_usd.is_some()) << (numbers.len() + texts.len());
    bytes[..4].copy_from_slice(&present.to_le_bytes());
    bytes[92..].copy_from_slice(&event.cost_usd.map_or(0, |cost| cost.femtos()).to_le_bytes());
    // Each text is hashed under the digest of what came before it, so that neighbours stay apart.
    let digest = texts
        .into_iter()
        .flatten()
        .fold(xxh3_64_with_seed(&bytes, key), |digest, text| xxh3_64_with_seed(text.as_bytes(), digest));
    if event.provider.is_none() && event.usage.is_none() {
        return digest;
    }
    priced_fields(event, digest)
}

/// Goes on with the fields that few events have, each under its own mark.
fn priced_fields(event: &UsageEvent, digest: u64) -> u64 {
    let provider = event
        .provider
        .iter()
        .fold(digest, |digest, provider| xxh3_64_with_seed(provider.as_bytes(), digest.wrapping_add(1)));
    event.usage.iter().fold(provider, |digest, usage| {
        let counts = usage.all().map(|(_, count)| count);
        let digest = xxh3_64_with_seed(&counts.map(|count| u8::from(count.is_some())), digest.wrapping_add(2));
        counts.iter().flatten().fold(digest, |digest, count| xxh3_64_with_seed(&count.to_le_bytes(), digest))
    })
}

/// A keyed digest of everything an audit entry's caller gave: the key that wrote it is the server's to say.
pub fn audit_digest(entry: &AuditEntry, key: u64) -> u64 {
    let occurred_at = entry.occurred_at.map(|time| time.micros().to_string());
    let texts = [
        entry.tenant_id.as_ref().map(|id| id.as_str()),
        Some(entry.event_type.as_str()),
        Some(entry.entity_type.as_str()),
        entry.entity_id.as_deref(),
        Some(entry.action.name()),
        Some(entry.actor_type.name()),
        entry.actor_id.as_deref(),
        entry.old_values.as_deref(),
        entry.new_values.as_deref(),
        entry.changes_summary.as_deref(),
        Some(entry.result.name()),
        entry.error_message.as_deref(),
        entry.ip_address.as_deref(),
        entry.user_agent.as_deref(),
        entry.request_id.as_deref(),
        occurred_at.as_deref(),
    ];
    // Each under the digest of what came before it and its own place, so that neither neighbours nor absences blur.
    texts.into_iter().enumerate().fold(key, |digest, (place, text)| match text {
        Some(text) => xxh3_64_with_seed(text.as_bytes(), digest.wrapping_add(place as u64 + 1)),
        None => digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Estimate;
    use crate::domain::money::Money;
    use crate::domain::price_terms::Markup;
    use crate::domain::usage::UsageCounts;

    #[test]
    fn every_field_the_caller_gives_is_content_and_nothing_else_is() {
        let plain = || UsageEvent::new("acme".parse().unwrap(), "api_call");
        let digest = |event: &UsageEvent| content_digest(event, 7);
        let mut changes: Vec<UsageEvent> = vec![plain(); 21];
        changes[0].event_type = "api_cal".into();
        changes[1].api_method = Some("l".into());
        changes[2].api_endpoint = Some("l".into());
        changes[3].chat_session_id = Some("l".into());
        changes[4].model = Some("l".into());
        changes[5].metadata = Some("{}".into());
        changes[6].event_timestamp = Some("2026-11-24T00:00:00Z".parse().unwrap());
        changes[7].api_status_code = Some(0);
        changes[8].api_response_time_ms = Some(0);
        changes[9].embedding_tokens = Some(0);
        changes[10].search_query_tokens = Some(0);
        changes[11].search_result_count = Some(0);
        changes[12].tokens_consumed = Some(0);
        changes[13].input_tokens = Some(0);
        changes[14].cached_input_tokens = Some(0);
        changes[15].output_tokens = Some(0);
        changes[16].reasoning_tokens = Some(0);
        changes[17].cost_usd = Some(Money::ZERO);
        changes[18].provider = Some("l".into());
        changes[19].usage = Some(Box::default());
        changes[20].usage = Some(Box::new(UsageCounts { web_searches: Some(0), ..UsageCounts::default() }));
        let mut digests: Vec<u64> = changes.iter().map(digest).collect();
        digests.push(digest(&plain()));
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 22, "a field that is given, even as 0, is not a field that is absent");
        let with_id = UsageEvent { event_id: Some("x".parse().unwrap()), ..plain() };
        assert_eq!(digest(&with_id), digest(&plain()));
        let estimate = Some(Estimate { cost: Money::from_femtos(7), price_no: 3, markup: Markup::NONE });
        let estimated = UsageEvent { estimate, ..plain() };
        assert_eq!(digest(&estimated), digest(&plain()), "the estimate is the server's");
    }
}
