//! Every route with no key, a wrong, a revoked and an expired one, and with every role for its own and for a foreign
//! tenant; and the life of a key.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod every_route;
mod foreign;
mod life;
mod pace;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};

use support::{Answer, Server};

/// A key that was just made.
#[derive(Clone)]
pub struct Made {
    /// Its id, which is no secret.
    pub id: String,
    /// What its holder shows.
    pub secret: String,
}

/// Makes a key for all tenants, or for some.
#[track_caller]
pub fn make_key(server: &Server, name: &str, role: &str, tenants: &[&str]) -> Made {
    let mut body = json!({"name": name, "role": role});
    if !tenants.is_empty() {
        body["tenants"] = json!(tenants);
    }
    made(&server.post("/api/admin/keys", &body).expect(201))
}

/// What an answer says of a key that it made.
pub fn made(answer: &Value) -> Made {
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{name} in {answer}")).to_owned();
    let made = Made { id: text("key_id"), secret: text("key") };
    assert!(made.secret.starts_with("mg_") && made.secret.len() == 67, "256 bits");
    made
}

/// Replaces a key at once; gives the new one.
#[track_caller]
pub fn rotate(server: &Server, key: &Made, overlap_seconds: u64) -> Made {
    let path = format!("/api/admin/keys/{}/rotate", key.id);
    made(&server.post(&path, &json!({"overlap_seconds": overlap_seconds})).expect(201))
}

/// Sends JSON, or nothing, with this key.
pub fn ask(server: &Server, secret: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let bearer = secret.map(|secret| format!("Bearer {secret}"));
    let mut headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    let bytes = body.map(|body| body.to_string().into_bytes());
    if bytes.is_some() {
        headers.push(("content-type", "application/json"));
    }
    server.send(method, path, &headers, bytes.as_deref())
}

/// Every audit record of these filters, over all pages.
pub fn audited(server: &Server, filters: &str) -> Vec<Value> {
    let (mut events, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = server.get(&format!("/api/audit/events?limit=1000&{filters}{cursor}")).expect(200);
        events.append(page["events"].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return events,
        }
    }
}

/// A sample of `/metrics`.
#[track_caller]
pub fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}
