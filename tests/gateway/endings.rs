//! Every way out of a call settles it.

use std::net::TcpListener;

use serde_json::json;

use super::support::upstream::{Reply, Upstream, completion_stream};
use super::support::wait_for;
use super::{begin, chat, chat_body, door, events, only_event, read_until, tokens};

fn half() -> Vec<Vec<u8>> {
    let stream = completion_stream(&["This", " is", " half"], None);
    vec![stream.as_bytes()[..stream.len() / 2].to_vec()]
}

#[test]
fn errors_of_the_upstream_pass_and_cost_no_token() {
    let upstream = Upstream::start(|asked| {
        let status = asked.json()["user"].as_str().unwrap().parse().unwrap();
        let headers = "content-type: application/json\r\nretry-after: 7\r\nlocation: http://127.0.0.1:1/\r\n";
        Reply::Whole(status, headers.to_owned(), br#"{"error":{"message":"no","code":"theirs"}}"#.to_vec())
    });
    let server = door(&upstream, "");
    for (status, passed, code) in [
        (400, 400, "theirs"),
        (429, 429, "theirs"),
        (500, 500, "theirs"),
        (503, 503, "theirs"),
        // About the operator's key and address, not about the caller.
        (401, 502, "upstream_key_refused"),
        (302, 502, "upstream_answer_unusable"),
    ] {
        let tenant = format!("t{status}");
        let answer = chat(&server, &tenant, &format!(r#","user":"{status}""#));
        let error = &answer.expect(passed)["error"];
        assert_eq!(error["code"], json!(code), "{error}");
        if code == "theirs" {
            assert_eq!(answer.headers["retry-after"], "7");
        }
        let event = only_event(&server, &tenant);
        assert_eq!((&event["api_status_code"], &event["tokens_consumed"]), (&json!(passed), &json!(0)), "{event}");
        assert_eq!(tokens(&server, &tenant), (0, 0));
    }
    assert_eq!(upstream.asked().len(), 6, "no redirect was followed");
    let metrics = wait_for("no call is open", 10, || {
        Some(server.get("/metrics").text).filter(|text| text.contains("metergate_gateway_open_calls 0"))
    });
    for (status, count) in [("3xx", 1), ("4xx", 3), ("5xx", 2)] {
        let line = format!("metergate_gateway_upstream_answers_total{{upstream=\"mock\",status=\"{status}\"}} {count}");
        assert!(metrics.contains(&line), "{line}");
    }
    for line in ["metergate_gateway_open_calls 0", "metergate_gateway_before_upstream_seconds_count 6"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn an_upstream_that_is_not_there_is_502_and_one_that_is_silent_504() {
    let upstream = Upstream::start(|_| Reply::Silent);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!(
        "timeout_seconds = 1\n[[upstream]]\nname = \"gone\"\nbase_url = \"http://{closed}\"\nmodels = [\"nobody\"]\n"
    );
    let server = door(&upstream, &more);
    let answer = chat(&server, "silent", "");
    assert_eq!(answer.expect(504)["error"]["code"], json!("upstream_timeout"));
    let event = only_event(&server, "silent");
    assert_eq!((&event["api_status_code"], &event["metadata"]["ended"]), (&json!(504), &json!("timed_out")), "{event}");
    // It may have worked: what was sent is counted, by its bound.
    assert_eq!(event["metadata"]["usage_estimated"], json!(true));
    assert!(event["input_tokens"].as_u64().unwrap() >= 12, "{event}");
    assert_eq!(event["output_tokens"], json!(1_024), "all that was reserved: {event}");

    let body = chat_body("").replace("gpt-4o-mini", "nobody");
    let answer = super::call(&server, "gone", "chat/completions", &body);
    assert_eq!(answer.expect(502)["error"]["code"], json!("upstream_unreachable"));
    let event = only_event(&server, "gone");
    assert_eq!(event["input_tokens"], json!(0), "known, not unknown: {event}");
    assert_eq!((&event["api_status_code"], &event["tokens_consumed"]), (&json!(502), &json!(0)), "{event}");
    assert_eq!(tokens(&server, "gone"), (0, 0));
}

#[test]
fn an_upstream_that_takes_the_call_and_hangs_up_may_have_worked_and_is_charged_by_what_was_reserved() {
    let upstream = Upstream::start(|_| Reply::HungUp);
    let server = door(&upstream, "");
    for (tenant, more) in [("whole", r#","max_tokens":77"#), ("stream", r#","max_tokens":77,"stream":true"#)] {
        let answer = chat(&server, tenant, more);
        assert_eq!(answer.expect(502)["error"]["code"], json!("upstream_answer_unusable"));
        let event = only_event(&server, tenant);
        assert_eq!(
            (&event["metadata"]["ended"], &event["output_tokens"]),
            (&json!("broke_off"), &json!(77)),
            "{event}"
        );
        assert_eq!(event["metadata"]["usage_estimated"], json!(true), "{event}");
        let (used, held) = tokens(&server, tenant);
        assert_eq!((Some(used), held), (event["tokens_consumed"].as_u64(), 0));
    }
    assert_eq!(upstream.asked().len(), 2, "nobody asks twice");
}

#[test]
fn half_a_stream_is_settled_with_what_was_seen() {
    let upstream = Upstream::start(|_| Reply::Broken(half()));
    let server = door(&upstream, "");
    let mut stream = begin(&server, "half", &chat_body(r#","stream":true"#));
    read_until(&mut stream, "This");
    let event = only_event(&server, "half");
    assert_eq!((&event["api_status_code"], &event["metadata"]["ended"]), (&json!(502), &json!("broke_off")), "{event}");
    let output = event["output_tokens"].as_u64().unwrap();
    assert!((1..10).contains(&output), "{event}");
    let (used, held) = tokens(&server, "half");
    assert_eq!((Some(used), held), (event["tokens_consumed"].as_u64(), 0));
}

#[test]
fn a_caller_who_hangs_up_in_mid_stream_pays_what_was_seen_and_the_upstream_is_left() {
    let upstream = Upstream::start(|_| Reply::Stuck(half()));
    let server = door(&upstream, "");
    let mut stream = begin(&server, "left", &chat_body(r#","stream":true"#));
    read_until(&mut stream, "This");
    assert!(tokens(&server, "left").1 > 1_000, "held while it streams");
    drop(stream);
    let event = only_event(&server, "left");
    assert_eq!(
        (&event["api_status_code"], &event["metadata"]["ended"]),
        (&json!(499), &json!("caller_gone")),
        "{event}"
    );
    assert_eq!(event["metadata"]["usage_estimated"], json!(true), "{event}");
    assert_eq!(tokens(&server, "left").1, 0);
    wait_for("the upstream's stream is closed", 10, || (upstream.hung_up() == 1).then_some(()));
}

#[test]
fn a_caller_who_hangs_up_on_a_whole_answer_pays_what_it_really_used() {
    let upstream = Upstream::start(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Reply::json(&super::support::upstream::completion("late", 12, 5))
    });
    let server = door(&upstream, "");
    let stream = begin(&server, "late", &chat_body(""));
    wait_for("it is asked", 10, || (upstream.asked().len() == 1).then_some(()));
    drop(stream);
    let event = only_event(&server, "late");
    assert_eq!((&event["tokens_consumed"], &event["api_status_code"]), (&json!(17), &json!(200)), "{event}");
    assert_eq!(tokens(&server, "late"), (17, 0));
}

#[test]
fn a_stream_that_stalls_is_cut_at_the_timeout() {
    let upstream = Upstream::start(|_| Reply::Stuck(half()));
    let server = door(&upstream, "timeout_seconds = 1");
    let mut stream = begin(&server, "stalls", &chat_body(r#","stream":true"#));
    read_until(&mut stream, "This");
    let event = only_event(&server, "stalls");
    assert_eq!((&event["api_status_code"], &event["metadata"]["ended"]), (&json!(504), &json!("timed_out")), "{event}");
    assert_eq!(tokens(&server, "stalls").1, 0);
}

#[test]
fn a_kill_in_mid_stream_leaves_the_hold_which_lapses_by_itself_and_counts_nothing_twice() {
    let upstream = Upstream::start(|asked| match asked.json()["stream"] == json!(true) {
        true => Reply::Stuck(half()),
        false => Reply::json(&super::support::upstream::completion("a", 12, 5)),
    });
    let mut server = door(&upstream, "timeout_seconds = 1");
    chat(&server, "killed", "").expect(200);
    only_event(&server, "killed");
    let mut stream = begin(&server, "killed", &chat_body(r#","stream":true"#));
    read_until(&mut stream, "This");
    let before = tokens(&server, "killed");
    assert!(before.0 == 17 && before.1 > 1_000, "{before:?}");
    server.kill_9();
    server.start_again();
    assert_eq!(tokens(&server, "killed"), before, "the hold stands");
    wait_for("it lapses 31 seconds after it was granted", 45, || (tokens(&server, "killed") == (17, 0)).then_some(()));
    assert_eq!(events(&server, "killed", 1).len(), 1, "nothing is counted twice");
}

#[test]
fn a_stop_lets_a_stream_end_and_records_it() {
    let upstream = Upstream::start(|_| Reply::Pieces(vec![completion_stream(&["a"; 50], Some((12, 50))).into_bytes()]));
    let mut server = door(&upstream, "");
    assert_eq!(chat(&server, "stop", r#","stream":true"#).status, 200);
    server.restart();
    assert_eq!(only_event(&server, "stop")["tokens_consumed"], json!(62));
}

#[test]
fn the_id_in_a_stream_s_head_neither_frees_its_hold_nor_erases_its_usage() {
    let upstream = Upstream::start(|_| Reply::Stuck(half()));
    let server = door(&upstream, "timeout_seconds = 2");
    let mut stream = begin(&server, "thief", &chat_body(r#","stream":true"#));
    let head = read_until(&mut stream, "This");
    let (_, rest) = head.split_once("x-metergate-event-id: ").unwrap();
    let id = rest.split("\r\n").next().unwrap();
    let held = tokens(&server, "thief").1;
    assert!(held > 1_000);
    let settle = json!({"tenant_id": "thief", "events": []});
    let holds = server.get("/api/quota/thief").text;
    let own = holds.split('"').find(|text| text.starts_with("door-")).map(str::to_owned);
    for id in own.iter().map(String::as_str).chain([id, "door-1"]) {
        server.post(&format!("/api/quota/reservations/{id}/settle"), &settle).expect(404);
        let released = server.delete(&format!("/api/quota/reservations/{id}?tenant_id=thief"));
        assert_eq!(released.status, 404, "{released:?}");
    }
    let items = json!([{"quota_type": "tokens", "amount": 1}]);
    let made = json!({"tenant_id": "thief", "items": items, "reservation_id": "door-1"});
    server.post("/api/quota/reserve", &made).expect(400);
    assert_eq!(tokens(&server, "thief").1, held, "the hold stands");

    let forged = json!({"event_id": id, "tenant_id": "thief", "event_type": "chat_message", "tokens_consumed": 0});
    server.post("/api/usage/events", &forged).expect(200);
    let events = events(&server, "thief", 2);
    let real = events.iter().find(|event| event["event_id"] != json!(id)).unwrap();
    assert_eq!(real["metadata"]["ended"], json!("timed_out"), "{real}");
    assert!(real["tokens_consumed"].as_u64().unwrap() > 0, "{real}");
    let (used, held) = tokens(&server, "thief");
    assert_eq!((Some(used), held), (real["tokens_consumed"].as_u64(), 0));
}

#[test]
fn a_caller_who_hangs_up_before_the_first_word_pays_all_that_was_reserved() {
    let upstream = Upstream::start(|_| Reply::Silent);
    let server = door(&upstream, "");
    let stream = begin(&server, "early", &chat_body(r#","stream":true,"max_tokens":77"#));
    wait_for("it is asked", 10, || (upstream.asked().len() == 1).then_some(()));
    drop(stream);
    let event = only_event(&server, "early");
    assert_eq!((&event["api_status_code"], &event["output_tokens"]), (&json!(499), &json!(77)), "{event}");
    assert_eq!(event["metadata"]["usage_estimated"], json!(true), "{event}");
}

#[test]
fn a_compressed_answer_is_unusable_and_charged_by_what_was_reserved() {
    let upstream = Upstream::start(|_| {
        let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
        Reply::Whole(200, headers.to_owned(), vec![0x1f, 0x8b, 8, 0])
    });
    let server = door(&upstream, "");
    let answer = chat(&server, "packed", r#","max_tokens":77"#);
    assert_eq!(answer.expect(502)["error"]["code"], json!("upstream_answer_unusable"));
    let event = only_event(&server, "packed");
    assert_eq!((&event["metadata"]["ended"], &event["output_tokens"]), (&json!("unreadable"), &json!(77)), "{event}");
}
