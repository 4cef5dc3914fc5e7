//! What a key of some tenants sees of the others: nothing, in batches, lists and by ids.

use std::time::Instant;

use serde_json::{Value, json};

use super::support::bars::tell;
use super::support::connection::Connection;
use super::support::{ADMIN_KEY, Server};
use super::{ask, audited, make_key};

fn event(tenant: &str) -> Value {
    json!({"tenant_id": tenant, "event_type": "api_call", "tokens_consumed": 7})
}

#[test]
fn foreign_events_of_a_batch_fall_alone_and_register_nobody() {
    let server = Server::start();
    let key = make_key(&server, "ingest", "service", &["acme", "new"]);
    let is_taken = |answer: Value, accepted: u64| {
        assert_eq!(answer["accepted"], json!(accepted), "{answer}");
        let rejected: Vec<_> =
            answer["rejected"].as_array().unwrap().iter().map(|one| (&one["index"], &one["code"])).collect();
        assert_eq!(rejected, [(&json!(1), &json!("tenant_unknown"))], "{answer}");
    };
    let batch = json!([event("acme"), event("stranger"), event("new")]);
    is_taken(ask(&server, Some(&key.secret), "POST", "/api/usage/events", Some(&batch)).expect(200), 2);
    let bearer = format!("Bearer {}", key.secret);
    let lines = format!("{}\n{}\n", event("acme"), event("stranger"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    is_taken(server.send("POST", "/api/usage/events", &headers, Some(lines.as_bytes())).expect(200), 1);
    let audit = |tenant: &str| json!({"tenant_id": tenant, "event_type": "x", "entity_type": "y", "action": "access"});
    let batch = json!([audit("acme"), audit("stranger")]);
    is_taken(ask(&server, Some(&key.secret), "POST", "/api/audit/events", Some(&batch)).expect(200), 1);
    let no_tenant = json!({"event_type": "x", "entity_type": "y", "action": "access"});
    ask(&server, Some(&key.secret), "POST", "/api/audit/events", Some(&no_tenant)).expect_error(400, "tenant_id");

    server.get("/api/admin/tenants/new").expect(200);
    server.get("/api/admin/tenants/stranger").expect_error(404, "stranger");
    let written = audited(&server, "event_type=x");
    assert_eq!(written.len(), 1);
    assert_eq!(written[0]["key_id"], json!(key.id), "who wrote it is set by the server");
}

#[test]
fn lists_are_cut_to_the_keys_tenants_over_all_pages() {
    let server = Server::start();
    for tenant in ["a", "b", "c", "d", "e"] {
        server.put_tenant(tenant, &json!({"plan": "pro"}));
        server.put_tenant(tenant, &json!({"plan": "starter"}));
    }
    let key = make_key(&server, "support of two", "support", &["b", "d", "unregistered"]);
    let page = |after: &str| {
        let path = format!("/api/admin/tenants?limit=1{after}");
        let answer = ask(&server, Some(&key.secret), "GET", &path, None).expect(200);
        let ids: Vec<String> = answer["tenants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["tenant_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(answer["total"], json!(2));
        (ids, answer["next_cursor"].as_str().map(str::to_owned))
    };
    let (first, next) = page("");
    let (second, end) = page(&format!("&after={}", next.unwrap()));
    assert_eq!((first, second, end), (vec!["b".to_owned()], vec!["d".to_owned()], None));

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/audit/events?limit=1{cursor}");
        let answer = ask(&server, Some(&key.secret), "GET", &path, None).expect(200);
        seen.extend(answer["events"].as_array().unwrap().iter().map(|one| one["tenant_id"].clone()));
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["d", "d", "b", "b"], "not the platform's own records either");
    let foreign = audited(&server, "tenant_id=c")[0]["event_id"].as_str().unwrap().to_owned();
    let found = ask(&server, Some(&key.secret), "GET", &format!("/api/audit/events?event_id={foreign}"), None);
    assert_eq!(found.expect(200)["events"], json!([]));
}

#[test]
fn a_reservation_is_the_tenants_own_also_where_two_have_the_same_id() {
    let server = Server::start();
    let acme = make_key(&server, "acme", "service", &["acme"]);
    let both = make_key(&server, "both", "service", &["acme", "other"]);
    let reserve = |tenant: &str| {
        let items = json!([{"quota_type": "tokens", "amount": 100}]);
        let body = json!({"tenant_id": tenant, "items": items, "reservation_id": "job-7"});
        server.post("/api/quota/reserve", &body).expect(200);
    };
    reserve("other");
    let settle =
        |key: &str, body: &Value| ask(&server, Some(key), "POST", "/api/quota/reservations/job-7/settle", Some(body));
    let no_events = json!({"events": []});
    settle(&acme.secret, &no_events).expect_error(404, "job-7");
    settle(&acme.secret, &json!({"events": [event("other")]})).expect_error(404, "job-7");
    settle(&acme.secret, &json!({"tenant_id": "other", "events": []})).expect_error(404, "job-7");
    let release = |query: &str| {
        ask(&server, Some(&acme.secret), "DELETE", &format!("/api/quota/reservations/job-7{query}"), None)
    };
    release("").expect_error(404, "job-7");
    release("?tenant_id=other").expect_error(404, "job-7");
    assert_eq!(server.quota("other", "tokens")["held"], json!(100), "nothing was given back");

    reserve("acme");
    settle(&both.secret, &no_events).expect_error(409, "job-7");
    settle(&acme.secret, &no_events).expect(200);
    assert_eq!(
        (&server.quota("acme", "tokens")["held"], &server.quota("other", "tokens")["held"]),
        (&json!(0), &json!(100))
    );
}

#[test]
fn an_audit_id_is_the_tenants_own_also_where_two_have_the_same() {
    let server = Server::start();
    let key = make_key(&server, "support of acme", "support", &["acme"]);
    let id = "019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f";
    let event = |tenant: &str| {
        let body =
            json!({"event_id": id, "tenant_id": tenant, "event_type": "x", "entity_type": "y", "action": "access"});
        server.post("/api/audit/events", &body).expect(200);
    };
    let path = format!("/api/audit/events/{id}/resolve");
    let resolve = |body: &Value| ask(&server, Some(&key.secret), "POST", &path, Some(body));
    let seen = json!({"resolution_action": "seen"});
    event("other");
    resolve(&seen).expect_error(404, id);
    resolve(&json!({"resolution_action": "seen", "tenant_id": "other"})).expect_error(404, id);
    event("acme");
    assert_eq!(resolve(&seen).expect(200)["resolved"], json!(true));
    let result = |tenant: &str| audited(&server, &format!("event_id={id}&tenant_id={tenant}"))[0]["result"].clone();
    assert_eq!((result("acme"), result("other")), (json!("resolved"), json!("success")));
    let found = ask(&server, Some(&key.secret), "GET", &format!("/api/audit/events?event_id={id}"), None).expect(200);
    assert_eq!(found["events"].as_array().map(Vec::len), Some(1));
}

#[test]
fn support_sets_a_limit_only_with_a_reason_and_an_end_and_the_trail_says_who_did_it() {
    let server = Server::start();
    server.put_tenant("acme", &json!({}));
    let key = make_key(&server, "Ada of support", "support", &["acme"]);
    let path = "/api/admin/tenants/acme/quotas/tokens";
    let set = |body: Value| ask(&server, Some(&key.secret), "PUT", path, Some(&body));
    let until = "2199-01-01T00:00:00Z";
    for (body, field) in [
        (json!({"limit": 5, "until": until}), "reason"),
        (json!({"limit": 5, "until": until, "reason": " "}), "reason"),
        (json!({"limit": 5, "reason": "launch"}), "until"),
    ] {
        assert_eq!(set(body).expect_error(400, field)["details"]["field"], json!(field));
    }
    let bearer = format!("Bearer {}", key.secret);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-request-id", "req-77"),
        ("user-agent", "console/2"),
    ];
    let body = json!({"limit": 5, "reason": "launch", "until": until}).to_string();
    server.send("PUT", path, &headers, Some(body.as_bytes())).expect(200);
    let record = &audited(&server, "tenant_id=acme&event_type=quota_override_set")[0];
    for (field, value) in [
        ("actor_type", "admin"),
        ("actor_id", "Ada of support"),
        ("key_id", key.id.as_str()),
        ("request_id", "req-77"),
        ("user_agent", "console/2"),
        ("ip_address", "127.0.0.1"),
    ] {
        assert_eq!(record[field], json!(value), "{field} of {record}");
    }
    // An admin need not say why.
    server.put(path, &json!({"limit": 6})).expect(200);
}

/// Keys, and tenants with something to find of each kind.
const PAIRED: usize = 101;

#[test]
fn r13_ten_thousand_pairs_of_a_key_and_a_foreign_tenant_show_nothing_of_it() {
    let started = Instant::now();
    let server = Server::start();
    let name = |place: usize| format!("paired-{place}");
    let mut keys = Vec::new();
    let mut admin = Connection::open(&server.url, ADMIN_KEY).unwrap();
    for place in 0..PAIRED {
        let tenant = name(place);
        let mut event = event(&tenant);
        event["event_id"] = json!(format!("event-of-{tenant}"));
        server.record(&event);
        let held = json!({"tenant_id": tenant, "reservation_id": format!("hold-of-{tenant}"), "ttl_seconds": 3_600,
            "items": [{"quota_type": "tokens", "amount": 1}]});
        server.post("/api/quota/reserve", &held).expect(200);
        let role = ["viewer", "service", "support"][place % 3];
        keys.push(make_key(&server, &tenant, role, &[&tenant]));
    }
    // What is asked of another, what must not be answered otherwise than for nobody; and whether only a service may.
    let of = |kind: usize, tenant: &str| -> (&'static str, String, Option<Value>) {
        match kind {
            0 => ("GET", format!("/api/usage/{tenant}"), None),
            1 => ("GET", format!("/api/usage/{tenant}/today"), None),
            2 => ("GET", format!("/api/usage/{tenant}/events"), None),
            3 => ("GET", format!("/api/usage/{tenant}/events/event-of-{tenant}"), None),
            4 => ("GET", format!("/api/quota/{tenant}"), None),
            5 => ("GET", format!("/api/quota/{tenant}/explain"), None),
            6 => ("GET", format!("/api/audit/events?tenant_id={tenant}"), None),
            7 => ("GET", format!("/api/audit/report?tenant_id={tenant}"), None),
            8 => ("POST", "/api/usage/events".to_owned(), Some(event(tenant))),
            9 => (
                "POST",
                "/api/quota/check".to_owned(),
                Some(json!({"tenant_id": tenant, "quota_type": "tokens", "amount": 1})),
            ),
            10 => ("DELETE", format!("/api/quota/reservations/hold-of-{tenant}?tenant_id={tenant}"), None),
            _ => (
                "POST",
                format!("/api/quota/reservations/hold-of-{tenant}/settle"),
                Some(json!({"tenant_id": tenant, "events": [{"event_type": "api_call"}]})),
            ),
        }
    };
    let ask_of = |connection: &mut Connection, kind: usize, tenant: &str| {
        let (method, path, body) = of(kind, tenant);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let headers = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        connection.exchange(method, &path, headers, body.as_bytes()).unwrap()
    };
    let mut pairs = 0;
    for (place, key) in keys.iter().enumerate() {
        let mut connection = Connection::open(&server.url, &key.secret).unwrap();
        let kinds = if place % 3 == 1 { 12 } else { 8 };
        for other in (0..PAIRED).filter(|other| *other != place) {
            let (kind, foreign) = ((place + other) % kinds, name(other));
            let answer = ask_of(&mut connection, kind, &foreign);
            let never = format!("nobody-{other}");
            let nobody = ask_of(&mut connection, kind, &never);
            let told = format!("{} asks {:?}: {answer:?}", name(place), of(kind, &foreign));
            assert_eq!((answer.status, nobody.status), (404, 404), "{told}");
            assert_eq!(answer.text.replace(&foreign, "x"), nobody.text.replace(&never, "x"), "{told}");
            pairs += 1;
        }
        // Its own it may see, and it is as it was: the key works, and nobody released or recorded anything.
        let own = ask_of(&mut connection, 4, &name(place));
        assert_eq!(own.status, 200, "{own:?}");
        let tokens = &own.json()["quotas"]["tokens"];
        assert_eq!((&tokens["used"], &tokens["held"]), (&json!(7), &json!(1)), "{own:?}");
    }
    for place in 0..PAIRED {
        let rows = admin.exchange("GET", &format!("/api/usage/{}", name(place)), "", b"").unwrap().json();
        assert_eq!(rows["usage"][0]["api_calls_total"], 1, "{rows}");
    }
    tell("R13", &format!("{pairs} pairs of a key and a foreign tenant, 0 leaks, in {:.1?}", started.elapsed()));
}
