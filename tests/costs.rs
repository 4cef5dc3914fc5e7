//! Costs as callers and people see them: priced events explained, prices put in force, real traces to the last digit.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::fs;

use serde_json::{Value, json};

use support::command::{cli_ok, command};
use support::traces::data_file;
use support::{Server, count, dollars, midnight_days_ago, usage_rows};

const PRICES: &str = r#"
[providers.openai]
source = "https://prices.example/"
checked = "2020-01-01"
speaks_for = ["gpt-*"]

[prices.openai.gpt-x]
also = ["gpt-x-*"]
input = { base = "0.15", above_200000 = "0.30" }
cached_input = "0.075"
cache_write = "0.20"
output = "0.60"
"#;

fn put_prices(server: &Server, query: &str, text: &str) -> Value {
    let path = format!("/api/admin/prices{query}");
    let key = format!("Bearer {}", support::ADMIN_KEY);
    let headers = [("authorization", key.as_str()), ("content-type", "application/toml")];
    server.send("PUT", &path, &headers, Some(text.as_bytes())).expect(200)
}

fn models(row: &Value) -> Vec<(Value, u64)> {
    let rows = row["by_model"].as_array().unwrap().iter();
    rows.map(|row| (row["model"].clone(), row["requests"].as_u64().unwrap())).collect()
}

#[test]
fn an_event_is_priced_and_its_cost_explained() {
    let server = Server::start();
    let dry = put_prices(&server, "?dry_run=true", PRICES);
    assert_eq!((&dry["applied"], &dry["models"]), (&json!(false), &json!(1)));
    assert!(dry["differences_total"].as_u64().unwrap() > 100, "{dry}");
    let done = put_prices(&server, "?format=metergate", PRICES);
    assert_eq!((&done["applied"], &done["format"]), (&json!(true), &json!("metergate")));
    assert_eq!(put_prices(&server, "", PRICES)["differences"], json!([]));

    let usage = json!({
        "prompt_tokens": 300_000, "completion_tokens": 500, "total_tokens": 300_500,
        "prompt_tokens_details": {"cached_tokens": 100_000}, "completion_tokens_details": {"reasoning_tokens": 200}
    });
    let event = |id: &str, more: Value| {
        let mut event = json!({"tenant_id": "acme", "event_type": "api_call", "event_id": id});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    server.record(&json!([
        event("by usage", json!({"model": "gpt-x-2026-01-01", "provider": "openai", "usage": usage})),
        event("given", json!({"model": "gpt-x", "input_tokens": 5, "output_tokens": 5, "cost_usd": "0.25"})),
        event("unknown", json!({"model": "who", "input_tokens": 5, "output_tokens": 5})),
        event("plain", json!({"tokens_consumed": 7})),
    ]));
    let explained = server.get("/api/usage/acme/events/by%20usage").expect(200);
    assert_eq!(explained["event"]["cached_input_tokens"], 100_000);
    assert_eq!(explained["event"]["cost_estimated"], true);
    let cost = &explained["cost"];
    // 200,000 x 0.30 + 100,000 x 0.075 + 500 x 0.60 = 67,800 millionths: above 200,000 tokens of input.
    assert_eq!((&cost["kind"], &cost["amount"]), (&json!("estimated"), &json!(0.0678)));
    assert_eq!(
        (&cost["provider"], &cost["model"], &cost["tier_above"]),
        (&json!("openai"), &json!("gpt-x"), &json!(200_000))
    );
    assert_eq!((&cost["source"], &cost["checked"]), (&json!("https://prices.example/"), &json!("2020-01-01")));
    let lines: Vec<_> = cost["lines"].as_array().unwrap().iter().map(|line| (&line["class"], &line["count"])).collect();
    assert!(lines.contains(&(&json!("input"), &json!(200_000))), "{cost}");
    assert_eq!(
        server.get("/api/usage/acme/events/given").expect(200)["cost"],
        json!({"kind": "given", "amount": 0.25})
    );
    let unknown = server.get("/api/usage/acme/events/unknown").expect(200);
    assert_eq!((&unknown["cost"]["kind"], &unknown["event"]["cost_usd"]), (&json!("unpriced"), &Value::Null));
    server.get("/api/usage/acme/events/nothing").expect_error(404, "event");

    let by_model = server.get("/api/usage/acme?group_by=model").expect(200);
    let row = &by_model["usage"][0];
    assert_eq!(models(row), [(json!("gpt-x"), 1), (json!("gpt-x-2026-01-01"), 1), (json!("who"), 1), (Value::Null, 1)]);
    assert_eq!(dollars(row, "estimated_cost_usd"), Some(0.3178));
    let all = server.get("/api/admin/usage?group_by=model").expect(200);
    assert_eq!(all["byModel"].as_array().unwrap().len(), 4);
    let of_one = server.get("/api/admin/usage?tenantId=acme&group_by=model").expect(200);
    assert_eq!(models(&of_one["usage"][0]), models(row));
    server.get("/api/usage/acme?group_by=colour").expect_error(400, "group_by");

    let status = server.get("/api/admin/status").expect(200);
    let alarm = status["alarms"].as_array().unwrap().iter().find(|alarm| alarm["code"] == "models_unpriced").unwrap();
    assert!(alarm["message"].as_str().unwrap().contains("who"), "{alarm}");
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("metergate_unpriced_events_total{model=\"who\"} 1"), "{metrics}");
}

#[test]
fn a_usage_that_is_not_known_sinks_its_own_event_only() {
    let server = Server::start();
    let event = |usage: Value| json!({"tenant_id": "acme", "event_type": "api_call", "model": "m", "usage": usage});
    let batch = json!([event(json!({"tokens_in": 5})), event(json!({"prompt_tokens": 5, "completion_tokens": 2}))]);
    let answer = server.post("/api/usage/events", &batch).expect(200);
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(1), &json!(0)));
    assert_eq!(answer["rejected"][0]["code"], "usage_unreadable");
    assert!(answer["rejected"][0]["error"].as_str().unwrap().contains("tokens_in"), "{answer}");
}

#[test]
fn a_tenant_with_a_cost_limit_names_only_models_that_have_a_price() {
    let server = Server::start();
    put_prices(&server, "", PRICES);
    server.put_tenant("acme", &json!({}));
    let limit = json!({"limit": "1.50", "reason": "a test", "window": "day"});
    server.put("/api/admin/tenants/acme/quotas/cost", &limit).expect(200);
    let request =
        |model: &str| json!({"tenant_id": "acme", "model": model, "items": [{"quota_type": "cost", "amount": "0.01"}]});
    server.post("/api/quota/reserve", &request("gpt-x")).expect(200);
    server.post("/api/quota/enforce", &request("gpt-x")).expect(200);
    for path in ["/api/quota/reserve", "/api/quota/enforce", "/api/quota/check"] {
        let refused = server.post(path, &request("who")).expect(403);
        assert_eq!(refused["code"], "model_unpriced", "{path}");
    }
}

#[test]
fn prices_are_shown_compared_imported_and_checked_by_command() {
    let server = Server::start();
    let to = ["--server", server.url.as_str()];
    let run = |args: &[&str]| cli_ok(&[args, &to].concat());
    let file = server.beside("prices.toml");
    fs::write(&file, PRICES).unwrap();
    let file = file.to_str().unwrap();
    let shown = run(&["prices", "show", "gpt-4o-2024-08-06"]);
    assert!(shown.contains("openai/gpt-4o") && shown.contains("max_output_tokens: 16384"), "{shown}");
    assert!(run(&["prices", "diff", file]).contains("openai/gpt-x: added"));
    assert!(run(&["prices", "apply", file]).contains("nothing was changed"));
    assert!(run(&["prices", "list", "--provider", "anthropic"]).contains("claude"));
    assert!(run(&["prices", "apply", file, "--yes"]).contains("done"));
    let shown = run(&["prices", "list"]);
    assert!(shown.contains("gpt-x") && !shown.contains("claude"), "{shown}");
    assert!(run(&["prices", "show", "gpt-x-9"]).contains("200,000"));
    server.record(&json!([{"tenant_id": "acme", "event_type": "api_call", "model": "who", "input_tokens": 1}]));
    let mut check = command(&["prices", "check", "--server", &server.url]);
    let check = check.output().unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(3), "{text}");
    assert!(text.contains("who") && text.contains("2020-01-01"), "{text}");
    for whose in [&["usage", "acme", "--by-model"][..], &["usage", "--by-model"]] {
        let shown = run(whose);
        assert!(shown.contains("who") && shown.contains("unpriced"), "{shown}");
    }
    if let Some(catalogue) = data_file("prices/genai-prices-data.json") {
        let catalogue = catalogue.to_str().unwrap();
        assert!(run(&["prices", "import", catalogue, "--format", "genai-prices", "--yes"]).contains("done"));
        assert!(run(&["prices", "show", "claude-sonnet-4-5"]).contains("anthropic"));
    }
    // What was recorded without a price gets one, once its model has one.
    fs::write(file, PRICES.replace("gpt-x]", "who]").replace("\"gpt-*\"", "\"who\"")).unwrap();
    run(&["prices", "apply", file, "--yes"]);
    let today = midnight_days_ago(0).format("%Y-%m-%d").to_string();
    let reprice = ["prices", "reprice", "--from", &today, "--to", &today, "--tenant", "acme"];
    assert!(run(&reprice).contains("1 of 1 events would have another cost"));
    assert_eq!(dollars(&server.get("/api/usage/acme").expect(200)["usage"][0], "estimated_cost_usd"), None);
    assert!(run(&[&reprice[..], &["--yes"]].concat()).contains("done: 1 of 1"));
    assert_eq!(dollars(&server.get("/api/usage/acme").expect(200)["usage"][0], "estimated_cost_usd"), Some(0.00000015));
    server
        .post("/api/admin/prices/reprice", &json!({"from": "2026-11-02", "to": "2026-11-01"}))
        .expect_error(400, "from");
    server.get("/api/audit/events?event_type=events_repriced").expect(200)["events"][0].as_object().unwrap();
    let audit = server.get("/api/audit/events?event_type=prices_changed").expect(200);
    assert!(audit["events"].as_array().is_some_and(|events| !events.is_empty()), "{audit}");
}

#[test]
fn a_tenant_pays_its_own_prices_from_a_day_on_by_route_and_command() {
    let server = Server::start();
    put_prices(&server, "", PRICES);
    server.put_tenant("acme", &json!({}));
    let path = "/api/admin/tenants/acme/prices";
    assert_eq!(server.get(path).expect(200), json!({"tenant_id": "acme", "terms": []}));
    server.put(path, &json!({"rates": {"openai": {"gpt-x": {"input": 2}}}})).expect_error(400, "rates");
    server.put(path, &json!({"markup_bp": 12.5})).expect_error(400, "markup_bp");
    server.put(path, &json!({})).expect_error(400, "markup_bp");
    server.put("/api/admin/tenants/nobody/prices", &json!({"markup_bp": 1})).expect_error(404, "nobody");
    let set = server.put(path, &json!({"markup_bp": 1_250, "from": "2026-01-01"})).expect(200);
    assert_eq!((&set["terms"][0]["in_force"], &set["terms"][0]["markup_bp"]), (&json!(true), &json!(1_250)));
    let call = |id: &str| {
        json!({"tenant_id": "acme", "event_type": "api_call", "event_id": id, "model": "gpt-x", "input_tokens": 1_000,
            "output_tokens": 1_000})
    };
    server.record(&json!([call("marked")]));

    let to = ["--server", server.url.as_str()];
    let run = |args: &[&str]| cli_ok(&[args, &to].concat());
    let file = server.beside("acme.toml");
    fs::write(&file, "[prices.openai.gpt-x]\ninput = \"0.1\"\noutput = \"0.5\"\n").unwrap();
    let shown = run(&["tenants", "prices", "set", "acme", "--file", file.to_str().unwrap(), "--markup", "-10%"]);
    assert!(shown.contains("openai/gpt-x") && shown.contains("-10%"), "{shown}");
    server.record(&json!([call("own")]));
    assert!(run(&["prices", "show", "gpt-x-7", "--tenant", "acme"]).contains("acme has a price of its own"));
    assert!(run(&["prices", "show", "gpt-x-7"]).contains("0.15"));
    let day = run(&["plans", "list", "--model", "gpt-x", "--tenant", "acme", "--output-share", "0%"]);
    assert!(day.contains("0.001"), "10,000 tokens of a trial day x 0.1: {day}");
    run(&["tenants", "prices", "remove", "acme"]);
    server.record(&json!([call("list")]));
    let cost = |id: &str| server.get(&format!("/api/usage/acme/events/{id}")).expect(200)["cost"].clone();
    for (id, amount, layer, points, before) in [
        ("marked", 0.000_843_75, "list_with_markup", 1_250, 0.000_75),
        ("own", 0.000_6, "own", 0, 0.000_6),
        ("list", 0.000_75, "list", 0, 0.000_75),
    ] {
        let cost = cost(id);
        assert_eq!((&cost["amount"], &cost["layer"]), (&json!(amount), &json!(layer)), "{cost}");
        assert_eq!((&cost["markup_bp"], &cost["before_markup"]), (&json!(points), &json!(before)), "{cost}");
    }
    assert_eq!(server.get("/api/admin/tenants/acme").expect(200)["price_terms"], json!(3));
    let export = server.get("/api/admin/tenants/acme/export").text;
    assert_eq!(export.matches("\"kind\":\"price_terms\"").count(), 3, "{export}");
    let audit = server.get("/api/audit/events?entity_type=tenant_prices").expect(200);
    assert_eq!(audit["events"].as_array().unwrap().len(), 3, "{audit}");
    let key =
        server.post("/api/admin/keys", &json!({"name": "s", "role": "support", "tenants": ["other"]})).expect(201);
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    assert_eq!(server.send("GET", path, &[("authorization", bearer.as_str())], None).status, 404, "a foreign tenant's");
}

/// Imports a trace as calls of one model, and gives the cost of its tenant.
fn cost_of_trace(file: &str, format: &str, tenant: &str, prices: &str) -> (u64, Option<f64>) {
    let mut server = Server::start();
    let text = format!("[providers.here]\nspeaks_for = [\"m\"]\n[prices.here.m]\n{prices}");
    put_prices(&server, "", &text);
    let start = midnight_days_ago(3).format("%Y-%m-%d").to_string();
    let url = server.url.clone();
    cli_ok(&[
        "import",
        file,
        "--format",
        format,
        "--model",
        "m",
        "--tenant",
        tenant,
        "--start-at",
        &start,
        "--server",
        &url,
    ]);
    let sum = |server: &Server| {
        let body = server.get(&format!("/api/usage/{tenant}?period=monthly&group_by=model")).expect(200);
        let rows = usage_rows(&body);
        let [row] = rows.as_slice() else { panic!("{body}") };
        assert_eq!(models(row), [(json!("m"), count(row, "api_calls_total"))]);
        assert_eq!(row["by_model"][0]["estimated_cost_usd"], row["estimated_cost_usd"]);
        assert_eq!(count(row, "unpriced_events"), 0);
        (count(row, "api_calls_total"), dollars(row, "estimated_cost_usd"))
    };
    let as_imported = sum(&server);
    server.aggregate();
    assert_eq!(sum(&server), as_imported, "aggregated");
    server.restart();
    assert_eq!(sum(&server), as_imported, "restarted");
    as_imported
}

#[test]
fn the_azure_trace_costs_what_was_reckoned_apart() {
    let Some(file) = data_file("azure/AzureLLMInferenceTrace_conv.csv") else { return };
    let prices = "input = \"0.15\"\noutput = \"0.60\"\n";
    let cost = cost_of_trace(file.to_str().unwrap(), "azure-llm", "azure-conv", prices);
    assert_eq!(cost, (19_366, Some(5.8074795)));
}

#[test]
fn the_mooncake_trace_costs_what_was_reckoned_apart_with_its_cached_tokens() {
    let Some(file) = data_file("mooncake/conversation_trace_cached.csv") else { return };
    let prices = "input = \"2.50\"\ncached_input = \"1.25\"\noutput = \"10\"\n";
    let cost = cost_of_trace(file.to_str().unwrap(), "mooncake", "mooncake", prices);
    assert_eq!(cost, (12_031, Some(335.58202375)));
}

#[test]
fn a_full_day_of_a_plan_is_priced_by_the_book_in_force() {
    let server = Server::start();
    let list = |more: &[&str]| cli_ok(&[&["plans", "list", "--server", &server.url], more].concat());
    let told: Value = serde_json::from_str(&list(&["--model", "gpt-4o-mini", "--json"])).unwrap();
    let days = told["full_day"]["plans"].as_array().unwrap();
    let of = |plan: &str| days.iter().find(|day| day["plan"] == plan).unwrap();
    // 8,000 x 0.15 and 2,000 x 0.60 dollars for a million.
    assert_eq!((&of("trial")["input_tokens"], &of("trial")["cost_usd"]), (&json!(8_000), &json!("0.0024")));
    assert_eq!(of("pro")["cost_usd"], json!("0.12"));
    assert_eq!((&of("enterprise")["tokens_per_day"], &of("enterprise")["cost_usd"]), (&Value::Null, &Value::Null));
    assert!(told["plans"].is_array());
    let shown = list(&["--model", "gpt-4o-mini", "--output-share", "0%"]);
    let enterprise = shown.lines().rfind(|line| line.starts_with("enterprise")).unwrap();
    assert!(shown.contains("0.075") && enterprise.contains("unlimited"), "{shown}");
    let output = command(&["plans", "list", "--server", &server.url, "--model", "no-such-model"]).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no-such-model"));
}
