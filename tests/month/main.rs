//! A scripted month: ten tenants sign up, use, hit limits, are warned, complain, upgrade, cancel and go; keys are rotated
//! under load; the server is restarted, killed and moved. At the end every figure and every audit record is the script's.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod book;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::Duration;
use serde_json::{Value, json};

use book::{Month, TENANTS};
use support::{cli_ok, metergate, wait_for};

/// Tokens that a trial has a day.
const TRIAL: u64 = 10_000;

#[test]
fn a_month_of_ten_tenants_ends_with_the_figures_of_its_script() {
    let mut month = Month::begin();
    let backend = month.make_key(&json!({"name": "backend", "role": "service"}));
    let support = month.make_key(&json!({"name": "Sam of support", "role": "support"}));
    let viewer = month.make_key(&json!({"name": "acme's own", "role": "viewer", "tenants": ["acme"]}));
    sign_up(&mut month);
    for day in 0..40 {
        month.go_to_day(day, 9);
        match day {
            3 => hits_its_limit(&mut month),
            4 => complains_and_is_helped(&mut month, &support.secret, &viewer.secret),
            7 => upgrades(&mut month),
            8 => runs_out(&mut month),
            9 => is_extended(&mut month),
            10 => override_ends(&mut month),
            12 => rotates_under_load(&mut month, &backend),
            14 => is_suspended(&mut month),
            16 => month.restart(),
            18 => month.kill(),
            20 => month.move_folder(),
            22 => cancels(&mut month),
            24 => is_exported_and_deleted(&mut month),
            _ => {}
        }
        month.use_of_the_day(day);
    }
    retention_has_taken_what_is_old(&mut month);
    month.figures_are_the_scripts();
    month.audit_is_the_scripts();
    let differences = month.server.post("/api/admin/verify", &json!({})).expect(200);
    assert_eq!(differences["differences"], json!([]), "{differences}");
    let status = month.server.get("/api/admin/status").expect(200);
    assert_eq!(status["alarms"], json!([]), "{status}");
}

fn sign_up(month: &mut Month) {
    for tenant in TENANTS {
        month.put(
            tenant,
            &json!({"name": format!("{tenant} Ltd"), "labels": {"cohort": "november"}}),
            "tenant_created",
        );
    }
    let end = month.day(8, 0);
    month.put("initech", &json!({"plan_expires_at": support::rfc3339(end)}), "tenant_updated");
}

/// acme comes to 80, 95 and 100 percent of its day and is denied.
fn hits_its_limit(month: &mut Month) {
    for (tokens, percent) in [(8_000, 80), (1_500, 95), (500, 100)] {
        month.record_more("acme", tokens);
        month.expect_alert("acme", percent);
    }
    let denied = month.server.reserve("acme", &[("tokens", 1)]).expect(429);
    assert_eq!(
        (&denied["denied_by"][0]["quota_type"], &denied["denied_by"][0]["window"]),
        (&json!("tokens"), &json!("day"))
    );
    month.denied("acme");
    let status = month.server.quota("acme", "tokens");
    assert_eq!((&status["used"], &status["remaining"]), (&json!(TRIAL), &json!(0)));
    let alerts = month.server.get("/api/admin/alerts?tenant_id=acme").expect(200);
    let percents: Vec<&Value> = alerts["alerts"].as_array().unwrap().iter().map(|alert| &alert["percent"]).collect();
    assert_eq!(percents, [&json!(100), &json!(95), &json!(80)], "newest first");
}

/// The next morning support finds out why, and gives an override with a reason and an end; acme looks itself.
fn complains_and_is_helped(month: &mut Month, support: &str, viewer: &str) {
    let at = support::rfc3339(month.day(3, 9) + Duration::minutes(1));
    let why = month.as_key(support, "GET", &format!("/api/quota/acme/explain?at={at}"), None).expect(200);
    assert_eq!(why["denial"]["denied_by"]["used"], json!(TRIAL), "{why}");
    assert_eq!(why["usage"]["amount"], json!(TRIAL), "what had used it: {why}");
    let until = support::rfc3339(month.day(10, 0));
    let given = json!({"limit": 50_000, "reason": "they pay by invoice", "until": until});
    month.as_key(support, "PUT", "/api/admin/tenants/acme/quotas/tokens", Some(&given)).expect(200);
    month.audited("acme", "quota_override_set", Some("Sam of support"));
    month.as_key(support, "PUT", "/api/admin/tenants/acme", Some(&json!({"plan": "pro"}))).expect_error(403, "");
    month.audited_soon("", "unauthorized_access");
    assert_eq!(month.server.quota("acme", "tokens")["limit"], json!(50_000));
    assert_eq!(month.as_key(viewer, "GET", "/api/quota/acme", None).status, 200);
    month.as_key(viewer, "GET", "/api/quota/globex", None).expect_error(404, "globex");
    month.audited_soon("", "unauthorized_access");
    let granted = month.server.reserve("acme", &[("tokens", 20_000)]).expect(200);
    let id = granted["reservation_id"].as_str().unwrap().to_owned();
    month.server.delete(&format!("/api/quota/reservations/{id}")).expect(200);
}

fn upgrades(month: &mut Month) {
    month.put("globex", &json!({"plan": "pro"}), "tenant_updated");
    assert_eq!(month.server.quota("globex", "tokens")["limit"], json!(500_000), "binds the next decision");
    month.record_more("globex", 120_000);
}

fn runs_out(month: &mut Month) {
    month.server.reserve("initech", &[("tokens", 1)]).expect_error(403, "expired");
    wait_for("the expiry is recorded", 20, || {
        let found = month.server.get("/api/audit/events?event_type=trial_expired").expect(200);
        (found["events"].as_array().unwrap().len() == 1).then_some(())
    });
    month.audited("initech", "trial_expired", None);
}

fn is_extended(month: &mut Month) {
    month.put("initech", &json!({"plan": "starter", "plan_expires_at": null}), "tenant_updated");
    let granted = month.server.reserve("initech", &[("tokens", 90_000)]).expect(200);
    let settled = json!({"events": [month.more("initech", 60_000)]});
    let id = granted["reservation_id"].as_str().unwrap();
    let settled = month.server.post(&format!("/api/quota/reservations/{id}/settle"), &settled).expect(200);
    assert_eq!((&settled["accepted"], &settled["overage"]), (&json!(1), &json!(false)));
}

fn override_ends(month: &mut Month) {
    assert_eq!(month.server.quota("acme", "tokens")["limit"], json!(TRIAL), "the plan's again, without a job");
}

/// Four clients record without a pause with the service key while it is rotated: none is refused, nothing is lost.
fn rotates_under_load(month: &mut Month, backend: &book::Key) {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let secret = parking(backend.secret.clone());
    let server = &month.server;
    let rotated = std::thread::scope(|scope| {
        for client in 0..4 {
            let (stop, sent, secret) = (&stop, &sent, &secret);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = secret.lock().unwrap().clone();
                    let event = json!({"tenant_id": "hooli", "event_type": "api_call", "tokens_consumed": 1,
                        "event_id": format!("load-{client}-{n}")});
                    book::as_key(server, &key, "POST", "/api/usage/events", Some(&event)).expect(200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let before = sent.load(Ordering::Relaxed);
        wait_for("some are sent before", 20, || (sent.load(Ordering::Relaxed) > before + 20).then_some(()));
        let path = format!("/api/admin/keys/{}/rotate", backend.key_id);
        let rotated = server.post(&path, &json!({"overlap_seconds": 3_600})).expect(201);
        let during = sent.load(Ordering::Relaxed);
        wait_for("the old one still works", 20, || (sent.load(Ordering::Relaxed) > during + 20).then_some(()));
        *secret.lock().unwrap() = rotated["key"].as_str().unwrap().to_owned();
        let after = sent.load(Ordering::Relaxed);
        wait_for("the new one works", 20, || (sent.load(Ordering::Relaxed) > after + 20).then_some(()));
        stop.store(true, Ordering::Relaxed);
        rotated
    });
    month.recorded_elsewhere("hooli", sent.load(Ordering::Relaxed), 1);
    month.audited("", "key_rotated", None);
    month.advance(3_601);
    month.as_key(&backend.secret, "GET", "/api/quota/hooli", None).expect_error(401, "");
    let new = rotated["key"].as_str().unwrap().to_owned();
    assert_eq!(month.as_key(&new, "GET", "/api/quota/hooli", None).status, 200);
}

fn parking<T>(value: T) -> std::sync::Mutex<T> {
    std::sync::Mutex::new(value)
}

fn is_suspended(month: &mut Month) {
    month.put("umbrella", &json!({"status": "suspended"}), "tenant_updated");
    month.server.reserve("umbrella", &[("tokens", 1)]).expect_error(403, "suspended");
}

fn cancels(month: &mut Month) {
    month.put("wonka", &json!({"status": "cancelled"}), "tenant_updated");
    month.server.reserve("wonka", &[("tokens", 1)]).expect_error(403, "cancelled");
}

fn is_exported_and_deleted(month: &mut Month) {
    let file = month.server.beside("wonka.jsonl");
    let mut export = metergate();
    export.args(["tenants", "export", "wonka", "--server", &month.server.url, "--output"]).arg(&file);
    let output = export.env("METERGATE_KEY", support::ADMIN_KEY).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let (calls, tokens) = month.so_far("wonka");
    let events = of("tenant_usage_realtime");
    let exported: u64 = events.iter().map(|line| line["row"]["tokens_consumed"].as_u64().unwrap_or(0)).sum();
    assert_eq!((events.len() as u64, exported), (calls, tokens));
    assert_eq!(of("audit_event").len(), month.audit_of("wonka"));
    assert_eq!(lines.last().unwrap()["kind"], "end");
    month.server.delete("/api/admin/tenants/wonka").expect(200);
    month.gone("wonka");
    month.server.get("/api/quota/wonka").expect_error(404, "wonka");
}

/// Ten days of events are below the cut of 30 days by now; their rows stay, and so do the audit records.
fn retention_has_taken_what_is_old(month: &mut Month) {
    month.go_to_day(40, 12);
    let oldest = month.day(10, 0);
    let events = month.server.get("/api/usage/acme/events?startDate=2020-01-01&limit=1000").expect(200);
    let times = events["events"].as_array().unwrap().iter().map(|event| event["event_timestamp"].as_str().unwrap());
    let times: Vec<chrono::DateTime<chrono::Utc>> = times.map(|time| time.parse().unwrap()).collect();
    assert!(!times.is_empty() && times.iter().all(|time| *time >= oldest), "{times:?}");
    // The command line says the same as the server does.
    let usage = cli_ok(&["usage", "acme", "--json", "--server", &month.server.url, "--key", support::ADMIN_KEY]);
    assert!(serde_json::from_str::<Value>(&usage).is_ok(), "{usage}");
}
