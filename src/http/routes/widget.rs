//! The chat widget: a session for a visitor, and its messages, from the configured origins.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::Caller;
use super::super::client_address::ClientAddress;
use super::super::error::ApiError;
use super::super::frame::RequestId;
use super::super::params::Params;
use super::super::wire::Fault;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::quota::insert_rate_limit;
use crate::domain::quota::QuotaType;
use crate::domain::tenant::{TenantId, TenantStatus};
use crate::enforcer::ReserveOutcome;
use crate::gateway::{ChatMessage, ChatRefused, ChatReply, SessionRefused, Widget};

/// The shortest id that can be a session's.
const SESSION_ID_CHARS_MIN: usize = 8;
/// The longest.
const SESSION_ID_CHARS_MAX: usize = 128;
/// The longest name of a visitor.
const VISITOR_ID_CHARS_MAX: usize = 128;
/// The longest message, in characters.
const MESSAGE_CHARS_MAX: usize = 32_000;
/// The largest limit of a reply.
const REPLY_CHARS_MAX: usize = 100_000;
/// The most sources that a caller gives.
const SOURCES_MAX: usize = 100;

/// `{tenantId, visitorId?}` -> `{sessionId, expiresAt}`.
pub async fn session(
    State(state): State<HttpState>,
    caller: Caller,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let tenant_id: Option<TenantId> = object.parsed_as("tenantId", "invalid_tenant_id")?;
    let tenant_id = tenant_id.ok_or_else(|| object.missing("tenantId"))?;
    let visitor_id: Option<String> = object.value("visitorId")?;
    object.finish("tenantId and visitorId")?;
    let plain = |text: &String| within(text, 1, VISITOR_ID_CHARS_MAX) && !text.chars().any(char::is_control);
    if visitor_id.as_ref().is_some_and(|visitor| !plain(visitor)) {
        return Err(Fault::field(INVALID_REQUEST, "visitorId", "must be 1 to 128 printable characters").into());
    }
    caller.check(&tenant_id)?;
    match state.widget.open_session(tenant_id, visitor_id) {
        Some((id, expires_at)) => {
            Ok(Json(json!({"sessionId": id, "expiresAt": expires_at.to_string()})).into_response())
        }
        None => {
            let message = "there are 100,000 chat sessions, or 10,000 of the tenant: try again when some have expired";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions", message))
        }
    }
}

/// What a browser asks before it sends a message from another origin.
pub async fn preflight(State(state): State<HttpState>, headers: HeaderMap) -> Result<Response, ApiError> {
    let origin = origin_of(&state.widget, &headers)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    allow(&mut response, origin);
    Ok(response)
}

/// `{sessionId, message, responseCharacterLimit?}` -> `{reply, sources, metadata}`; with `?stream=true` as events.
pub async fn chat(
    State(state): State<HttpState>,
    ClientAddress(address): ClientAddress,
    request_id: RequestId,
    uri: Uri,
    headers: HeaderMap,
    body: Result<JsonBody, ApiError>,
) -> Result<Response, ApiError> {
    let origin = origin_of(&state.widget, &headers)?;
    let answered = async {
        let stream = Params::read(&uri, &["stream"])?.parsed::<bool>("stream")?.unwrap_or(false);
        let message = ChatMessage {
            stream,
            address,
            request_id: request_id.as_deref().map(str::to_owned),
            ..read_message(&body?.0)?
        };
        match state.widget.chat(message).await {
            Ok(ChatReply::Whole(reply)) => Ok(Json(reply).into_response()),
            Ok(ChatReply::Stream(stream)) => {
                let media = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
                Ok((media, Body::new(stream)).into_response())
            }
            Err(refused) => refuse(refused),
        }
    };
    let mut response = answered.await.unwrap_or_else(IntoResponse::into_response);
    allow(&mut response, origin);
    Ok(response)
}

fn read_message(body: &[u8]) -> Result<ChatMessage, ApiError> {
    let mut object = Object::read(body)?;
    let session_id: String = object.value("sessionId")?.ok_or_else(|| object.missing("sessionId"))?;
    let message: String = object.value("message")?.ok_or_else(|| object.missing("message"))?;
    let response_character_limit: Option<usize> = object.value("responseCharacterLimit")?;
    let sources: Option<Vec<Value>> = object.value("sources")?;
    object.finish("sessionId, message, responseCharacterLimit and sources")?;
    let wrong = |field, reason| Err(Fault::field(INVALID_REQUEST, field, reason).into());
    if !within(&session_id, SESSION_ID_CHARS_MIN, SESSION_ID_CHARS_MAX) {
        return wrong("sessionId", "must be 8 to 128 characters");
    }
    if !within(&message, 1, MESSAGE_CHARS_MAX) {
        return wrong("message", "must be 1 to 32,000 characters");
    }
    if response_character_limit.is_some_and(|limit| !(1..=REPLY_CHARS_MAX).contains(&limit)) {
        return wrong("responseCharacterLimit", "must be a whole number from 1 to 100,000");
    }
    let sources = sources.unwrap_or_default();
    if sources.len() > SOURCES_MAX {
        return wrong("sources", "must be at most 100");
    }
    Ok(ChatMessage {
        session_id,
        message,
        response_character_limit,
        sources,
        stream: false,
        address: None,
        request_id: None,
    })
}

fn within(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.chars().count())
}

fn refuse(refused: ChatRefused) -> Result<Response, ApiError> {
    let answer = |status, code, message: &str| Err(ApiError::new(status, code, message));
    match refused {
        ChatRefused::Closed => {
            answer(StatusCode::SERVICE_UNAVAILABLE, "widget_closed", "the chat widget has no model: set widget.model")
        }
        ChatRefused::Session(SessionRefused::Unknown) => {
            answer(StatusCode::NOT_FOUND, "session_unknown", "the session is unknown")
        }
        ChatRefused::Session(SessionRefused::TooFast) => {
            answer(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Rate limit exceeded")
        }
        ChatRefused::Session(SessionRefused::Expired) => {
            answer(StatusCode::FORBIDDEN, "session_expired", "the session has expired: open a new one")
        }
        ChatRefused::Inactive(status) => {
            let code = match status {
                TenantStatus::Expired => "plan_expired",
                TenantStatus::Suspended => "tenant_suspended",
                TenantStatus::Cancelled => "tenant_cancelled",
                TenantStatus::Active | TenantStatus::Deleted => "tenant_blocked",
            };
            Err(ApiError::new(StatusCode::FORBIDDEN, code, format!("the tenant is {}", status.name())))
        }
        ChatRefused::Quota(outcome) => Ok(quota_exceeded(&outcome)),
        ChatRefused::Gate(error) => Err(error.into()),
        ChatRefused::Full(full) => Err(full.into()),
        ChatRefused::Failed => answer(StatusCode::BAD_GATEWAY, "answer_failed", "The answer could not be made"),
    }
}

/// The documented refusal, with what is left of the limit that said no.
fn quota_exceeded(outcome: &ReserveOutcome) -> Response {
    let decision = &outcome.decision;
    let first = decision.denied_by.first();
    let left = first.and_then(|denied| denied.state.remaining().map(|left| (denied.state.quota_type, left)));
    let remaining = left.map(|(kind, left)| match kind {
        QuotaType::Cost => json!(kind.show(left)),
        _ => json!(u64::try_from(left).unwrap_or(u64::MAX)),
    });
    let error = "Quota exceeded. Please upgrade your plan.";
    let body = json!({"error": error, "code": "quota_exceeded", "quota_remaining": remaining});
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    insert_rate_limit(&mut response, decision);
    if let Some(seconds) = decision.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The origin that asks, if it may; without one the request is no page's.
fn origin_of(widget: &Widget, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    if origin.to_str().is_ok_and(|origin| widget.allows(origin)) {
        return Ok(Some(origin.clone()));
    }
    let message = "pages of this origin may not use the chat widget: add it to widget.origins";
    Err(ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message))
}

fn allow(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}
