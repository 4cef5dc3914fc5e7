//! The table of what every route asks for, and every route asked by everybody.

use metergate::http::route_table;
use serde_json::{Value, json};

use super::support::{Answer, CRON_SECRET, Server};
use super::{Made, ask, audited, make_key, metric, rotate};

/// The least role that a route asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Least {
    Open,
    Cron,
    Viewer,
    Service,
    Support,
    Admin,
}

/// What of a route belongs to a tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    /// The tenant or thing that the request names.
    Named,
    /// A list, cut to the caller's tenants.
    List,
    /// Something about all tenants: not for a key of some.
    All,
}

use Least::{Admin, Cron, Open, Service, Support, Viewer};
use Of::{All, List, Named};

/// What is expected, by method and path; asked in this order.
const RULES: &[(&str, &str, Least, Of)] = &[
    ("POST", "/api/usage/events", Service, Named),
    ("GET", "/api/usage/{tenant}", Viewer, Named),
    ("GET", "/api/usage/{tenant}/today", Viewer, Named),
    ("GET", "/api/usage/{tenant}/events", Viewer, Named),
    ("GET", "/api/usage/{tenant}/events/{event_id}", Viewer, Named),
    ("POST", "/api/quota/check", Service, Named),
    ("POST", "/api/quota/enforce", Service, Named),
    ("POST", "/api/quota/reserve", Service, Named),
    ("POST", "/api/quota/reservations/{id}/settle", Service, Named),
    ("DELETE", "/api/quota/reservations/{id}", Service, Named),
    ("GET", "/api/quota/{tenant}", Viewer, Named),
    ("GET", "/api/quota/{tenant}/explain", Viewer, Named),
    ("POST", "/api/audit/events", Service, Named),
    ("GET", "/api/audit/events", Viewer, Named),
    ("GET", "/api/audit/report", Viewer, Named),
    ("POST", "/api/audit/events/{id}/resolve", Support, Named),
    ("GET", "/api/audit/checkpoint", Viewer, List),
    ("GET", "/api/audit/proof/inclusion", Viewer, Named),
    ("GET", "/api/audit/proof/consistency", Viewer, List),
    ("POST", "/api/audit/verify", Admin, All),
    ("GET", "/api/audit/export", Admin, All),
    ("GET", "/api/admin/usage", Admin, All),
    ("GET", "/api/admin/metrics/aggregate", Admin, All),
    ("POST", "/api/admin/metrics/aggregate", Cron, All),
    ("GET", "/api/admin/tenants", Support, List),
    ("GET", "/api/admin/tenants/{tenant}", Support, Named),
    ("PUT", "/api/admin/tenants/{tenant}", Admin, Named),
    ("PUT", "/api/admin/tenants/{tenant}/quotas/{type}", Support, Named),
    ("DELETE", "/api/admin/tenants/{tenant}/quotas/{type}", Support, Named),
    ("GET", "/api/admin/tenants/{tenant}/prices", Support, Named),
    ("PUT", "/api/admin/tenants/{tenant}/prices", Admin, Named),
    ("DELETE", "/api/admin/tenants/{tenant}/prices", Admin, Named),
    ("GET", "/api/admin/tenants/{tenant}/export", Admin, Named),
    // After what still needs the tenant.
    ("DELETE", "/api/admin/tenants/{tenant}", Admin, Named),
    ("GET", "/api/admin/plans", Admin, All),
    ("PUT", "/api/admin/plans/{plan}", Admin, All),
    ("DELETE", "/api/admin/plans/{plan}", Admin, All),
    ("GET", "/api/admin/prices", Admin, All),
    ("PUT", "/api/admin/prices", Admin, All),
    ("GET", "/api/admin/prices/check", Admin, All),
    ("POST", "/api/admin/prices/reprice", Admin, All),
    ("GET", "/api/admin/alerts", Support, Named),
    ("GET", "/api/admin/keys", Admin, All),
    ("POST", "/api/admin/keys", Admin, All),
    ("POST", "/api/admin/keys/{key_id}/rotate", Admin, All),
    ("DELETE", "/api/admin/keys/{key_id}", Admin, All),
    ("POST", "/api/admin/backups", Admin, All),
    ("GET", "/api/admin/backups", Admin, All),
    ("GET", "/api/admin/backups/{name}", Admin, All),
    ("POST", "/api/admin/erase", Admin, All),
    ("GET", "/api/admin/jobs", Admin, All),
    ("POST", "/api/admin/jobs", Admin, All),
    ("GET", "/api/admin/status", Admin, All),
    ("POST", "/api/admin/verify", Admin, All),
    ("GET", "/api/dev/clock", Admin, All),
    ("POST", "/api/dev/clock", Admin, All),
    ("POST", "/api/widget/session", Service, Named),
    ("POST", "/api/widget/chat", Open, All),
    // Their answers are in OpenAI's shape: tests/gateway asks them.
    ("POST", "/v1/chat/completions", Service, Named),
    ("POST", "/v1/responses", Service, Named),
    ("POST", "/v1/embeddings", Service, Named),
    ("GET", "/v1/models", Viewer, List),
    ("GET", "/metrics", Viewer, All),
    ("GET", "/healthz", Open, All),
    ("GET", "/readyz", Open, All),
];

/// What a request is about: a tenant and things of its.
struct Subject {
    tenant: String,
    reservation: String,
    audit_event: String,
    /// A key that may be rotated and revoked.
    key: String,
    /// The name of a backup.
    backup: String,
}

impl Subject {
    /// A tenant with a reservation, a denial and an audit event.
    fn made(server: &Server, tenant: &str) -> Self {
        server.put_tenant(tenant, &json!({}));
        let reservation = format!("res-{tenant}");
        let body = json!({"tenant_id": tenant, "items": [{"quota_type": "tokens", "amount": 1}],
            "reservation_id": reservation, "ttl_seconds": 3600});
        server.post("/api/quota/reserve", &body).expect(200);
        server.reserve(tenant, &[("tokens", 1_000_000)]).expect(429);
        server.record(&json!([{"tenant_id": tenant, "event_type": "api_call", "event_id": format!("event-{tenant}")}]));
        let event = json!({"tenant_id": tenant, "event_type": "kb_uploaded", "entity_type": "knowledge_base", "action": "create"});
        server.post("/api/audit/events", &event).expect(200);
        let found = server.get(&format!("/api/audit/events?tenant_id={tenant}&event_type=kb_uploaded")).expect(200);
        let audit_event = found["events"][0]["event_id"].as_str().unwrap().to_owned();
        let key = make_key(server, "sacrifice", "viewer", &[]).id;
        let backup = server.post("/api/admin/backups", &json!({})).expect(200)["name"].as_str().unwrap().to_owned();
        Self { tenant: tenant.to_owned(), reservation, audit_event, key, backup }
    }

    /// Names of nothing that ever was.
    fn of_nobody() -> Self {
        Self {
            tenant: "nobody".to_owned(),
            reservation: "res-nobody".to_owned(),
            audit_event: "019ab3f0-0000-7d2a-9f00-4b6f0c1d2e3f".to_owned(),
            key: "019ab3f0-1111-7d2a-9f00-4b6f0c1d2e3f".to_owned(),
            backup: "metergate-never.redb".to_owned(),
        }
    }

    /// Asks a route about this with a key.
    fn ask(&self, server: &Server, secret: Option<&str>, method: &str, path: &str) -> Answer {
        let (path, body) = self.request(method, path);
        ask(server, secret, method, &path, body.as_ref())
    }

    fn request(&self, method: &str, pattern: &str) -> (String, Option<Value>) {
        let id = if pattern.contains("reservations") { &self.reservation } else { &self.audit_event };
        let path = pattern
            .replace("{tenant}", &self.tenant)
            .replace("{event_id}", &format!("event-{}", self.tenant))
            .replace("{type}", "tokens")
            .replace("{plan}", "spare-plan")
            .replace("{key_id}", &self.key)
            .replace("{name}", &self.backup)
            .replace("{id}", id);
        let tenant = &self.tenant;
        let quota = json!({"tenant_id": tenant, "quota_type": "tokens", "amount": 1});
        let body = match (method, pattern) {
            ("POST", "/api/usage/events") => json!({"tenant_id": tenant, "event_type": "api_call"}),
            ("POST", "/api/quota/check" | "/api/quota/enforce") => quota,
            ("POST", "/api/quota/reserve") => {
                json!({"tenant_id": tenant, "items": [{"quota_type": "tokens", "amount": 1}]})
            }
            ("POST", "/api/quota/reservations/{id}/settle") => json!({"events": []}),
            ("POST", "/api/audit/events") => {
                json!({"tenant_id": tenant, "event_type": "x", "entity_type": "y", "action": "access"})
            }
            ("GET", "/api/audit/events" | "/api/audit/report") => return (format!("{path}?tenant_id={tenant}"), None),
            ("POST", "/api/widget/session") => json!({"tenantId": tenant}),
            ("GET", "/api/admin/alerts") => return (format!("{path}?tenant_id={tenant}"), None),
            ("GET", "/api/audit/proof/inclusion") => return (format!("{path}?event_id={}", self.audit_event), None),
            ("GET", "/api/audit/proof/consistency") => return (format!("{path}?old=1"), None),
            ("POST", "/api/audit/events/{id}/resolve") => json!({"resolution_action": "seen"}),
            ("PUT", "/api/admin/tenants/{tenant}/quotas/{type}") => {
                json!({"limit": 20_000, "reason": "a pilot", "until": "2199-01-01T00:00:00Z"})
            }
            ("PUT", "/api/admin/tenants/{tenant}/prices") => json!({"markup_bp": 1_250}),
            ("PUT", "/api/admin/tenants/{tenant}") => json!({}),
            ("PUT", "/api/admin/plans/{plan}") => json!({"limits": []}),
            ("PUT", "/api/admin/prices") => {
                let prices = json!({"m": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.000_001,
                    "output_cost_per_token": 0.000_002}});
                return (format!("{path}?dry_run=true"), Some(prices));
            }
            ("POST", "/api/admin/prices/reprice") => json!({"from": "2026-11-01", "to": "2026-11-02", "dry_run": true}),
            ("POST", "/api/admin/keys") => json!({"name": "made by a test", "role": "viewer"}),
            ("POST", "/api/admin/keys/{key_id}/rotate") => json!({}),
            ("POST", "/api/admin/erase") => json!({"subject": "session", "id": "never-was", "dry_run": true}),
            ("POST", "/api/admin/jobs") => json!({"job": "aggregate_usage_metrics"}),
            ("POST", "/api/dev/clock") => json!({"advance_seconds": 1}),
            ("POST" | "PUT", _) => json!({}),
            _ => return (path, None),
        };
        (path, Some(body))
    }
}

/// The rules of the routes that every server has, and that answer in our own shape.
fn served() -> impl Iterator<Item = &'static (&'static str, &'static str, Least, Of)> {
    RULES
        .iter()
        .filter(|rule| !rule.1.starts_with("/api/dev/") && !rule.1.starts_with("/v1/") && rule.1 != "/api/widget/chat")
}

#[test]
fn a_development_servers_clock_is_the_admins_alone() {
    let server = Server::with_flags(&["--dev"]);
    let viewer = make_key(&server, "viewer", "viewer", &[]);
    let admin = make_key(&server, "admin", "admin", &[]);
    for (method, path, ..) in RULES.iter().filter(|rule| rule.1.starts_with("/api/dev/")) {
        let status = |secret| Subject::of_nobody().ask(&server, secret, method, path).status;
        let statuses = [None, Some(viewer.secret.as_str()), Some(&admin.secret)].map(status);
        assert_eq!(statuses, [401, 403, 200], "{method} {path}");
    }
}

fn can(role: Least, least: Least) -> bool {
    role == least || role == Admin || least == Viewer
}

#[test]
fn every_route_has_a_rule() {
    let known: Vec<_> = RULES.iter().map(|(method, path, ..)| (*method, *path)).collect();
    let routes: Vec<_> = route_table().iter().map(|route| (route.method, route.path)).collect();
    let without: Vec<_> = routes.iter().filter(|route| !known.contains(route)).collect();
    assert!(without.is_empty(), "no rule in RULES says who may ask {without:?}");
    let gone: Vec<_> = known.iter().filter(|rule| !routes.contains(rule)).collect();
    assert!(gone.is_empty(), "there are rules for routes that do not exist: {gone:?}");
}

#[test]
fn without_a_key_that_works_every_route_but_the_listed_is_401() {
    let server = Server::start();
    let subject = Subject::made(&server, "acme");
    let revoked = make_key(&server, "revoked", "admin", &[]);
    server.delete(&format!("/api/admin/keys/{}", revoked.id)).expect(200);
    let expired = make_key(&server, "expired", "admin", &[]);
    rotate(&server, &expired, 0);
    let wrong = format!("mg_{}", "0".repeat(64));
    let unauthorized = json!({"error": "Unauthorized", "code": "ADMIN_AUTH_REQUIRED"});
    let shown = [None, Some(wrong.as_str()), Some(&revoked.secret), Some(&expired.secret), Some("")];
    let mut asked = 0;
    for (method, path, least, _) in served() {
        for secret in shown {
            let answer = subject.ask(&server, secret, method, path);
            match least {
                Open => assert_eq!(answer.status, 200, "{method} {path}"),
                Cron => assert_eq!(answer.expect(401), json!({"error": "Unauthorized"}), "{method} {path}"),
                _ => {
                    assert_eq!(answer.expect(401), unauthorized, "{method} {path}");
                    asked += 1;
                }
            }
        }
    }
    let count = |reason: &str| metric(&server, &format!("metergate_refused_requests_total{{reason=\"{reason}\"}}"));
    let each = asked / 5;
    assert_eq!(["unknown_key", "revoked_key", "expired_key"].map(count), [each; 3]);
    assert_eq!(count("no_key"), 2 * each, "an empty key is none");
    assert_eq!(audited(&server, "event_type=unauthorized_access"), Vec::<Value>::new(), "strangers are only counted");
}

#[test]
fn every_role_may_what_the_table_says_and_a_foreign_tenant_does_not_exist() {
    let mut server = Server::start();
    let [acme, other, spare] = ["acme", "other", "spare"].map(|tenant| Subject::made(&server, tenant));
    let nobody = Subject::of_nobody();
    let forbidden = json!({"error": "Forbidden", "code": "INSUFFICIENT_PERMISSIONS"});
    let roles = [("viewer", Viewer), ("service", Service), ("support", Support), ("admin", Admin)];
    let mut refused = 0;
    for (name, role) in roles {
        let wide = make_key(&server, &format!("{name} of all"), name, &[]);
        let scoped = (role != Admin).then(|| make_key(&server, &format!("{name} of acme"), name, &["acme"]));
        for &(method, path, least, of) in served().filter(|rule| !matches!(rule.2, Open | Cron)) {
            let told = format!("{name}: {method} {path}");
            // Only an admin can delete: its requests are about a tenant that nobody else asks for.
            let own = if role == Admin { &spare } else { &acme };
            let answer = own.ask(&server, Some(&wide.secret), method, path);
            if !can(role, least) {
                assert_eq!(answer.expect(403), forbidden, "{told}");
                refused += 1;
            } else {
                assert!((200..300).contains(&answer.status), "{told}: {answer:?}");
            }
            let Some(Made { secret, .. }) = &scoped else { continue };
            let answer = acme.ask(&server, Some(secret), method, path);
            let foreign = other.ask(&server, Some(secret), method, path);
            if !can(role, least) || of == All {
                assert_eq!((answer.expect(403), foreign.expect(403)), (forbidden.clone(), forbidden.clone()), "{told}");
                refused += 2;
                continue;
            }
            assert!((200..300).contains(&answer.status), "{told}, scoped: {answer:?}");
            if of == List {
                assert!(!foreign.text.contains("other"), "{told}: {foreign:?}");
                continue;
            }
            // As though it did not exist: as what never was.
            let never = nobody.ask(&server, Some(secret), method, path);
            assert_eq!((foreign.status, never.status), (404, 404), "{told}: {foreign:?} {never:?}");
            assert_eq!(anonymous(&foreign, &other), anonymous(&never, &nobody), "{told}");
            refused +=
                if path.ends_with("{id}") || path.contains("{id}/") || path.ends_with("inclusion") { 1 } else { 2 };
        }
    }
    server.get("/api/admin/tenants/nobody").expect_error(404, "nobody");
    server.send("POST", "/api/admin/metrics/aggregate", &[("x-cron-secret", CRON_SECRET)], None).expect(200);

    let count = |reason: &str| metric(&server, &format!("metergate_refused_requests_total{{reason=\"{reason}\"}}"));
    assert_eq!(count("role") + count("tenant"), refused);
    // At most one record a minute and key; a stop writes down what waits for its minute.
    assert!(audited(&server, "event_type=unauthorized_access").len() < 20);
    server.restart();
    let records = audited(&server, "event_type=unauthorized_access");
    let told = records.iter().map(|record| record["new_values"]["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(told, refused, "every refusal is told of");
    let routes = served().count();
    let told = format!("{routes} routes by {} roles, {refused} requests refused, each told of", roles.len());
    super::support::bars::tell("R13", &told);
    for record in &records {
        assert_eq!((&record["result"], &record["ip_address"]), (&json!("failure"), &json!("127.0.0.1")), "{record}");
        assert!(record["key_id"].as_str().is_some_and(|id| id.len() == 36), "{record}");
    }
}

/// An answer without the names it was asked by.
fn anonymous(answer: &Answer, subject: &Subject) -> String {
    let names = [&subject.reservation, &subject.audit_event, &subject.tenant];
    names.into_iter().fold(answer.text.clone(), |text, name| text.replace(name.as_str(), "*"))
}
