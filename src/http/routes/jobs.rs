//! Jobs run by hand: aggregation, clean-up, verification.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::error::ApiError;
use super::super::params::{Params, read_date};
use super::super::wire::Fault;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::blocking;
use crate::domain::time::Timestamp;

/// The most differences that `verify` lists; their number is always whole.
const DIFFERENCES_LISTED_MAX: usize = 1_000;

/// `{job, from?, to?}`: runs it and says what it did.
pub async fn run(State(state): State<HttpState>, uri: Uri, JsonBody(body): JsonBody) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let job: String = object.value("job")?.ok_or_else(|| object.missing("job"))?;
    let (from, to) = (date(&mut object, "from", false)?, date(&mut object, "to", true)?);
    object.finish("job, from and to")?;

    let tracker = state.tracker.clone();
    match job.as_str() {
        "aggregate_usage_metrics" => {
            let range = match (from, to) {
                (None, None) => None,
                (Some(from), to) => Some((from, to.unwrap_or_else(|| state.engine.now()))),
                (None, Some(_)) => return Err(Fault::field(INVALID_REQUEST, "from", "is required beside to").into()),
            };
            if range.is_some_and(|(from, to)| from >= to) {
                return Err(Fault::field(INVALID_REQUEST, "from", "must be before to").into());
            }
            let done = blocking(move || tracker.aggregate_usage_metrics(range)).await??;
            Ok(Json(json!({ "job": job, "rows_written": done.rows_written, "hours_skipped": done.hours_skipped })))
        }
        "cleanup_old_realtime_events" => {
            if from.is_some() || to.is_some() {
                return Err(Fault::field(INVALID_REQUEST, "from", "and to belong to aggregate_usage_metrics").into());
            }
            let done = blocking(move || tracker.cleanup_old_realtime_events()).await??;
            Ok(Json(json!({ "job": job, "rows_removed": done.rows_removed, "cut": done.cut.to_string() })))
        }
        "cleanup_old_audit_events" => {
            if from.is_some() || to.is_some() {
                return Err(Fault::field(INVALID_REQUEST, "from", "and to belong to aggregate_usage_metrics").into());
            }
            let audit = state.audit.clone();
            let done = blocking(move || audit.cleanup_old_audit_events()).await??;
            Ok(Json(json!({ "job": job, "rows_removed": done.rows_removed, "cut": done.cut.to_string() })))
        }
        _ => {
            let known = "is none of aggregate_usage_metrics, cleanup_old_realtime_events and cleanup_old_audit_events";
            Err(Fault::field("unknown_job", "job", known).into())
        }
    }
}

/// Recomputes and reports.
pub async fn verify(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let tracker = state.tracker.clone();
    let found = blocking(move || tracker.verify()).await??;
    let listed = found.differences.iter().take(DIFFERENCES_LISTED_MAX);
    let listed: Vec<Value> =
        listed.map(|one| json!({ "what": one.what, "stored": one.stored, "recomputed": one.recomputed })).collect();
    Ok(Json(json!({
        "events": found.events,
        "rows": found.rows,
        "differences": listed,
        "differences_total": found.differences.len(),
    })))
}

fn date(object: &mut Object<'_>, name: &'static str, last_day_included: bool) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = object.value::<String>(name)? else { return Ok(None) };
    let read = read_date(&text, last_day_included);
    read.map(Some)
        .ok_or_else(|| Fault::field(INVALID_REQUEST, name, "is neither a day (2026-11-24) nor an RFC 3339 time"))
}
