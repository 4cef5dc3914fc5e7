//! What providers send: usage of every API, whole answers, streams, and their reports of usage and costs.

use metergate::rules::extract::{Api, ExtractError, Extracted, extract_body, extract_usage};
use metergate::rules::reconcile::{Metered, Report, read_openai, reconcile};
use serde_json::Value;

use super::driver::fuzz;
use super::support::traces::data_file;
use super::text;

/// Usage as each API sends it.
const USAGES: [&str; 8] = [
    r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4,
        "audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":0}}"#,
    r#"{"input_tokens":19,"input_tokens_details":{"cached_tokens":3},"output_tokens":10,"output_tokens_details":
        {"reasoning_tokens":1},"total_tokens":29}"#,
    r#"{"input_tokens":5,"cache_creation_input_tokens":7,"cache_read_input_tokens":9,"output_tokens":3,"cache_creation":
        {"ephemeral_5m_input_tokens":7,"ephemeral_1h_input_tokens":0},"server_tool_use":{"web_search_requests":1}}"#,
    r#"{"promptTokenCount":8,"candidatesTokenCount":12,"totalTokenCount":23,"thoughtsTokenCount":3,"promptTokensDetails":
        [{"modality":"TEXT","tokenCount":8}]}"#,
    r#"{"inputTokens":8,"outputTokens":12,"totalTokens":20,"cacheReadInputTokens":0}"#,
    r#"{"billed_units":{"input_tokens":8,"output_tokens":12},"tokens":{"input_tokens":9,"output_tokens":12}}"#,
    r#"{"prompt_tokens":8,"total_tokens":8}"#,
    r#"{"prompt_tokens":19,"completion_tokens":10,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":15}"#,
];

#[test]
fn changed_usage_of_any_provider_is_an_error_or_adds_up() {
    fuzz("usage of providers", 12_000, &USAGES, |bytes| {
        let Ok(usage) = serde_json::from_slice::<Value>(bytes) else { return false };
        let mut taken = false;
        for provider in [None, Some("openai"), Some("anthropic"), Some("google")] {
            taken |= adds_up(provider, None, &usage);
        }
        for api in Api::ALL {
            taken |= adds_up(None, Some(api), &usage);
        }
        taken
    });
}

fn adds_up(provider: Option<&str>, api: Option<Api>, usage: &Value) -> bool {
    is_sound(extract_usage(provider, api, usage))
}

fn is_read(body: &[u8]) -> bool {
    is_sound(extract_body(None, None, body))
}

fn is_sound(extracted: Result<Extracted, ExtractError>) -> bool {
    match extracted {
        Ok(extracted) => {
            assert!(extracted.counts.check().is_ok());
            let _differs = extracted.total_differs();
            true
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.is_empty() && sentence.len() < 4_000, "a sentence of {} bytes", sentence.len());
            false
        }
    }
}

#[test]
fn changed_answers_of_any_provider_are_errors_or_add_up() {
    let corpus: Vec<String> = USAGES
        .iter()
        .flat_map(|usage| {
            let usage = usage.replace('\n', "");
            let name = if usage.contains("promptTokenCount") { "usageMetadata" } else { "usage" };
            [
                format!(r#"{{"id":"c","model":"gpt-4o-mini","choices":[{{"message":{{"content":"a \"b\""}}}}],"{name}":{usage}}}"#),
                format!("event: x\ndata: {{\"model\":\"m\",\"choices\":[]}}\n\ndata: {{\"{name}\":{usage}}}\n\ndata: [DONE]\n\n"),
                format!(r#"[{{"{name}":null}},{{"modelVersion":"m","{name}":{usage}}}]"#),
            ]
        })
        .filter(|body| extract_body(None, None, body.as_bytes()).is_ok())
        .collect();
    assert!(corpus.len() > 9, "{} of the bodies are understood", corpus.len());
    fuzz("answers of providers", 4_000, &corpus, is_read);
}

#[test]
fn changed_recorded_answers_are_errors_or_add_up() {
    let Some(path) = data_file("usage/recorded_responses_dev.jsonl") else { return };
    let rows = std::fs::read_to_string(path).unwrap();
    let bodies = rows.lines().filter_map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["body"].as_str().map(|body| body.as_bytes().to_vec())
    });
    let corpus: Vec<Vec<u8>> = bodies.filter(|body| body.len() < 16 * 1024 && is_read(body)).collect();
    fuzz("recorded answers", 1_500, &corpus, is_read);
}

#[test]
fn changed_reports_are_errors() {
    let usage = r#"{"object":"page","data":[{"object":"bucket","start_time":1730419200,"end_time":1730505600,"results":[
        {"object":"organization.usage.completions.result","input_tokens":1000,"input_cached_tokens":400,"output_tokens":500,
        "num_model_requests":5,"model":"gpt-4o-mini-2024-07-18","batch":null}]}],"has_more":false,"next_page":null}"#;
    let costs = r#"{"object":"page","data":[{"object":"bucket","start_time":1730419200,"end_time":1730505600,"results":[
        {"object":"organization.costs.result","amount":{"value":0.06,"currency":"usd"},"line_item":"gpt-4o-mini, input"},
        {"object":"organization.costs.result","amount":{"value":"0.10000000000000000555"},"line_item":null}]}],
        "has_more":true,"next_page":"x"}"#;
    let both = format!("{usage}\n{costs}");
    fuzz("reports of providers", 6_000, &[usage, costs, &both], |bytes| {
        let Some(text) = text(bytes) else { return false };
        let mut report = Report::default();
        if let Err(error) = read_openai(text, &mut report) {
            assert!(!error.to_string().is_empty());
            return false;
        }
        let _span = (report.span(), report.has_more(), report.models().len());
        let metered: std::collections::BTreeMap<(u32, String), Metered> =
            [((20_028, "gpt-4o-mini".to_owned()), Metered::default())].into();
        let lines = reconcile(&report, &metered, str::to_owned, "1%".parse().unwrap(), true);
        lines.iter().flat_map(|line| &line.compared).for_each(|compared| drop(compared.percent()));
        true
    });
}
