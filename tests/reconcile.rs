//! Metered usage against a provider's report, as a person runs it: over HTTP and on a stopped folder.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::fs;

use serde_json::{Value, json};

use support::command::{cli, cli_ok};
use support::{Server, midnight_days_ago, rfc3339};

/// Two days of `gpt-4o-mini` under a dated name and an alias: (input, cached, output) of each event.
const EVENTS: [(i64, &str, [u64; 3]); 4] = [
    (2, "gpt-4o-mini-2024-07-18", [600_000, 100_000, 40_000]),
    (2, "gpt-4o-mini", [400_000, 100_000, 60_000]),
    (1, "gpt-4o-mini-2024-07-18", [1_000_000, 0, 200_000]),
    (1, "claude-sonnet-4-5", [5_000, 0, 500]),
];

fn usage_page(scale: u64) -> Value {
    let bucket = |days_ago: i64, input: u64, cached: u64, output: u64, requests: u64| {
        let start = midnight_days_ago(days_ago).timestamp();
        json!({"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": [{
            "object": "organization.usage.completions.result", "model": "gpt-4o-mini-2024-07-18", "batch": null,
            "input_tokens": input * scale / 100, "input_cached_tokens": cached * scale / 100,
            "output_tokens": output * scale / 100, "num_model_requests": requests,
        }]})
    };
    let data = [bucket(2, 1_000_000, 200_000, 100_000, 2), bucket(1, 1_000_000, 0, 200_000, 1)];
    json!({"object": "page", "data": data, "has_more": false, "next_page": null})
}

#[test]
fn a_report_that_agrees_is_within_and_one_off_by_three_percent_is_not() {
    let mut server = Server::start();
    let events = EVENTS.map(|(days_ago, model, [input, cached, output])| {
        json!({"tenant_id": "acme", "event_type": "api_call", "model": model, "input_tokens": input,
            "cached_input_tokens": cached, "output_tokens": output,
            "event_timestamp": rfc3339(midnight_days_ago(days_ago) + chrono::Duration::hours(5))})
    });
    server.record(&json!(events));
    let file = |name: &str, text: String| {
        let path = server.beside(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let equal = file("equal.json", usage_page(100).to_string());
    let off = file("off.json", usage_page(103).to_string());
    // 0.15, 0.075 and 0.60 dollars for a million tokens: 0.12 + 0.015 + 0.06, and 0.15 + 0.12.
    let day = |days_ago: i64| midnight_days_ago(days_ago).format("%Y-%m-%d").to_string();
    let bill =
        format!("Date,Model,In,Amount\n{},gpt-4o-mini,1000000,0.195\n{},gpt-4o-mini,1000000,$0.27\n", day(2), day(1));
    let bill = file("bill.csv", bill);
    let map = "day=Date,model=Model,input_tokens=In,cost=Amount";

    let url = server.url.clone();
    let told: Value = serde_json::from_str(&cli_ok(&["reconcile", &equal, "--server", &url, "--json"])).unwrap();
    assert_eq!((&told["within"], told["lines"].as_array().unwrap().len()), (&json!(true), 2), "{told}");
    assert_eq!(told["models_left_out"], json!(["claude-sonnet-4-5"]));
    assert_eq!(told["lines"][0]["compared"][0]["metered"], json!(1_000_000));

    let (code, out, _) = cli(&["reconcile", &off, "--server", &url]);
    assert!(code == 1 && out.contains("-2.91%") && out.contains("beyond"), "{code}\n{out}");
    cli_ok(&["reconcile", &off, "--server", &url, "--tolerance", "3%"]);

    cli_ok(&["reconcile", &bill, "--map", map, "--provider", "openai", "--tolerance", "0%", "--server", &url]);
    // Without a provider the other model is missing from the bill.
    let (code, out, _) = cli(&["reconcile", &bill, "--map", map, "--tenant", "acme", "--server", &url]);
    assert!(code == 1 && out.contains("only metered") && out.contains("claude-sonnet-4-5"), "{code}\n{out}");

    let (code, _, error) = cli(&["reconcile", &bill, "--server", &url]);
    assert!(code == 1 && error.contains("not JSON") && error.contains("--map"), "{code}\n{error}");
    let (code, _, error) = cli(&["reconcile", &bill, "--map", "day=Day,cost=Amount", "--server", &url]);
    assert!(code == 1 && error.contains("no column `Day`") && error.contains("Date, Model"), "{code}\n{error}");

    server.stop();
    let folder = server.data_dir().to_string_lossy().into_owned();
    cli_ok(&["reconcile", &equal, "--data-dir", &folder]);
    assert_eq!(cli(&["reconcile", &off, "--data-dir", &folder]).0, 1);
}
