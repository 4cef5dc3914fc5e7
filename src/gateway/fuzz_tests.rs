//! The door over changed calls and changed answers: a call is refused or forwarded as it was written, and what an upstream
//! sends never panics, wherever it is cut.

use hyper::body::Bytes;
use serde_json::Value;

use super::call_body::CallBody;
use super::endpoint::Endpoint;
use super::event_stream::EventStream;
use super::exchange::said_in;
use super::widget::sources_of;
use crate::fuzz::fuzz;
use crate::random::Random;
use crate::rules::extract::UsageStream;

const ENDPOINTS: [Endpoint; 3] = [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Embeddings];

const CALLS: [&str; 5] = [
    r#"{"model":"gpt-4o-mini","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],
        "max_tokens":64,"temperature":0.5,"n":2,"stop":["\n"],"user":"u-1"}"#,
    r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":false},"messages":[{"role":"user","content":[
        {"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"https://x.example/a.png"}},
        {"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}]}],"max_completion_tokens":9}"#,
    r#"{"model":"gpt-4o","input":"Tell me","instructions":"Short.","max_output_tokens":100,"background":false,
        "tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}}}}]}"#,
    r#"{"model":"text-embedding-3-small","input":["one","two",[1,2,3]],"encoding_format":"float","dimensions":8}"#,
    r#"{"model":"m"}"#,
];

#[test]
fn changed_calls_are_refused_or_forwarded_as_they_were_written() {
    for endpoint in ENDPOINTS {
        fuzz(&format!("calls to {}", endpoint.path()), 3_000, &CALLS, |body| {
            let call = match CallBody::read(endpoint, Bytes::copy_from_slice(body)) {
                Ok(call) => call,
                Err(error) => {
                    assert!(!error.message.is_empty() && error.message.len() < 2_000, "{} bytes", error.message.len());
                    return false;
                }
            };
            assert_eq!(call.forwarded(None, false), body, "what need not change is the caller's, byte for byte");
            // A cap is put where none is, and usage is asked for: the rest stays, and it is still one object of JSON.
            let cap = endpoint.output_fields().iter().find(|name| !call.gives(name)).map(|name| (*name, 7));
            let sent = call.forwarded(cap, call.stream && !call.wants_usage);
            let again = CallBody::read(endpoint, sent).unwrap();
            assert_eq!((&again.model, again.stream, again.choices), (&call.model, call.stream, call.choices));
            assert_eq!(again.wants_usage, call.wants_usage || call.stream);
            assert!(cap.is_none() || again.output_max >= Some(7), "{:?}", again.output_max);
            true
        });
    }
}

const STREAM: &str = concat!(
    "data: {\"id\":\"c\",\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\\\"lo\"}}]}\n\n",
    ": a comment\n\n",
    "event: x\r\ndata: {\"choices\":[],\"prompt_filter_results\":[]}\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{}\"}}]}}],\"usage\":null}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\n",
    "data: [DONE]\n\n",
);
const RESPONSES: &str = concat!(
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-4o\",\"usage\":",
    "{\"input_tokens\":19,\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":10,\"total_tokens\":29}}}\n\n",
);

/// What passes, and the events that are seen, when the stream comes in these pieces.
fn pass(stream: &[u8], random: &mut Random, pieces_of: usize, takes_usage_out: bool) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut events = EventStream::new(takes_usage_out);
    let (mut out, mut seen, mut rest) = (Vec::new(), Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + random.place(pieces_of)).min(rest.len()));
        out.extend_from_slice(&events.pass(Bytes::copy_from_slice(piece), |event| seen.push(event.to_vec())));
        rest = behind;
    }
    out.extend_from_slice(&events.rest());
    (out, seen)
}

#[test]
fn changed_streams_pass_alike_wherever_they_are_cut() {
    fuzz("streams of upstreams", 3_000, &[STREAM, RESPONSES], |stream| {
        let mut random = Random::new(stream.len() as u64);
        let whole = pass(stream, &mut random, 1 << 30, true);
        assert_eq!(pass(stream, &mut random, 40, true), whole);
        let (out, seen) = pass(stream, &mut random, 40, false);
        assert_eq!((out.as_slice(), &seen), (stream, &whole.1));
        for event in seen {
            let _tokens = said_in(&event);
        }
        !whole.1.is_empty()
    });
}

#[test]
fn changed_answers_are_read_alike_wherever_they_are_cut() {
    let answer = r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","choices":[{"message":{"content":
        "A \"quoted\" answer"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,
        "total_tokens":29,"prompt_tokens_details":{"cached_tokens":4}},"sources":[{"id":1}]}"#;
    fuzz("answers of upstreams", 1_200, &[answer, STREAM, RESPONSES], |body| {
        let read = |most: usize| {
            let (mut random, mut rest) = (Random::new(body.len() as u64), body);
            let mut usage = UsageStream::new(Some("openai"), None);
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at((1 + random.place(most)).min(rest.len()));
                usage.feed(piece);
                rest = behind;
            }
            usage.finish()
        };
        let whole = read(1 << 30);
        assert_eq!(read(60), whole);
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            let _sources = sources_of(&value);
        }
        matches!(whole, Ok(Some(_)))
    });
}
