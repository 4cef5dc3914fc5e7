//! Thresholds, alerts and expiry over HTTP and by command.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use serde_json::{Value, json};

use support::command::cli_ok;
use support::{ADMIN_KEY, Server};

fn event(tenant: &str, tokens: u64) -> Value {
    json!({"tenant_id": tenant, "event_type": "api_call", "tokens_consumed": tokens})
}

/// Every alert that fits, newest first; what a commit crosses rides on the next one, so one is made first.
fn alerts(server: &Server, query: &str) -> Vec<Value> {
    server.record(&event("somebody-else", 0));
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/api/admin/alerts?limit=2{query}{cursor}")).expect(200);
        all.extend(page["alerts"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn percents(alerts: &[Value]) -> Vec<u64> {
    alerts.iter().map(|alert| alert["percent"].as_u64().unwrap()).collect()
}

#[test]
fn crossed_thresholds_are_listed_shown_and_counted_and_survive_a_kill() {
    let mut server = Server::start();
    server.record(&event("acme", 9_600));
    server.record(&event("other", 10_000));
    let told = alerts(&server, "&tenant_id=acme");
    assert_eq!(percents(&told), [95, 80]);
    let alert = &told[1];
    let shown = ["tenant_id", "quota_type", "window", "limit", "used", "mode"].map(|name| alert[name].clone());
    assert_eq!(json!(shown), json!(["acme", "tokens", "day", 10_000, 9_600, "enforce"]));
    assert!(alert["window_start"].as_str().unwrap().ends_with("T00:00:00Z"), "{alert}");
    assert_eq!((alerts(&server, "").len(), alerts(&server, "&endDate=2026-01-01").len()), (5, 0));
    let since = alert["at"].as_str().unwrap();
    assert_eq!(alerts(&server, &format!("&startDate={since}")).len(), 5);
    let tokens = server.quota("acme", "tokens");
    assert_eq!((&tokens["thresholds"], &tokens["thresholds_crossed"]), (&json!([80, 95, 100]), &json!([80, 95])));
    assert_eq!(server.quota("acme", "api_calls")["thresholds"], Value::Null, "a minute's limit is not told");
    let metrics = server.get("/metrics").text;
    let counted = "metergate_quota_thresholds_crossed_total{quota_type=\"tokens\",window=\"day\"} 5";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    let audit = server.get("/api/audit/events?event_type=quota_threshold_crossed&tenant_id=acme").expect(200);
    assert_eq!(audit["events"][0]["entity_id"], "tokens-day");

    server.kill_9();
    server.start_again();
    server.record(&event("acme", 0));
    assert_eq!(alerts(&server, "&tenant_id=acme"), told);

    for (query, field) in
        [("?tenant_id=a%20b", "tenant_id"), ("?startDate=soon", "startDate"), ("?limit=0", "limit"), ("?x=1", "x")]
    {
        server.get(&format!("/api/admin/alerts{query}")).expect_error(400, field);
    }
    let cursor = server.get("/api/admin/alerts?limit=1").expect(200)["next_cursor"].as_str().unwrap().to_owned();
    server.get(&format!("/api/admin/alerts?tenant_id=acme&cursor={cursor}")).expect_error(400, "cursor");
}

#[test]
fn percentages_are_set_and_alerts_listed_by_command() {
    let server = Server::start();
    let url = server.url.clone();
    let run = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--server", &url, "--key", ADMIN_KEY]);
        cli_ok(&all)
    };
    let shown = run(&["plans", "set", "trial", "--thresholds", "90,50"]);
    assert!(shown.contains("thresholds: 80 %, 95 %, 100 % -> 50 %, 90 %"), "{shown}");
    assert!(run(&["plans", "list"]).contains("80% 95% 100%"), "nothing was changed yet");
    run(&["plans", "set", "trial", "--thresholds", "90,50", "--yes"]);
    assert!(run(&["plans", "list"]).contains("50% 90%"));
    run(&["plans", "set", "trial", "tokens_per_day=1000", "--yes"]);
    let plans = server.get("/api/admin/plans").expect(200);
    let trial = plans["plans"].as_array().unwrap().iter().find(|plan| plan["name"] == "trial").unwrap();
    assert_eq!(trial["thresholds"], json!([50, 90]), "a change of limits leaves them");
    let audit = server.get("/api/audit/events?event_type=plan_updated").expect(200);
    assert_eq!(audit["events"].as_array().unwrap().len(), 2);

    run(&["tenants", "set", "acme", "--thresholds", "10"]);
    assert_eq!(server.get("/api/admin/tenants/acme").expect(200)["thresholds"], json!([10]));
    server.record(&json!([event("acme", 150), event("plain", 600)]));
    assert_eq!(percents(&alerts(&server, "&tenant_id=acme")), [10]);
    run(&["tenants", "set", "acme", "--thresholds", "none"]);
    assert_eq!(server.get("/api/admin/tenants/acme").expect(200)["thresholds"], json!([]));
    run(&["tenants", "set", "acme", "--thresholds", "plan"]);
    assert_eq!(server.get("/api/admin/tenants/acme").expect(200)["thresholds"], Value::Null);
    server.put("/api/admin/tenants/acme", &json!({"thresholds": [80, 80]})).expect_error(400, "thresholds");
    server.put("/api/admin/plans/trial", &json!({"limits": [], "thresholds": [0]})).expect_error(400, "thresholds");

    let listed = run(&["alerts", "--tenant", "plain"]);
    assert!(listed.contains("50 %") && listed.contains("600") && listed.contains("1,000"), "{listed}");
    let json: Value = serde_json::from_str(&run(&["alerts", "--json", "--limit", "1"])).unwrap();
    assert_eq!(json["alerts"].as_array().unwrap().len(), 1);
    let status = run(&["quota", "status", "plain"]);
    assert!(status.contains("CROSSED") && status.contains("50%"), "{status}");
}

#[test]
fn an_expired_plan_is_recorded_and_refused() {
    let server = Server::start();
    server.record(&event("acme", 1));
    server.put_tenant("acme", &json!({"plan_expires_at": "2026-01-01T00:00:00Z"}));
    server.reserve("acme", &[("tokens", 1)]).expect_error(403, "expired");
    let audit = server.get("/api/audit/events?tenant_id=acme&event_type=trial_expired").expect(200);
    let events = audit["events"].as_array().unwrap();
    assert_eq!(
        (events.len(), &events[0]["entity_type"], &events[0]["actor_type"]),
        (1, &json!("trial"), &json!("system"))
    );
    server.put_tenant("acme", &json!({"plan_expires_at": null}));
    server.reserve("acme", &[("tokens", 1)]).expect(200);
}

#[test]
fn a_ceiling_over_all_tenants_is_set_in_the_file_and_survives_a_kill() {
    let mut server = Server::stopped();
    std::fs::create_dir_all(server.data_dir()).unwrap();
    let file = "[platform]\ntokens_per_day = 12000\ncost_usd_per_month = \"1.50\"\n";
    std::fs::write(server.data_dir().join("metergate.toml"), file).unwrap();
    server.start_again();
    server.record(&json!([event("one", 5_000), event("two", 4_000)]));
    server.reserve("three", &[("tokens", 3_000)]).expect(200);
    let is_denied = |server: &Server| {
        let answer = server.reserve("four", &[("tokens", 1)]);
        let body = answer.expect(429);
        let denied = &body["denied_by"][0];
        assert_eq!(
            (&denied["scope"], &denied["quota_type"], &denied["window"]),
            (&json!("platform"), &json!("tokens"), &json!("day"))
        );
        for hidden in ["limit", "used", "held", "remaining"] {
            assert!(denied.get(hidden).is_none(), "{denied}");
        }
        assert!(body["error"].as_str().unwrap().contains("platform"), "{body}");
        assert_eq!(answer.headers["retry-after"], body["retry_after_seconds"].to_string());
        assert!(!answer.headers["ratelimit"].contains("12000"), "{answer:?}");
        body["decision_id"].as_str().unwrap().to_owned()
    };
    is_denied(&server);
    // Denials ride on the next commit.
    server.record(&event("two", 0));
    server.kill_9();
    server.start_again();
    let id = is_denied(&server);
    let explained = server.get(&format!("/api/quota/four/explain?decision_id={id}")).expect(200);
    assert_eq!(explained["denial"]["denied_by"]["scope"], "platform");
    let cost = server.reserve("five", &[("cost", 2)]).expect(429);
    assert_eq!(cost["denied_by"][0]["window"], "month");
    server.record(&event("two", 0));
    let usage = server.get("/api/usage/four?period=daily").expect(200);
    assert_eq!(usage["usage"][0]["quota_exceeded_count"], 2, "{usage}");

    let status = server.get("/api/admin/status").expect(200);
    let tokens = &status["platform"][0];
    assert_eq!((&tokens["limit"], &tokens["used"], &tokens["held"]), (&json!(12_000), &json!(9_000), &json!(3_000)));
    let metrics = server.get("/metrics").text;
    for line in [
        "metergate_platform_ceiling{quota_type=\"cost\",window=\"month\"} 1.5",
        "metergate_platform_used{quota_type=\"tokens\",window=\"day\"} 9000",
        "metergate_platform_held{quota_type=\"tokens\",window=\"day\"} 3000",
    ] {
        assert!(metrics.lines().any(|shown| shown == line), "{line} is not in\n{metrics}");
    }
    let url = server.url.clone();
    let shown = cli_ok(&["status", "--server", &url, "--key", ADMIN_KEY]);
    assert!(shown.contains("CEILING") && shown.contains("12,000"), "{shown}");
    let told = cli_ok(&["quota", "explain", "four", "--server", &url, "--key", ADMIN_KEY]);
    assert!(told.contains("the platform's"), "{told}");
}
