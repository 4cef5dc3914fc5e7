//! `serve --dev`: a clock that moves forward when told to, and everything that goes by it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use support::command::metergate;
use support::{Server, cli, rfc3339, wait_for};

const CLOCK: &str = "/api/dev/clock";

fn time(answer: &Value, field: &str) -> DateTime<Utc> {
    answer[field].as_str().unwrap_or_else(|| panic!("no {field} in {answer}")).parse().unwrap()
}

/// Moves the clock to this instant.
fn go_to(server: &Server, to: DateTime<Utc>) -> Value {
    let answer = server.post(CLOCK, &json!({ "set": rfc3339(to) })).expect(200);
    assert!(time(&answer, "now") >= to && time(&answer, "now") < to + Duration::minutes(1), "{answer}");
    answer
}

/// Noon of the day after tomorrow: far from any border.
fn noon() -> DateTime<Utc> {
    let day = Utc::now().date_naive() + Duration::days(2);
    day.and_hms_opt(12, 0, 0).unwrap().and_utc()
}

#[test]
fn the_clock_goes_on_by_itself_and_moves_forward_only() {
    let server = Server::with_flags(&["--dev"]);
    let start = time(&server.get(CLOCK).expect(200), "now");
    assert!((Utc::now() - start).abs() < Duration::minutes(1), "it starts at the wall clock: {start}");
    wait_for("the clock goes on", 10, || (time(&server.get(CLOCK).expect(200), "now") > start).then_some(()));
    let moved = time(&server.post(CLOCK, &json!({ "advance_seconds": 3_600 })).expect(200), "now");
    assert!(moved >= start + Duration::hours(1) && moved < start + Duration::hours(1) + Duration::minutes(1));
    go_to(&server, noon());
    for (body, field) in [
        (json!({ "advance_seconds": -1 }), "advance_seconds"),
        (json!({ "advance_seconds": 367 * 86_400 }), "advance_seconds"),
        (json!({ "advance_seconds": i64::MAX }), "advance_seconds"),
        (json!({ "advance_seconds": 1.5 }), "advance_seconds"),
        (json!({ "set": rfc3339(noon() - Duration::seconds(1)) }), "set"),
        (json!({ "set": "9999-12-31T00:00:00Z" }), "set"),
        (json!({ "set": "tomorrow" }), "set"),
        (json!({ "advance_seconds": 1, "set": rfc3339(noon()) }), "advance_seconds"),
        (json!({ "back": 1 }), "back"),
        (json!({}), "advance_seconds"),
    ] {
        server.post(CLOCK, &body).expect_error(400, field);
    }
    let now = time(&server.get(CLOCK).expect(200), "now");
    assert!(now >= noon() && now < noon() + Duration::minutes(1), "a refused step moves nothing: {now}");
    assert_eq!(server.send("GET", CLOCK, &[], None).status, 401, "the key is asked for");
}

#[test]
fn other_servers_have_no_clock_to_move() {
    let server = Server::start();
    server.get(CLOCK).expect_error(404, "nothing");
    server.post(CLOCK, &json!({ "advance_seconds": 1 })).expect_error(404, "nothing");
}

#[test]
fn windows_holds_and_plans_are_at_the_new_time_when_the_answer_comes() {
    let server = Server::with_flags(&["--dev"]);
    go_to(&server, noon());
    server.record(&json!({"tenant_id": "t", "event_type": "api_call", "tokens_consumed": 9_000}));
    assert_eq!(server.reserve("t", &[("tokens", 1_000)]).status, 200);
    assert_eq!(server.reserve("t", &[("tokens", 1)]).status, 429);

    // The hold lapses after a minute.
    server.post(CLOCK, &json!({ "advance_seconds": 61 })).expect(200);
    assert_eq!(
        (&server.quota("t", "tokens")["used"], &server.quota("t", "tokens")["held"]),
        (&json!(9_000), &json!(0))
    );
    assert_eq!(server.reserve("t", &[("tokens", 1_001)]).status, 429);

    // The day ends.
    go_to(&server, noon() + Duration::days(1));
    assert_eq!(server.quota("t", "tokens")["used"], json!(0));
    assert_eq!(server.reserve("t", &[("tokens", 10_000)]).status, 200);

    // The plan runs out.
    server.put_tenant("t", &json!({ "plan_expires_at": rfc3339(noon() + Duration::days(7)) }));
    go_to(&server, noon() + Duration::days(8));
    server.reserve("t", &[("tokens", 1)]).expect_error(403, "plan_expired");

    // Events of the new time are taken, those of the old time land in their own day.
    server.record(&json!({"tenant_id": "t", "event_type": "api_call", "tokens_consumed": 7}));
    assert_eq!(server.quota("t", "tokens")["used"], json!(7));
}

#[test]
fn jobs_run_and_retention_removes_by_the_moved_clock() {
    let server = Server::with_flags(&["--dev"]);
    go_to(&server, noon());
    server.record(&json!({"tenant_id": "t", "event_type": "api_call", "event_id": "old", "tokens_consumed": 5}));
    let events =
        || server.get("/api/usage/t/events?startDate=2020-01-01").expect(200)["events"].as_array().unwrap().len();
    for days in [1, 29] {
        let ran = go_to(&server, noon() + Duration::days(days));
        let jobs = ran["jobs_run"].as_array().unwrap();
        assert!(jobs.contains(&json!("aggregate_usage_metrics")), "{ran}");
        assert_eq!(events(), 1, "kept for 30 days");
    }
    // Two months at once: the clean-up takes a day after the other, and is done when the answer comes.
    go_to(&server, noon() + Duration::days(90));
    assert_eq!(events(), 0);
    let rows = server.get("/api/usage/t?period=daily&startDate=2020-01-01").expect(200);
    assert_eq!(support::usage_rows(&rows)[0]["total_tokens_used"], json!(5), "the day's row stays");
    let status = server.get("/api/admin/status").expect(200);
    assert_eq!(status["alarms"], json!([]), "{status}");

    // Between two requests the schedule goes by the moved clock too.
    let next = time(&server.get("/api/admin/jobs").expect(200)["jobs"][0], "next_run");
    go_to(&server, next - Duration::milliseconds(700));
    wait_for("the job ran at its time", 10, || {
        let job = server.get("/api/admin/jobs").expect(200)["jobs"][0].take();
        (time(&job, "last_started") >= next).then_some(())
    });
}

#[test]
fn a_folder_that_is_named_is_kept_and_its_time_goes_on() {
    let mut server = Server::with_flags(&["--dev"]);
    go_to(&server, noon() + Duration::days(40));
    server.record(&json!({"tenant_id": "t", "event_type": "api_call", "tokens_consumed": 5}));
    server.kill_9();
    server.start_again();
    let now = time(&server.get(CLOCK).expect(200), "now");
    assert!(now >= noon() + Duration::days(40), "{now}");
    assert_eq!(server.quota("t", "tokens")["used"], json!(5));
    assert_eq!(server.get("/api/admin/status").expect(200)["alarms"], json!([]));

    let mut real = Server::start();
    real.stop();
    let folder = real.data_dir().display().to_string();
    let (code, _, error) = cli(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", &folder]);
    assert!(code == 2 && error.contains("not made by serve --dev"), "{code} {error}");
}

#[test]
fn the_folder_of_its_own_goes_away_and_others_cannot_connect() {
    let (code, _, error) = cli(&["serve", "--dev", "--listen", "0.0.0.0:0"]);
    assert!(code == 2 && error.contains("loopback"), "{code} {error}");

    let mut command = metergate();
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("metergate is listening on http://127.0.0.1:"));
    let told = lines.next().unwrap().unwrap();
    let folder = told.split_once(" are in ").unwrap().1.split_once(',').unwrap().0.to_owned();
    assert!(std::path::Path::new(&folder).join("admin.key").is_file(), "{told}");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(!std::path::Path::new(&folder).exists(), "{folder} is still there");
}
