//! Bad input: a clear 4xx that names what is wrong, nothing half done, and a server that goes on.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use serde_json::{Value, json};

use support::{ADMIN_KEY, CRON_SECRET, Server, midnight_days_ago, rfc3339};

const EVENTS: &str = "/api/usage/events";
const AGGREGATE: &str = "/api/admin/metrics/aggregate";

#[test]
fn a_bad_event_is_refused_by_the_name_of_its_field() {
    let server = Server::start();
    let soon = rfc3339(chrono::Utc::now() + chrono::Duration::minutes(6));
    let long_ago = rfc3339(midnight_days_ago(32));
    let long = |length: usize| "x".repeat(length);
    let cases = [
        ("tenant_id", json!({"tenant_id": null})),
        ("tenant_id", json!({"tenant_id": 7})),
        ("tenant_id", json!({"tenant_id": ""})),
        ("tenant_id", json!({"tenant_id": "a/b"})),
        ("tenant_id", json!({"tenant_id": "a b"})),
        ("tenant_id", json!({"tenant_id": long(129)})),
        ("event_type", json!({"event_type": null})),
        ("event_type", json!({"event_type": long(51)})),
        ("event_id", json!({"event_id": ""})),
        ("event_id", json!({"event_id": long(129)})),
        ("event_id", json!({"event_id": "a\nb"})),
        ("event_timestamp", json!({"event_timestamp": soon})),
        ("event_timestamp", json!({"event_timestamp": long_ago})),
        ("event_timestamp", json!({"event_timestamp": "yesterday"})),
        ("event_timestamp", json!({"event_timestamp": "2026-02-30T00:00:00Z"})),
        ("api_method", json!({"api_method": long(11)})),
        ("api_endpoint", json!({"api_endpoint": long(256)})),
        ("api_status_code", json!({"api_status_code": 99})),
        ("api_status_code", json!({"api_status_code": "200"})),
        ("api_response_time_ms", json!({"api_response_time_ms": -1})),
        ("tokens_consumed", json!({"tokens_consumed": -1})),
        ("tokens_consumed", json!({"tokens_consumed": 1.5})),
        ("tokens_consumed", json!({"tokens_consumed": "many"})),
        ("tokens_consumed", json!({"tokens_consumed": 1_000_000_000_001u64})),
        ("cost_usd", json!({"cost_usd": -0.01})),
        ("cost_usd", json!({"cost_usd": "a lot"})),
        ("cost_usd", json!({"cost_usd": "1e-16"})),
        ("metadata", json!({"metadata": [1]})),
        ("metadata", json!({"metadata": {"much": long(5_000)}})),
    ];
    for (field, change) in &cases {
        let answer = server.post(EVENTS, &good_event(change));
        assert_eq!(answer.status, 400, "{change}: {answer:?}");
        answer.expect_error(400, field);
    }
    // The same, all at once and between good ones: the rest of the batch is kept.
    let mut batch: Vec<Value> = cases.iter().map(|(_, change)| good_event(change)).collect();
    batch.insert(0, good_event(&json!({"event_id": "first"})));
    batch.push(good_event(&json!({"event_id": "last"})));
    let answer = server.post(EVENTS, &json!(batch)).expect(200);
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(2), &json!(0)), "{answer}");
    for (place, (rejected, (field, change))) in answer["rejected"].as_array().unwrap().iter().zip(&cases).enumerate() {
        assert_eq!(rejected["index"], json!(place + 1), "{change}: {rejected}");
        assert!(rejected["error"].as_str().is_some_and(|error| error.contains(field)), "{change}: {rejected}");
    }
    assert_eq!(answer["rejected"].as_array().map(Vec::len), Some(cases.len()));
}

#[test]
fn what_is_just_within_the_bounds_is_taken() {
    let server = Server::start();
    for change in [
        json!({"tenant_id": "x".repeat(128)}),
        json!({"tenant_id": "A-Z.a_z:0@9"}),
        json!({"event_type": "y".repeat(50)}),
        json!({"event_id": "é".repeat(128)}),
        json!({"event_timestamp": rfc3339(chrono::Utc::now() + chrono::Duration::minutes(4))}),
        json!({"event_timestamp": rfc3339(midnight_days_ago(29))}),
        json!({"event_timestamp": "2026-11-24T01:30:00+05:45".replace("2026-11-24", &midnight_days_ago(3).date_naive().to_string())}),
        json!({"api_endpoint": "/".repeat(255)}),
        json!({"tokens_consumed": 1_000_000_000_000u64}),
        json!({"cost_usd": "0.000000000000001"}),
        json!({"metadata": {"deep": {"er": [1, null, "x"]}}}),
    ] {
        server.record(&good_event(&change));
    }
}

#[test]
fn what_is_no_json_is_no_500() {
    let server = Server::start();
    for path in
        [EVENTS, "/api/quota/check", "/api/quota/enforce", "/api/quota/reserve", "/api/quota/reservations/x/settle"]
    {
        for body in ["", "{", "nonsense", "null", "7", "\"text\"", "{\"a\": 1} trailing", "\u{0}", "[[[[[["] {
            let answer = server.post_as("application/json", path, &[], body.as_bytes());
            assert!((400..500).contains(&answer.status), "{path} {body:?}: {answer:?}");
            assert!(answer.json()["code"].is_string(), "{path} {body:?}: {answer:?}");
        }
        let answer = server.post_as("application/json", path, &[], &[0xff, 0xfe, b'{']);
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        let deep = "[".repeat(200_000);
        let answer = server.post_as("application/json", path, &[], deep.as_bytes());
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
    }
    server.record(&good_event(&json!({})));
}

#[test]
fn a_bad_amount_limit_or_name_is_refused_and_takes_nothing() {
    let server = Server::start();
    let item = |quota_type: Value, amount: Value| json!({"tenant_id": "t", "items": [{"quota_type": quota_type, "amount": amount}]});
    for (word, body) in [
        ("amount", item(json!("tokens"), json!(-1))),
        ("amount", item(json!("tokens"), json!(0.5))),
        ("amount", item(json!("tokens"), json!("lots"))),
        ("amount", item(json!("tokens"), json!(1e30))),
        ("amount", item(json!("tokens"), Value::Null)),
        ("gold", item(json!("gold"), json!(1))),
        ("quota_type", item(json!(7), json!(1))),
        ("items", json!({"tenant_id": "t", "items": []})),
        ("items", json!({"tenant_id": "t", "items": "tokens"})),
        ("required", json!({"tenant_id": "t"})),
        ("tenant_id", json!({"items": [{"quota_type": "tokens", "amount": 1}]})),
        ("tenant", json!({"tenant_id": "a/b", "items": [{"quota_type": "tokens", "amount": 1}]})),
        ("ttl_seconds", json!({"tenant_id": "t", "ttl_seconds": 0, "items": [{"quota_type": "tokens", "amount": 1}]})),
        (
            "ttl_seconds",
            json!({"tenant_id": "t", "ttl_seconds": 3_601, "items": [{"quota_type": "tokens", "amount": 1}]}),
        ),
        (
            "ttl_seconds",
            json!({"tenant_id": "t", "ttl_seconds": "long", "items": [{"quota_type": "tokens", "amount": 1}]}),
        ),
        (
            "reservation_id",
            json!({"tenant_id": "t", "reservation_id": "", "items": [{"quota_type": "tokens", "amount": 1}]}),
        ),
    ] {
        let answer = server.post("/api/quota/reserve", &body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.expect_error(400, word);
    }
    let negative = json!({"tenant_id": "t", "quota_type": "tokens", "amount": -5});
    server.post("/api/quota/check", &negative).expect_error(400, "amount");
    server.post("/api/quota/enforce", &negative).expect_error(400, "amount");

    let tenant = "/api/admin/tenants/t";
    server.put_tenant("t", &json!({"plan": "trial"}));
    server.put(tenant, &json!({"plan": "platinum"})).expect_error(400, "platinum");
    server.put(tenant, &json!({"plan": 7})).expect_error(400, "plan");
    server.put(tenant, &json!({"zone": "Mars/Olympus"})).expect_error(400, "zone");
    server.put(tenant, &json!({"status": "happy"})).expect_error(400, "status");
    server.put(tenant, &json!({"plan_expires_at": "soon"})).expect_error(400, "plan_expires_at");
    server.put("/api/admin/tenants/a%2Fb", &json!({"plan": "trial"})).expect_error(400, "tenant");
    for limit in [json!(-1), json!(1.5), json!("much"), json!(1e30)] {
        server
            .put("/api/admin/tenants/t/quotas/tokens", &json!({"limit": limit, "reason": "x"}))
            .expect_error(400, "limit");
    }
    server.put("/api/admin/tenants/t/quotas/tokens", &json!({"reason": "no limit named"})).expect_error(400, "limit");
    server.put("/api/admin/tenants/t/quotas/gold", &json!({"limit": 1, "reason": "x"})).expect_error(400, "gold");
    let quota = server.quota("t", "tokens");
    assert_eq!((&quota["limit"], &quota["remaining"]), (&json!(10_000), &json!(10_000)), "nothing of it took hold");
}

#[test]
fn a_bad_query_is_400_and_names_the_parameter() {
    let server = Server::start();
    server.record(&good_event(&json!({})));
    for (word, query) in [
        ("startDate", "startDate=yesterday"),
        ("startDate", "startDate=2026-02-30"),
        ("startDate", "startDate=2026-13-01T00:00:00Z"),
        ("startDate", "startDate="),
        ("endDate", "endDate=tomorrow"),
        ("startDate", "startDate=2026-11-02&endDate=2026-11-01"),
        ("period", "period=weekly"),
        ("metric", "metric=gold"),
        ("limit", "limit=0"),
        ("limit", "limit=-1"),
        ("limit", "limit=ten"),
        ("limit", "limit=99999999999"),
        ("tenantId", "tenantId=a%2Fb"),
    ] {
        let answer = server.get(&format!("/api/admin/usage?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        answer.expect_error(400, word);
    }
    for (word, path) in [
        ("period", "/api/usage/t?period=weekly"),
        ("startDate", "/api/usage/t?startDate=yesterday"),
        ("startDate", "/api/usage/t/events?startDate=yesterday"),
        ("limit", "/api/usage/t/events?limit=0"),
        ("cursor", "/api/usage/t/events?cursor=forged"),
    ] {
        server.get(path).expect_error(400, word);
    }
}

#[test]
fn an_unknown_route_tenant_or_reservation_is_404_and_a_wrong_method_405() {
    let server = Server::start();
    for path in ["/nothing", "/api", "/api/usage", "/api/admin/nothing", "/api/usage/t/nothing"] {
        server.get(path).expect_error(404, "");
    }
    for path in ["/api/admin/usage?tenantId=nobody", "/api/usage/nobody", "/api/admin/tenants/nobody"] {
        let body = server.get(path).expect_error(404, "nobody");
        assert_eq!(body["code"], json!("tenant_unknown"), "{path}");
    }
    let settle = json!({"events": [{"tenant_id": "t", "event_type": "api_call"}]});
    server.post("/api/quota/reservations/none/settle", &settle).expect_error(404, "none");
    // A look registers nobody.
    let check = json!({"tenant_id": "nobody", "quota_type": "tokens", "amount": 1});
    assert_eq!(server.post("/api/quota/check", &check).expect(200)["allowed"], json!(true));
    server.get("/api/admin/tenants/nobody").expect_error(404, "nobody");

    for (method, path) in [
        ("PUT", EVENTS),
        ("DELETE", "/api/quota/check"),
        ("PATCH", "/api/admin/tenants/t"),
        ("POST", "/api/admin/usage"),
    ] {
        let answer = server.call(method, path, None);
        assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        assert!(answer.headers.contains_key("allow"), "{method} {path}: {answer:?}");
    }
}

#[test]
fn every_route_but_health_asks_for_the_key() {
    let server = Server::start();
    let unauthorized = json!({"error": "Unauthorized", "code": "ADMIN_AUTH_REQUIRED"});
    let wrong = format!("Bearer {}", ADMIN_KEY.to_uppercase());
    let basic = format!("Basic {ADMIN_KEY}");
    let longer = format!("Bearer {ADMIN_KEY}x");
    for (method, path) in [
        ("GET", "/api/admin/usage"),
        ("GET", AGGREGATE),
        ("GET", "/api/usage/t"),
        ("GET", "/api/usage/t/events"),
        ("GET", "/api/quota/t"),
        ("GET", "/api/admin/tenants"),
        ("GET", "/api/admin/tenants/t"),
        ("PUT", "/api/admin/tenants/t"),
        ("DELETE", "/api/admin/tenants/t"),
        ("PUT", "/api/admin/tenants/t/quotas/tokens"),
        ("GET", "/api/admin/plans"),
        ("POST", EVENTS),
        ("POST", "/api/quota/check"),
        ("POST", "/api/quota/enforce"),
        ("POST", "/api/quota/reserve"),
        ("POST", "/api/quota/reservations/x/settle"),
        ("DELETE", "/api/quota/reservations/x"),
    ] {
        for header in [None, Some(""), Some("Bearer "), Some(ADMIN_KEY), Some(&wrong), Some(&basic), Some(&longer)] {
            let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
            let body = (method != "GET" && method != "DELETE").then_some(b"{}".as_slice());
            let answer = server.send(method, path, &headers, body);
            assert_eq!(answer.expect(401), unauthorized, "{method} {path} {header:?}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.send("GET", path, &[], None).status, 200, "{path} is open");
    }
}

#[test]
fn the_cron_door_opens_for_its_secret_alone() {
    let post = |server: &Server, headers: &[(&str, &str)]| server.send("POST", AGGREGATE, headers, None);
    let unauthorized = json!({"error": "Unauthorized"});
    let bearer = format!("Bearer {ADMIN_KEY}");
    let server = Server::start();
    for headers in [
        &[][..],
        &[("x-cron-secret", "")],
        &[("x-cron-secret", "wrong")],
        &[("x-cron-secret", &CRON_SECRET[1..])],
        &[("authorization", bearer.as_str())],
    ] {
        assert_eq!(post(&server, headers).expect(401), unauthorized, "{headers:?}");
    }
    let done = post(&server, &[("x-cron-secret", CRON_SECRET)]).expect(200);
    assert_eq!(done["message"], json!("Usage metrics aggregated and old data cleaned up"), "{done}");
    for number in ["rows_aggregated", "realtime_events_removed", "audit_events_removed"] {
        assert!(done[number].is_u64(), "{number} in {done}");
    }
    let health = server.get(AGGREGATE).expect(200);
    assert_eq!(health["status"], json!("healthy"), "{health}");

    for secret in [None, Some("")] {
        let closed = Server::with_cron_secret(secret);
        for headers in [&[][..], &[("x-cron-secret", "")], &[("x-cron-secret", "undefined")]] {
            assert_eq!(post(&closed, headers).expect(401), unauthorized, "{secret:?} {headers:?}");
        }
    }
}

/// An event that would be taken, with these fields changed.
fn good_event(change: &Value) -> Value {
    let mut event = json!({"tenant_id": "t", "event_type": "api_call"});
    for (field, value) in change.as_object().expect("an object") {
        event[field] = value.clone();
    }
    event
}
