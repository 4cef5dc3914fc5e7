//! Tenants in numbers: searched, paged to the end while others sign up, and exported whole.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use support::{Server, metergate};

fn ids(page: &Value) -> Vec<String> {
    page["tenants"].as_array().unwrap().iter().map(|tenant| tenant["tenant_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_tenant_is_found_by_its_name_plan_state_and_labels() {
    let server = Server::start();
    server.put_tenant("acme", &json!({"name": "Acme Rockets", "plan": "pro", "labels": {"region": "eu"}}));
    server.put_tenant("globex", &json!({"name": "Globex", "plan": "pro", "labels": {"region": "us"}}));
    server.put_tenant("initech", &json!({"status": "suspended", "labels": {"region": "eu", "paid": "no"}}));
    server.put_tenant("rocketlab", &json!({}));
    server.delete("/api/admin/tenants/globex").expect(200);
    for (query, expected) in [
        ("", vec!["acme", "initech", "rocketlab"]),
        ("search=ROCKET", vec!["acme", "rocketlab"]),
        ("search=nobody", vec![]),
        ("plan=pro", vec!["acme"]),
        ("status=suspended", vec!["initech"]),
        ("status=deleted", vec!["globex"]),
        ("label=region", vec!["acme", "initech"]),
        ("label=region=eu", vec!["acme", "initech"]),
        ("label=paid=no&status=suspended", vec!["initech"]),
        ("label=paid=yes", vec![]),
    ] {
        let page = server.get(&format!("/api/admin/tenants?{query}")).expect(200);
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["total"], expected.len(), "{query}");
    }
    server.get("/api/admin/tenants?status=asleep").expect_error(400, "status");
    server.get("/api/admin/tenants?search=").expect_error(400, "search");
    // A cursor goes on with the filters it was given for, and with no others.
    let first = server.get("/api/admin/tenants?label=region&limit=1").expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = server.get(&format!("/api/admin/tenants?label=region&limit=1&after={cursor}")).expect(200);
    assert_eq!((ids(&first), ids(&next)), (vec!["acme".to_owned()], vec!["initech".to_owned()]));
    assert_eq!(next["next_cursor"], Value::Null);
    server.get(&format!("/api/admin/tenants?limit=1&after={cursor}")).expect_error(400, "cursor");

    let mut list = metergate();
    list.args(["tenants", "list", "--json", "--search", "acme", "--plan", "pro", "--server", &server.url]);
    let output = list.env("METERGATE_KEY", support::ADMIN_KEY).output().unwrap();
    assert!(output.status.success());
    assert_eq!(ids(&serde_json::from_slice(&output.stdout).unwrap()), ["acme"]);
}

/// Reads a list to its end, and does something between two pages: what `key` gives of each row, in order.
fn walk(
    server: &Server,
    (path, rows, cursor, key): (&str, &str, &str, &str),
    mut between: impl FnMut(),
) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{path}?limit=9{after}")).expect(200);
        seen.extend(page[rows].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => after = format!("&{cursor}={next}"),
            None => return seen,
        }
        between();
    }
}

#[test]
fn every_list_is_paged_to_its_end_while_rows_are_added() {
    let server = Server::start();
    let mut round = 0;
    let mut add = || {
        round += 1;
        let tenants = (0..7).map(|n| format!("t{}-{round:04}", n * 13 % 7));
        let mut events: Vec<Value> = tenants.map(|id| json!({"tenant_id": id, "event_type": "api_call"})).collect();
        let acme = |n| json!({"tenant_id": "acme", "event_type": "api_call", "event_id": format!("{round}-{n}")});
        events.extend((0..9).map(acme));
        server.record(&Value::Array(events));
        let audit = |n| {
            json!({"tenant_id": "acme", "event_type": "kb_uploaded", "entity_type": "knowledge_base",
                "entity_id": format!("{round}-{n}"), "action": "create"})
        };
        server.post("/api/audit/events", &(0..9).map(audit).collect()).expect(200);
    };
    (0..12).for_each(|_| add());
    let lists = [
        (("/api/admin/tenants", "tenants", "after", "tenant_id"), 12 * 7 + 1),
        (("/api/usage/acme/events", "events", "cursor", "event_id"), 12 * 9),
        (("/api/audit/events", "events", "cursor", "event_id"), 12 * (9 + 7) + 1),
    ];
    for (list, expected) in lists {
        let before = walk(&server, list, || {});
        let distinct: BTreeSet<&String> = before.iter().collect();
        assert!(distinct.len() == before.len() && before.len() >= expected, "{list:?} has {}", before.len());

        let mut added = 0;
        let during = walk(&server, list, || {
            if added < 30 {
                added += 1;
                add();
            }
        });
        assert!(added > 5);
        let distinct: BTreeSet<&String> = during.iter().collect();
        assert_eq!(distinct.len(), during.len(), "{list:?}: nothing is shown twice");
        assert!(before.iter().all(|row| distinct.contains(row)), "{list:?}: nothing that was there is skipped");
        match list.1 {
            // In order of the ids: who signs up behind the page that is read is still seen.
            "tenants" => assert!(during.is_sorted()),
            // Newest first: what came after the first page is left out.
            _ => assert_eq!(during, before, "{list:?}"),
        }
    }
}

fn lines(text: &str) -> (Vec<Value>, BTreeMap<String, u64>) {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut counts = BTreeMap::new();
    for line in &lines {
        *counts.entry(line["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    (lines, counts)
}

#[test]
fn an_export_holds_everything_of_one_tenant_and_nothing_of_another() {
    let mut server = Server::start();
    server.put_tenant("acme", &json!({"name": "Acme", "labels": {"tier": "gold"}}));
    let event = |tenant: &str, n: u64| json!({"tenant_id": tenant, "event_type": "api_call", "event_id": format!("e{n}"), "tokens_consumed": n});
    server.record(&(0..40).map(|n| event("acme", n)).collect());
    server.record(&(0..40).map(|n| event("other", n)).collect());
    server.aggregate();
    // Some are filed and folded, some are not.
    server.record(&(40..50).map(|n| event("acme", n)).collect());
    server.reserve("acme", &[("tokens", 100)]).expect(200);
    server.reserve("acme", &[("tokens", 1_000_000)]).expect(429);
    server.reserve("other", &[("tokens", 1_000_000)]).expect(429);

    // A denial is audited within a fifth of a second.
    support::wait_for("the denial's audit record", 10, || {
        let found = server.get("/api/audit/events?tenant_id=acme&event_type=quota_exceeded").expect(200);
        (!found["events"].as_array().unwrap().is_empty()).then_some(())
    });

    let answer = server.get("/api/admin/tenants/acme/export");
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/x-ndjson"));
    let (all, counts) = lines(&answer.text);
    let count = |kind: &str| counts.get(kind).copied().unwrap_or(0);
    assert_eq!((all[0]["kind"].as_str(), all[0]["tenant_id"].as_str()), (Some("export"), Some("acme")));
    assert_eq!((count("tenant"), count("quota_status"), count("open_hold"), count("denial")), (1, 1, 1, 1));
    assert_eq!((count("tenant_usage_metrics"), count("tenant_usage_realtime")), (3, 50));
    let mut seen: Vec<u64> = all
        .iter()
        .filter(|line| line["kind"] == "tenant_usage_realtime")
        .map(|line| line["row"]["tokens_consumed"].as_u64().unwrap())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<u64>>());
    for line in all.iter().filter(|line| line["kind"] == "tenant_usage_metrics") {
        assert_eq!((&line["row"]["total_tokens_used"], &line["row"]["api_calls_total"]), (&json!(1_225), &json!(50)));
    }
    assert!(count("audit_event") >= 2, "its registration and its denial: {counts:?}");
    assert!(!answer.text.contains("\"other\""), "nothing of another tenant");
    let end = all.last().unwrap();
    assert_eq!(end["kind"], "end");
    for (kind, number) in end["lines"].as_object().unwrap() {
        assert_eq!(count(kind), number.as_u64().unwrap(), "{kind}");
    }

    server.get("/api/admin/tenants/nobody/export").expect_error(404, "nobody");
    server.delete("/api/admin/tenants/acme").expect(200);
    let (_, deleted) = lines(&server.get("/api/admin/tenants/acme/export").text);
    assert_eq!((deleted["tenant_usage_realtime"], deleted.get("quota_status")), (50, None), "what was is still held");

    // The command writes the same from the stopped folder, for its owner only, and never over a file.
    server.stop();
    let file = server.beside("acme.jsonl");
    let export = || {
        let mut command = metergate();
        command.args(["tenants", "export", "acme", "--output"]).arg(&file);
        command.arg("--data-dir").arg(server.data_dir()).output().unwrap()
    };
    let output = export();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, written) = lines(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(written, deleted);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = export();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("acme.jsonl"));
}

#[test]
fn a_tenant_may_be_called_like_a_route() {
    let server = Server::start();
    for name in ["events", "check", "enforce", "reserve", "reservations"] {
        server.record(&json!({"tenant_id": name, "event_type": "api_call", "tokens_consumed": 7}));
        assert_eq!(server.quota(name, "tokens")["used"], json!(7), "{name}");
        let rows = server.get(&format!("/api/usage/{name}")).expect(200);
        assert_eq!((&rows["tenant_id"], &rows["usage"][0]["total_tokens_used"]), (&json!(name), &json!(7)));
        let today = server.get(&format!("/api/usage/{name}/today")).expect(200);
        assert_eq!(today["usage"]["total_tokens_used"], json!(7));
        assert_eq!(server.get(&format!("/api/usage/{name}/events")).expect(200)["events"][0]["tenant_id"], name);
    }
    assert_eq!(server.send("GET", "/api/usage/events", &[], None).status, 401, "behind the same lock");
}
