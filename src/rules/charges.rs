//! What one event charges against each quota type.

use crate::domain::compact_event::CompactEvent;
use crate::domain::event::event_types;
use crate::domain::quota::{Charges, QuotaType};

/// What `event` charges, by [`QuotaType::index`].
///
/// A 429 charges nothing at all. Else tokens and cost at any status, one api_call, and below status 400 one chat
/// message when it is sent, and one embedding.
pub fn charges_of(event: &CompactEvent) -> Charges {
    let mut charges = Charges::default();
    if event.is_rate_limited() {
        return charges;
    }
    charges[QuotaType::Tokens.index()] = u128::from(event.tokens());
    charges[QuotaType::Cost.index()] = event.cost().map_or(0, |cost| cost.femtos());
    charges[QuotaType::ApiCalls.index()] = 1;
    if event.status() < 400 {
        charges[QuotaType::ChatMessages.index()] = u128::from(is_sent_chat_message(event));
        charges[QuotaType::Embeddings.index()] = u128::from(event.event_type() == event_types::EMBEDDING);
    }
    charges
}

/// Whether it is a chat message that was sent: without a method or with POST, and not marked as a response.
pub fn is_sent_chat_message(event: &CompactEvent) -> bool {
    event.event_type() == event_types::CHAT_MESSAGE
        && event.api_method().is_none_or(|method| method.eq_ignore_ascii_case("POST"))
        && !is_marked_response(event)
}

/// Whether it is a chat message that was received: with GET, or with `metadata.is_response = true`.
pub fn is_received_chat_message(event: &CompactEvent) -> bool {
    event.event_type() == event_types::CHAT_MESSAGE
        && (event.api_method().is_some_and(|method| method.eq_ignore_ascii_case("GET")) || is_marked_response(event))
}

fn is_marked_response(event: &CompactEvent) -> bool {
    // Parsing is a microsecond, and hardly any event has the word in it.
    let Some(json) = event.metadata().filter(|json| json.contains("is_response")) else { return false };
    serde_json::from_str::<serde_json::Value>(json)
        .is_ok_and(|metadata| metadata.get("is_response") == Some(&serde_json::Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::UsageEvent;
    use crate::domain::money::Money;

    fn event(event_type: &str, method: Option<&str>, status: Option<u16>, metadata: Option<&str>) -> CompactEvent {
        CompactEvent::from_usage(UsageEvent {
            api_method: method.map(Into::into),
            api_status_code: status,
            metadata: metadata.map(Into::into),
            input_tokens: Some(30),
            output_tokens: Some(12),
            cost_usd: Some(Money::from_femtos(7)),
            ..UsageEvent::new("t".parse().unwrap(), event_type)
        })
    }

    #[test]
    fn each_kind_of_event_charges_what_it_should() {
        let marked = Some(r#"{"is_response":true}"#);
        for (kind, method, status, metadata, charges) in [
            ("api_call", None, None, None, [42, 1, 0, 0, 7]),
            ("api_call", None, Some(500), None, [42, 1, 0, 0, 7]),
            ("api_call", None, Some(429), None, [0, 0, 0, 0, 0]),
            ("chat_message", None, None, None, [42, 1, 1, 0, 7]),
            ("chat_message", Some("POST"), Some(302), None, [42, 1, 1, 0, 7]),
            ("chat_message", Some("POST"), Some(400), None, [42, 1, 0, 0, 7]),
            ("chat_message", Some("POST"), Some(429), None, [0, 0, 0, 0, 0]),
            ("chat_message", Some("GET"), None, None, [42, 1, 0, 0, 7]),
            ("chat_message", Some("POST"), None, marked, [42, 1, 0, 0, 7]),
            ("chat_message", None, None, Some(r#"{"is_response":false}"#), [42, 1, 1, 0, 7]),
            ("chat_message", None, None, Some(r#"{"deep":{"is_response":true}}"#), [42, 1, 1, 0, 7]),
            ("embedding", None, Some(200), None, [42, 1, 0, 1, 7]),
            ("embedding", None, Some(503), None, [42, 1, 0, 0, 7]),
            ("search", None, None, marked, [42, 1, 0, 0, 7]),
        ] {
            assert_eq!(charges_of(&event(kind, method, status, metadata)), charges, "{kind} {method:?} {status:?}");
        }
    }

    #[test]
    fn a_chat_message_is_sent_or_received_and_never_both() {
        let marked = Some(r#"{"is_response":true}"#);
        for (method, metadata, sent, received) in [
            (None, None, true, false),
            (Some("POST"), None, true, false),
            (Some("GET"), None, false, true),
            (Some("POST"), marked, false, true),
            (Some("PUT"), None, false, false),
        ] {
            let event = event("chat_message", method, None, metadata);
            assert_eq!((is_sent_chat_message(&event), is_received_chat_message(&event)), (sent, received));
        }
    }
}
