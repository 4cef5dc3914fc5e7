//! No budget is passed: what upstream serves never adds up to more than the limit.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::support::upstream::{Reply, Upstream, completion, completion_stream};
use super::{chat, chat_body, door, tokens};

#[test]
fn sixty_four_clients_never_get_more_served_than_the_budget() {
    let served = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&served);
    let upstream = Upstream::start(move |asked| {
        // As greedy as it may be: the whole cap, and a prompt of 12.
        let body = asked.json();
        let cap = body["max_completion_tokens"].as_u64().expect("the door sends a cap");
        sum.fetch_add(12 + cap, Ordering::Relaxed);
        match body["stream"] == json!(true) {
            true => Reply::Pieces(vec![completion_stream(&["a"], Some((12, cap))).into_bytes()]),
            false => Reply::json(&completion("a", 12, cap)),
        }
    });
    let server = door(&upstream, "");
    let limits = json!({"limits": [{"quota_type": "tokens", "window": "day", "limit": 20_000}]});
    server.put("/api/admin/plans/budget", &limits).expect(200);
    server.put_tenant("shared", &json!({"plan": "budget"}));
    let (granted, denied, barrier) = (AtomicU64::new(0), AtomicU64::new(0), Barrier::new(64));
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (server, granted, denied, barrier) = (&server, &granted, &denied, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..4 {
                    let stream = if (client + round) % 2 == 0 { r#","stream":true"# } else { "" };
                    match chat(server, "shared", stream).status {
                        200 => granted.fetch_add(1, Ordering::Relaxed),
                        429 => denied.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                }
            });
        }
    });
    let (granted, denied, served) = (granted.into_inner(), denied.into_inner(), served.load(Ordering::Relaxed));
    assert!(granted > 10 && denied > 10, "{granted} granted, {denied} denied");
    assert!(served <= 20_000, "{served} tokens were served of 20,000");
    let (used, held) = super::support::wait_for("all is settled", 20, || {
        Some(tokens(&server, "shared")).filter(|(_, held)| *held == 0)
    });
    assert_eq!((used, held), (served, 0), "what was served is what was recorded");
}

#[test]
fn what_is_reserved_is_the_prompt_and_the_cap_and_the_cap_is_sent() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 12, 1)));
    let server = door(&upstream, "[upstream.max_output_tokens]\n\"gpt-4o-mini\" = 900\n");
    let sent = |place: usize| upstream.asked()[place].json();
    chat(&server, "a", "").expect(200);
    assert_eq!(sent(0)["max_completion_tokens"], json!(900), "the model's maximum is below the default of 1,024");
    chat(&server, "a", r#","max_tokens":7"#).expect(200);
    assert_eq!((&sent(1)["max_tokens"], sent(1).get("max_completion_tokens")), (&json!(7), None));
    // Each of n answers may be as long as the cap.
    let error = chat(&server, "a", r#","max_tokens":800,"n":20"#).expect(429);
    assert_eq!(error["error"]["code"], json!("insufficient_quota"), "{error}");
    assert_eq!(chat(&server, "a", r#","max_tokens":800,"n":8"#).status, 200);
    // What is left decides where nothing is named.
    server.put("/api/admin/tenants/a/quotas/tokens", &json!({"limit": 500, "reason": "small"})).expect(200);
    chat(&server, "a", "").expect(200);
    let cap = sent(3)["max_completion_tokens"].as_u64().unwrap();
    assert!((300..460).contains(&cap), "{cap} of about 460 left, less the prompt's bound");
    assert_eq!(upstream.asked().len(), 4);
    assert!(chat_body("").len() < 200);
}

#[test]
fn what_a_model_gives_at_most_bounds_the_cap_by_the_operator_s_word_or_the_price_book_s() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 12, 1)));
    let mut server = super::support::Server::stopped();
    let path = server.beside("metergate.toml");
    let maxima = "[upstream.max_output_tokens]\n\"gpt-4\" = 900\n";
    std::fs::write(&path, format!("default_output_tokens = 50000\n{}", upstream.settings(maxima))).unwrap();
    server.flags = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
    server.start_again();
    server.put("/api/admin/plans/wide", &json!({"limits": []})).expect(200);
    server.put_tenant("a", &json!({"plan": "wide"}));
    let sent = |model: &str, given: &str| {
        let body = chat_body(given).replace("gpt-4o-mini", model);
        super::call(&server, "a", "chat/completions", &body).expect(200);
        upstream.asked().last().unwrap().json()["max_completion_tokens"].as_u64()
    };
    assert_eq!(sent("gpt-4o-mini", ""), Some(16_384), "the price book's");
    assert_eq!(sent("gpt-4o-mini-2024-07-18", ""), Some(16_384), "by another of its names");
    assert_eq!(sent("gpt-4", ""), Some(900), "the operator's");
    assert_eq!(sent("gpt-none-such", ""), Some(50_000), "nobody's");
    // What a caller names is for the upstream to refuse, and is reserved.
    assert_eq!(sent("gpt-4o-mini", r#","max_completion_tokens":20000"#), Some(20_000));
    let shown = server.get("/api/admin/prices?model=gpt-4o-mini&provider=azure").expect(200);
    assert_eq!((&shown["max_output_tokens"], &shown["context_tokens"]), (&json!(16_384), &json!(128_000)), "{shown}");
}

#[test]
fn a_budget_in_dollars_holds_by_the_price_book_and_an_unpriced_model_is_refused_there() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 1_000, 500)));
    let server = door(&upstream, "");
    let limits = json!({"limits": [{"quota_type": "cost", "window": "month", "limit": "0.001"}]});
    server.put("/api/admin/plans/cents", &limits).expect(200);
    server.put_tenant("paid", &json!({"plan": "cents"}));
    // gpt-4o-mini: 0.15, cached 0.075, and 0.60 dollars a million.
    assert_eq!(chat(&server, "paid", r#","max_tokens":500"#).status, 200);
    let event = super::only_event(&server, "paid");
    assert_eq!(
        (&event["provider"], &event["cost_usd"].to_string().replace('"', "")),
        (&json!("openai"), &"0.0004497".to_owned()),
        "{event}"
    );
    let denied = chat(&server, "paid", r#","max_tokens":1000"#);
    let error = denied.expect(429)["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("US dollars"), "{error}");
    let unpriced = chat_body("").replace("gpt-4o-mini", "gpt-none-such");
    let error = super::call(&server, "paid", "chat/completions", &unpriced).expect(403)["error"].clone();
    assert_eq!((&error["code"], &error["param"]), (&json!("model_unpriced"), &json!("model")));
    assert_eq!(super::call(&server, "unlimited", "chat/completions", &unpriced).status, 200);
}

#[test]
fn a_budget_in_dollars_holds_by_what_the_tenant_itself_pays() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 1_000, 500)));
    let server = door(&upstream, "");
    let limits = json!({"limits": [{"quota_type": "cost", "window": "month", "limit": "0.001"}]});
    server.put("/api/admin/plans/cents", &limits).expect(200);
    let prices = |tenant: &str, prices: serde_json::Value| {
        server.put_tenant(tenant, &json!({"plan": "cents"}));
        server.put(&format!("/api/admin/tenants/{tenant}/prices"), &prices).expect(200);
    };
    // A tenth of the list's: 10,000 tokens of output are 0.0006 dollars instead of 0.006.
    let rates = json!({"input": "0.015", "cached_input": "0.0075", "output": "0.06"});
    prices("cheap", json!({"rates": {"openai": {"gpt-4o-mini": rates, "gpt-none-such": rates}}}));
    prices("dear", json!({"markup_bp": 90_000}));
    assert_eq!(chat(&server, "cheap", r#","max_tokens":10000"#).status, 200);
    let event = super::only_event(&server, "cheap");
    assert_eq!(event["cost_usd"].to_string().replace('"', ""), "0.00004497", "{event}");
    let only_own = chat_body(r#","max_tokens":500"#).replace("gpt-4o-mini", "gpt-none-such");
    assert_eq!(
        super::call(&server, "cheap", "chat/completions", &only_own).status,
        200,
        "it has a price for this tenant"
    );
    // Ten times the list's: 500 tokens of output are 0.003.
    chat(&server, "dear", r#","max_tokens":500"#).expect(429);
    assert_eq!(chat(&server, "dear", r#","max_tokens":50"#).status, 200);
}

#[test]
fn without_a_cap_the_overage_is_recorded_in_full() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 12, 5_000)));
    let server = super::support::Server::stopped();
    let path = server.beside("metergate.toml");
    std::fs::write(&path, format!("cap_output = false\n{}", upstream.settings(""))).unwrap();
    let mut server = server;
    server.flags = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
    server.start_again();
    chat(&server, "over", "").expect(200);
    assert_eq!(upstream.asked()[0].json().get("max_completion_tokens"), None);
    super::only_event(&server, "over");
    assert_eq!(tokens(&server, "over"), (5_012, 0));
}

#[test]
fn an_upstream_that_heeds_only_the_older_name_of_the_cap_is_sent_the_caller_s_under_it() {
    let upstream = Upstream::start(|_| Reply::json(&completion("a", 12, 1)));
    let more = format!(
        "[[upstream]]\nname = \"own\"\nbase_url = \"http://{}/v1\"\nprovider = \"here\"\nmodels = [\"m\"]\n",
        upstream.address
    );
    let server = door(&upstream, &more);
    for (given, cap) in [
        (r#","max_completion_tokens":7"#, 7),
        (r#","max_completion_tokens":7,"max_tokens":null"#, 7),
        (r#","max_completion_tokens":9,"max_tokens":3"#, 3),
        ("", 1_024),
    ] {
        let body = chat_body(given).replace("gpt-4o-mini", "m");
        super::call(&server, "acme", "chat/completions", &body).expect(200);
        assert_eq!(upstream.asked().last().unwrap().json()["max_tokens"], json!(cap), "{given}");
    }
}

#[test]
fn what_the_upstream_calls_its_model_and_a_price_that_does_not_fit_pass_no_budget_in_dollars() {
    let upstream = Upstream::start(|_| {
        let mut answer = completion("a", 1_000, 500);
        answer["model"] = json!("renamed");
        Reply::json(&answer)
    });
    let more = format!(
        "[[upstream]]\nname = \"own\"\nbase_url = \"http://{}/v1\"\nprovider = \"here\"\nmodels = [\"priced\", \"half\"]\n",
        upstream.address
    );
    let server = door(&upstream, &more);
    let prices =
        "[providers.here]\n[prices.here.priced]\ninput = \"1\"\noutput = \"2\"\n[prices.here.half]\ninput = \"1\"\n";
    let bearer = format!("Bearer {}", super::support::ADMIN_KEY);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/toml")];
    server.send("PUT", "/api/admin/prices", &headers, Some(prices.as_bytes())).expect(200);
    let limits = json!({"limits": [{"quota_type": "cost", "window": "month", "limit": "1"}]});
    server.put("/api/admin/plans/dollar", &limits).expect(200);
    server.put_tenant("paid", &json!({"plan": "dollar"}));
    let ask = |model: &str, tenant: &str| {
        let body = chat_body("").replace("gpt-4o-mini", model);
        super::call(&server, tenant, "chat/completions", &body)
    };
    assert_eq!(ask("priced", "paid").status, 200);
    let event = super::only_event(&server, "paid");
    assert_eq!(event["model"], json!("priced"), "{event}");
    assert!(!event["cost_usd"].is_null(), "{event}");
    assert_eq!(ask("half", "paid").expect(403)["error"]["code"], json!("model_unpriced"));
    assert_eq!(ask("half", "free").status, 200);
}
