//! What passes: usage to the last token, bodies and streams byte for byte.

use serde_json::{Value, json};

use super::support::upstream::{Reply, Upstream, completion, completion_stream, cut};
use super::support::{self, count, frames};
use super::{call, chat, door, events, only_event, tokens};

#[test]
fn a_whole_answer_passes_as_it_is_and_is_recorded_to_the_last_token() {
    let body = completion("This is a test.", 12, 5).to_string();
    let answered = body.clone();
    let upstream = Upstream::start(move |_| {
        let headers = "content-type: application/json\r\nx-ratelimit-limit-tokens: 9\r\nopenai-processing-ms: 3\r\n";
        Reply::Whole(200, headers.to_owned(), answered.clone().into_bytes())
    });
    // Cargo sets it for its tests: a variable that is certainly there.
    let server = door(&upstream, "api_key_env = \"CARGO_PKG_NAME\"");
    let answer = chat(&server, "acme", r#", "max_tokens" : 50, "unknown_field":{"b":1.50,"a":[]}"#);
    assert_eq!((answer.status, &answer.text), (200, &body));
    assert_eq!(answer.headers["openai-processing-ms"], "3");

    let event = only_event(&server, "acme");
    assert_eq!(event["event_id"].as_str(), answer.headers.get("x-metergate-event-id").map(String::as_str));
    for (field, expected) in [
        ("event_type", json!("chat_message")),
        ("api_method", json!("POST")),
        ("api_endpoint", json!("/v1/chat/completions")),
        ("api_status_code", json!(200)),
        ("model", json!("gpt-4o-mini-2024-07-18")),
        ("input_tokens", json!(12)),
        ("cached_input_tokens", json!(4)),
        ("output_tokens", json!(5)),
        ("reasoning_tokens", json!(2)),
        ("tokens_consumed", json!(17)),
    ] {
        assert_eq!(event[field], expected, "{field}: {event}");
    }
    assert_eq!(tokens(&server, "acme"), (17, 0));
    assert_eq!(count(&server.quota("acme", "chat_messages"), "used"), 1);

    let asked = &upstream.asked()[0];
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.header("authorization"), Some("Bearer metergate"));
    assert_eq!(asked.header("x-metergate-tenant"), None);
    let sent = String::from_utf8_lossy(&asked.body).into_owned();
    assert_eq!(sent, super::chat_body(r#", "max_tokens" : 50, "unknown_field":{"b":1.50,"a":[]}"#));
    // Neither the question nor the answer is anywhere in our files.
    for file in std::fs::read_dir(server.data_dir()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(18).any(|window| window == b"Say this is a test"));
    }
    assert!(!server.log_text().contains("this is a test"));
}

#[test]
fn a_stream_passes_byte_for_byte_however_it_is_cut_and_the_extra_usage_is_taken_out_again() {
    let words = ["This", " is", " a", " \\\"usage\\\" t\u{e9}st", "."];
    let asked_for = completion_stream(&words, Some((12, 5)));
    let stream = asked_for.clone();
    let seed = std::sync::atomic::AtomicU64::new(1);
    let upstream = Upstream::start(move |_| {
        Reply::Pieces(cut(stream.as_bytes(), seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
    });
    let server = door(&upstream, "");
    let usage_chunk = asked_for.split_inclusive("\n\n").find(|event| event.contains("\"choices\":[],")).unwrap();
    let without = asked_for.replace(usage_chunk, "");
    for round in 0..20 {
        let (options, expected) = match round % 2 {
            0 => (r#","stream":true"#, &without),
            _ => (r#","stream":true,"stream_options":{"include_usage":true}"#, &asked_for),
        };
        let answer = chat(&server, "acme", options);
        assert_eq!((answer.status, &answer.text), (200, expected), "round {round}");
        assert!(answer.headers["content-type"].starts_with("text/event-stream"));
    }
    for event in events(&server, "acme", 20) {
        assert_eq!((&event["input_tokens"], &event["output_tokens"]), (&json!(12), &json!(5)), "{event}");
        assert_eq!(event["metadata"].get("usage_estimated"), None, "{event}");
    }
    for asked in upstream.asked() {
        assert_eq!(asked.json()["stream_options"]["include_usage"], json!(true));
    }
}

#[test]
fn a_stream_of_bedrock_s_own_passes_byte_for_byte_and_is_counted() {
    let usage = json!({"inputTokens": 12, "outputTokens": 5, "totalTokens": 21, "cacheReadInputTokens": 4});
    let stream = [
        frames::event("contentBlockDelta", &json!({"delta": {"text": "x\n\n".repeat(500)}})),
        frames::event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 9}})),
    ]
    .concat();
    let (whole, mut damaged) = (stream.clone(), stream.clone());
    *damaged.last_mut().unwrap() ^= 1;
    let upstream = Upstream::start(move |asked| {
        let media = "content-type: application/vnd.amazon.eventstream\r\n".to_owned();
        let stream = if asked.json()["user"] == json!("damaged") { &damaged } else { &whole };
        Reply::Whole(200, media, stream.clone())
    });
    let server = door(&upstream, "");
    let answer = chat(&server, "acme", r#","stream":true"#);
    assert_eq!((answer.status, answer.text), (200, String::from_utf8_lossy(&stream).into_owned()));
    let event = only_event(&server, "acme");
    let counts = ["input_tokens", "cached_input_tokens", "output_tokens"].map(|field| event[field].clone());
    assert_eq!(counts, [json!(16), json!(4), json!(5)], "{event}");
    assert_eq!(event["metadata"].get("usage_estimated"), None, "{event}");

    // What is damaged is passed on, for the client to refuse, and estimated, never read.
    assert_eq!(chat(&server, "other", r#","user":"damaged","stream":true"#).status, 200);
    let event = only_event(&server, "other");
    assert_eq!(
        (&event["metadata"]["usage_estimated"], &event["output_tokens"]),
        (&json!(true), &json!(1_024)),
        "{event}"
    );
}

#[test]
fn responses_and_embeddings_are_metered_by_their_own_counts() {
    let response = json!({"id": "resp_1", "object": "response", "model": "gpt-4o-mini-2024-07-18", "output": [],
        "usage": {"input_tokens": 22, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 28}});
    let stream = format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}}\n\n\
         event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{response}}}\n\n"
    );
    let embedding = json!({"object": "list", "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 7, "total_tokens": 7}});
    let (streamed, whole) = (stream.clone(), response.clone());
    let upstream = Upstream::start(move |asked| match asked.path.as_str() {
        "/v1/embeddings" => Reply::json(&embedding),
        _ if asked.json()["stream"] == json!(true) => Reply::Pieces(cut(streamed.as_bytes(), 5)),
        _ => Reply::json(&whole),
    });
    let server = door(&upstream, "");
    let body = r#"{"model":"gpt-4o-mini","input":"hello"}"#;
    assert_eq!(call(&server, "resp", "responses", body).expect(200), response);
    let answer = call(&server, "resp", "responses", &body.replace('}', r#","stream":true}"#));
    assert_eq!((answer.status, answer.text), (200, stream));
    for event in events(&server, "resp", 2) {
        let counts = ["input_tokens", "output_tokens", "reasoning_tokens"].map(|field| event[field].clone());
        assert_eq!(counts, [json!(22), json!(6), json!(1)], "{event}");
    }
    assert_eq!(upstream.asked()[0].json()["max_output_tokens"], json!(1_024));

    let body = r#"{"model":"text-embedding-3-small","input":["hello","world"]}"#;
    assert_eq!(call(&server, "embed", "embeddings", body).status, 200);
    let event = only_event(&server, "embed");
    assert_eq!((&event["event_type"], &event["embedding_tokens"]), (&json!("embedding"), &json!(7)), "{event}");
    assert_eq!(tokens(&server, "embed"), (7, 0));
    assert_eq!(count(&server.quota("embed", "embeddings"), "used"), 1);
    assert_eq!(upstream.asked()[2].body, body.as_bytes());

    let models = server.get("/v1/models").expect(200);
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("gpt-4o-mini")));
    let unknown = call(&server, "acme", "responses", r#"{"model":"o9","input":"x"}"#);
    assert_eq!(unknown.expect(404)["error"]["code"], json!("model_not_found"));
}

#[test]
fn every_recorded_answer_passes_as_it_is_and_is_counted_as_its_provider_counted() {
    let Some(folder) = std::env::var_os("METERGATE_TEST_DATA") else { return };
    let path = std::path::Path::new(&folder).join("usage/recorded_responses_dev.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.retain(|row| ["openai-chat", "openai-responses", "embeddings"].contains(&row["kind"].as_str().unwrap()));
    assert!(rows.len() > 10);
    let replies: Vec<Value> = rows.clone();
    let upstream = Upstream::start(move |asked| {
        let row = &replies[asked.json()["user"].as_str().unwrap().parse::<usize>().unwrap()];
        let body = row["body"].as_str().unwrap();
        if row["headers"]["content-type"].as_str().unwrap().starts_with("text/event-stream") {
            return Reply::Pieces(cut(body.as_bytes(), 7));
        }
        let status = row["status"].as_u64().unwrap() as u16;
        Reply::Whole(status, "content-type: application/json\r\n".to_owned(), body.as_bytes().to_vec())
    });
    let server = door(&upstream, "");
    for (place, row) in rows.iter().enumerate() {
        let tenant = format!("t{place}");
        let (endpoint, model) = match row["kind"].as_str().unwrap() {
            "openai-chat" => ("chat/completions", "gpt-4o"),
            "openai-responses" => ("responses", "gpt-4o"),
            _ => ("embeddings", "text-embedding-3-small"),
        };
        let mut body = json!({"model": model, "user": place.to_string(), "input": "x", "messages": []});
        let streams = row["request"]["stream"] == json!(true);
        if streams {
            body["stream"] = json!(true);
        }
        if row["request"]["include_usage"] == json!(true) {
            body["stream_options"] = json!({"include_usage": true});
        }
        let answer = call(&server, &tenant, endpoint, &body.to_string());
        assert_eq!(u64::from(answer.status), row["status"].as_u64().unwrap(), "{}", row["source"]);
        assert_eq!(answer.text, row["body"].as_str().unwrap(), "{}", row["source"]);
        let event = only_event(&server, &tenant);
        let told = row["usages"].as_array().unwrap().last().map(|usage| &usage[1]);
        let given = |names: [&str; 2]| {
            let usage = told.unwrap();
            names.iter().find_map(|name| usage[*name].as_u64())
        };
        match told {
            Some(_) => {
                assert_eq!(event["input_tokens"].as_u64(), given(["prompt_tokens", "input_tokens"]), "{event}");
                assert_eq!(event["output_tokens"].as_u64(), given(["completion_tokens", "output_tokens"]), "{event}");
            }
            None if answer.status >= 400 => assert_eq!(event["tokens_consumed"], json!(0), "{event}"),
            None => assert_eq!(event["metadata"]["usage_estimated"], json!(true), "{event}"),
        }
    }
    support::wait_for("nothing is open", 5, || {
        server.get("/metrics").text.contains("metergate_gateway_open_calls 0").then_some(())
    });
}
