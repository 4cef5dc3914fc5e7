//! What the door says of limits, in the fields that OpenAI's clients and the IETF's know.

use serde_json::json;

use super::support::upstream::{Reply, Upstream, completion};
use super::{chat, door, events};

#[test]
fn an_answer_and_a_refusal_carry_the_limits() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 12, 5)));
    let server = door(&upstream, "");
    let answer = chat(&server, "acme", "");
    assert_eq!(answer.status, 200);
    let header = |name: &str| answer.headers.get(name).map(String::as_str).unwrap_or_default();
    assert!(header("ratelimit-policy").contains("\"tokens-day\";q=10000;w=86400"), "{answer:?}");
    assert_eq!((header("x-ratelimit-limit-tokens"), header("x-ratelimit-limit-requests")), ("10000", "30"));
    assert_eq!(header("x-ratelimit-remaining-requests"), "29");
    assert!(header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap() < 10_000 - 1_024);
    assert!(header("x-ratelimit-reset-tokens").ends_with('s') && header("x-ratelimit-reset-requests").ends_with('s'));

    // Above what is left of the day: waiting is pointless.
    let denied = chat(&server, "acme", r#","max_tokens":9999"#);
    let error = denied.expect(429)["error"].clone();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("insufficient_quota"), &json!("insufficient_quota")),
        "{error}"
    );
    assert!(error["message"].as_str().unwrap().contains("tokens per day"), "{error}");
    assert_eq!(denied.headers["x-should-retry"], "false");
    let id = error["decision_id"].as_str().unwrap();
    assert_eq!(denied.headers["x-metergate-decision-id"], id);
    server.get(&format!("/api/quota/acme/explain?decision_id={id}")).expect(200);
    // It is recorded as a call that was refused, and charged to nothing.
    let newest = &events(&server, "acme", 2)[0];
    assert_eq!((&newest["api_status_code"], &newest["tokens_consumed"]), (&json!(429), &json!(0)), "{newest}");
}

#[test]
fn a_minute_s_limit_tells_to_wait_and_to_try_again() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 1, 1)));
    let server = door(&upstream, "");
    for _ in 0..30 {
        assert_eq!(chat(&server, "fast", r#","max_tokens":5"#).status, 200);
    }
    let denied = chat(&server, "fast", r#","max_tokens":5"#);
    let error = denied.expect(429)["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("requests"), &json!("rate_limit_exceeded")), "{error}");
    assert_eq!(denied.headers["x-should-retry"], "true");
    assert!((1..=61).contains(&denied.headers["retry-after"].parse::<u64>().unwrap()));
    assert_eq!(denied.headers["x-ratelimit-remaining-requests"], "0");
    assert_eq!(upstream.asked().len(), 30);
}

#[test]
fn a_blocked_tenant_and_a_body_that_is_wrong_are_told_in_openai_s_shape() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 1, 1)));
    let server = door(&upstream, "");
    server.put_tenant("halted", &json!({"status": "suspended"}));
    assert_eq!(chat(&server, "halted", "").expect(403)["error"]["code"], json!("tenant_suspended"));
    let error = chat(&server, "acme", r#","max_tokens":-1"#).expect(400)["error"].clone();
    assert_eq!((&error["param"], &error["type"]), (&json!("max_tokens"), &json!("invalid_request_error")), "{error}");
    let large = format!(r#","user":"{}""#, "x".repeat(33 * 1024 * 1024));
    assert_eq!(chat(&server, "acme", &large).expect(413)["error"]["code"], json!("body_too_large"));
    assert_eq!(super::call(&server, "acme", "nothing", "{}").expect(404)["error"]["code"], json!("not_found"));
    assert_eq!(upstream.asked().len(), 0);
}

#[test]
fn a_tenant_with_all_its_calls_open_is_told_to_wait_and_others_are_not() {
    let upstream = Upstream::start(|_| Reply::Silent);
    let server = door(&upstream, "");
    server.put("/api/admin/plans/wide", &json!({"limits": []})).expect(200);
    server.put_tenant("many", &json!({"plan": "wide"}));
    let open = |count| {
        super::support::wait_for("so many are open", 30, || {
            let line = format!("metergate_gateway_open_calls {count}\n");
            server.get("/metrics").text.contains(&line).then_some(())
        });
    };
    let body = super::chat_body(r#","stream":true"#);
    let streams: Vec<_> = (0..256).map(|_| super::begin(&server, "many", &body)).collect();
    open(256);
    let refused = chat(&server, "many", "");
    let error = refused.expect(429)["error"].clone();
    assert_eq!((&error["code"], &error["type"]), (&json!("too_many_calls"), &json!("rate_limit_error")), "{error}");
    assert_eq!(refused.headers["retry-after"], "1");
    let other = super::begin(&server, "few", &body);
    open(257);
    drop((streams, other));
    open(0);
    let again = super::begin(&server, "many", &body);
    open(1);
    drop(again);
}
