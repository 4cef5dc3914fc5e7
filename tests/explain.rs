//! What support asks: why was this request denied? And what observing and changing plans do, over HTTP and by command.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use serde_json::{Value, json};

use support::command::cli_ok;
use support::{ADMIN_KEY, Server};

/// A reservation under a request id of the caller's.
fn reserve_as(server: &Server, tenant: &str, request_id: &str, tokens: u64) -> support::Answer {
    let body = json!({"tenant_id": tenant, "items": [{"quota_type": "tokens", "amount": tokens}]}).to_string();
    let bearer = format!("Bearer {ADMIN_KEY}");
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-request-id", request_id)];
    server.send("POST", "/api/quota/reserve", &headers, Some(body.as_bytes()))
}

fn explain(server: &Server, tenant: &str, query: &str) -> Value {
    server.get(&format!("/api/quota/{tenant}/explain{query}")).expect(200)
}

#[test]
fn a_denied_request_is_explained_by_its_ids_also_after_aggregation_and_a_restart() {
    let mut server = Server::start();
    server.record(&json!([
        {"tenant_id": "acme", "event_type": "chat_message", "model": "large", "tokens_consumed": 7000, "chat_session_id": "s1"},
        {"tenant_id": "acme", "event_type": "api_call", "tokens_consumed": 2950},
    ]));
    let denied = reserve_as(&server, "acme", "req-7f3a", 200);
    let told = denied.expect(429);
    assert_eq!(denied.headers["x-request-id"], "req-7f3a");
    let id = told["decision_id"].as_str().unwrap().to_owned();

    let is_told = |server: &Server| {
        let answer = explain(server, "acme", "?request_id=req-7f3a");
        assert_eq!(answer, explain(server, "acme", &format!("?decision_id={id}")));
        assert_eq!(answer, explain(server, "acme", ""), "the latest");
        let denial = &answer["denial"];
        assert_eq!((&denial["decision_id"], &denial["request_id"]), (&json!(id), &json!("req-7f3a")));
        assert_eq!(denial["denied_by"], told["denied_by"][0]);
        assert_eq!((&denial["denials"], &denial["observed"]), (&json!(1), &json!(false)));
        let usage = &answer["usage"];
        assert_eq!((&usage["events"], &usage["amount"], &usage["complete"]), (&json!(2), &json!(9950), &json!(true)));
        assert_eq!(usage["models"][0]["name"], "large");
        assert_eq!(usage["sessions"][0]["name"], "s1");
        let at = denial["at"].as_str().unwrap();
        assert_eq!(explain(server, "acme", &format!("?at={at}")), answer);
        let sentence = answer["explanation"].as_str().unwrap();
        assert!(sentence.contains("10000 tokens per day") && sentence.contains("9950 used"), "{sentence}");
    };
    is_told(&server);
    server.aggregate();
    is_told(&server);
    server.restart();
    is_told(&server);
    server.kill_9();
    server.start_again();
    is_told(&server);

    server.get("/api/quota/acme/explain?request_id=other").expect_error(404, "denial_unknown");
    server.get("/api/quota/nobody/explain").expect_error(404, "tenant_unknown");
    server.get("/api/quota/acme/explain?at=2pm").expect_error(400, "at");
    server.get("/api/quota/acme/explain?at=2026-11-24&request_id=x").expect_error(400, "exclude");
    server.get("/api/quota/acme/explain?decision_id=7").expect_error(400, "decision_id");

    let url = server.url.clone();
    let run = |arguments: &[&str]| {
        let mut all = vec!["quota", "explain", "acme", "--server", &url, "--key", ADMIN_KEY];
        all.extend(arguments);
        cli_ok(&all)
    };
    let shown = run(&["--request", "req-7f3a"]);
    assert!(shown.contains("acme was denied at") && shown.contains("9,950 tokens by 2 events"), "{shown}");
    let json: Value = serde_json::from_str(&run(&["--decision", &id, "--json"])).unwrap();
    assert_eq!(json["denial"]["request_id"], "req-7f3a");
}

#[test]
fn an_observing_tenant_is_granted_and_shown_what_would_have_been_denied() {
    let server = Server::start();
    server.put_tenant("new", &json!({"mode": "observe"}));
    let answer = reserve_as(&server, "new", "first-week", 10_001).expect(200);
    assert_eq!((&answer["allowed"], &answer["would_deny"][0]["asked"]), (&json!(true), &json!(10_001)));
    assert!(answer["reservation_id"].is_string());
    let told = explain(&server, "new", "?request_id=first-week");
    assert_eq!((&told["denial"]["observed"], &told["denial"]["decision_id"]), (&json!(true), &answer["decision_id"]));
    assert_eq!(server.get("/api/admin/tenants/new").expect(200)["mode"], "observe");
    server.put("/api/admin/tenants/new", &json!({"mode": "dream"})).expect_error(400, "mode");
    server.put_tenant("new", &json!({"mode": "enforce"}));
    reserve_as(&server, "new", "second-week", 1).expect(429);
}

#[test]
fn a_plan_changes_while_running_and_its_effect_is_shown_first() {
    let server = Server::start();
    server.record(
        &json!([{"tenant_id": "a", "event_type": "x", "tokens_consumed": 9000}, {"tenant_id": "b", "event_type": "x"}]),
    );
    let lower = json!({"limits": [{"quota_type": "tokens", "window": "day", "limit": 5000}]});
    let shown = server.put("/api/admin/plans/trial?dry_run=true", &lower).expect(200);
    assert_eq!(shown["effect"], json!({"tenants": 2, "exceeded_before": 0, "exceeded_after": 1}));
    assert_eq!((&shown["applied"], &server.quota("a", "tokens")["limit"]), (&json!(false), &json!(10_000)));

    let url = server.url.clone();
    let run = |arguments: &[&str]| {
        let mut all = vec!["plans"];
        all.extend(arguments);
        all.extend(["--server", &url, "--key", ADMIN_KEY]);
        cli_ok(&all)
    };
    let told = run(&["set", "trial", "tokens_per_day=5000"]);
    assert!(told.contains("2 tenants; 0 of them have used up a limit, 1 would have"), "{told}");
    assert!(told.contains("tokens per day: 10000 -> 5000") && told.contains("--yes"), "{told}");
    assert_eq!(server.quota("a", "tokens")["limit"], json!(10_000));
    run(&["set", "trial", "tokens_per_day=5000", "cost_per_month=0.000000000000001", "--yes"]);
    assert_eq!(server.quota("a", "tokens")["limit"], json!(5_000));
    assert_eq!(server.quota("a", "api_calls")["limit"], json!(30), "what is not named stays");

    let file = server.beside("plans.toml");
    std::fs::write(&file, "[plans.trial]\ntokens_per_day = 7\n[plans.more]\n").unwrap();
    let file = file.to_str().unwrap();
    let differs = run(&["diff", file]);
    for line in
        ["trial: tokens per day: 5000 -> 7", "trial: cost per month: 0.000000000000001 -> unlimited", "more: only"]
    {
        assert!(differs.contains(line), "{line} in:\n{differs}");
    }
    run(&["apply", file, "--yes"]);
    assert!(!run(&["diff", file]).contains("only in the file"));
    assert_eq!(server.quota("a", "tokens")["limit"], json!(7));
    server.delete("/api/admin/plans/trial").expect_error(409, "plan_in_use");
    run(&["remove", "more"]);
    server.delete("/api/admin/plans/more").expect_error(400, "unknown_plan");
    server.put("/api/admin/plans/trial", &json!({"limits": [{"quota_type": "tokens"}]})).expect_error(400, "window");
}
