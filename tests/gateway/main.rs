//! The OpenAI-compatible door against a mock upstream: usage is exact, streams are untouched, no budget is passed, and a
//! call is settled however it ends.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod budget;
mod endings;
mod headers;
mod passing;
#[path = "../support/mod.rs"]
mod support;
mod widget;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use support::upstream::Upstream;
use support::{ADMIN_KEY, Answer, Server, wait_for};

/// A server whose door leads to this mock.
pub fn door(upstream: &Upstream, more: &str) -> Server {
    let mut server = Server::stopped();
    let path = server.beside("metergate.toml");
    std::fs::write(&path, upstream.settings(more)).unwrap();
    server.flags = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
    server.start_again();
    server
}

/// Calls an endpoint for a tenant with the admin key.
pub fn call(server: &Server, tenant: &str, endpoint: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {ADMIN_KEY}");
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-metergate-tenant", tenant)];
    server.send("POST", &format!("/v1/{endpoint}"), &headers, Some(body.as_bytes()))
}

/// A chat completion of one message.
pub fn chat(server: &Server, tenant: &str, more: &str) -> Answer {
    call(server, tenant, "chat/completions", &chat_body(more))
}

/// The body of a chat completion of one message, with these fields more.
pub fn chat_body(more: &str) -> String {
    format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Say this is a test"}}]{more}}}"#)
}

/// The tenant's events once there are so many, newest first.
#[track_caller]
pub fn events(server: &Server, tenant: &str, count: usize) -> Vec<Value> {
    wait_for("the events are recorded", 20, || {
        let answer = server.get(&format!("/api/usage/{tenant}/events"));
        // Before its first call the tenant is unknown.
        let events = (answer.status == 200).then(|| answer.json()["events"].as_array().cloned().unwrap())?;
        (events.len() >= count).then_some(events)
    })
}

/// The one event of a tenant.
#[track_caller]
pub fn only_event(server: &Server, tenant: &str) -> Value {
    let mut events = events(server, tenant, 1);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

/// Used and held of the tokens of the day.
#[track_caller]
pub fn tokens(server: &Server, tenant: &str) -> (u64, u64) {
    let quota = server.quota(tenant, "tokens");
    (support::count(&quota, "used"), support::count(&quota, "held"))
}

/// A connection that has sent a call and read nothing yet, so that a test can hang up on it.
pub fn begin(server: &Server, tenant: &str, body: &str) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\n\
         x-metergate-tenant: {tenant}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream
}

/// Reads until the answer holds this text; gives what was read.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
    while !String::from_utf8_lossy(&read).contains(text) {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "the answer ended: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[test]
fn a_key_of_one_tenant_is_the_tenant_and_others_name_it_in_the_shape_openai_s_clients_read() {
    let upstream = Upstream::start(|_| support::upstream::Reply::json(&support::upstream::completion("ok", 9, 3)));
    let server = door(&upstream, "");
    let key = |name: &str, role: &str, tenants: &[&str]| {
        let mut body = json!({"name": name, "role": role});
        if !tenants.is_empty() {
            body["tenants"] = json!(tenants);
        }
        server.post("/api/admin/keys", &body).expect(201)["key"].as_str().unwrap().to_owned()
    };
    let ask = |key: &str, tenant: Option<&str>| {
        let bearer = format!("Bearer {key}");
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        headers.extend(tenant.map(|tenant| ("x-metergate-tenant", tenant)));
        server.send("POST", "/v1/chat/completions", &headers, Some(chat_body("").as_bytes()))
    };
    let own = key("own", "service", &["acme"]);
    let two = key("two", "service", &["acme", "other"]);
    let viewer = key("viewer", "viewer", &["acme"]);
    assert_eq!(ask(&own, None).status, 200);
    assert_eq!(ask(&two, Some("other")).status, 200);
    assert_eq!(ask(ADMIN_KEY, Some("anybody")).status, 200);
    for tenant in ["acme", "other", "anybody"] {
        assert_eq!(only_event(&server, tenant)["tokens_consumed"], json!(12));
    }
    for (key, tenant, status, code, param) in [
        ("wrong", None, 401, "invalid_api_key", Value::Null),
        (viewer.as_str(), None, 403, "INSUFFICIENT_PERMISSIONS", Value::Null),
        (own.as_str(), Some("other"), 404, "tenant_unknown", Value::Null),
        (two.as_str(), None, 400, "tenant_required", json!("x-metergate-tenant")),
        (ADMIN_KEY, None, 400, "tenant_required", json!("x-metergate-tenant")),
    ] {
        let error = &ask(key, tenant).expect(status)["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{error}");
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
    }
    assert_eq!(upstream.asked().len(), 3, "what is refused is not forwarded");
}
