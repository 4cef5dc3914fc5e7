//! A key that records faster than it may is told so, and what it was refused was not recorded.

use serde_json::{Value, json};

use super::support::{Answer, Server, wait_for};
use super::{Made, ask, make_key, metric};

const REFUSED: &str = "metergate_refused_requests_total{reason=\"rate\"}";

/// A server whose keys may record so many events a second.
fn capped(events_per_second: u64) -> Server {
    let mut server = Server::stopped();
    let path = server.beside("metergate.toml");
    std::fs::write(&path, format!("[ingest]\nper_key_events_per_second = {events_per_second}\n")).unwrap();
    server.flags = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
    server.start_again();
    server
}

fn batch(tenant: &str, from: u64, events: u64) -> Value {
    (from..from + events)
        .map(|id| json!({"tenant_id": tenant, "event_type": "api_call", "event_id": format!("e{id}"), "tokens_consumed": 1}))
        .collect()
}

fn record(server: &Server, key: &Made, body: &Value) -> Answer {
    ask(server, Some(&key.secret), "POST", "/api/usage/events", Some(body))
}

fn used(server: &Server, tenant: &str) -> u64 {
    let answer = server.get(&format!("/api/usage/{tenant}/today"));
    if answer.status == 404 { 0 } else { answer.expect(200)["usage"]["total_tokens_used"].as_u64().unwrap() }
}

#[test]
fn what_a_key_is_refused_for_its_rate_is_not_recorded_and_may_be_sent_again() {
    // So few that a second batch owes hours, however slow this machine is.
    let server = capped(1);
    let key = make_key(&server, "busy", "service", &[]);
    let other = make_key(&server, "calm", "service", &[]);
    record(&server, &key, &batch("acme", 0, 5_000)).expect(200);
    assert_eq!(used(&server, "acme"), 5_000, "a batch is taken whole");

    let one = json!({"tenant_id": "acme", "event_type": "api_call", "event_id": "late", "tokens_consumed": 1});
    let audit = json!({"tenant_id": "acme", "event_type": "x", "entity_type": "y", "action": "access"});
    let reservation =
        json!({"tenant_id": "acme", "reservation_id": "r", "items": [{"quota_type": "tokens", "amount": 9}]});
    ask(&server, Some(&key.secret), "POST", "/api/quota/reserve", Some(&reservation)).expect(200);
    let settle = json!({"events": [one]});
    let refused = [
        ("/api/usage/events", &one),
        ("/api/usage/events", &batch("acme", 5_000, 3)),
        ("/api/usage/events?ack=queued", &one),
        ("/api/audit/events", &audit),
        ("/api/audit/events", &json!([audit, audit])),
        ("/api/quota/reservations/r/settle", &settle),
    ];
    for (path, body) in refused {
        let answer = ask(&server, Some(&key.secret), "POST", path, Some(body));
        let told = answer.expect_error(429, "nothing of this was recorded");
        assert_eq!(
            (&told["code"], &told["details"]["events_per_second"]),
            (&json!("rate_limited"), &json!(1)),
            "{path}"
        );
        let seconds = told["details"]["retry_after_seconds"].as_u64().unwrap();
        assert!((1_000..=5_000).contains(&seconds), "{told}");
        assert_eq!(answer.headers["retry-after"], seconds.to_string(), "{path}");
    }
    assert_eq!((used(&server, "acme"), metric(&server, REFUSED)), (5_000, 6));
    let audited = server.get("/api/audit/events?tenant_id=acme&event_type=x").expect(200);
    assert_eq!(audited["events"], json!([]));
    assert_eq!(server.quota("acme", "tokens")["held"], json!(9), "a settle that was refused settles nothing");
    // What is no event is not charged, and decisions have no such cap.
    record(&server, &key, &json!([{"tenant_id": "acme"}])).expect(200);
    let check = json!({"tenant_id": "acme", "quota_type": "tokens", "amount": 1});
    ask(&server, Some(&key.secret), "POST", "/api/quota/check", Some(&check)).expect(200);

    // The other key and the built-in one go on; the same ids may be sent by whoever may.
    record(&server, &other, &batch("acme", 5_000, 3)).expect(200);
    server.record(&one);
    server.record(&batch("acme", 6_000, 20));
    assert_eq!((used(&server, "acme"), metric(&server, REFUSED)), (5_024, 6));
}

#[test]
fn who_waits_as_long_as_it_is_told_goes_on() {
    let server = capped(1_000);
    let key = make_key(&server, "busy", "service", &[]);
    record(&server, &key, &batch("acme", 0, 2_500)).expect(200);
    let repeated = batch("acme", 2_500, 10);
    let mut waits = 0;
    wait_for("the key goes on", 60, || {
        let answer = record(&server, &key, &repeated);
        if answer.status == 200 {
            return Some(());
        }
        let seconds = answer.expect(429)["details"]["retry_after_seconds"].as_u64().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        waits += 1;
        None
    });
    assert!(waits <= 2, "told to come again {waits} times");
    assert_eq!(used(&server, "acme"), 2_510);
}

#[test]
fn a_stream_is_slowed_down_and_not_refused() {
    let server = capped(2_000);
    let key = make_key(&server, "stream", "service", &[]);
    let bearer = format!("Bearer {}", key.secret);
    let lines: String = (0..5_000)
        .map(|id| {
            format!("{{\"tenant_id\":\"acme\",\"event_type\":\"x\",\"event_id\":\"e{id}\",\"tokens_consumed\":1}}\n")
        })
        .collect();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let started = std::time::Instant::now();
    let answer = server.send("POST", "/api/usage/events", &headers, Some(lines.as_bytes())).expect(200);
    assert_eq!(answer["accepted"], json!(5_000), "{answer}");
    // The last chunk comes when a second's worth is owed: the four before take two seconds, of which one is given.
    assert!(started.elapsed().as_millis() >= 900, "{:?}", started.elapsed());
    assert_eq!((used(&server, "acme"), metric(&server, REFUSED)), (5_000, 0));
}

#[test]
fn without_the_setting_there_is_no_cap() {
    let server = Server::start();
    let key = make_key(&server, "busy", "service", &[]);
    for from in [0, 5_000, 10_000] {
        record(&server, &key, &batch("acme", from, 5_000)).expect(200);
    }
    assert_eq!((used(&server, "acme"), metric(&server, REFUSED)), (15_000, 0));
}
