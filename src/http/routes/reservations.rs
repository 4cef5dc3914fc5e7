//! Reserve, settle, release: the gate for callers who keep a handle.

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::{JsonBody, Media, media_of, read_batch, unsupported};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::frame::RequestId;
use super::super::params::{NoParams, Params, segment};
use super::super::wire::Fault;
use super::super::wire::event::{BATCH_EVENTS_MAX, EventDraft};
use super::super::wire::object::{INVALID_REQUEST, Object, read_array};
use super::super::wire::quota::{DecisionJson, QuotaRequest};
use super::super::wire::usage::Settled;
use super::events::Tally;
use super::quota::{answer, require_price, status_of};
use crate::domain::event::UsageEvent;
use crate::domain::tenant::TenantId;
use crate::enforcer::{EnforceError, ReserveRequest};
use crate::gateway::is_door_s;
use crate::writer::WriteError;

/// The reservation that the path names.
pub struct PathReservation(String);

impl<S: Sync + Send> FromRequestParts<S> for PathReservation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id: String = segment(parts, state, "id").await?;
        match is_door_s(&id) {
            // The metered door settles its own holds.
            true => Err(EnforceError::UnknownReservation(id).into()),
            false => Ok(Self(id)),
        }
    }
}

/// 200 with what is held, or 429.
pub async fn reserve(
    State(state): State<HttpState>,
    caller: Caller,
    _: NoParams,
    request_id: RequestId,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = QuotaRequest::read_reserve(&body)?;
    caller.check(&request.tenant_id)?;
    if request.reservation_id.as_deref().is_some_and(is_door_s) {
        let reason = "must not begin with `door-`: such ids are the metered door's own";
        return Err(Fault::field(INVALID_REQUEST, "reservation_id", reason).into());
    }
    require_price(&state, &request)?;
    let reservation_id = request.reservation_id.clone();
    let reserved = state.enforcer.reserve(ReserveRequest {
        tenant_id: request.tenant_id,
        items: request.items,
        ttl_seconds: request.ttl_seconds,
        reservation_id: request.reservation_id,
        request_id: request_id.as_deref().map(str::to_owned),
    });
    let outcome = match (reserved.await, reservation_id) {
        // What may be held is named, so that it can be asked for again or released.
        (Err(error @ EnforceError::Write(WriteError::OutcomeUnknown)), Some(id)) => {
            return Err(ApiError::from(error).with_details(json!({ "reservation_id": id })));
        }
        (outcome, _) => outcome?,
    };
    let mut json = DecisionJson::new(&outcome.decision, None, outcome.decision_id);
    json.durable = (!outcome.durable).then_some(false);
    if let Some(held) = outcome.reservation {
        json.reservation_id = Some(held.reservation_id);
        json.expires_at = Some(held.expires_at);
    }
    Ok(answer(status_of(&outcome.decision), &outcome.decision, json))
}

/// `{events, tenant_id?}`. An event that cannot be read refuses the whole, so that nothing is given back for usage that is
/// not recorded.
pub async fn settle(
    State(state): State<HttpState>,
    PathReservation(reservation_id): PathReservation,
    caller: Caller,
    _: NoParams,
    request: Request,
) -> Result<Json<Settled>, ApiError> {
    let (Parts { headers, .. }, body) = request.into_parts();
    if media_of(&headers)? != Media::Json {
        return Err(unsupported("application/json"));
    }
    let (tenant_id, events) = read_settle(&read_batch(&headers, body).await?)?;
    let tenant_id = own(&state, &caller, tenant_id, &reservation_id)?;
    if !events.is_empty() {
        state.ingest_cap.admit(&caller, events.len())?;
    }
    let outcome = state.enforcer.settle(tenant_id.as_ref(), &reservation_id, events).await?;
    let mut tally = Tally::default();
    for (index, outcome) in outcome.outcomes.into_iter().enumerate() {
        tally.count(index as u64, outcome);
    }
    Ok(Json(Settled { recorded: tally.finish(), overage: outcome.overage, lapsed: outcome.lapsed }))
}

/// The tenant of a reservation, as far as the caller may know it: to a key of some tenants, the reservations of others do
/// not exist. `None` where the caller has all and names none.
fn own(
    state: &HttpState,
    caller: &Caller,
    named: Option<TenantId>,
    reservation_id: &str,
) -> Result<Option<TenantId>, ApiError> {
    if !caller.is_scoped() {
        return Ok(named);
    }
    let unknown = || ApiError::from(EnforceError::UnknownReservation(reservation_id.to_owned()));
    if let Some(tenant_id) = named {
        return if caller.may_see(Some(&tenant_id)) { Ok(Some(tenant_id)) } else { Err(unknown()) };
    }
    let (mut owned, foreign): (Vec<_>, Vec<_>) =
        state.enforcer.holders_of(reservation_id).into_iter().partition(|holder| caller.scope().has(holder));
    match (owned.pop(), owned.is_empty()) {
        (Some(tenant_id), true) => Ok(Some(tenant_id)),
        (Some(_), false) => Err(EnforceError::AmbiguousReservation(reservation_id.to_owned()).into()),
        (None, _) => {
            foreign.first().map(|holder| caller.may_see(Some(holder)));
            Err(unknown())
        }
    }
}

fn read_settle(json: &[u8]) -> Result<(Option<TenantId>, Vec<UsageEvent>), ApiError> {
    let mut object = Object::read(json)?;
    let named: Option<TenantId> = object.parsed_as("tenant_id", "invalid_tenant_id")?;
    let raw = object.take("events").ok_or_else(|| object.missing("events"))?;
    object.finish("events and tenant_id")?;
    let mut events = Vec::new();
    for (index, element) in read_array(raw.get().as_bytes(), BATCH_EVENTS_MAX)?.into_iter().enumerate() {
        let at_index = |fault: Fault| {
            let field = fault.field.clone();
            ApiError::from(fault).with_details(json!({ "index": index, "field": field }))
        };
        let mut draft = EventDraft::read(element.get().as_bytes()).map_err(at_index)?;
        // The event's tenant is the reservation's: named by the body, or by the events alike.
        let tenant_id = named.as_ref().or(events.first().map(|event: &UsageEvent| &event.tenant_id));
        if draft.tenant_id.is_none() {
            draft.tenant_id = tenant_id.cloned();
        }
        let event = draft.finish().map_err(at_index)?;
        if tenant_id.is_some_and(|tenant_id| *tenant_id != event.tenant_id) {
            let reason = "is not the tenant of the reservation: a settle records events of one tenant";
            return Err(at_index(Fault::field(INVALID_REQUEST, "tenant_id", reason)));
        }
        events.push(event);
    }
    let tenant_id = named.or_else(|| events.first().map(|event| event.tenant_id.clone()));
    Ok((tenant_id, events))
}

/// `?tenant_id=`: gives all back; `released` says whether anything was held.
pub async fn release(
    State(state): State<HttpState>,
    PathReservation(reservation_id): PathReservation,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let params = Params::read(&uri, &["tenant_id"])?;
    let tenant_id = match params.get("tenant_id") {
        Some(text) => Some(text.parse::<TenantId>().map_err(ApiError::invalid_tenant_id)?),
        None => None,
    };
    let tenant_id = own(&state, &caller, tenant_id, &reservation_id)?;
    let released = state.enforcer.release(tenant_id.as_ref(), &reservation_id).await?;
    Ok(Json(json!({ "reservation_id": reservation_id, "released": released })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settle_takes_its_tenant_from_the_body_or_from_its_events() {
        let read = |json: &str| {
            read_settle(json.as_bytes()).map(|(tenant, events)| (tenant.unwrap().to_string(), events.len()))
        };
        let read = |json: &str| read(json).map_err(|error| (error.status().as_u16(), error.code()));
        for (json, expected) in [
            (r#"{"tenant_id":"a","events":[{"event_type":"x"}]}"#, Ok(("a".to_owned(), 1))),
            (r#"{"events":[{"tenant_id":"a","event_type":"x"},{"event_type":"y"}]}"#, Ok(("a".to_owned(), 2))),
            (r#"{"tenant_id":"a","events":[{"tenant_id":"b","event_type":"x"}]}"#, Err((400, INVALID_REQUEST))),
            (
                r#"{"events":[{"tenant_id":"a","event_type":"x"},{"tenant_id":"b","event_type":"x"}]}"#,
                Err((400, INVALID_REQUEST)),
            ),
            (r#"{"events":[{"event_type":"x"}]}"#, Err((400, "invalid_event"))),
            (r#"{"tenant_id":"a","events":[{"event_type":"x","input_tokens":-1}]}"#, Err((400, "invalid_event"))),
            (r#"{"tenant_id":"a"}"#, Err((400, INVALID_REQUEST))),
            (r#"{"tenant_id":"a/b","events":[]}"#, Err((400, "invalid_tenant_id"))),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }
}
