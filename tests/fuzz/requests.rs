//! R11 over HTTP: every route of the router, asked in every wrong way that a seed can think of. Nothing fails inside, every
//! error has the documented shape and a code of the table, and the server goes on as though nothing had been.

use std::collections::BTreeMap;
use std::time::Instant;

use metergate::http::{RouteInfo, error_table, route_table};
use serde_json::{Value, json};

use super::driver::{at_length, seed};
use super::raw::{Answer, Request};
use super::spoil::Spoiler;
use super::support::upstream::{Reply, Upstream, completion, completion_stream};
use super::support::{ADMIN_KEY, CRON_SECRET, Server};

/// Bad requests for each route.
const CASES_A_ROUTE: u64 = 60;

/// What is asked about.
struct Subject {
    names: BTreeMap<&'static str, String>,
    /// Cursors and ids that the server gave.
    given: Vec<String>,
    session: String,
}

impl Subject {
    /// A tenant with a thing of every kind.
    fn made(server: &Server) -> Self {
        server.put_tenant("acme", &json!({}));
        server.record(&json!([
            {"tenant_id": "acme", "event_type": "api_call", "event_id": "event-1", "model": "gpt-4o-mini", "input_tokens": 9},
            {"tenant_id": "acme", "event_type": "search", "event_id": "event-2"},
            {"tenant_id": "other", "event_type": "search", "event_id": "event-3"},
        ]));
        let body = json!({"tenant_id": "acme", "items": [{"quota_type": "tokens", "amount": 1}],
            "reservation_id": "res-1", "ttl_seconds": 3600});
        server.post("/api/quota/reserve", &body).expect(200);
        server.reserve("acme", &[("tokens", 1_000_000)]).expect(429);
        let event = json!({"tenant_id": "acme", "event_type": "kb_uploaded", "entity_type": "kb", "action": "create"});
        server.post("/api/audit/events", &event).expect(200);
        let audited = server.get("/api/audit/events?limit=1").expect(200);
        let key = server.post("/api/admin/keys", &json!({"name": "spare", "role": "viewer"})).expect(201);
        let backup = server.post("/api/admin/backups", &json!({})).expect(200);
        let session = server.post("/api/widget/session", &json!({"tenantId": "acme"})).expect(200);
        let mut given = Vec::new();
        for path in [
            "/api/usage/acme/events?limit=1",
            "/api/usage/acme?limit=1",
            "/api/audit/events?limit=1",
            "/api/admin/tenants?limit=1",
            "/api/admin/prices?limit=1",
            "/api/admin/keys?limit=1",
        ] {
            given.extend(server.get(path).json()["next_cursor"].as_str().map(str::to_owned));
        }
        assert!(given.len() >= 3, "cursors were given: {given:?}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names = [
            ("{tenant}", "acme".to_owned()),
            ("{event_id}", "event-1".to_owned()),
            ("{type}", "tokens".to_owned()),
            ("{plan}", "spare-plan".to_owned()),
            ("{key_id}", text(&key["key_id"])),
            ("{name}", text(&backup["name"])),
            ("{id}", text(&audited["events"][0]["event_id"])),
        ];
        Self { names: names.into(), given, session: text(&session["sessionId"]) }
    }

    /// A request to a route that is well, or nearly.
    fn request(&self, route: &RouteInfo) -> Request {
        let mut path = route.path.to_owned();
        if path.contains("reservations") {
            path = path.replace("{id}", "res-1");
        }
        for (name, value) in &self.names {
            path = path.replace(name, value);
        }
        assert!(!path.contains('{'), "a name for {path}");
        let query = query_of(route);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let body = matches!(route.method, "POST" | "PUT").then(|| self.body(route).into_bytes());
        let mut headers = vec![(b"authorization".to_vec(), format!("Bearer {ADMIN_KEY}").into_bytes())];
        if route.path.starts_with("/v1/") {
            headers.push((b"x-metergate-tenant".to_vec(), b"acme".to_vec()));
        }
        if route.path == "/api/admin/metrics/aggregate" {
            headers.push((b"x-cron-secret".to_vec(), CRON_SECRET.as_bytes().to_vec()));
        }
        if body.is_some() {
            headers.push((b"content-type".to_vec(), b"application/json".to_vec()));
        }
        Request { method: route.method.into(), target: target.into_bytes(), headers, body, announced: None }
    }

    fn body(&self, route: &RouteInfo) -> String {
        let quota = json!({"tenant_id": "acme", "quota_type": "tokens", "amount": 1});
        let event = json!({"tenant_id": "acme", "event_type": "api_call", "model": "gpt-4o-mini", "input_tokens": 3,
            "event_timestamp": "2026-11-24T10:00:00Z", "cost_usd": "0.5", "metadata": {"a": 1}});
        let body = match route.path {
            "/api/usage/events" => json!([event, {"tenant_id": "acme", "event_type": "search", "event_id": "e"}]),
            "/api/quota/check" | "/api/quota/enforce" => quota,
            "/api/quota/reserve" => json!({"tenant_id": "acme", "ttl_seconds": 60, "reservation_id": "r", "model": "m",
                "items": [{"quota_type": "tokens", "amount": 1}, {"quota_type": "cost", "amount": "0.5"}]}),
            "/api/quota/reservations/{id}/settle" => json!({"tenant_id": "acme", "events": [event]}),
            "/api/audit/events" => {
                json!([{"tenant_id": "acme", "event_type": "x", "entity_type": "y", "action": "access",
                "old_values": {"a": 1}, "occurred_at": "2026-11-24T10:00:00Z"}])
            }
            "/api/audit/events/{id}/resolve" => json!({"resolution_action": "seen", "tenant_id": "acme"}),
            "/api/audit/verify" => json!({"checkpoint": "x\n1\nAAAA\n\n— x AAAA\n", "verifier_key": "x+1+AAAA"}),
            "/api/admin/tenants/{tenant}" => json!({"name": "Acme", "labels": {"tier": "gold"}, "plan": "trial",
                "plan_expires_at": "2199-01-01T00:00:00Z", "zone": "Europe/Berlin", "status": "active", "mode": "observe",
                "thresholds": [50, 100]}),
            "/api/admin/tenants/{tenant}/quotas/{type}" => {
                json!({"limit": 20_000, "reason": "a pilot", "until": "2199-01-01T00:00:00Z", "window": "day"})
            }
            "/api/admin/tenants/{tenant}/prices" => json!({"from": "2199-12-01", "markup_bp": 1_250,
                "rates": {"openai": {"gpt-x": {"input": "2", "output": "8"}}}}),
            "/api/admin/plans/{plan}" => json!({"mode": "enforce", "thresholds": [80], "limits": [
                {"quota_type": "tokens", "window": "day", "limit": 5}, {"quota_type": "cost", "window": "month", "limit": "1.5"}]}),
            "/api/admin/prices" => json!({"m": {"litellm_provider": "openai", "mode": "chat",
                "input_cost_per_token": 0.000_001, "output_cost_per_token": 0.000_002}}),
            "/api/admin/prices/reprice" => json!({"from": "2026-11-01", "to": "2026-11-02", "dry_run": true}),
            "/api/admin/keys" => {
                json!({"name": "x", "role": "viewer", "tenants": ["acme"], "expires_at": "2199-01-01T00:00:00Z"})
            }
            "/api/admin/keys/{key_id}/rotate" => json!({"overlap_seconds": 60}),
            "/api/admin/erase" => json!({"subject": "actor", "id": "never-was", "tenant_id": "acme", "dry_run": true}),
            "/api/admin/jobs" => json!({"job": "aggregate_usage_metrics", "from": "2026-11-01", "to": "2026-11-02"}),
            "/api/dev/clock" => json!({"advance_seconds": 1}),
            "/api/widget/session" => json!({"tenantId": "acme", "visitorId": "v"}),
            "/api/widget/chat" => {
                json!({"sessionId": self.session, "message": "Hi", "responseCharacterLimit": 100, "sources": [1]})
            }
            "/v1/chat/completions" => {
                json!({"model": "gpt-4o-mini", "max_tokens": 9, "messages": [{"role": "user", "content":
                [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}]})
            }
            "/v1/responses" => json!({"model": "gpt-4o-mini", "input": "Hi", "max_output_tokens": 90, "stream": false}),
            "/v1/embeddings" => json!({"model": "text-embedding-3-small", "input": ["one", "two"]}),
            _ => json!({}),
        };
        body.to_string()
    }
}

/// Parameters that the route knows, well or nearly.
fn query_of(route: &RouteInfo) -> &'static str {
    match (route.method, route.path) {
        ("POST", "/api/usage/events") => "ack=durable",
        ("GET", "/api/usage/{tenant}") => "period=daily&startDate=2026-11-01&endDate=2026-11-24&limit=5&group_by=model",
        ("GET", "/api/usage/{tenant}/events") => "startDate=2026-11-01T00:00:00Z&event_type=search&limit=1",
        ("GET", "/api/quota/{tenant}/explain") => "at=2026-11-24T10:00:00Z",
        ("GET", "/api/audit/events") => "tenant_id=acme&event_type=x&startDate=2026-11-01&limit=2",
        ("GET", "/api/audit/report") => "tenant_id=acme&startDate=2026-11-01&endDate=2026-11-24",
        ("GET", "/api/audit/proof/inclusion") => "index=1&size=2",
        ("GET", "/api/audit/proof/consistency") => "old=1&new=2",
        ("GET", "/api/admin/usage") => "tenantId=acme&period=daily&metric=tokens&limit=5",
        ("GET", "/api/admin/tenants") => "limit=1&search=a&plan=trial&status=active",
        ("DELETE", "/api/admin/tenants/{tenant}/prices") => "from=2199-01-01",
        ("GET", "/api/admin/prices") => "model=gpt-4o&provider=openai",
        ("PUT", "/api/admin/prices") => "format=litellm&dry_run=true",
        ("GET", "/api/admin/prices/check") => "stale_days=90",
        ("PUT" | "DELETE", "/api/admin/tenants/{tenant}/quotas/{type}") => "window=day",
        ("PUT", "/api/admin/plans/{plan}") => "dry_run=true",
        ("GET", "/api/admin/alerts") => "tenant_id=acme&limit=1",
        ("GET", "/api/admin/keys") => "limit=1",
        ("POST", "/api/widget/chat") => "stream=false",
        _ => "",
    }
}

/// What is wrong with an answer, if anything.
fn fault(request: &Request, answer: &Answer) -> Option<String> {
    let status = answer.status;
    let is_head = request.method == b"HEAD";
    // A request that is none is refused before any route: hyper says so without a body.
    if matches!(status, 400 | 414 | 431) && answer.body.is_empty() && answer.header("x-request-id").is_none() {
        return None;
    }
    for header in ["x-request-id", "x-content-type-options", "cache-control"] {
        if answer.header(header).is_none() {
            return Some(format!("has no {header}"));
        }
    }
    if status < 400 || is_head {
        return if status == 500 { Some("is a 500".to_owned()) } else { None };
    }
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return Some("is no JSON".to_owned()) };
    if answer.header("content-type") != Some("application/json") {
        return Some("is not said to be JSON".to_owned());
    }
    let door = request.target.starts_with(b"/v1/");
    let (message, code) = match door {
        true => (&body["error"]["message"], &body["error"]["code"]),
        // A denial of a quota is a decision, with its own shape.
        false if status == 429 && body["allowed"] == false => return None,
        // The documented answer of the cron door has no code.
        false if status == 401 && body == json!({"error": "Unauthorized"}) => return None,
        false => (&body["error"], &body["code"]),
    };
    let Some(code) = code.as_str() else { return Some("has no code".to_owned()) };
    let code = if code == "invalid_api_key" { "ADMIN_AUTH_REQUIRED" } else { code };
    let Some(info) = error_table().iter().find(|info| info.code == code) else {
        return Some(format!("has the unknown code {code}"));
    };
    if info.status != status {
        return Some(format!("has the code {code} of status {}", info.status));
    }
    if status >= 500 && !matches!(status, 503 | 504 | 507) {
        return Some(format!("is {status} {code}"));
    }
    match message.as_str() {
        None | Some("") => Some("has no sentence".to_owned()),
        Some(message) if message.len() > 6_000 => Some(format!("mirrors {} bytes", message.len())),
        Some(_) if !door && body.as_object().is_some_and(|all| all.keys().any(|key| !is_of_an_error(key))) => {
            Some("has another field".to_owned())
        }
        Some(_) => None,
    }
}

fn is_of_an_error(key: &str) -> bool {
    matches!(key, "error" | "code" | "details")
}

/// A server whose door leads to a mock, and whose chat widget is open.
fn server(flags: &[&str]) -> (Server, Upstream) {
    let upstream = Upstream::start(|asked| match asked.json()["stream"].as_bool() {
        Some(true) => Reply::Pieces(vec![completion_stream(&["Hi"], Some((9, 3))).into_bytes()]),
        _ => Reply::json(&completion("Hi", 9, 3)),
    });
    let mut server = Server::stopped();
    let path = server.beside("metergate.toml");
    std::fs::write(&path, upstream.settings("[widget]\nmodel = \"gpt-4o-mini\"\norigins = \"https://x.example\""))
        .unwrap();
    server.flags = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
    server.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    server.start_again();
    (server, upstream)
}

/// Asks the routes, gives how many answers there were of each status.
fn ask(server: &Server, routes: &[&RouteInfo], cases: u64) -> BTreeMap<u16, u64> {
    let subject = Subject::made(server);
    let address = server.url.strip_prefix("http://").unwrap();
    let bodies = route_table().iter().map(|route| subject.body(route).into_bytes()).collect();
    let queries = route_table().iter().map(|route| query_of(route).as_bytes().to_vec()).collect();
    let mut spoiler = Spoiler::new(seed(), bodies, queries, subject.given.clone());
    let (mut counts, mut faults) = (BTreeMap::new(), Vec::new());
    for case in 0..cases {
        for route in routes {
            let mut request = subject.request(route);
            spoiler.spoil(&mut request);
            let answer = request.send(address);
            let wrong = match &answer {
                Some(answer) => fault(&request, answer),
                // Only who announces more than there is may be hung up on.
                None if request.announced.is_some() => None,
                None => Some("is missing".to_owned()),
            };
            if let Some(wrong) = wrong {
                faults.push(told(route, case, &request, answer.as_ref(), &wrong));
            }
            *counts.entry(answer.map_or(0, |answer| answer.status)).or_default() += 1;
        }
        assert_eq!(server.send("GET", "/healthz", &[], None).status, 200, "METERGATE_SEED={}, case {case}", seed());
        if faults.len() > 10 {
            break;
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    counts
}

/// What was sent and what came back.
fn told(route: &RouteInfo, case: u64, request: &Request, answer: Option<&Answer>, wrong: &str) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(3_000).collect::<String>();
    let hex: String = request.bytes().iter().take(8_192).map(|byte| format!("{byte:02x}")).collect();
    let got = answer.map(|answer| (answer.status, &answer.headers, shown(&answer.body)));
    format!(
        "METERGATE_SEED={}, case {case} of {} {}: the answer {wrong}\n{:?}\n{got:?}\nhex: {hex}",
        seed(),
        route.method,
        route.path,
        shown(&request.bytes())
    )
}

#[test]
fn no_bad_request_to_any_route_fails_inside() {
    let started = Instant::now();
    let cases = at_length(CASES_A_ROUTE);
    let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
    for development in [false, true] {
        let (mut server, _upstream) = server(if development { &["--dev"] } else { &[] });
        let routes: Vec<_> = route_table().iter().filter(|route| route.is_for_development() == development).collect();
        for (status, count) in ask(&server, &routes, cases) {
            *counts.entry(status).or_default() += count;
        }
        // It goes on as though nothing had been.
        assert_eq!(server.send("GET", "/readyz", &[], None).status, 200);
        let fresh = json!({"tenant_id": "after-all", "event_type": "api_call", "tokens_consumed": 7});
        server.record(&fresh);
        assert_eq!(server.get("/api/usage/after-all/today").expect(200)["usage"]["total_tokens_used"], json!(7));
        let verified = server.post("/api/admin/verify", &json!({})).expect(200);
        assert_eq!(verified["differences_total"], json!(0), "{verified}");
        server.stop();
        let log = server.log_text();
        for word in ["panicked", "failed inside", "connection's task failed"] {
            assert!(!log.contains(word), "the log says `{word}`:\n{log}");
        }
    }
    let (sent, errors) = (counts.values().sum::<u64>(), counts.range(500..).map(|(_, count)| count).sum::<u64>());
    println!(
        "R11: {sent} bad requests in {} cases over {} routes in {} s: 0 answers of 500, 0 panics, {errors} of 503, 504 and \
         507; by status {counts:?}",
        cases,
        route_table().len(),
        started.elapsed().as_secs()
    );
    let refused: u64 = counts.range(400..500).map(|(_, count)| count).sum();
    assert!(refused > sent / 2, "too few of the requests are bad: {counts:?}");
    assert!(errors * 20 < sent, "too many are refused as unavailable: {counts:?}");
}
