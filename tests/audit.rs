//! The audit log over HTTP and the command line: written, found by any field, paged, resolved, reported, cleaned up.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use serde_json::{Value, json};

use support::{Server, count, metergate, midnight_days_ago};

const ID: &str = "019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f";

fn event(tenant: &str, event_type: &str) -> Value {
    json!({"tenant_id": tenant, "event_type": event_type, "entity_type": "knowledge_base", "action": "create"})
}

fn whole(id: &str) -> Value {
    let mut event = event("acme", "kb_uploaded");
    for (name, value) in [
        ("event_id", json!(id)),
        ("entity_id", json!("kb-1")),
        ("actor_type", json!("visitor")),
        ("actor_id", json!("v-1")),
        ("old_values", json!({"pages": 1})),
        ("new_values", json!({"pages": 2})),
        ("changes_summary", json!("one page more")),
        ("result", json!("failure")),
        ("error_message", json!("half of it")),
        ("ip_address", json!("10.1.2.3")),
        ("user_agent", json!("curl/8 (test)")),
        ("request_id", json!("req-1")),
        ("occurred_at", json!("2026-01-02T03:04:05Z")),
    ] {
        event[name] = value;
    }
    event
}

#[track_caller]
fn write(server: &Server, events: &Value) -> Value {
    server.post("/api/audit/events", events).expect(200)
}

#[track_caller]
fn list(server: &Server, query: &str) -> Vec<Value> {
    let body = server.get(&format!("/api/audit/events?{query}")).expect(200);
    body["events"].as_array().unwrap_or_else(|| panic!("no events in {body}")).clone()
}

#[test]
fn an_event_is_read_back_whole_and_found_by_each_of_its_fields() {
    let server = Server::start();
    write(&server, &whole(ID));
    let mut other = event("other", "kb_deleted");
    other["action"] = json!("delete");
    other["entity_type"] = json!("crawl_job");
    write(&server, &other);
    let sent = whole(ID);
    let read = list(&server, &format!("event_id={ID}")).remove(0);
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&read[name], value, "{name}");
    }
    assert_eq!((&read["key_id"], &read["original_result"]), (&json!("admin-key"), &Value::Null));
    assert!(read["timestamp"].as_str().unwrap() > "2026-01-03", "the server's own time");
    for name in [
        "event_id",
        "tenant_id",
        "event_type",
        "entity_type",
        "entity_id",
        "action",
        "actor_type",
        "actor_id",
        "result",
        "ip_address",
        "request_id",
    ] {
        let found = list(&server, &format!("{name}={}", sent[name].as_str().unwrap()));
        assert_eq!(found, std::slice::from_ref(&read), "{name}");
    }
    assert_eq!(list(&server, "user_agent=curl/8%20(test)"), std::slice::from_ref(&read));
    let (today, yesterday) = (midnight_days_ago(0).date_naive(), midnight_days_ago(1).date_naive());
    assert_eq!(list(&server, &format!("tenantId=acme&startDate={yesterday}&endDate={today}")), [read]);
    assert_eq!(list(&server, &format!("tenantId=acme&endDate={yesterday}")), [] as [Value; 0]);
    for (query, word) in [("actor=x", "actor"), ("result=bad", "result"), ("action=x", "action"), ("limit=0", "limit")]
    {
        server.get(&format!("/api/audit/events?{query}")).expect_error(400, word);
    }
}

#[test]
fn a_retry_counts_once_and_a_batch_keeps_the_good() {
    let server = Server::start();
    let answer = write(&server, &whole(ID));
    assert_eq!((count(&answer, "accepted"), count(&answer, "duplicates")), (1, 0), "{answer}");
    assert_eq!(count(&write(&server, &whole(ID)), "duplicates"), 1);
    let mut changed = whole(ID);
    changed["changes_summary"] = json!("another");
    server.post("/api/audit/events", &changed).expect_error(409, "event_id");
    server.post("/api/audit/events", &json!({"event_type": "x", "action": "create"})).expect_error(400, "entity_type");

    let bad = json!({"event_type": "x", "entity_type": "y", "action": "explode"});
    let batch = json!([event("acme", "a"), bad, changed, event("acme", "b"), whole(ID)]);
    let answer = write(&server, &batch);
    assert_eq!((count(&answer, "accepted"), count(&answer, "duplicates")), (2, 1), "{answer}");
    let rejected = answer["rejected"].as_array().unwrap().iter().map(|one| (count(one, "index"), &one["code"]));
    assert_eq!(rejected.collect::<Vec<_>>(), [(1, &json!("invalid_event")), (2, &json!("conflict"))]);
    server.post("/api/audit/events", &json!(vec![event("a", "b"); 1_001])).expect_error(413, "1000");

    let keyed = |body: &Value| {
        let body = body.to_string();
        server
            .post_as("application/json", "/api/audit/events", &[("idempotency-key", "k")], body.as_bytes())
            .expect(200)
    };
    let batch = json!([event("acme", "c"), event("other", "c")]);
    assert_eq!(count(&keyed(&batch), "accepted"), 2);
    assert_eq!(count(&keyed(&batch), "duplicates"), 2);
    assert_eq!(list(&server, "event_type=c").len(), 2);
}

#[test]
fn pages_go_to_the_end_while_events_are_added() {
    let server = Server::start();
    let batch: Vec<Value> = (0..250).map(|n| event(if n % 2 == 0 { "acme" } else { "other" }, "x")).collect();
    write(&server, &json!(batch));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let body = server.get(&format!("/api/audit/events?tenant_id=acme&limit=30{cursor}")).expect(200);
        seen.extend(body["events"].as_array().unwrap().iter().map(|event| count(event, "index")));
        write(&server, &event("acme", "later"));
        match body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 125);
    assert!(seen.is_sorted_by(|newer, older| newer > older));
    server.get(&format!("/api/audit/events?tenant_id=other&limit=30{cursor}")).expect_error(400, "cursor");
}

#[test]
fn a_resolution_stands_beside_the_original() {
    let server = Server::start();
    write(&server, &whole(ID));
    let path = format!("/api/audit/events/{ID}/resolve");
    server.post(&path, &json!({"resolution_action": " "})).expect_error(400, "resolution_action");
    server.post(&path, &json!({})).expect_error(400, "resolution_action");
    assert_eq!(server.post(&path, &json!({"resolution_action": "done"})).expect(200), json!({"resolved": true}));
    assert_eq!(server.post(&path, &json!({"resolution_action": "again"})).expect(200), json!({"resolved": false}));
    let unknown = "/api/audit/events/00000000-0000-0000-0000-000000000001/resolve";
    server.post(unknown, &json!({"resolution_action": "x"})).expect_error(404, "audit event");
    server.post("/api/audit/events/7/resolve", &json!({"resolution_action": "x"})).expect_error(400, "event_id");

    let read = list(&server, "result=failure").remove(0);
    assert_eq!((&read["result"], &read["original_result"]), (&json!("resolved"), &json!("failure")));
    assert_eq!(read["resolution_action"], "done");
    assert!(read["resolved_at"].is_string());
    assert_eq!(list(&server, "result=resolved"), [read]);
    assert_eq!(list(&server, "event_type=audit_event_resolved")[0]["entity_id"], ID);
}

#[test]
fn a_report_counts_and_the_cron_door_cleans_up() {
    let server = Server::start();
    write(&server, &json!([event("acme", "a"), event("acme", "a"), whole(ID), event("other", "a")]));
    let report = server.get("/api/audit/report?tenant_id=acme").expect(200);
    assert_eq!((count(&report, "total"), count(&report, "failures"), count(&report, "successes")), (3, 1, 2));
    assert_eq!((&report["by_type"], &report["by_action"]), (&json!({"a": 2, "kb_uploaded": 1}), &json!({"create": 3})));
    assert_eq!(report["events"].as_array().unwrap().len(), 3);
    server.get("/api/audit/report").expect_error(400, "tenant_id");
    assert_eq!(count(&server.aggregate(), "audit_events_removed"), 0);
    let done = server.post("/api/admin/jobs", &json!({"job": "cleanup_old_audit_events"})).expect(200);
    assert_eq!(count(&done, "rows_removed"), 0);
}

#[test]
fn control_plane_changes_are_found_and_events_outlive_their_tenant() {
    let server = Server::start();
    server.put("/api/admin/tenants/acme", &json!({"plan": "pro"})).expect(200);
    write(&server, &event("acme", "a"));
    server.delete("/api/admin/tenants/acme").expect(200);
    let types: Vec<Value> =
        list(&server, "tenant_id=acme").into_iter().map(|mut event| event["event_type"].take()).collect();
    assert_eq!(types, ["tenant_deleted", "a", "tenant_created"]);
    assert_eq!(list(&server, "tenant_id=acme&actor_id=admin-key").len(), 2);
}

#[test]
fn the_command_line_lists_resolves_and_reports() {
    let server = Server::start();
    write(&server, &whole(ID));
    let run = |arguments: &[&str]| {
        let mut command = metergate();
        command.args(arguments).args(["--server", &server.url, "--key", support::ADMIN_KEY]);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = run(&["audit", "list", "--tenant", "acme", "--result", "failure"]);
    assert!(code == 0 && told.contains("kb_uploaded") && told.contains(ID), "{told}");
    assert_eq!(run(&["audit", "resolve", ID, "--action", "done"]), (0, "true\n".to_owned()));
    assert_eq!(run(&["resolve-audit-event", ID, "--action", "done"]), (3, "false\n".to_owned()));
    let (code, told) = run(&["audit", "list", "--json"]);
    let listed: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &listed["events"][1]["result"]), (0, &json!("resolved")));
    let (code, told) = run(&["audit", "report", "acme"]);
    assert!(code == 0 && told.contains("2 events"), "{told}");
    let (code, told) = run(&["cleanup-old-audit-events"]);
    assert!(code == 0 && told.contains("rows removed 0"), "{told}");
    assert_eq!(run(&["audit", "list", "--result", "bad"]).0, 2);
}
