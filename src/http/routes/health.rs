//! Health: whether the process answers, and whether writes are possible.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::error::ApiError;

/// 200 as long as the process answers.
pub async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// 200 when writes are possible, else 503; why not is in the log, since this door is open to all.
pub async fn ready(State(state): State<HttpState>) -> Result<Json<Value>, ApiError> {
    match state.engine.is_ready() {
        Ok(()) => Ok(Json(json!({ "status": "ready" }))),
        Err(cause) => {
            tracing::warn!(%cause, "not ready");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "writes are not possible at the moment"))
        }
    }
}
