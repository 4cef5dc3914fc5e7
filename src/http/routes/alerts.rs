//! Alerts: which thresholds were crossed, newest first, by cursor.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use super::super::HttpState;
use super::super::caller::Caller;
use super::super::cursor;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::wire::alert::{AlertJson, AlertsJson};
use super::blocking;
use crate::audit::AlertQuery;

/// Alerts in a page unless told otherwise, and at most.
const PAGE_ALERTS: usize = 100;
const PAGE_ALERTS_MAX: usize = 1_000;

/// The parameters that say which alerts are wanted.
const FILTERS: [&str; 3] = ["tenant", "since", "until"];

/// `?tenant&since&until&limit&cursor` -> `{alerts, next_cursor}`, those of the caller's
/// tenants. Dates are those of recording.
pub async fn list(State(state): State<HttpState>, caller: Caller, uri: Uri) -> Result<Json<AlertsJson>, ApiError> {
    let params = Params::read(&uri, &["tenant", "since", "until", "limit", "cursor"])?;
    let limit = params.limit(PAGE_ALERTS, PAGE_ALERTS_MAX)?;
    let tenant_id = params.get("tenant").map(|text| text.parse().map_err(|error| ApiError::parameter("tenant", error)));
    let query = AlertQuery {
        tenant_id: tenant_id.transpose()?,
        within: caller.scope().clone(),
        since: params.date("since", false)?,
        until: params.date("until", true)?,
    };
    query.tenant_id.as_ref().map_or(Ok(()), |tenant_id| caller.check(tenant_id))?;
    let key = state.engine.cursor_key();
    // A cursor is for the filters as they were given.
    let given = FILTERS.map(|name| params.get(name).unwrap_or_default().to_owned());
    let scope = ["alerts", &given[0], &given[1], &given[2]];
    let before = match params.get("cursor") {
        None => None,
        Some(text) => {
            let payload = cursor::open(&key, &scope, text)?;
            Some(u64::from_be_bytes(payload.try_into().map_err(|_| cursor::invalid())?))
        }
    };
    let page = blocking(move || state.audit.get_alerts(&query, before, limit)).await??;
    let next_cursor = page.next.map(|before| cursor::seal(&key, &scope, &before.to_be_bytes()));
    Ok(Json(AlertsJson { alerts: page.alerts.into_iter().map(AlertJson::from).collect(), next_cursor }))
}
