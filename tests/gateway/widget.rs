//! The chat widget, as it is documented.

use serde_json::{Value, json};

use super::support::upstream::{Reply, Upstream, completion, completion_stream};
use super::support::{Answer, Server};
use super::{door, only_event, tokens};

const SETTINGS: &str = "[widget]\nmodel = \"gpt-4o-mini\"\norigins = \"https://shop.example, https://x.example\"\nsystem_prompt = \"Be kind.\"\n";

fn widget(upstream: &Upstream) -> Server {
    door(upstream, SETTINGS)
}

fn session(server: &Server, tenant: &str) -> String {
    let body = server.post("/api/widget/session", &json!({"tenantId": tenant, "visitorId": "v-1"})).expect(200);
    assert!(body["expiresAt"].is_string());
    body["sessionId"].as_str().unwrap().to_owned()
}

fn say(server: &Server, body: &Value, query: &str, origin: Option<&str>) -> Answer {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(origin.map(|origin| ("origin", origin)));
    server.send("POST", &format!("/api/widget/chat{query}"), &headers, Some(body.to_string().as_bytes()))
}

fn audited(server: &Server, tenant: &str) -> Vec<String> {
    let body = server.get(&format!("/api/audit/events?tenant_id={tenant}")).expect(200);
    let mut types: Vec<String> = body["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_type"].as_str().unwrap().to_owned())
        .collect();
    types.retain(|name| name.starts_with("chat_") || name == "api_error");
    types.reverse();
    types
}

#[test]
fn a_message_is_answered_recorded_and_audited_without_its_words() {
    let upstream = Upstream::start(|asked| match asked.json()["stream"] == json!(true) {
        true => Reply::Pieces(vec![completion_stream(&["Good", " day", " to you"], Some((20, 7))).into_bytes()]),
        false => {
            let mut body = completion("Good day to you", 20, 7);
            body["citations"] = json!(["https://a.example"]);
            Reply::json(&body)
        }
    });
    let server = widget(&upstream);
    let id = session(&server, "acme");
    assert!(id.len() >= 32, "at least 128 bits");
    let message = json!({"sessionId": id, "message": "An unusual greeting", "responseCharacterLimit": 8});
    let answer = say(&server, &message, "", Some("https://shop.example"));
    let body = answer.expect(200);
    assert_eq!((&body["reply"], &body["sources"]), (&json!("Good day"), &json!(["https://a.example"])));
    assert_eq!(body["metadata"]["tokens_used"], json!(27));
    assert_eq!(answer.headers["access-control-allow-origin"], "https://shop.example");
    let event = only_event(&server, "acme");
    assert_eq!((&event["tokens_consumed"], &event["event_type"]), (&json!(27), &json!("chat_message")), "{event}");
    assert!(event["chat_session_id"].is_string() && event["chat_session_id"] != json!(id), "the session is a secret");
    let asked = upstream.asked()[0].json();
    assert_eq!(asked["messages"][0]["content"], json!("Be kind.\nAnswer in at most 8 characters."));
    assert_eq!(asked["messages"][1], json!({"role": "user", "content": "An unusual greeting"}));

    let message = json!({"sessionId": id, "message": "An unusual greeting", "sources": [{"doc": 1}]});
    let answer = say(&server, &message, "?stream=true", None);
    assert_eq!(answer.status, 200);
    let told: Vec<Value> = answer
        .text
        .split("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    let said: String = told.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, "Good day to you");
    let done = told.last().unwrap();
    assert_eq!((&done["type"], &done["sources"]), (&json!("done"), &json!([{"doc": 1}])), "{done}");
    assert_eq!(done["metadata"]["tokens_used"], json!(27));
    let types = super::support::wait_for("all is audited", 5, || {
        Some(audited(&server, "acme")).filter(|types| types.len() == 5)
    });
    let (received, sent) = ("chat_message_received", "chat_response_sent");
    assert_eq!(types, ["chat_session_created", received, sent, received, sent]);
    for file in std::fs::read_dir(server.data_dir()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["unusual greeting", "Good day", &id] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
    assert!(!server.log_text().contains("unusual greeting"));
}

#[test]
fn what_is_refused_is_refused_in_the_documented_order() {
    let upstream = Upstream::start(|asked| match asked.json()["messages"][1]["content"] == json!("fail") {
        true => Reply::Whole(500, "content-type: application/json\r\n".to_owned(), b"{}".to_vec()),
        false => Reply::json(&completion("ok", 20, 7)),
    });
    let server = widget(&upstream);
    let message = |id: &str, text: &str| json!({"sessionId": id, "message": text});
    let wrong = say(&server, &message("short", "x"), "", None);
    wrong.expect_error(400, "sessionId");
    say(&server, &message("0123456789abcdef", "x"), "", None).expect_error(404, "unknown");
    let id = session(&server, "halted");
    server.put_tenant("halted", &json!({"status": "suspended"}));
    say(&server, &message(&id, "x"), "", None).expect_error(403, "suspended");

    let id = session(&server, "fails");
    say(&server, &message(&id, "fail"), "", None).expect_error(502, "answer");
    assert_eq!(only_event(&server, "fails")["api_status_code"], json!(500));
    super::support::wait_for("it is audited", 5, || {
        audited(&server, "fails").contains(&"api_error".to_owned()).then_some(())
    });

    server.put_tenant("poor", &json!({}));
    server.put("/api/admin/tenants/poor/quotas/tokens", &json!({"limit": 10, "reason": "small"})).expect(200);
    let id = session(&server, "poor");
    let denied = say(&server, &message(&id, "x"), "", None).expect(429);
    assert_eq!(denied["error"], json!("Quota exceeded. Please upgrade your plan."));
    assert_eq!(denied["quota_remaining"], json!(10));
    assert_eq!(tokens(&server, "poor"), (0, 0));
    for _ in 0..19 {
        say(&server, &message(&id, "x"), "", None);
    }
    let rate = say(&server, &message(&id, "x"), "", None);
    assert_eq!(rate.expect(429)["error"], json!("Rate limit exceeded"));

    let foreign = say(&server, &message(&id, "x"), "", Some("https://evil.example"));
    foreign.expect_error(403, "origin");
    assert_eq!(foreign.headers.get("access-control-allow-origin"), None);
    let ask = |origin| server.send("OPTIONS", "/api/widget/chat", &[("origin", origin)], None);
    assert_eq!((ask("https://x.example").status, ask("https://evil.example").status), (204, 403));
    assert_eq!(server.send("POST", "/api/widget/session", &[], None).status, 401);
}
