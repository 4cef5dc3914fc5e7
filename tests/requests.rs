//! What surrounds a request: its id, its log line, and where it comes from.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use serde_json::{Value, json};

use support::{ADMIN_KEY, Server, wait_for};

/// The log's line about the request with this id.
fn line_of(server: &Server, id: &str) -> Value {
    wait_for("the log line", 10, || {
        let text = server.log_text();
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        whole
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .find(|line| line["message"] == "request" && line["request_id"] == id)
    })
}

#[test]
fn a_line_of_the_log_is_json_and_tells_the_request_without_its_secrets() {
    let server = Server::with_flags(&["--log-format", "json", "--log-level", "debug"]);
    let bearer = format!("Bearer {ADMIN_KEY}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-request-id", "req-7"),
        ("content-type", "application/json"),
        ("x-forwarded-for", "198.51.100.1"),
    ];
    let body = json!({"tenant_id": "acme", "event_type": "api_call"}).to_string();
    let answer = server.send("POST", "/api/usage/events?ack=queued", &headers, Some(body.as_bytes()));
    assert_eq!((answer.status, answer.headers["x-request-id"].as_str()), (202, "req-7"));
    let line = line_of(&server, "req-7");
    for (field, value) in [
        ("level", json!("DEBUG")),
        ("method", json!("POST")),
        ("route", json!("/api/usage/events")),
        ("status", json!(202)),
        ("client", json!("127.0.0.1")),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line["duration_micros"].is_u64(), "{line}");
    let time = line["timestamp"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
    let text = server.log_text();
    assert!(!text.contains(ADMIN_KEY) && !text.contains("ack=queued"), "no key and no query is logged");
}

#[test]
fn an_id_that_is_not_sane_is_replaced() {
    let server = Server::with_flags(&["--log-format", "json", "--log-level", "debug"]);
    let longest = "x".repeat(128);
    let answer = server.send("GET", "/healthz", &[("x-request-id", &longest)], None);
    assert_eq!(answer.headers["x-request-id"], longest);
    for insane in ["", "two words", &"x".repeat(129), "tab\there", "\u{e9}t\u{e9}"] {
        let answer = server.send("GET", "/healthz", &[("x-request-id", insane)], None);
        let made = &answer.headers["x-request-id"];
        assert!(made.len() == 36 && made != insane, "{insane:?} -> {made:?}");
        line_of(&server, made);
    }
}

#[test]
fn a_proxy_is_believed_when_it_is_configured() {
    let flags = ["--log-format", "json", "--log-level", "debug", "--trusted-proxies", "127.0.0.0/8, ::1"];
    let server = Server::with_flags(&flags);
    for (id, forwarded, client) in [
        ("one", "198.51.100.1", "198.51.100.1"),
        ("spoofed", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("two-proxies", "198.51.100.1, 127.0.0.5", "198.51.100.1"),
        ("nonsense", "<script>", "127.0.0.1"),
        ("many", &"1.1.1.1,".repeat(2_000), "127.0.0.1"),
    ] {
        let headers = [("x-request-id", id), ("x-forwarded-for", forwarded), ("forwarded", "for=203.0.113.7")];
        assert_eq!(server.send("GET", "/healthz", &headers, None).status, 200);
        assert_eq!(line_of(&server, id)["client"], client, "{id}");
    }
}
