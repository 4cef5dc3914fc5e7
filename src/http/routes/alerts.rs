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
const FILTERS: [&str; 4] = ["tenant_id", "tenantId", "startDate", "endDate"];

/// `?tenant_id&startDate&endDate&limit&cursor` -> `{alerts, next_cursor}`. Dates are those of recording.
pub async fn list(State(state): State<HttpState>, caller: Caller, uri: Uri) -> Result<Json<AlertsJson>, ApiError> {
    let params = Params::read(&uri, &["tenant_id", "tenantId", "startDate", "endDate", "limit", "cursor"])?;
    let limit = params.limit(PAGE_ALERTS, PAGE_ALERTS_MAX)?;
    let tenant_id = params.tenant()?;
    tenant_id.as_ref().map_or(Ok(()), |tenant_id| caller.check(tenant_id))?;
    let query = AlertQuery {
        within: caller.scope().clone(),
        tenant_id,
        since: params.date("startDate", false)?,
        until: params.date("endDate", true)?,
    };
    let key = state.engine.cursor_key();
    // A cursor is for the filters as they were given.
    let scope = [&["alerts"][..], &FILTERS.map(|name| params.get(name).unwrap_or_default())].concat();
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
