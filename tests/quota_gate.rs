//! The gate: what is granted never passes the limit, what is settled is what was used, and a crash loses no hold.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use support::client::items_json;
use support::traces::busiest_minute_of_azure;
use support::{Answer, Server, Totals, cli, count, period_rows, wait_for};

const CLIENTS: usize = 64;

#[test]
fn the_busiest_minute_of_azure_never_takes_a_token_more_than_the_limit() {
    let Some(requests) = busiest_minute_of_azure() else { return };
    let server = Server::start();
    server.put_tenant("busy", &json!({"plan": "pro"}));
    let limit = 500_000;

    let (next, barrier) = (AtomicUsize::new(0), Barrier::new(CLIENTS));
    let answers: Vec<(usize, u64, Answer)> = std::thread::scope(|scope| {
        let client = || {
            barrier.wait();
            let places = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            let mine = places.take_while(|place| *place < requests.len());
            mine.map(|place| {
                let amount = requests[place].0 + requests[place].1;
                (place, amount, server.reserve("busy", &[("tokens", amount)]))
            })
            .collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });

    let (granted, denied): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, _, answer)| answer.status == 200);
    let taken: u64 = granted.iter().map(|(_, amount, _)| amount).sum();
    assert!(taken <= limit, "{taken} of {limit} were granted");
    for (_, amount, answer) in &denied {
        assert!(limit - taken < *amount, "{amount} were denied although {} are left", limit - taken);
        is_denied_by(answer, "tokens", "day", limit);
    }
    assert!(!denied.is_empty(), "780,667 tokens do not fit in 500,000");
    let quota = server.quota("busy", "tokens");
    assert_eq!((count(&quota, "used"), count(&quota, "remaining")), (0, limit - taken), "all of it is held: {quota}");

    for (place, _, answer) in &granted {
        let (input, output) = requests[*place];
        let event = json!({
            "tenant_id": "busy", "event_type": "api_call", "event_id": format!("azure-{place}"),
            "input_tokens": input, "output_tokens": output,
        });
        let settled = settle(&server, id_of(answer), &[event]).expect(200);
        assert_eq!((&settled["accepted"], &settled["overage"]), (&json!(1), &json!(false)), "{settled}");
    }
    let quota = server.quota("busy", "tokens");
    assert_eq!((count(&quota, "used"), count(&quota, "remaining")), (taken, limit - taken), "{quota}");
    let rows = period_rows(&server, "busy", "daily");
    assert_eq!(Totals::of_rows(&rows).tokens(), taken);
    assert_eq!(rows.iter().map(|row| count(row, "api_calls_total")).sum::<u64>(), granted.len() as u64);
}

#[test]
fn a_hold_survives_a_kill_and_lapses_by_itself() {
    let mut server = Server::start();
    server.reserve("held", &[("tokens", 4_000)]).expect(200);
    server.kill_9();
    server.start_again();
    assert_eq!(count(&server.quota("held", "tokens"), "remaining"), 6_000);
    assert_eq!(server.reserve("held", &[("tokens", 6_001)]).status, 429);

    let short = json!({"tenant_id": "held", "items": items_json(&[("tokens", 6_000)]), "ttl_seconds": 1});
    server.post("/api/quota/reserve", &short).expect(200);
    assert_eq!(count(&server.quota("held", "tokens"), "remaining"), 0);
    server.kill_9();
    server.start_again();
    wait_for("the short hold lapses, the long one stays", 10, || {
        Some(count(&server.quota("held", "tokens"), "remaining")).filter(|&remaining| remaining == 6_000)
    });
}

#[test]
fn enforce_then_record_as_in_the_quick_start_charges_once() {
    let server = Server::start();
    let asked = json!({"tenant_id": "quick", "quota_type": "tokens", "amount": 100});
    let answer = server.post("/api/quota/enforce", &asked).expect(200);
    assert_eq!((&answer["allowed"], &answer["quota_limit"]), (&json!(true), &json!(10_000)), "{answer}");
    assert_eq!(count(&server.quota("quick", "tokens"), "remaining"), 9_900);

    server.record(&json!({"tenant_id": "quick", "event_type": "api_call", "tokens_consumed": 100}));
    let quota = server.quota("quick", "tokens");
    assert_eq!((count(&quota, "used"), count(&quota, "remaining")), (100, 9_900), "{quota}");
}

#[test]
fn several_types_are_taken_all_or_none() {
    let server = Server::start();
    let answer = server.reserve("several", &[("tokens", 500), ("chat_messages", 101)]);
    is_denied_by(&answer, "chat_messages", "day", 100);
    for (quota_type, limit) in [("tokens", 10_000), ("chat_messages", 100)] {
        assert_eq!(count(&server.quota("several", quota_type), "remaining"), limit, "a denied request burns nothing");
    }
    server.reserve("several", &[("tokens", 500), ("chat_messages", 100)]).expect(200);
    assert_eq!(count(&server.quota("several", "tokens"), "remaining"), 9_500);
    assert_eq!(count(&server.quota("several", "chat_messages"), "remaining"), 0);
    // The same type twice is summed.
    assert_eq!(server.reserve("several", &[("tokens", 5_000), ("tokens", 4_501)]).status, 429);
    server.reserve("several", &[("tokens", 5_000), ("tokens", 4_500)]).expect(200);
}

#[test]
fn a_reservation_id_is_an_idempotency_key() {
    let mut server = Server::start();
    let request = |amount: u64| json!({"tenant_id": "again", "reservation_id": "job-7", "items": items_json(&[("tokens", amount)])});
    let first = server.post("/api/quota/reserve", &request(1_000)).expect(200);
    let second = server.post("/api/quota/reserve", &request(1_000)).expect(200);
    server.restart();
    let third = server.post("/api/quota/reserve", &request(1_000)).expect(200);
    for answer in [&second, &third] {
        assert_eq!(answer["reservation_id"], json!("job-7"));
        assert_eq!(answer["expires_at"], first["expires_at"], "the same answer");
    }
    assert_eq!(count(&server.quota("again", "tokens"), "remaining"), 9_000, "it was taken once");
    server.post("/api/quota/reserve", &request(1_001)).expect_error(409, "job-7");
    assert_eq!(count(&server.quota("again", "tokens"), "remaining"), 9_000);
}

#[test]
fn settling_twice_records_once_and_gives_the_rest_back_once() {
    let server = Server::start();
    let reserved = server.reserve("twice", &[("tokens", 1_000)]);
    let event = json!({"tenant_id": "twice", "event_type": "api_call", "tokens_consumed": 300});
    let first = settle(&server, id_of(&reserved), std::slice::from_ref(&event)).expect(200);
    assert_eq!((&first["accepted"], &first["overage"]), (&json!(1), &json!(false)), "{first}");
    // Without ids of their own: the reservation's id and the place in the list make them.
    let second = settle(&server, id_of(&reserved), &[event]).expect(200);
    assert_eq!((&second["accepted"], &second["duplicates"]), (&json!(0), &json!(1)), "{second}");
    let quota = server.quota("twice", "tokens");
    assert_eq!((count(&quota, "used"), count(&quota, "remaining")), (300, 9_700), "{quota}");
}

#[test]
fn more_than_was_reserved_is_recorded_in_full_and_flagged() {
    let server = Server::start();
    let event = |tokens: u64| json!({"tenant_id": "over", "event_type": "api_call", "tokens_consumed": tokens});
    let reserved = server.reserve("over", &[("tokens", 100)]);
    assert_eq!(settle(&server, id_of(&reserved), &[event(150)]).expect(200)["overage"], json!(true));

    let reserved = server.reserve("over", &[("tokens", 100)]);
    release(&server, id_of(&reserved));
    assert_eq!(count(&server.quota("over", "tokens"), "remaining"), 9_850, "a release gives all back");
    let late = settle(&server, id_of(&reserved), &[event(40)]).expect(200);
    assert_eq!((&late["accepted"], &late["overage"]), (&json!(1), &json!(true)), "settled after its release: {late}");

    let reserved = server.reserve("over", &[("tokens", 100)]);
    settle(&server, id_of(&reserved), &[event(60)]).expect(200);
    release(&server, id_of(&reserved));
    let quota = server.quota("over", "tokens");
    assert_eq!(
        (count(&quota, "used"), count(&quota, "remaining")),
        (250, 9_750),
        "release after settle does nothing: {quota}"
    );
}

#[test]
fn exactly_what_remains_passes_and_one_more_fails() {
    let server = Server::start();
    let check = |amount: u64| {
        let asked = json!({"tenant_id": "edge", "quota_type": "tokens", "amount": amount});
        server.post("/api/quota/check", &asked).json()["allowed"].clone()
    };
    assert_eq!((check(10_000), check(10_001)), (json!(true), json!(false)));
    assert_eq!(server.reserve("edge", &[("tokens", 10_001)]).status, 429);
    server.reserve("edge", &[("tokens", 10_000)]).expect(200);
    is_denied_by(&server.reserve("edge", &[("tokens", 1)]), "tokens", "day", 10_000);
    assert_eq!(check(1), json!(false));
}

#[test]
fn check_tenant_quota_answers_by_its_exit_code_and_takes_nothing() {
    let server = Server::start();
    server.put_tenant("asked", &json!({"plan": "trial"}));
    for (tokens, code) in [("10000", 0), ("10001", 3), ("10000", 0)] {
        let (answered, stdout, stderr) =
            cli(&["check-tenant-quota", "asked", "--tokens", tokens, "--server", &server.url]);
        assert_eq!(answered, code, "{tokens}: {stdout} {stderr}");
    }
    assert_eq!(count(&server.quota("asked", "tokens"), "remaining"), 10_000);
}

#[test]
fn the_thirty_first_call_of_a_minute_is_denied() {
    let server = Server::start();
    for call in 1..=30 {
        assert_eq!(server.reserve("calls", &[("api_calls", 1)]).status, 200, "call {call}");
    }
    let denied = server.reserve("calls", &[("api_calls", 1)]);
    is_denied_by(&denied, "api_calls", "minute", 30);
    let wait: u64 = denied.headers["retry-after"].parse().unwrap();
    assert!((1..=61).contains(&wait), "Retry-After: {wait}");
    assert_eq!(server.reserve("calls", &[("tokens", 1)]).status, 200, "other types are not touched");
}

#[test]
fn an_override_beats_the_plan_and_sticks() {
    let mut server = Server::start();
    let path = "/api/admin/tenants/own/quotas/tokens";
    server.put_tenant("own", &json!({"plan": "trial"}));
    let limit = |server: &Server| server.quota("own", "tokens")["limit"].clone();
    assert_eq!(limit(&server), json!(10_000));
    put_override(&server, "own", "tokens", &json!(250));
    is_denied_by(&server.reserve("own", &[("tokens", 251)]), "tokens", "day", 250);
    server.record(&json!({"tenant_id": "own", "event_type": "api_call", "tokens_consumed": 200}));
    server.aggregate();
    assert_eq!(limit(&server), json!(250), "aggregation does not wipe it");
    server.restart();
    server.put_tenant("own", &json!({"plan": "starter"}));
    assert_eq!(limit(&server), json!(250), "a plan does not wipe it");
    is_denied_by(&server.reserve("own", &[("tokens", 51)]), "tokens", "day", 250);

    let removed = server.delete(path);
    assert!((200..300).contains(&removed.status), "{removed:?}");
    assert_eq!(limit(&server), json!(100_000), "without it the plan's limit is back");
    assert_eq!(count(&server.quota("own", "tokens"), "used"), 200, "what was used stays used");
}

#[test]
fn a_null_limit_is_unlimited_and_shown_as_minus_one() {
    let server = Server::start();
    server.put_tenant("big", &json!({"plan": "enterprise"}));
    server.put_tenant("free", &json!({"plan": "trial"}));
    put_override(&server, "free", "tokens", &Value::Null);
    for tenant in ["big", "free"] {
        let asked = json!({"tenant_id": tenant, "quota_type": "tokens", "amount": 900_000_000});
        let answer = server.post("/api/quota/check", &asked).expect(200);
        assert_eq!((&answer["allowed"], &answer["tokens_remaining"]), (&json!(true), &json!(-1)), "{answer}");
        assert_eq!(answer["quota_limit"], Value::Null, "{answer}");
        let quota = server.quota(tenant, "tokens");
        assert_eq!((&quota["limit"], &quota["remaining"]), (&Value::Null, &json!(-1)), "{quota}");
        server.reserve(tenant, &[("tokens", 900_000_000)]).expect(200);
    }
    assert_eq!(server.reserve("free", &[("chat_messages", 101)]).status, 429, "the other types keep the plan's limit");
}

#[test]
fn recording_is_never_refused_and_the_next_reserve_is() {
    let server = Server::start();
    server.record(&json!({"tenant_id": "full", "event_type": "api_call", "tokens_consumed": 10_500}));
    is_exceeded(&server, "full", true);
    assert_eq!(server.reserve("full", &[("tokens", 1)]).status, 429, "the check sees what was recorded just now");
    server.record(&json!({"tenant_id": "full", "event_type": "api_call", "tokens_consumed": 7}));
    let quota = server.quota("full", "tokens");
    assert_eq!((count(&quota, "used"), count(&quota, "remaining")), (10_507, 0), "{quota}");
    server.put_tenant("full", &json!({"plan": "starter"}));
    is_exceeded(&server, "full", false);
    server.reserve("full", &[("tokens", 89_493)]).expect(200);
}

#[test]
fn a_blocked_tenant_reserves_nothing_and_is_still_recorded() {
    let server = Server::start();
    let event = |tenant: &str| json!({"tenant_id": tenant, "event_type": "api_call", "tokens_consumed": 5});
    for status in ["suspended", "cancelled"] {
        server.put_tenant(status, &json!({"status": status}));
        server.reserve(status, &[("tokens", 1)]).expect_error(403, status);
        server.record(&event(status));
        assert_eq!(count(&server.quota(status, "tokens"), "used"), 5);
        server.put_tenant(status, &json!({"status": "active"}));
        server.reserve(status, &[("tokens", 1)]).expect(200);
    }
    server.put_tenant("past", &json!({"plan_expires_at": "2026-01-01T00:00:00Z"}));
    let expired = server.reserve("past", &[("tokens", 1)]).expect_error(403, "expired");
    assert_eq!(expired["code"], json!("plan_expired"));
    server.record(&event("past"));

    server.put_tenant("gone", &json!({}));
    let removed = server.delete("/api/admin/tenants/gone");
    assert!((200..300).contains(&removed.status), "{removed:?}");
    for answer in [server.reserve("gone", &[("tokens", 1)]), server.get("/api/quota/gone")] {
        assert_eq!(answer.expect_error(404, "gone")["code"], json!("tenant_unknown"));
    }
    let refused = server.post("/api/usage/events", &event("gone"));
    assert!((400..500).contains(&refused.status), "nothing is recorded of a deleted tenant: {refused:?}");
    server.put_tenant("gone", &json!({"plan": "trial"}));
    server.reserve("gone", &[("tokens", 1)]).expect(200);
}

#[track_caller]
fn put_override(server: &Server, tenant: &str, quota_type: &str, limit: &Value) {
    let body = json!({"limit": limit, "reason": "a test"});
    let answer = server.put(&format!("/api/admin/tenants/{tenant}/quotas/{quota_type}"), &body);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[track_caller]
fn is_exceeded(server: &Server, tenant: &str, exceeded: bool) {
    let status = server.get(&format!("/api/quota/{tenant}")).expect(200);
    assert_eq!(status["anyExceeded"], json!(exceeded), "{status}");
}

fn settle(server: &Server, reservation_id: String, events: &[Value]) -> Answer {
    server.post(&format!("/api/quota/reservations/{reservation_id}/settle"), &json!({"events": events}))
}

#[track_caller]
fn release(server: &Server, reservation_id: String) {
    let answer = server.delete(&format!("/api/quota/reservations/{reservation_id}"));
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

#[track_caller]
fn id_of(answer: &Answer) -> String {
    answer.expect(200)["reservation_id"].as_str().expect("a reservation_id").to_owned()
}

/// A denial names its limit, the window, what is left, when it resets and how long to wait.
#[track_caller]
fn is_denied_by(answer: &Answer, quota_type: &str, window: &str, limit: u64) {
    let body = answer.expect(429);
    assert_eq!(body["allowed"], json!(false), "{body}");
    let denied = body["denied_by"].as_array().expect("denied_by");
    assert_eq!(denied.len(), 1, "{body}");
    let named = &denied[0];
    assert_eq!(
        (&named["quota_type"], &named["window"], &named["limit"]),
        (&json!(quota_type), &json!(window), &json!(limit)),
        "{body}"
    );
    let left = count(named, "used") + count(named, "held") + count(named, "remaining");
    assert_eq!(left, limit, "used + held + remaining: {named}");
    let resets_at: DateTime<Utc> = named["resets_at"].as_str().expect("resets_at").parse().unwrap();
    assert!(resets_at > Utc::now(), "{named}");
    if count(named, "asked") <= limit {
        let wait = body["retry_after_seconds"].as_u64().expect("retry_after_seconds");
        assert_eq!(answer.headers.get("retry-after"), Some(&wait.to_string()), "{answer:?}");
    } else {
        assert!(!answer.headers.contains_key("retry-after"), "waiting cannot help: {answer:?}");
    }
}
