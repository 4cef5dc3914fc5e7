//! The clock of `serve --dev`: shown, and moved forward. These routes exist only where the clock can be moved.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::wire::Fault;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::blocking;
use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_SECOND, Timestamp};
use crate::jobs::JobName;

/// The furthest one request moves the clock: a year and a day.
const STEP_MICROS_MAX: i64 = 366 * MICROS_PER_DAY;

/// `{now}`.
pub async fn show(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    Ok(Json(json!({ "now": state.engine.now().to_string() })))
}

/// `{advance_seconds}` or `{set}`: moves the clock, lets every job run that became due, and answers `{now, jobs_run}`.
pub async fn change(
    State(state): State<HttpState>,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let (seconds, set) = (object.value::<i64>("advance_seconds")?, object.parsed::<Timestamp>("set")?);
    object.finish("advance_seconds or set")?;
    let now = state.engine.now();
    let (field, to) = match (seconds, set) {
        (Some(seconds), None) => ("advance_seconds", now.plus_micros(seconds.saturating_mul(MICROS_PER_SECOND))),
        (None, Some(to)) => ("set", to),
        _ => return Err(Fault::field(INVALID_REQUEST, "advance_seconds", "or set is required, and not both").into()),
    };
    let step = to.micros_since(now);
    if !(0..=STEP_MICROS_MAX).contains(&step) {
        let reason = format_args!("must lead forward, at most 366 days at once: it is {now}");
        return Err(Fault::field(INVALID_REQUEST, field, reason).into());
    }
    let ran = blocking(move || {
        // The clock went on since it was read: a time given is met exactly or refused, a step is never shortened.
        let clock = state.engine.writer().shared().clock.clone();
        let moved = if field == "set" { clock.set(to) } else { clock.advance(step) };
        if !moved {
            let reason = format_args!("must lead forward: it is {}", clock.now());
            return Err(ApiError::from(Fault::field(INVALID_REQUEST, field, reason)));
        }
        let ran = state.jobs.catch_up_waiting().map_err(crate::tracker::ReadError::from)?;
        Ok((ran, clock.now()))
    });
    let (ran, now) = ran.await??;
    let ran: Vec<&str> = ran.into_iter().map(JobName::name).collect();
    Ok(Json(json!({ "now": now.to_string(), "jobs_run": ran })))
}
