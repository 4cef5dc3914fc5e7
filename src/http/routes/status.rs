//! The server on one screen: what it is, whether it is well, what it holds.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::wire::quota::LimitJson;
use super::blocking;
use super::jobs::{alarms_json, status_json};
use crate::domain::time::PeriodType;

/// `{version, uptime_seconds, ready, tenants, events_today, ..., alarms, jobs}`.
pub async fn show(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    blocking(move || {
        let now = state.engine.now();
        let today = PeriodType::Daily.containing(now);
        let stats = state.tracker.get_multi_tenant_stats(PeriodType::Daily, today.start(), today.end())?;
        let writer = state.engine.writer();
        let shared = writer.shared();
        Ok(Json(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": state.started.elapsed().as_secs(),
            "timestamp": now.to_string(),
            "ready": writer.failure().is_none(),
            "store_reopened": writer.health().reopened.get(),
            "store_free_bytes": shared.store.free_bytes(),
            "tenants": shared.counters.len(),
            "events_today": stats.total_api_calls,
            "unpriced_events_today": stats.unpriced_events,
            "format_version": crate::store::FORMAT_VERSION,
            "unfiled_generations": shared.live.read().closed_generations(),
            "store_file_bytes": shared.store.file_bytes(),
            "platform": shared.platform_status().iter().map(LimitJson::from).collect::<Vec<_>>(),
            "alarms": alarms_json(&state),
            "jobs": status_json(&state)?,
        })))
    })
    .await?
}
