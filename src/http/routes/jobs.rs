//! Jobs as they stand, and run by hand; verification.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::By;
use super::super::error::ApiError;
use super::super::params::{Params, read_date};
use super::super::wire::Fault;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::blocking;
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::job::CONFIRM_CLOCK;
use crate::domain::time::Timestamp;
use crate::jobs::JobName;
use crate::tracker::ReadError;

/// The most differences that `verify` lists; their number is always whole.
const DIFFERENCES_LISTED_MAX: usize = 1_000;

/// `{job, from?, to?}`: runs it, remembers the run, and says what it did.
pub async fn run(
    State(state): State<HttpState>,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let job: String = object.value("job")?.ok_or_else(|| object.missing("job"))?;
    let (from, to) = (date(&mut object, "from", false)?, date(&mut object, "to", true)?);
    object.finish("job, from and to")?;

    let audit = state.audit.clone();
    let answer = run_one(state, &job, from, to).await?;
    // It has run already: a record that cannot be written does not undo it.
    if let Err(error) = audit.record(vec![entry_of(&job, &actor, &answer).into()]) {
        tracing::error!(%error, job, "a job that was run by hand is not in the audit log");
    }
    Ok(Json(answer))
}

/// Who ran what, and what came of it.
fn entry_of(job: &str, actor: &Actor, answer: &Value) -> AuditEntry {
    let event_type = if job == CONFIRM_CLOCK { "clock_confirmed" } else { "job_run" };
    let mut entry = AuditEntry::system(None, event_type, "job", AuditAction::Update);
    actor.sign(&mut entry);
    entry.entity_id = Some(job.to_owned());
    entry.new_values = Some(answer.to_string());
    entry.changes_summary = Some(format!("{job} was run by hand"));
    entry
}

async fn run_one(
    state: HttpState,
    job: &str,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Value, ApiError> {
    match job {
        "aggregate_usage_metrics" => {
            let range = match (from, to) {
                (None, None) => None,
                (Some(from), to) => Some((from, to.unwrap_or_else(|| state.engine.now()))),
                (None, Some(_)) => return Err(Fault::field(INVALID_REQUEST, "from", "is required beside to").into()),
            };
            if range.is_some_and(|(from, to)| from >= to) {
                return Err(Fault::field(INVALID_REQUEST, "from", "must be before to").into());
            }
            let done = blocking(move || state.jobs.run(JobName::AggregateUsageMetrics, range)).await??;
            Ok(json!({ "job": job, "rows_written": done.rows, "hours_skipped": done.hours_skipped }))
        }
        "cleanup_old_realtime_events" | "cleanup_old_audit_events" => {
            no_range(from.or(to))?;
            let name = match job {
                "cleanup_old_audit_events" => JobName::CleanupOldAuditEvents,
                _ => JobName::CleanupOldRealtimeEvents,
            };
            let done = blocking(move || state.jobs.run(name, None)).await??;
            let cut = done.cut.map(|cut| cut.to_string());
            Ok(json!({ "job": job, "rows_removed": done.rows, "cut": cut }))
        }
        CONFIRM_CLOCK => {
            no_range(from.or(to))?;
            let confirmed = blocking(move || state.jobs.confirm_clock()).await??;
            Ok(json!({ "job": job, "was_waiting": confirmed }))
        }
        _ => {
            let known = "is none of aggregate_usage_metrics, cleanup_old_realtime_events, cleanup_old_audit_events and confirm_clock";
            Err(Fault::field("unknown_job", "job", known).into())
        }
    }
}

fn no_range(given: Option<Timestamp>) -> Result<(), Fault> {
    match given {
        Some(_) => Err(Fault::field(INVALID_REQUEST, "from", "and to belong to aggregate_usage_metrics")),
        None => Ok(()),
    }
}

/// `{jobs: [...], alarms: [...]}`.
pub async fn list(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    blocking(move || Ok(Json(json!({ "jobs": status_json(&state)?, "alarms": alarms_json(&state) })))).await?
}

/// Every job with its last run.
pub(super) fn status_json(state: &HttpState) -> Result<Vec<Value>, ApiError> {
    let jobs = state.jobs.status().map_err(ReadError::from)?;
    let time = |time: Timestamp| time.to_string();
    let shown = jobs.into_iter().map(|status| {
        let last = status.last.as_ref();
        json!({
            "job": status.job.name(),
            "schedule": status.schedule,
            "running": status.running,
            "last_started": last.map(|last| time(last.started)),
            "last_finished": last.map(|last| time(last.finished)),
            "result": last.map(|last| last.result.name()),
            "rows": last.map(|last| last.rows),
            "error": last.and_then(|last| last.error.clone()),
            "last_success": last.and_then(|last| last.last_success).map(time),
            "failures": last.map_or(0, |last| last.failures),
            "next_run": status.next.map(time),
            "overlaps_refused": status.overlaps_refused,
        })
    });
    Ok(shown.collect())
}

/// What is wrong now.
pub(super) fn alarms_json(state: &HttpState) -> Vec<Value> {
    let alarms = state.jobs.alarms().into_iter();
    alarms.map(|alarm| json!({ "code": alarm.code, "message": alarm.message })).collect()
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
