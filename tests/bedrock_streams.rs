//! Usage out of Bedrock's streams: frames that are encoded here by their specification, cut anywhere and damaged.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

#[path = "support/frames.rs"]
mod frames;
#[path = "support/pieces.rs"]
mod pieces;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use metergate::domain::usage::UsageCounts;
use metergate::rules::extract::{Api, ExtractError, UsageStream, extract_body};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use frames::{chunk, event, frame};
use pieces::in_pieces;

/// A converse: its counts are beside the cache's.
fn converse() -> Vec<u8> {
    let usage = json!({"inputTokens": 30, "outputTokens": 628, "totalTokens": 758, "cacheReadInputTokens": 60,
        "cacheWriteInputTokens": 40,
        "cacheDetails": [{"inputTokens": 15, "ttl": "1h"}, {"inputTokens": 25, "ttl": "5m"}]});
    [
        event("messageStart", &json!({"p": "abcdefgh", "role": "assistant"})),
        event(
            "contentBlockDelta",
            &json!({"contentBlockIndex": 0, "delta": {"text": "\"usage\":{\"inputTokens\":9}"}}),
        ),
        event("contentBlockDelta", &json!({"usage": {"inputTokens": 9, "outputTokens": 9}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 0, "p": "abc"})),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event("metadata", &json!({"metrics": {"latencyMs": 1275}, "p": "abcdefghijk", "usage": usage})),
    ]
    .concat()
}

/// Anthropic's own events inside of chunks; the last one has Bedrock's counts as well.
fn anthropic() -> Vec<Vec<u8>> {
    let usage = json!({"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}, "output_tokens": 1});
    let metrics = json!({"inputTokenCount": 10, "outputTokenCount": 77, "invocationLatency": 4069,
        "firstByteLatency": 1117, "cacheReadInputTokenCount": 5, "cacheWriteInputTokenCount": 30});
    [
        json!({"type": "message_start", "message": {"model": "claude-x", "usage": usage}}),
        json!({"type": "content_block_delta", "delta": {"text": "\"usage\":{\"input_tokens\":9}"}}),
        json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ünïcödé ".repeat(700)}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 77}}),
        json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}),
    ]
    .iter()
    .map(chunk)
    .collect()
}

fn counts(input: u64, output: u64) -> UsageCounts {
    UsageCounts { input_tokens: Some(input), output_tokens: Some(output), ..UsageCounts::default() }
}

const CACHED: fn(UsageCounts, u64, u64) -> UsageCounts =
    |counts, read, write| UsageCounts { cached_input_tokens: Some(read), cache_write_tokens: Some(write), ..counts };

/// Streams of each kind, and what they took.
fn streams() -> Vec<(Vec<u8>, Api, UsageCounts)> {
    let hour = |counts, hour| UsageCounts { cache_write_1h_tokens: Some(hour), ..counts };
    let metrics = |more: Value| {
        let mut metrics = json!({"inputTokenCount": 7, "outputTokenCount": 126, "invocationLatency": 9});
        metrics.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        metrics
    };
    let llama = [
        chunk(&json!({"generation": "a", "prompt_token_count": 7, "generation_token_count": 1})),
        chunk(
            &json!({"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": metrics(json!({}))}),
        ),
    ];
    let cached = metrics(json!({"cacheReadInputTokenCount": 14_486, "cacheWriteInputTokenCount": 2_238}));
    let nova_usage = json!({"inputTokens": 7, "outputTokens": 126, "totalTokens": 133, "cacheReadInputTokenCount": 0,
        "cacheWriteInputTokenCount": 0});
    let nova = [
        chunk(&json!({"messageStart": {"role": "assistant"}})),
        chunk(&json!({"metadata": {"usage": nova_usage}, "amazon-bedrock-invocationMetrics": metrics(json!({}))})),
    ];
    let openai =
        chunk(&json!({"choices": [], "model": "gpt-oss", "usage": {"prompt_tokens": 7, "completion_tokens": 126},
        "amazon-bedrock-invocationMetrics": metrics(json!({}))}));
    vec![
        (converse(), Api::BedrockConverse, hour(CACHED(counts(130, 628), 60, 40), 15)),
        (anthropic().concat(), Api::AnthropicMessages, hour(CACHED(counts(45, 77), 5, 30), 10)),
        (llama.concat(), Api::BedrockConverse, counts(7, 126)),
        (
            chunk(&json!({"outputs": [], "amazon-bedrock-invocationMetrics": cached})),
            Api::BedrockConverse,
            CACHED(counts(7 + 14_486 + 2_238, 126), 14_486, 2_238),
        ),
        (nova.concat(), Api::BedrockConverse, CACHED(counts(7, 126), 0, 0)),
        (openai, Api::OpenAiChat, counts(7, 126)),
    ]
}

#[test]
fn each_stream_is_read_as_its_model_counts_whole_and_cut() {
    for (body, api, counts) in streams() {
        let extracted = extract_body(Some("aws"), None, &body).unwrap();
        assert_eq!((extracted.api, extracted.counts), (api, counts));
        for sizes in [&[1][..], &[3, 1, 12, 2], &[509]] {
            assert_eq!(in_pieces(Some("aws"), &body, sizes), Ok(Some(extracted.clone())), "{sizes:?}");
        }
    }
    assert_eq!(extract_body(None, None, &anthropic().concat()).unwrap().model.as_deref(), Some("claude-x"));
}

#[test]
fn a_flipped_bit_anywhere_is_refused_and_never_a_count() {
    let body = converse();
    for place in 0..body.len() {
        let mut flipped = body.clone();
        flipped[place] ^= 1 << (place % 8);
        let read = extract_body(Some("aws"), None, &flipped);
        // A length that was made larger waits for bytes that never come, but its checksum is looked at first. The first
        // byte is what a stream of frames is known by.
        let refused =
            matches!(read, Err(ExtractError::Damaged(_))) || (place == 0 && read == Err(ExtractError::NoUsage));
        assert!(refused, "byte {place}: {read:?}");
    }
}

#[test]
fn lengths_headers_and_packed_texts_that_cannot_be_are_refused() {
    let usage = event("metadata", &json!({"usage": {"inputTokens": 1, "outputTokens": 2}}));
    let packed = |text: &str| event("chunk", &json!({"bytes": text}));
    let with_lengths = |total: u32, headers: u32| {
        let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        [lengths.clone(), frames::crc32(&lengths).to_be_bytes().to_vec(), vec![0; 64]].concat()
    };
    let inner = STANDARD.encode(json!({"usage": {"input_tokens": 900, "output_tokens": 900}}).to_string());
    for (damaged, why) in [
        (with_lengths(15, 0), "a damaged frame in the event stream: it is shorter than its headers"),
        (with_lengths(32, 17), "a damaged frame in the event stream: it is shorter than its headers"),
        (with_lengths(u32::MAX, 131_073), "a damaged frame in the event stream: its headers are longer than 128 KiB"),
        (frame(b"\x01x\x0a", b""), "a damaged frame in the event stream: its headers cannot be read"),
        (packed("ey!"), "a damaged frame in the event stream: its bytes are not base64"),
        (packed("eyJ"), "a damaged frame in the event stream: its bytes are not base64"),
        (packed("eyI=eyI="), "a damaged frame in the event stream: its bytes are not base64"),
        (
            packed(&format!("{}=={}", "A".repeat(510), "A".repeat(4))),
            "a damaged frame in the event stream: its bytes are not base64",
        ),
    ] {
        // What came before it is not believed, what comes behind it is not looked at.
        let stream = [usage.clone(), damaged, usage.clone()].concat();
        assert_eq!(extract_body(Some("aws"), None, &stream).unwrap_err().to_string(), why);
    }
    // A slash may stand escaped; nothing else that base64 has can.
    let escaped = |text: &str| frames::event_of("chunk", format!(r#"{{"bytes":"{text}"}}"#).as_bytes());
    let slashes =
        STANDARD.encode("{\"x\":\"\u{33f}\u{fff}???\",\"usage\":{\"input_tokens\":900,\"output_tokens\":900}}");
    assert!(slashes.contains('/'));
    let read = extract_body(Some("aws"), None, &escaped(&slashes.replace('/', "\\/"))).unwrap();
    assert_eq!(read.counts, counts(900, 900));
    let error = extract_body(Some("aws"), None, &escaped(&inner.replacen('J', "\\u004a", 1)));
    assert_eq!(error, Err(ExtractError::Damaged("its bytes are not base64")));
}

#[test]
fn only_events_count_and_a_frame_without_its_end_gives_nothing() {
    let usage = json!({"usage": {"inputTokens": 1, "outputTokens": 2}}).to_string();
    let exception = frames::headers(&[(":message-type", "exception"), (":event-type", "metadata")]);
    assert_eq!(extract_body(None, None, &frame(&exception, usage.as_bytes())), Err(ExtractError::NoUsage));
    let body = converse();
    for missing in 1..40 {
        let mut stream = UsageStream::new(None, None);
        stream.feed(&body[..body.len() - missing]);
        assert_eq!(stream.finish(), Ok(None), "{missing} bytes are missing");
    }
    // As of any stream that breaks off: what the frames that came whole say.
    let parts = anthropic();
    let counts = extract_body(Some("aws"), None, &[&parts[0][..], &parts[4][..20]].concat()).unwrap().counts;
    assert_eq!((counts.input_tokens, counts.output_tokens), (Some(45), Some(1)));
}

#[test]
fn a_frame_that_gives_more_than_can_be_is_refused() {
    let many = format!("{{{}}}", [r#""usage":{"inputTokens":1,"outputTokens":1}"#; 1_025].join(","));
    let read = extract_body(None, None, &frames::event_of("metadata", many.as_bytes()));
    assert_eq!(read, Err(ExtractError::TooLarge));
    let long = json!({"usage": {"inputTokens": 1, "outputTokens": 1, "x": "y".repeat(40_000)}});
    assert_eq!(extract_body(None, None, &event("metadata", &long)), Err(ExtractError::TooLarge));
}

proptest! {
    #[test]
    fn cut_anywhere_says_the_same(which in 0_usize..6, sizes in vec(1_usize..300, 1..40)) {
        let (body, api, counts) = streams().swap_remove(which);
        let read = in_pieces(Some("aws"), &body, &sizes).unwrap().unwrap();
        prop_assert_eq!((read.api, read.counts), (api, counts));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300), headers in vec(any::<u8>(), 0..60)) {
        let _ = extract_body(None, None, &[&[0], &bytes[..]].concat());
        let _ = extract_body(None, None, &frame(&headers, &bytes));
        let _ = extract_body(None, None, &frames::event_of("chunk", &bytes));
    }
}
