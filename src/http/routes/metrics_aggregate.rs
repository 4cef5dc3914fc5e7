//! The cron job's door: aggregation, then the clean-ups; and whether it works.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::error::ApiError;
use super::super::params::Params;
use super::blocking;
use crate::domain::time::{MICROS_PER_DAY, PeriodType};
use crate::jobs::{JobError, JobName};

/// Aggregates what is not yet folded, then removes what retention allows. 500 says which step failed.
pub async fn run(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let jobs = state.jobs.clone();
    let (aggregated, cleaned, audit_cleaned) = blocking(move || {
        let run = |job: JobName| jobs.run(job, None).map_err(|error| failed(job.name(), &error));
        Ok::<_, ApiError>((
            run(JobName::AggregateUsageMetrics)?,
            run(JobName::CleanupOldRealtimeEvents)?,
            run(JobName::CleanupOldAuditEvents)?,
        ))
    })
    .await??;
    Ok(Json(json!({
        "success": true,
        "message": "Usage metrics aggregated and old data cleaned up",
        "timestamp": state.engine.now().to_string(),
        "rows_aggregated": aggregated.rows,
        "realtime_events_removed": cleaned.rows,
        "audit_events_removed": audit_cleaned.rows,
    })))
}

/// `recentEvents`: events of the last 24 hours. `recentMetrics`: daily rows of the current UTC day.
pub async fn health(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let now = state.engine.now();
    let tracker = state.tracker.clone();
    let (events, metrics) = blocking(move || {
        let hour = PeriodType::Hourly.containing(now);
        let events = tracker.get_multi_tenant_stats(
            PeriodType::Hourly,
            hour.start().plus_micros(-MICROS_PER_DAY),
            hour.next().end(),
        )?;
        let day = PeriodType::Daily.containing(now);
        let metrics = tracker.get_multi_tenant_stats(PeriodType::Daily, day.start(), day.end())?;
        Ok::<_, ApiError>((events.total_api_calls, metrics.total_tenants))
    })
    .await??;
    Ok(Json(json!({
        "status": "healthy",
        "recentEvents": events,
        "recentMetrics": metrics,
        "timestamp": now.to_string(),
    })))
}

fn failed(step: &str, error: &JobError) -> ApiError {
    tracing::error!(step, %error, "the cron job's run failed");
    // The holder of the secret runs this service: it is told the cause.
    let message = format!("{step} failed: {error}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "maintenance_failed", message)
        .with_details(json!({ "failed": step }))
}
