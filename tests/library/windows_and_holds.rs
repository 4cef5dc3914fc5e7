//! The sliding minute over restarts, and holds: they survive, lapse by the clock alone, and end once.

use std::path::Path;

use metergate::Metergate;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::quota::{Item, QuotaType};
use metergate::domain::time::MICROS_PER_SECOND;
use metergate::enforcer::{EnforceError, ReserveRequest};

use crate::{NOON, at, crash_copy, event, open, request, reserve, tenant, tokens, try_reserve};

/// Reserves calls, one by one and each settled with one event, until one is denied; gives how many were granted.
fn calls_until_denied(engine: &Metergate, name: &str) -> usize {
    let call = || ReserveRequest {
        items: vec![Item { quota_type: QuotaType::ApiCalls, amount: 1 }],
        ..request(name, None, 0, 600)
    };
    let mut granted = 0;
    while let Some(reservation) = try_reserve(engine, call()).unwrap().reservation {
        granted += 1;
        assert!(granted <= 30, "more than the limit");
        // Odd ones stay held, even ones become use.
        if granted % 2 == 0 {
            let events = vec![UsageEvent::new(tenant(name), "api_call")];
            engine.quota_enforcer().settle_blocking(None, &reservation.reservation_id, events).unwrap();
        }
    }
    granted
}

#[test]
fn in_no_sixty_seconds_is_more_than_the_limit_granted_over_a_stop_and_over_a_crash() {
    let start = at(NOON);
    let after = |seconds: i64| start.plus_micros(seconds * MICROS_PER_SECOND);
    let minute_goes_on = |folder: &Path, how: &str| {
        let (engine, clock) = open(folder, after(10));
        assert_eq!(calls_until_denied(&engine, "calls"), 0, "after {how} the last ten seconds still count");
        clock.set(after(60));
        assert_eq!(calls_until_denied(&engine, "calls"), 0, "after {how}, 60 s: the first second may not be over");
        clock.set(after(62));
        assert_eq!(calls_until_denied(&engine, "calls"), 30, "after {how}, 62 s");
    };
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), start);
    assert_eq!(calls_until_denied(&engine, "calls"), 30);
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    minute_goes_on(crashed.path(), "a crash");
    minute_goes_on(folder.path(), "a stop");
}

#[test]
fn a_hold_survives_and_lapses_by_the_clock_alone() {
    let start = at(NOON);
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), start);
    assert!(reserve(&engine, "held", 4_000, 600).allowed);
    assert!(reserve(&engine, "held", 3_000, 60).allowed);
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, clock) = open(folder, start.plus_micros(59_999_999));
        assert_eq!(tokens(&engine, "held").2, 7_000);
        assert!(!reserve(&engine, "held", 3_001, 60).allowed);
        clock.advance(1);
        assert_eq!(tokens(&engine, "held").2, 4_000, "one has lapsed");
        clock.set(start.plus_micros(600 * MICROS_PER_SECOND));
        assert_eq!(tokens(&engine, "held").2, 0);
        assert!(reserve(&engine, "held", 10_000, 60).allowed);
    }
}

#[test]
fn a_hold_that_lapsed_while_the_engine_was_stopped_is_gone_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    assert!(reserve(&engine, "held", 10_000, 60).allowed);
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), at("2026-11-24T12:02:00Z"));
    assert_eq!(tokens(&engine, "held").2, 0);
    assert!(reserve(&engine, "held", 10_000, 60).allowed);
}

#[test]
fn what_is_settled_after_the_lapse_is_recorded_and_flagged_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    for id in ["late", "later"] {
        assert!(try_reserve(&engine, request("acme", Some(id), 500, 60)).unwrap().decision.allowed);
    }
    clock.advance(61 * MICROS_PER_SECOND);
    let settle = |engine: &Metergate, id: &str, tokens| {
        engine.quota_enforcer().settle_blocking(None, id, vec![event("acme", tokens)]).unwrap()
    };
    let late = settle(&engine, "late", 500);
    assert_eq!(
        (late.outcomes.as_slice(), late.lapsed, late.overage),
        ([EventOutcome::Accepted].as_slice(), true, false)
    );
    let now = engine.now();
    engine.close();
    drop(engine);

    let (engine, _clock) = open(folder.path(), now);
    let again = settle(&engine, "late", 500);
    assert_eq!((again.outcomes.as_slice(), again.lapsed), ([EventOutcome::Duplicate].as_slice(), true), "as at first");
    let later = settle(&engine, "later", 501);
    assert_eq!((later.lapsed, later.overage), (true, true), "also more than was reserved");
    assert_eq!(tokens(&engine, "acme"), (Some(10_000), 1_001, 0));
}

#[test]
fn a_reservation_ends_once_whatever_comes_between() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let enforcer = engine.quota_enforcer();
    for id in ["released", "settled"] {
        try_reserve(&engine, request("acme", Some(id), 500, 600)).unwrap();
    }
    assert!(enforcer.release_blocking(None, "released").unwrap());
    assert!(!enforcer.release_blocking(None, "released").unwrap(), "the second finds nothing");
    let first = enforcer.settle_blocking(None, "settled", vec![event("acme", 200)]).unwrap();
    assert!(!first.overage && !first.lapsed);
    drop(enforcer);
    engine.close();
    drop(engine);

    let (engine, _clock) = open(folder.path(), at("2026-11-24T12:01:00Z"));
    let enforcer = engine.quota_enforcer();
    let again = enforcer.settle_blocking(None, "settled", vec![event("acme", 200)]).unwrap();
    assert_eq!((again.outcomes.as_slice(), again.overage), ([EventOutcome::Duplicate].as_slice(), false));
    assert!(!enforcer.release_blocking(None, "settled").unwrap());
    let late = enforcer.settle_blocking(None, "released", vec![event("acme", 30)]).unwrap();
    assert_eq!((late.outcomes.as_slice(), late.overage), ([EventOutcome::Accepted].as_slice(), true));
    assert_eq!(tokens(&engine, "acme"), (Some(10_000), 230, 0));
    let unknown = enforcer.settle_blocking(Some(&tenant("acme")), "never", vec![event("acme", 1)]);
    assert_eq!(unknown.unwrap_err(), EnforceError::UnknownReservation("never".to_owned()));
}

#[test]
fn a_request_that_is_repeated_after_its_reservation_ended_has_the_same_answer_and_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let ask = |id, amount| try_reserve(&engine, request("acme", Some(id), amount, 60));
    let first: Vec<_> = ["settled", "released", "lapsed"].map(|id| ask(id, 3_000).unwrap().reservation).into();
    engine.quota_enforcer().settle_blocking(None, "settled", vec![event("acme", 100)]).unwrap();
    engine.quota_enforcer().release_blocking(None, "released").unwrap();
    clock.advance(61 * MICROS_PER_SECOND);
    for (id, first) in ["settled", "released", "lapsed"].into_iter().zip(first) {
        let again = ask(id, 3_000).unwrap();
        assert!(again.decision.allowed, "{id}");
        assert_eq!(again.reservation, first, "{id}");
        assert_eq!(ask(id, 3_001).unwrap_err(), EnforceError::ReservationConflict(id.to_owned()));
    }
    assert_eq!(tokens(&engine, "acme"), (Some(10_000), 100, 0));
}

#[test]
fn a_reservation_id_gives_the_same_answer_after_a_restart_and_a_conflict_for_other_items() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let first = try_reserve(&engine, request("acme", Some("job-7"), 500, 600)).unwrap();
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), at("2026-11-24T12:05:00Z"));
    let again = try_reserve(&engine, request("acme", Some("job-7"), 500, 600)).unwrap();
    assert!(again.decision.allowed);
    assert_eq!(again.reservation, first.reservation, "also the same end");
    let other = try_reserve(&engine, request("acme", Some("job-7"), 501, 600));
    assert_eq!(other.unwrap_err(), EnforceError::ReservationConflict("job-7".to_owned()));
    assert_eq!(tokens(&engine, "acme").2, 500, "held once");
}

#[test]
fn enforce_then_record_charges_once_also_over_a_restart_and_a_429_does_not_close_the_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let enforce = |engine: &Metergate, amount| {
        let answer = engine.quota_enforcer().enforce_quota(&tenant("quick"), QuotaType::Tokens, amount).unwrap();
        assert!(answer.allowed);
        answer.tokens_remaining
    };
    assert_eq!(enforce(&engine, 100), Some(9_900));
    let refused = UsageEvent { api_status_code: Some(429), ..UsageEvent::new(tenant("quick"), "api_call") };
    crate::record(&engine, vec![refused]);
    assert_eq!(tokens(&engine, "quick"), (Some(10_000), 0, 100), "a 429 stands for no work");
    crate::record(&engine, vec![event("quick", 100)]);
    assert_eq!(tokens(&engine, "quick"), (Some(10_000), 100, 0));

    assert_eq!(enforce(&engine, 40), Some(9_860));
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, _clock) = open(folder, at("2026-11-24T12:00:30Z"));
        assert_eq!(tokens(&engine, "quick"), (Some(10_000), 100, 40));
        // Holds of before and after the restart are told apart.
        assert_eq!(enforce(&engine, 7), Some(9_853));
        crate::record(&engine, vec![event("quick", 40), event("quick", 7)]);
        assert_eq!(tokens(&engine, "quick"), (Some(10_000), 147, 0));
    }
}
