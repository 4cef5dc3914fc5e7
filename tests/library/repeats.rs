//! Repeats of filed events: found among ids of every kind, the first time a block is asked and when it is remembered.

use metergate::domain::event::EventOutcome;
use metergate::domain::time::MICROS_PER_SECOND;

use super::*;

const EVENTS: i64 = 3_000;

/// Every kind of id, side by side in one block: UUIDv7, UUIDv4, and texts of several lengths.
fn id(place: i64) -> String {
    let random = spread(place);
    match place % 3 {
        0 => format!("01a0f3c4-5a6b-7{:03x}-8{:03x}-{:012x}", random & 0xfff, random >> 12 & 0xfff, random >> 16),
        1 => format!("{:08x}-0000-4{:03x}-9{:03x}-{:012x}", place, random & 0xfff, random >> 12 & 0xfff, random >> 16),
        _ => format!("call-{}", "x".repeat((place % 50) as usize) + &place.to_string()),
    }
}

/// Spreads numbers over 64 bits.
const fn spread(place: i64) -> u64 {
    (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn event(place: i64, tokens: u64) -> UsageEvent {
    let mut event = UsageEvent::new(tenant(["a", "b", "c"][(place % 7 % 3) as usize]), "api_call");
    event.event_id = Some(id(place).parse().unwrap());
    event.event_timestamp = Some(at(NOON).plus_micros(-place * MICROS_PER_SECOND));
    // Some fields are there and some are not, so that a column's place is not an event's.
    event.tokens_consumed = (place % 4 != 0).then_some(tokens);
    event.input_tokens = (place % 5 == 0).then_some(tokens * 2);
    event.model = (place % 3 != 1).then(|| format!("model-{}", place % 9).into());
    event.chat_session_id = (place % 11 == 0).then(|| format!("session-{place}").into());
    event.metadata = (place % 13 == 0).then(|| format!("{{\"place\":{place}}}").into());
    event
}

#[test]
fn a_repeat_of_a_filed_event_is_found_alone_and_in_company_and_other_content_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let tracker = engine.usage_tracker();
    let all: Vec<UsageEvent> = (0..EVENTS).map(|place| event(place, place as u64)).collect();
    assert!(tracker.record_blocking(all.clone()).unwrap().iter().all(|outcome| *outcome == EventOutcome::Accepted));
    tracker.aggregate_usage_metrics(None).unwrap();
    let record = |event: UsageEvent| tracker.record_blocking(vec![event]).unwrap().remove(0);

    // Nothing is remembered yet; then one block after the other is.
    for place in [1_777, 5, 2_998, 0, 1, 2, 431, 1_500] {
        assert_eq!(record(event(place, place as u64)), EventOutcome::Duplicate, "{place}");
        let mut other = event(place, place as u64);
        other.output_tokens = Some(1);
        assert_eq!(record(other), EventOutcome::Conflict, "{place}");
    }
    // An id that is new is new, though its neighbours are known.
    let mut fresh = event(3, 3);
    fresh.event_id = Some("call-fresh".parse().unwrap());
    assert_eq!(record(fresh), EventOutcome::Accepted);
    // All of them again.
    assert!(tracker.record_blocking(all).unwrap().iter().all(|outcome| *outcome == EventOutcome::Duplicate));
    // The same number of another tenant is another event.
    let mut foreign = event(1, 1);
    foreign.tenant_id = tenant("d");
    assert_eq!(record(foreign), EventOutcome::Accepted);
}
