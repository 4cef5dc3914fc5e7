//! The audit log: writing events, finding them again, resolving and reporting.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::HttpState;
use super::super::body::{JsonBody, Media, media_of, read_batch, unsupported};
use super::super::caller::{By, Caller, unknown};
use super::super::cursor;
use super::super::error::ApiError;
use super::super::params::{Params, segment};
use super::super::wire::Fault;
use super::super::wire::audit::{AuditEventJson, AuditEventsJson, AuditReportJson, read_audit_batch, read_audit_event};
use super::super::wire::object::Object;
use super::super::wire::usage::Recorded;
use super::blocking;
use super::events::{CONFLICT, Ids, Tally};
use crate::audit::ResolveOutcome;
use crate::domain::audit::{AuditFilter, AuditOutcome, AuditSubmission};
use crate::domain::event::EventOutcome;
use crate::domain::key::TenantScope;
use crate::domain::tenant::TenantId;
use crate::domain::time::PeriodType;

/// Events in a page unless told otherwise, and at most.
const PAGE_EVENTS: usize = 100;
const PAGE_EVENTS_MAX: usize = 1_000;

/// The parameters that say which events are wanted.
const FILTERS: [&str; 15] = [
    "event_id",
    "tenant_id",
    "tenantId",
    "event_type",
    "entity_type",
    "entity_id",
    "action",
    "actor_type",
    "actor_id",
    "result",
    "ip_address",
    "user_agent",
    "request_id",
    "startDate",
    "endDate",
];

/// One event or an array of at most 1,000, which is one commit; the answer comes when it is on disk.
pub async fn record(
    State(state): State<HttpState>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Recorded>, ApiError> {
    Params::read(&uri, &[])?;
    let ids = Ids::read(&headers)?;
    if media_of(&headers)? != Media::Json {
        return Err(unsupported("application/json"));
    }
    let bytes = read_batch(&headers, body).await?;
    let mut tally = Tally::default();
    if bytes.trim_ascii_start().first() != Some(&b'[') {
        let event = read_audit_event(&bytes)?;
        match of_caller(&caller, &event) {
            // Alone, it is answered as any unknown tenant is.
            Err(fault) if fault.code == UNKNOWN => return Err(ApiError::unknown_tenant(fault.message)),
            checked => checked?,
        }
        state.ingest_cap.admit(&caller, 1)?;
        let event = finish(event, &caller, &ids, 0);
        return match state.audit.record(vec![event])?.await?.pop() {
            Some(AuditOutcome::Conflict) => {
                Err(ApiError::new(StatusCode::CONFLICT, "conflict", CONFLICT).at_field("event_id"))
            }
            Some(AuditOutcome::Rejected(rejection)) => Err(rejection.into()),
            Some(outcome) => {
                count(&mut tally, 0, outcome);
                Ok(Json(tally.finish()))
            }
            None => Err(ApiError::internal("an audit event was recorded without an outcome")),
        };
    }
    let read = blocking(move || read_audit_batch(&bytes)).await??;
    let (mut places, mut events) = (Vec::with_capacity(read.len()), Vec::with_capacity(read.len()));
    for (index, event) in (0..).zip(read) {
        match event.and_then(|event| of_caller(&caller, &event).map(|()| event)) {
            Ok(event) => {
                places.push(index);
                events.push(finish(event, &caller, &ids, index));
            }
            Err(fault) => tally.reject(index, fault.code, &fault.message),
        }
    }
    if !events.is_empty() {
        state.ingest_cap.admit(&caller, events.len())?;
        let outcomes = state.audit.record(events)?.await?;
        places.into_iter().zip(outcomes).for_each(|(index, outcome)| count(&mut tally, index, outcome));
    }
    Ok(Json(tally.finish()))
}

const UNKNOWN: &str = "tenant_unknown";

/// Fails for an event that is not of a tenant of the caller's.
fn of_caller(caller: &Caller, event: &AuditSubmission) -> Result<(), Fault> {
    match &event.entry.tenant_id {
        None if caller.is_scoped() => Err(Fault::field("invalid_event", "tenant_id", "is required with this key")),
        Some(tenant_id) if !caller.may_see(Some(tenant_id)) => Err(Fault::whole(UNKNOWN, unknown(tenant_id))),
        _ => Ok(()),
    }
}

/// Adds what the server says: the key that writes it, and an id from the `Idempotency-Key` when there is no other.
fn finish(mut event: AuditSubmission, caller: &Caller, ids: &Ids, index: u64) -> AuditSubmission {
    if event.event_id.is_none() {
        let tenant_id = event.entry.tenant_id.as_ref().map_or("", TenantId::as_str);
        event.event_id = ids.of(index).map(|id| crate::ids::uuid_of_name(&format!("{tenant_id} {id}")));
    }
    event.entry.key_id = Some(caller.key_id());
    event
}

fn count(tally: &mut Tally, index: u64, outcome: AuditOutcome) {
    match outcome {
        AuditOutcome::Recorded(_) => tally.count(index, EventOutcome::Accepted),
        AuditOutcome::Duplicate(_) => tally.count(index, EventOutcome::Duplicate),
        AuditOutcome::Conflict => tally.count(index, EventOutcome::Conflict),
        AuditOutcome::SampledOut => tally.leave_out(),
        AuditOutcome::Rejected(rejection) => tally.count(index, EventOutcome::Rejected(rejection)),
    }
}

/// Any of [`FILTERS`], `limit` and `cursor` -> `{events, next_cursor}`, newest first. Dates are those of recording.
pub async fn list(State(state): State<HttpState>, caller: Caller, uri: Uri) -> Result<Json<AuditEventsJson>, ApiError> {
    let mut known = FILTERS.to_vec();
    known.extend(["limit", "cursor"]);
    let params = Params::read(&uri, &known)?;
    let limit = params.limit(PAGE_EVENTS, PAGE_EVENTS_MAX)?;
    let filter = AuditFilter { within: caller.scope().clone(), ..read_filter(&params)? };
    filter.tenant_id.as_ref().map_or(Ok(()), |tenant_id| caller.check(tenant_id))?;
    let event_id: Option<Uuid> = params.parsed("event_id")?;
    // A cursor is for the filters as they were given.
    let given = FILTERS.map(|name| params.get(name).unwrap_or_default());
    let scope: Vec<String> = ["audit"].into_iter().chain(given).map(str::to_owned).collect();
    let scope_of = |scope: &[String], key: &[u8; 16], before: u64| {
        let parts: Vec<&str> = scope.iter().map(String::as_str).collect();
        cursor::seal(key, &parts, &before.to_be_bytes())
    };
    let key = state.engine.cursor_key();
    let before = match params.get("cursor") {
        None => None,
        Some(text) => {
            let parts: Vec<&str> = scope.iter().map(String::as_str).collect();
            let payload = cursor::open(&key, &parts, text)?;
            Some(u64::from_be_bytes(payload.try_into().map_err(|_| cursor::invalid())?))
        }
    };
    let page = blocking(move || {
        if let Some(event_id) = event_id {
            let found = state.audit.get_audit_event(event_id)?;
            note_foreign(&caller, found.iter().map(|event| event.record.entry.tenant_id.as_ref()));
            let found = found.into_iter().filter(|event| {
                let time = event.record.timestamp;
                filter.agrees(&event.record.entry)
                    && filter.from.is_none_or(|from| from <= time)
                    && filter.to.is_none_or(|to| time < to)
            });
            return Ok(AuditEventsJson { events: found.map(Into::into).collect(), next_cursor: None });
        }
        let page = state.audit.get_audit_events(&filter, before, limit)?;
        let next_cursor = page.next.map(|before| scope_of(&scope, &key, before));
        Ok::<_, ApiError>(AuditEventsJson {
            events: page.events.into_iter().map(AuditEventJson::from).collect(),
            next_cursor,
        })
    });
    page.await?.map(Json)
}

fn read_filter(params: &Params) -> Result<AuditFilter, ApiError> {
    let text = |name| params.get(name).map(str::to_owned);
    Ok(AuditFilter {
        tenant_id: params.tenant()?,
        within: TenantScope::All,
        event_types: text("event_type").into_iter().collect(),
        entity_type: text("entity_type"),
        entity_id: text("entity_id"),
        action: params.parsed("action")?,
        actor_type: params.parsed("actor_type")?,
        actor_id: text("actor_id"),
        result: params.parsed("result")?,
        ip_address: text("ip_address"),
        user_agent: text("user_agent"),
        request_id: text("request_id"),
        from: params.date("startDate", false)?,
        to: params.date("endDate", true)?,
    })
}

/// `?tenant_id&startDate&endDate` -> totals, by type, by action, successes, failures, events. By default the last 30 days.
pub async fn report(
    State(state): State<HttpState>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<AuditReportJson>, ApiError> {
    let params = Params::read(&uri, &["tenant_id", "tenantId", "startDate", "endDate"])?;
    let tenant_id = params.tenant()?.ok_or_else(|| ApiError::parameter("tenant_id", "is required"))?;
    caller.check(&tenant_id)?;
    let (from, to) = params.range(PeriodType::Daily, state.engine.now())?;
    let report = blocking(move || state.audit.generate_audit_report(&tenant_id, from, to)).await??;
    Ok(Json(report.into()))
}

/// The audit event that the path names.
pub struct PathEvent(Uuid);

impl<S: Sync + Send> FromRequestParts<S> for PathEvent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = segment(parts, state, "id").await?;
        text.parse().map(Self).map_err(|_| ApiError::parameter("event_id", "is no UUID"))
    }
}

/// `{resolution_action, tenant_id?}` -> `{resolved}`: false when it was resolved before. The tenant is needed only where
/// several use the same id.
pub async fn resolve(
    State(state): State<HttpState>,
    PathEvent(event_id): PathEvent,
    caller: Caller,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let action: String = object.value("resolution_action")?.ok_or_else(|| object.missing("resolution_action"))?;
    let mut tenant_id: Option<TenantId> = object.parsed("tenant_id")?;
    object.finish("resolution_action, tenant_id")?;
    if caller.is_scoped() {
        // Ids are their tenants' own: to this key, only those of its tenants exist.
        let audit = state.audit.clone();
        let found = blocking(move || audit.get_audit_event(event_id)).await??.into_iter();
        let mut own: Vec<_> = found.map(|event| event.record.entry.tenant_id).collect();
        own.retain(|of| tenant_id.is_none() || tenant_id == *of);
        note_foreign(&caller, own.iter().map(Option::as_ref));
        own.retain(|of| caller.scope().shows(of.as_ref()));
        match (own.pop(), own.is_empty()) {
            (Some(of), true) => tenant_id = of,
            (Some(_), false) => return Err(ambiguous_event(event_id)),
            (None, _) => return Err(unknown_event(event_id)),
        }
    }
    match state.audit.resolve(event_id, tenant_id.as_ref(), &action, &actor).await? {
        ResolveOutcome::Ambiguous => Err(ambiguous_event(event_id)),
        ResolveOutcome::Unknown => Err(unknown_event(event_id)),
        outcome => Ok(Json(json!({ "resolved": outcome == ResolveOutcome::Resolved }))),
    }
}

/// Notes that an id is that of foreign events only; ids are their tenants' own, and an own one may be among them.
pub(super) fn note_foreign<'a>(caller: &Caller, mut found: impl Iterator<Item = Option<&'a TenantId>> + Clone) {
    if !found.clone().any(|tenant_id| caller.scope().shows(tenant_id))
        && let Some(tenant_id) = found.next()
    {
        caller.may_see(tenant_id);
    }
}

pub(super) fn unknown_event(event_id: Uuid) -> ApiError {
    let message = format!("there is no audit event {event_id}, or retention has taken it");
    ApiError::new(StatusCode::NOT_FOUND, "audit_event_unknown", message)
}

pub(super) fn ambiguous_event(event_id: Uuid) -> ApiError {
    let message = format!("several tenants have an audit event {event_id}: name one with tenant_id");
    ApiError::new(StatusCode::CONFLICT, "audit_event_ambiguous", message)
}
