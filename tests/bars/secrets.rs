//! R14: secrets planted in every field of every request: none in the log, in an error or in the metrics.

use std::time::Instant;

use metergate::http::route_table;
use serde_json::{Value, json};

use super::support::bars::tell;
use super::support::{ADMIN_KEY, Answer, CRON_SECRET, Server};

/// What is planted; a number is added, so that it is known where it came from.
const PLANTED: &str = "sk-planted";
const TENANT: &str = "acme";

struct Garden<'a> {
    server: &'a Server,
    planted: Vec<String>,
    errors: usize,
    /// What was found in an answer that is an error.
    shown: Vec<String>,
}

impl Garden<'_> {
    fn secret(&mut self, place: &str) -> String {
        let secret = format!("{PLANTED}-{:05}-secret", self.planted.len());
        self.planted.push(place.to_owned());
        secret
    }

    /// Sends and looks at the answer if it is an error.
    fn send(&mut self, method: &str, path: &str, more: &[(&str, &str)], body: Option<&str>) -> Answer {
        let bearer = format!("Bearer {ADMIN_KEY}");
        let mut headers = vec![];
        if !more.iter().any(|(name, _)| *name == "authorization") {
            headers.push(("authorization", bearer.as_str()));
        }
        if body.is_some() && !more.iter().any(|(name, _)| *name == "content-type") {
            headers.push(("content-type", "application/json"));
        }
        headers.extend_from_slice(more);
        let answer = self.server.send(method, path, &headers, body.map(str::as_bytes));
        if answer.status >= 400 {
            self.errors += 1;
            let names: Vec<String> = answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            self.look(&format!("{method} {path}: {} {}", answer.status, names.join(" ")), &answer.text.clone());
            self.look(&format!("the headers of {method} {path}"), &names.join("\n"));
        }
        answer
    }

    fn look(&mut self, at: &str, text: &str) {
        for (place, _) in text.match_indices(PLANTED) {
            let number =
                text[place + PLANTED.len()..].trim_start_matches('-').get(..5).and_then(|n| n.parse::<usize>().ok());
            let planted = number.and_then(|number| self.planted.get(number)).cloned().unwrap_or_default();
            self.shown.push(format!("{at} shows what was planted in {planted}"));
        }
    }
}

/// Every body that a route takes, with what is right in it.
fn bodies() -> Vec<(&'static str, &'static str, Value)> {
    let event = json!({
        "tenant_id": TENANT, "event_id": "e", "event_type": "api_call", "event_timestamp": "2026-11-24T12:00:00Z",
        "api_method": "POST", "api_endpoint": "/x", "api_status_code": 200, "api_response_time_ms": 5,
        "chat_session_id": "s", "model": "gpt-4o", "provider": "openai", "input_tokens": 3, "output_tokens": 4,
        "cached_input_tokens": 1, "reasoning_tokens": 1, "cost_usd": "0.1", "embedding_tokens": 1,
        "search_query_tokens": 1, "search_result_count": 1, "tokens_consumed": 7, "metadata": {"a": "b"},
    });
    let audit = json!({
        "tenant_id": TENANT, "event_id": "018f4b2e-0000-7000-8000-000000000001", "event_type": "kb_uploaded",
        "entity_type": "knowledge_base", "entity_id": "kb", "action": "create", "actor_type": "admin", "actor_id": "a",
        "old_values": {"a": "b"}, "new_values": {"a": "b"}, "changes_summary": "c", "result": "success",
        "error_message": "m", "ip_address": "198.51.100.1", "user_agent": "u", "request_id": "r",
        "occurred_at": "2026-11-24T12:00:00Z",
    });
    let quota =
        json!({"tenant_id": TENANT, "quota_type": "tokens", "amount": 1, "model": "gpt-4o", "provider": "openai"});
    vec![
        ("POST", "/api/usage/events", event.clone()),
        ("POST", "/api/audit/events", audit),
        ("POST", "/api/quota/check", quota.clone()),
        ("POST", "/api/quota/enforce", quota),
        (
            "POST",
            "/api/quota/reserve",
            json!({"tenant_id": TENANT, "items": [{"quota_type": "tokens", "amount": 1}], "ttl_seconds": 60, "reservation_id": "r"}),
        ),
        ("POST", "/api/quota/reservations/r/settle", json!({"tenant_id": TENANT, "events": [event]})),
        ("POST", "/api/audit/events/018f4b2e-0000-7000-8000-000000000001/resolve", json!({"resolution_action": "x"})),
        (
            "PUT",
            "/api/admin/tenants/acme",
            json!({"name": "n", "labels": {"a": "b"}, "plan": "trial", "zone": "UTC", "status": "active", "mode": "enforce",
                "plan_expires_at": "2036-11-24T12:00:00Z", "thresholds": [80]}),
        ),
        (
            "PUT",
            "/api/admin/tenants/acme/quotas/tokens",
            json!({"limit": 5, "reason": "r", "until": "2036-11-24T12:00:00Z", "window": "day"}),
        ),
        (
            "PUT",
            "/api/admin/plans/p",
            json!({"limits": [{"quota_type": "tokens", "window": "day", "limit": 1, "mode": "enforce"}]}),
        ),
        (
            "POST",
            "/api/admin/keys",
            json!({"name": "k", "role": "viewer", "tenants": [TENANT], "expires_at": "2036-11-24T12:00:00Z"}),
        ),
        (
            "POST",
            "/api/admin/jobs",
            json!({"job": "aggregate_usage_metrics", "from": "2026-11-24", "to": "2026-11-24"}),
        ),
        ("POST", "/api/admin/erase", json!({"subject": "actor", "id": "nobody", "tenant_id": TENANT, "dry_run": true})),
        ("POST", "/api/audit/verify", json!({"checkpoint": "c", "verifier_key": "v"})),
        ("POST", "/api/widget/session", json!({"tenantId": TENANT, "visitorId": "v"})),
        ("POST", "/api/widget/chat", json!({"sessionId": "12345678", "message": "m", "sources": []})),
        (
            "POST",
            "/v1/chat/completions",
            json!({"model": "m", "messages": [{"role": "user", "content": "c"}], "user": "u"}),
        ),
    ]
}

/// Every place of a JSON value, as a path of names.
fn places(value: &Value, here: String, found: &mut Vec<String>) {
    if !here.is_empty() {
        found.push(here.clone());
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, format!("{here}/{name}"), found)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(place, value)| places(value, format!("{here}/{place}"), found));
        }
        _ => {}
    }
}

#[test]
fn r14_a_secret_planted_in_any_field_is_in_no_log_no_error_and_no_metric() {
    let started = Instant::now();
    let mut server = Server::stopped();
    std::fs::create_dir(server.data_dir()).unwrap();
    std::fs::write(server.data_dir().join("metergate.toml"), "[log]\nlevel = \"trace\"\n").unwrap();
    server.start_again();
    server.put_tenant(TENANT, &json!({}));
    let mut garden = Garden { server: &server, planted: Vec::new(), errors: 0, shown: Vec::new() };
    let control = garden.secret("this test itself");
    garden.look("this test", &control);
    assert!(garden.shown.pop().is_some(), "the search finds what is there");

    for (method, path, body) in bodies() {
        let mut found = Vec::new();
        places(&body, String::new(), &mut found);
        for place in found {
            for shape in ["as text", "in an object", "in a list", "in broken JSON", "under a field too many"] {
                let secret = garden.secret(&format!("{place} of {method} {path}, {shape}"));
                let mut planted = body.clone();
                *planted.pointer_mut(&place).unwrap() = match shape {
                    "in an object" => json!({ "a": secret }),
                    "in a list" => json!([secret]),
                    _ => json!(secret),
                };
                if shape == "under a field too many" {
                    planted["too_many"] = json!(secret);
                }
                let mut text = planted.to_string();
                if shape == "in broken JSON" {
                    text.truncate(text.find(&secret).unwrap() + secret.len());
                }
                garden.send(method, path, &[], Some(&text));
            }
        }
        let secret = garden.secret(&format!("the name of a field of {method} {path}"));
        let mut planted = body.clone();
        planted[&secret] = json!(1);
        garden.send(method, path, &[], Some(&planted.to_string()));
    }
    // Keys, passwords and cookies in headers, of every route; and in the query.
    for route in route_table() {
        let path = route.path.replace("{tenant}", TENANT).replace("{type}", "tokens").replace("{plan}", "p");
        let path = path.replace("{id}", "r").replace("{key_id}", "018f4b2e-0000-7000-8000-000000000001");
        let path = path.replace("{event_id}", "e").replace("{name}", "n");
        for header in [
            "authorization",
            "x-cron-secret",
            "cookie",
            "idempotency-key",
            "user-agent",
            "referer",
            "x-metergate-tenant",
            "origin",
        ] {
            let secret = garden.secret(&format!("the header {header} of {} {path}", route.method));
            let value = if header == "authorization" { format!("Bearer {secret}") } else { secret };
            let body = ["POST", "PUT"].contains(&route.method).then_some("{");
            garden.send(route.method, &path, &[(header, &value)], body);
        }
        for name in ["key", "startDate", "limit", "cursor", "metric", "period", "tenant_id", "event_type"] {
            let secret = garden.secret(&format!("the query's {name} of {} {path}", route.method));
            garden.send(route.method, &format!("{path}?{name}={secret}"), &[("authorization", "Basic eA==")], None);
            if route.method == "GET" {
                garden.send(route.method, &format!("{path}?{name}={secret}"), &[], None);
            }
        }
    }
    let lines: String = (0..5)
        .map(|_| {
            let secret = garden.secret("a line of NDJSON");
            format!("{{\"tenant_id\": \"{TENANT}\", \"event_type\": {{\"x\": \"{secret}\"\n")
        })
        .collect();
    garden.send("POST", "/api/usage/events", &[("content-type", "application/x-ndjson")], Some(&lines));
    let secret = garden.secret("the content type");
    garden.send("POST", "/api/usage/events", &[("content-type", &secret)], Some("{}"));

    let metrics = garden.server.get("/metrics").text;
    garden.look("/metrics", &metrics);
    let Garden { planted, errors, mut shown, .. } = garden;
    server.stop();
    let log = server.log_text();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log was not loud enough to find anything in it");
    let mut garden = Garden { server: &server, planted, errors, shown: Vec::new() };
    for line in log.lines().filter(|line| line.contains(PLANTED)) {
        garden.look(&format!("the log's line {line:?}"), line);
    }
    let in_the_log = garden.shown;
    assert!(!log.contains(ADMIN_KEY) && !log.contains(CRON_SECRET));
    // A plan or a tenant that is not there is named: it was asked for by its name.
    shown.retain(|shown| {
        !["in /plan of PUT /api/admin/tenants", "in /tenant_id of POST /api/admin/erase"]
            .iter()
            .any(|named| shown.contains(named))
    });
    let told = |shown: &[String]| format!("{} places:\n{}", shown.len(), shown[..shown.len().min(40)].join("\n"));
    assert!(in_the_log.is_empty(), "in the log: {}", told(&in_the_log));
    assert!(shown.is_empty(), "in errors and metrics: {}", told(&shown));
    let planted = garden.planted.len();
    tell(
        "R14",
        &format!(
            "{planted} secrets planted, 0 in {errors} errors, the log and the metrics, in {:.1?}",
            started.elapsed()
        ),
    );
}
