//! Reading one tenant's usage: metrics rows, and raw events by cursor.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};

use super::super::HttpState;
use super::super::cursor;
use super::super::error::ApiError;
use super::super::params::{Params, PathTenant, segment};
use super::super::wire::cost::EventCostJson;
use super::super::wire::usage::{EventRow, EventRows, TenantUsage, TodayUsage, UsageRow};
use super::blocking;
use crate::domain::event::EventId;
use crate::domain::tenant::TenantId;
use crate::domain::time::{PeriodType, Timestamp};
use crate::tracker::{EventPosition, EventQuery};

/// Events in a page unless told otherwise, and at most.
const PAGE_EVENTS: usize = 100;
const PAGE_EVENTS_MAX: usize = 1_000;

/// `?period&startDate&endDate&group_by` -> `{tenant_id, period, usage}`; `group_by=model` adds `by_model` to each row.
pub async fn rows(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Json<TenantUsage>, ApiError> {
    let params = Params::read(&uri, &["period", "startDate", "endDate", "group_by"])?;
    let (period, by_model) = (params.period()?, groups_by_model(&params)?);
    let (from, to) = params.range(period, state.engine.now())?;
    let usage = blocking(move || {
        let usage = tenant_rows(&state, &tenant_id, (from, to), period, by_model)?;
        Ok::<_, ApiError>(TenantUsage { tenant_id, period: period.name().to_owned(), usage })
    });
    usage.await?.map(Json)
}

/// Whether `group_by=model` is asked for.
pub(super) fn groups_by_model(params: &Params) -> Result<bool, ApiError> {
    match params.get("group_by") {
        None => Ok(false),
        Some("model") => Ok(true),
        Some(_) => Err(ApiError::parameter("group_by", "must be model")),
    }
}

/// A tenant's rows, newest first, each with its sums by model if asked for.
pub(super) fn tenant_rows(
    state: &HttpState,
    tenant_id: &TenantId,
    (from, to): (Timestamp, Timestamp),
    period: PeriodType,
    by_model: bool,
) -> Result<Vec<UsageRow>, ApiError> {
    if by_model {
        let rows = state.tracker.get_tenant_usage_by_model(tenant_id, from, to, period)?;
        return Ok(rows.into_iter().map(|(row, models)| UsageRow::with_models(row, models)).collect());
    }
    Ok(state.tracker.get_tenant_usage(tenant_id, from, to, period)?.into_iter().map(UsageRow::from).collect())
}

/// The event that the path names.
pub struct PathEvent {
    tenant_id: TenantId,
    event_id: EventId,
}

impl<S: Sync + Send> FromRequestParts<S> for PathEvent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let PathTenant(tenant_id) = PathTenant::from_request_parts(parts, state).await?;
        let text = segment(parts, state, "event_id").await?;
        let event_id = text.parse().map_err(|error| ApiError::parameter("event_id", error))?;
        Ok(Self { tenant_id, event_id })
    }
}

/// The event with its cost explained: price, tier, and each class's count x rate.
pub async fn event(
    State(state): State<HttpState>,
    PathEvent { tenant_id, event_id }: PathEvent,
    uri: Uri,
) -> Result<Json<EventCostJson>, ApiError> {
    Params::read(&uri, &[])?;
    let found = blocking(move || state.tracker.get_tenant_event(&tenant_id, &event_id)).await??;
    let unknown = || {
        let message = "this tenant has no such event, or retention has taken it";
        ApiError::new(StatusCode::NOT_FOUND, "event_unknown", message)
    };
    found.map(EventCostJson::from).map(Json).ok_or_else(unknown)
}

/// -> `{tenant_id, usage}`: the row of the open UTC day, all zero before its first event.
pub async fn today(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Json<TodayUsage>, ApiError> {
    Params::read(&uri, &[])?;
    let usage = blocking(move || {
        let usage = state.tracker.get_today_usage(&tenant_id)?;
        Ok::<_, ApiError>(TodayUsage { tenant_id, usage: UsageRow::from(usage) })
    });
    usage.await?.map(Json)
}

/// `?startDate&endDate&event_type&limit&cursor` -> `{events, next_cursor}`.
pub async fn events(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Json<EventRows>, ApiError> {
    let params = Params::read(&uri, &["startDate", "endDate", "event_type", "eventType", "limit", "cursor"])?;
    let limit = params.limit(PAGE_EVENTS, PAGE_EVENTS_MAX)?;
    // The column's spelling, and the one of the other parameters.
    let event_type = params.get("event_type").or(params.get("eventType")).map(str::to_owned);
    if event_type.as_ref().is_some_and(|kind| kind.is_empty() || kind.chars().count() > 50) {
        return Err(ApiError::parameter("event_type", "must be 1 to 50 characters"));
    }
    // A cursor is for the filters as they were given; the range they meant at the first page travels in it.
    let filter = |name| params.get(name).unwrap_or_default().to_owned();
    let scope = [
        "events".to_owned(),
        tenant_id.to_string(),
        filter("startDate"),
        filter("endDate"),
        event_type.clone().unwrap_or_default(),
    ];
    let key = state.engine.cursor_key();
    let query = match params.get("cursor") {
        None => {
            let (from, to) = params.range(PeriodType::Daily, state.engine.now())?;
            EventQuery { from, to, event_type, limit, after: None }
        }
        Some(text) => {
            let payload = cursor::open(&key, &scope.each_ref().map(String::as_str), text)?;
            let (from, to, after) = unpack(&payload).ok_or_else(cursor::invalid)?;
            EventQuery { from, to, event_type, limit, after: Some(after) }
        }
    };
    let rows = blocking(move || {
        let page = state.tracker.get_tenant_events(&tenant_id, &query)?;
        let next = page
            .next
            .map(|after| cursor::seal(&key, &scope.each_ref().map(String::as_str), &pack(query.from, query.to, after)));
        let events = page.events.into_iter().map(EventRow::from).collect();
        Ok::<_, ApiError>(EventRows { events, next_cursor: next })
    });
    rows.await?.map(Json)
}

fn pack(from: Timestamp, to: Timestamp, after: EventPosition) -> Vec<u8> {
    let numbers = [
        from.micros() as u64,
        to.micros() as u64,
        after.event_timestamp.micros() as u64,
        after.entry_id,
        after.horizon,
    ];
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn unpack(payload: &[u8]) -> Option<(Timestamp, Timestamp, EventPosition)> {
    let (numbers, []) = payload.as_chunks::<8>() else { return None };
    let &[from, to, event_timestamp, entry_id, horizon] = numbers else { return None };
    let time = |bytes| Timestamp::from_micros(i64::from_be_bytes(bytes));
    let after = EventPosition {
        event_timestamp: time(event_timestamp),
        entry_id: u64::from_be_bytes(entry_id),
        horizon: u64::from_be_bytes(horizon),
    };
    Some((time(from), time(to), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_travels_whole() {
        let time = Timestamp::from_seconds;
        let after = EventPosition { event_timestamp: time(7), entry_id: u64::MAX, horizon: 9 };
        assert_eq!(unpack(&pack(time(1), Timestamp::MAX, after)), Some((time(1), Timestamp::MAX, after)));
        assert_eq!(unpack(&[0; 39]), None);
        assert_eq!(unpack(&[0; 48]), None);
    }
}
