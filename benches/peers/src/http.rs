//! An empty handler on the server stack that metergate stands on: it reads the same JSON and gives the same answers, and
//! does nothing between.

use std::time::Duration;

use axum::extract::Path;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::Arguments;

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is parsed as a handler would")]
struct Event {
    tenant_id: String,
    event_type: String,
    event_id: Option<String>,
    event_timestamp: Option<String>,
    api_method: Option<String>,
    api_endpoint: Option<String>,
    api_status_code: Option<u16>,
    api_response_time_ms: Option<u32>,
    model: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is parsed as a handler would")]
struct Item {
    quota_type: String,
    amount: u64,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is parsed as a handler would")]
struct Ask {
    tenant_id: String,
    quota_type: Option<String>,
    amount: Option<u64>,
    items: Option<Vec<Item>>,
}

fn accepted(number: usize) -> Json<Value> {
    Json(json!({ "accepted": number, "duplicates": 0, "rejected": [] }))
}

async fn event(Json(event): Json<Event>) -> Json<Value> {
    std::hint::black_box(event);
    accepted(1)
}

async fn events(Json(events): Json<Vec<Event>>) -> Json<Value> {
    accepted(events.len())
}

async fn check(Json(ask): Json<Ask>) -> Json<Value> {
    std::hint::black_box(ask);
    Json(json!({ "allowed": true, "tokens_remaining": 10_000, "quota_limit": 10_000 }))
}

async fn reserve(Json(ask): Json<Ask>) -> Json<Value> {
    std::hint::black_box(ask);
    Json(json!({
        "allowed": true, "reservation_id": "0193a1b2-0000-7000-8000-000000000000",
        "expires_at": "2026-11-24T12:01:00Z",
        "results": { "tokens": { "allowed": true, "tokens_remaining": 10_000, "quota_limit": 10_000 } },
    }))
}

async fn settle(Path(id): Path<String>, Json(events): Json<Value>) -> Json<Value> {
    std::hint::black_box((id, events));
    accepted(1)
}

/// Says where it listens, then serves until it is killed.
pub fn serve(_: &Arguments) -> Value {
    let router = Router::new()
        .route("/api/usage/events", post(event))
        .route("/batch/api/usage/events", post(events))
        .route("/api/quota/check", post(check))
        .route("/api/quota/reserve", post(reserve))
        .route("/api/quota/reservations/{id}/settle", post(settle));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("listening on http://{}", listener.local_addr().expect("an address"));
        axum::serve(listener, router).await.expect("a server");
        tokio::time::sleep(Duration::ZERO).await;
    });
    Value::Null
}
