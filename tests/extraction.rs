//! Usage out of recorded answers of providers, whole and streamed, cut anywhere, and out of bytes that mean nothing.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

#[path = "support/pieces.rs"]
mod pieces;
mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};

use metergate::domain::usage::UsageCounts;
use metergate::rules::extract::{Api, ExtractError, UsageStream, extract_body, extract_usage};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use pieces::in_pieces;
use support::traces::data_file;

const RECORDED: &str = "usage/recorded_responses_dev.jsonl";

#[test]
fn recorded_answers_say_what_was_recorded_of_them() {
    let Some(path) = data_file(RECORDED) else { return };
    let (mut with_usage, mut without) = (0, 0);
    for line in BufReader::new(File::open(path).unwrap()).lines() {
        let row: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let (source, body) = (row["source"].as_str().unwrap(), row["body"].as_str().unwrap().as_bytes());
        // Usage as it stands so far: what came later counts.
        let mut recorded = Map::new();
        for usage in row["usages"].as_array().unwrap() {
            let fields = usage[1].as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
            recorded.extend(fields.map(|(name, value)| (name.clone(), value.clone())));
        }
        if recorded.is_empty() {
            assert_eq!(extract_body(None, None, body), Err(ExtractError::NoUsage), "{source}");
            without += 1;
            continue;
        }
        let extracted = extract_body(None, None, body).unwrap_or_else(|error| panic!("{source}: {error}"));
        let of_recorded = extract_usage(None, None, &Value::Object(recorded)).unwrap();
        assert_eq!(extracted.counts, of_recorded.counts, "{source}");
        assert!(!extracted.total_differs() && extracted.model.is_some(), "{source}: {extracted:?}");
        for sizes in [&[1][..], &[2, 3, 5, 7], &[4_096]] {
            assert_eq!(in_pieces(None, body, sizes), Ok(Some(extracted.clone())), "{source} in pieces of {sizes:?}");
        }
        with_usage += 1;
    }
    println!("{with_usage} answers with usage, {without} without");
    assert!(with_usage > 0 && without > 0);
}

#[test]
fn the_examples_of_openais_reference_are_read_whole_and_streamed() {
    for (name, api, input, output) in [
        ("post-chat-completions-default.json", Api::OpenAiChat, 19, 10),
        ("post-responses-streaming.txt", Api::OpenAiResponses, 37, 11),
        ("post-responses-web-search.json", Api::OpenAiResponses, 328, 356),
        ("post-images-generations-generate-image.json", Api::OpenAiImages, 50, 50),
    ] {
        let Some(path) = data_file(&format!("usage/openai-examples/{name}")) else { return };
        let extracted = extract_body(Some("openai"), None, &std::fs::read(path).unwrap()).unwrap();
        let counts = (extracted.counts.input_tokens, extracted.counts.output_tokens);
        assert_eq!((extracted.api, counts), (api, (Some(input), Some(output))), "{name}");
    }
}

/// Answers of each provider, written by hand after its documentation, and what they took.
fn written() -> Vec<(&'static str, String, Api, UsageCounts)> {
    let counts =
        |input, output| UsageCounts { input_tokens: Some(input), output_tokens: Some(output), ..Default::default() };
    let anthropic = concat!(
        "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"usage\":",
        "{\"input_tokens\":10,\"cache_creation_input_tokens\":30,\"cache_read_input_tokens\":5,",
        "\"cache_creation\":{\"ephemeral_5m_input_tokens\":20,\"ephemeral_1h_input_tokens\":10},\"output_tokens\":1}}}\r\n\r\n",
        "event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"usage\\\":{\\\"input_tokens\\\":999}\"}}\r\n\r\n",
        "event: ping\r\ndata: {\"type\": \"ping\"}\r\n\r\n",
        "event: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":77,\"server_tool_use\":{\"web_search_requests\":2},\"cache_read_input_tokens\":null}}\r\n\r\n",
        "event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n",
    );
    let groq = concat!(
        ": comment\ndata: {\"model\":\"llama\",\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n",
        "data: {\"model\":\"llama\",\"choices\":[],\"x_groq\":{\"id\":\"r\",\"usage\":{\"queue_time\":0.01,\"prompt_tokens\":18,\"completion_tokens\":556,\"total_tokens\":574}}}\n\n",
        "data: [DONE]\n\n",
    );
    let google_list = concat!(
        "[{\"candidates\":[{}],\"usageMetadata\":{\"promptTokenCount\":9,\"totalTokenCount\":9},\"modelVersion\":\"gemini-x\"}\n,\r\n",
        "{\"candidates\":[{}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":6,",
        "\"toolUsePromptTokenCount\":3,\"cachedContentTokenCount\":2,\"promptTokensDetails\":[{\"modality\":\"AUDIO\",\"tokenCount\":5},",
        "{\"modality\":1,\"tokenCount\":4}],\"totalTokenCount\":22}}]",
    );
    let deepseek = r#"{"model":"deepseek-chat","usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,
        "prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36,"completion_tokens_details":{"reasoning_tokens":8}}}"#;
    let cohere = r#"{"id":"x","message":{"content":[]},"usage":{"billed_units":{"input_tokens":5.0,"output_tokens":7},
        "tokens":{"input_tokens":71,"output_tokens":418}}}"#;
    let cohere_stream = concat!(
        "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":",
        "{\"billed_units\":{\"input_tokens\":3,\"output_tokens\":418},\"tokens\":{\"input_tokens\":71,\"output_tokens\":418}}}}\n\n",
    );
    let cohere_embed =
        r#"{"embeddings":[[0.1,-2e-3]],"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":12}}}"#;
    let bedrock = r#"{"output":{},"usage":{"inputTokens":30,"outputTokens":628,"totalTokens":758,"cacheReadInputTokens":60,"cacheWriteInputTokens":40}}"#;
    let xai = r#"{"model":"grok-4","usage":{"prompt_tokens":10,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":90},"total_tokens":105}}"#;
    let json_lines = "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":9}}\n";
    vec![
        (
            "anthropic",
            anthropic.to_owned(),
            Api::AnthropicMessages,
            UsageCounts {
                cached_input_tokens: Some(5),
                cache_write_tokens: Some(30),
                cache_write_1h_tokens: Some(10),
                web_searches: Some(2),
                ..counts(45, 77)
            },
        ),
        ("groq", groq.to_owned(), Api::OpenAiChat, counts(18, 556)),
        (
            "google",
            google_list.to_owned(),
            Api::GoogleGenerate,
            UsageCounts {
                cached_input_tokens: Some(2),
                audio_input_tokens: Some(5),
                tool_input_tokens: Some(3),
                reasoning_tokens: Some(6),
                ..counts(12, 10)
            },
        ),
        (
            "deepseek",
            deepseek.to_owned(),
            Api::OpenAiChat,
            UsageCounts { cached_input_tokens: Some(64), reasoning_tokens: Some(8), ..counts(100, 20) },
        ),
        ("cohere", cohere.to_owned(), Api::CohereBilled, counts(5, 7)),
        ("cohere", cohere_stream.to_owned(), Api::CohereBilled, counts(3, 418)),
        (
            "cohere",
            cohere_embed.to_owned(),
            Api::CohereBilled,
            UsageCounts { input_tokens: Some(12), embedding_tokens: Some(12), ..Default::default() },
        ),
        (
            "bedrock",
            bedrock.to_owned(),
            Api::BedrockConverse,
            UsageCounts { cached_input_tokens: Some(60), cache_write_tokens: Some(40), ..counts(130, 628) },
        ),
        ("xai", xai.to_owned(), Api::XaiChat, UsageCounts { reasoning_tokens: Some(90), ..counts(10, 95) }),
        ("vllm", json_lines.to_owned(), Api::OpenAiChat, counts(1, 9)),
    ]
}

#[test]
fn each_provider_is_read_as_it_counts() {
    for (provider, body, api, counts) in written() {
        let extracted = extract_body(Some(provider), None, body.as_bytes()).unwrap();
        assert_eq!((extracted.api, extracted.counts), (api, counts), "{provider}: {body}");
        assert!(!extracted.total_differs(), "{provider}");
    }
}

#[test]
fn calls_of_hosted_tools_are_counted_where_they_stand_in_the_answer() {
    let item = |kind: &str| json!({"type": kind, "id": "x", "status": "completed"});
    let web = |action: &str| {
        let action = json!({"queries": ["\"type\":\"x\""], "type": action});
        json!({"id": "ws", "action": action, "type": "web_search_call"})
    };
    let usage = json!({"input_tokens": 328, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 356});
    let output = json!([
        item("reasoning"), web("search"), web("open_page"), web("find_in_page"), web("search"), item("web_search_call"),
        {"type": "file_search_call", "queries": ["a"], "results": [{"type": "web_search_call", "text": "x"}]},
        item("code_interpreter_call"), item("function_call"), item("local_shell_call"), item("mcp_call"),
        {"type": "message", "content": [{"type": "output_text", "text": "\"type\":\"web_search_call\""}]},
    ]);
    let tools = |counts: UsageCounts| (counts.web_searches, counts.file_searches, counts.tool_calls);
    let whole = json!({"model": "gpt-5", "output": output, "usage": usage});
    let expected = (Some(3), Some(1), Some(1));
    for provider in ["openai", "azure"] {
        let read = extract_body(Some(provider), None, whole.to_string().as_bytes()).unwrap();
        assert_eq!((read.api, tools(read.counts)), (Api::OpenAiResponses, expected));
    }
    // A stream shows the response again and again: the last one counts, and its items only once.
    let event =
        |kind: &str, inner: Value| format!("event: {kind}\ndata: {}\n\n", json!({"type": kind, "response": inner}));
    let mut begun = whole.clone();
    begun["usage"] = Value::Null;
    let item_done = format!("data: {}\n\n", json!({"type": "response.output_item.done", "item": web("search")}));
    let stream = [event("response.in_progress", begun), item_done, event("response.completed", whole.clone())].concat();
    assert_eq!(tools(extract_body(None, None, stream.as_bytes()).unwrap().counts), expected);
    for sizes in [&[1][..], &[7, 2], &[512]] {
        assert_eq!(tools(in_pieces(None, stream.as_bytes(), sizes).unwrap().unwrap().counts), expected);
    }
    let plain = json!({"output": [item("message")], "usage": usage});
    assert_eq!(tools(extract_body(None, None, plain.to_string().as_bytes()).unwrap().counts), (None, None, None));

    let chunk = |queries: Value| {
        json!({"candidates": [{"groundingMetadata": {"webSearchQueries": queries}}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}})
    };
    let google = json!([chunk(json!(["a"])), chunk(json!(["a", "b"])), chunk(Value::Null)]);
    assert_eq!(extract_body(None, None, google.to_string().as_bytes()).unwrap().counts.web_searches, Some(2));
}

#[test]
fn what_is_not_clear_is_refused_and_named() {
    for (usage, message) in [
        (json!({"tokens_in": 5}), "usage of a shape that is not known: it has the fields tokens_in"),
        (json!([1]), "usage field `usage`: is not an object"),
        (
            json!({"prompt_tokens": -1, "completion_tokens": 1}),
            "usage field `prompt_tokens`: is not a whole number of zero or more",
        ),
        (
            json!({"prompt_tokens": 1.5, "completion_tokens": 1}),
            "usage field `prompt_tokens`: is not a whole number of zero or more",
        ),
        (json!({"prompt_tokens": "9", "completion_tokens": 1}), "usage field `prompt_tokens`: is not a number"),
        (
            json!({"prompt_tokens": 1e15, "completion_tokens": 1}),
            "usage field `prompt_tokens`: is above 1,000,000,000,000",
        ),
        (
            json!({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}),
            "usage that contradicts itself: cached and cache-write tokens (2) cannot be more than input tokens (1)",
        ),
        (
            json!({"type": "duration", "seconds": 9}),
            "usage of a shape that is not known: it has the fields seconds, type",
        ),
    ] {
        assert_eq!(extract_usage(None, None, &usage).unwrap_err().to_string(), message);
    }
    let chat = Some(Api::OpenAiChat);
    let missing = extract_usage(None, chat, &json!({"prompt_tokens": 1})).unwrap_err().to_string();
    assert_eq!(missing, "usage of openai-chat has no `completion_tokens`");
    let differs = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 7});
    assert!(extract_usage(None, None, &differs).unwrap().total_differs());
    assert_eq!(extract_body(None, None, b"<html>502 Bad Gateway</html>"), Err(ExtractError::NoUsage));
}

#[test]
fn a_stream_that_breaks_off_says_what_came_before_or_nothing() {
    let (_, body, _, _) = written().remove(0);
    let at_start = &body.as_bytes()[..body.find("event: content_block_delta").unwrap()];
    let counts = extract_body(Some("anthropic"), None, at_start).unwrap().counts;
    assert_eq!((counts.input_tokens, counts.output_tokens), (Some(45), Some(1)));
    let mut stream = UsageStream::new(None, None);
    stream.feed(&body.as_bytes()[..40]);
    assert_eq!(stream.model(), None);
    assert_eq!(stream.finish(), Ok(None));
}

/// JSON of any kind, with the names of usage in it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[\\PC\"\\\\]{0,8}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("usage"),
        Just("usageMetadata"),
        Just("message"),
        Just("response"),
        Just("meta"),
        Just("billed_units"),
        Just("model"),
        Just("prompt_tokens"),
        Just("completion_tokens"),
        Just("input_tokens"),
        Just("output_tokens"),
        Just("promptTokenCount"),
        Just("promptTokensDetails"),
        Just("modality"),
        Just("tokenCount"),
        Just("inputTokens"),
        Just("outputTokens"),
        Just("tokens"),
        Just("input_tokens_details"),
        Just("cached_tokens"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((names.clone(), inner), 0..8)
                .prop_map(|fields| fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<Map<_, _>>())
                .prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_says_the_same(which in 0_usize..10, sizes in vec(1_usize..200, 1..40)) {
        let (provider, body, _, _) = written().swap_remove(which);
        let whole = extract_body(Some(provider), None, body.as_bytes());
        prop_assert_eq!(in_pieces(Some(provider), body.as_bytes(), &sizes), whole.map(Some));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..400), text in "[\\[\\]{}\":,\\\\a-c\n\r 0-9]{0,200}") {
        let _ = extract_body(None, None, &bytes);
        let _ = extract_body(None, None, text.as_bytes());
        let _ = extract_body(None, None, format!("data:{text}\n\n").as_bytes());
    }

    #[test]
    fn no_json_makes_it_panic_and_the_scanner_finds_what_a_parser_finds(json in any_json()) {
        for api in Api::ALL {
            let _ = extract_usage(Some("x-ai"), Some(api), &json);
        }
        let body = json.to_string();
        let found = extract_body(None, None, body.as_bytes());
        if json.get("usage").is_some_and(Value::is_object)
            && ["usageMetadata", "message", "response", "meta", "x"].iter().all(|other| json.get(other).is_none())
        {
            match extract_usage(None, None, &json["usage"]) {
                Ok(parsed) => {
                    let found = found.map(|found| found.counts);
                    prop_assert_eq!(found, Ok(parsed.counts));
                }
                Err(_) => prop_assert!(found.is_err()),
            }
        }
    }
}
