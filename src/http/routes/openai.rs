//! The OpenAI-compatible door: chat completions, responses, embeddings and the list of models.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::HttpState;
use super::super::body::{Media, media_of, read_call, unsupported};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::frame::RequestId;
use super::super::wire::quota::denial_sentence;
use super::quota::insert_rate_limit;
use crate::domain::key::TenantScope;
use crate::domain::quota::{Decision, DeniedBy, QuotaType, Window};
use crate::domain::tenant::TenantId;
use crate::domain::time::MICROS_PER_SECOND;
use crate::enforcer::ReserveOutcome;
use crate::gateway::{Answer, AnswerBody, Call, CallError, Endpoint, UpstreamFailure};

/// Names the tenant where the key has several.
const TENANT: &str = "x-metergate-tenant";
/// The event that a call is recorded as.
const EVENT_ID: HeaderName = HeaderName::from_static("x-metergate-event-id");
/// Names a denial for `quota explain`.
const DECISION_ID: HeaderName = HeaderName::from_static("x-metergate-decision-id");
/// Tells OpenAI's clients whether to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Forwards calls of one endpoint.
pub fn door(endpoint: Endpoint) -> MethodRouter<HttpState> {
    post(move |State(state): State<HttpState>, caller, request_id, headers, body| {
        forward(state, endpoint, caller, request_id, headers, body)
    })
}

/// The configured models.
pub async fn models(State(state): State<HttpState>) -> Json<Value> {
    let models = state.gateway.models().into_iter();
    let models = models.map(|(id, owner)| json!({"id": id, "object": "model", "created": 0, "owned_by": owner}));
    Json(json!({"object": "list", "data": models.collect::<Vec<_>>()}))
}

async fn forward(
    state: HttpState,
    endpoint: Endpoint,
    caller: Caller,
    request_id: RequestId,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let tenant_id = tenant_of(&caller, &headers)?;
    if media_of(&headers)? != Media::Json {
        return Err(unsupported("application/json"));
    }
    let place = state.gateway.place(&tenant_id)?;
    let body: Bytes = read_call(&headers, body).await?;
    let request_id = request_id.as_deref().map(str::to_owned);
    let call = Call {
        endpoint,
        tenant_id,
        place,
        request_id,
        chat_session_id: None,
        upstream: None,
        on_granted: None,
        headers,
        body,
    };
    match state.gateway.call(call).await {
        Ok(answer) => Ok(passed_on(answer)),
        Err(error) => refused(error),
    }
}

/// The tenant that the header names, if it is the key's; without the header the tenant of a key that has one alone.
fn tenant_of(caller: &Caller, headers: &HeaderMap) -> Result<TenantId, ApiError> {
    let named = headers.get(TENANT).map(|name| name.to_str().unwrap_or_default());
    if let Some(name) = named {
        let tenant_id: TenantId = name.parse().map_err(ApiError::invalid_tenant_id)?;
        return caller.check(&tenant_id).map(|()| tenant_id);
    }
    if let TenantScope::Only(tenants) = caller.scope()
        && let (1, Some(tenant_id)) = (tenants.len(), tenants.first())
    {
        return Ok(tenant_id.clone());
    }
    let message = "this key has more than one tenant: name the tenant in the header x-metergate-tenant";
    Err(ApiError::new(StatusCode::BAD_REQUEST, "tenant_required", message).at_field(TENANT))
}

fn passed_on(answer: Answer) -> Response {
    let body = match answer.body {
        AnswerBody::Whole(bytes) => Body::from(bytes),
        AnswerBody::Stream(body) => Body::new(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = answer.headers;
    mark(&mut response, answer.event_id, &answer.decision);
    response
}

fn refused(error: CallError) -> Result<Response, ApiError> {
    let refuse = |status, code| ApiError::new(status, code, error.to_string());
    match &error {
        CallError::Invalid(invalid) => {
            let refused = refuse(StatusCode::BAD_REQUEST, "invalid_request");
            Err(match invalid.param {
                Some(field) => refused.at_field(field),
                None => refused,
            })
        }
        CallError::UnknownModel(_) => Err(refuse(StatusCode::NOT_FOUND, "model_not_found").at_field("model")),
        CallError::Denied(outcome) => Ok(denied(outcome)),
        CallError::Refused(refused) => Err(refused.clone().into()),
        CallError::Upstream { failure, event_id, decision } => {
            let (status, code) = match failure {
                UpstreamFailure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
                UpstreamFailure::KeyRefused => (StatusCode::BAD_GATEWAY, "upstream_key_refused"),
                UpstreamFailure::Unreachable => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
                UpstreamFailure::BrokeOff
                | UpstreamFailure::Compressed
                | UpstreamFailure::TooLarge
                | UpstreamFailure::Redirect => (StatusCode::BAD_GATEWAY, "upstream_answer_unusable"),
            };
            let mut response = refuse(status, code).into_response();
            mark(&mut response, *event_id, decision);
            Ok(response)
        }
        CallError::Gone => Err(ApiError::internal("a call ended without an answer")),
    }
}

/// 429 as OpenAI says it: `rate_limit_exceeded` where a minute's waiting helps, `insufficient_quota` where it does not.
fn denied(outcome: &ReserveOutcome) -> Response {
    let decision = &outcome.decision;
    let waits = |denied: &DeniedBy| denied.state.window == Window::Minute;
    let waiting_helps = decision.retry_after_seconds.is_some() && decision.denied_by.iter().all(waits);
    let first = decision.denied_by.first();
    let (kind, code) = match first.map(|denied| denied.state.quota_type) {
        _ if !waiting_helps => ("insufficient_quota", "insufficient_quota"),
        Some(QuotaType::Tokens) => ("tokens", "rate_limit_exceeded"),
        _ => ("requests", "rate_limit_exceeded"),
    };
    let message = first.map_or_else(|| "Quota exceeded".to_owned(), denial_sentence);
    let body = json!({
        "error": {
            "message": message, "type": kind, "code": code, "param": null, "decision_id": outcome.decision_id.map(|id| id.to_string()),
        },
    });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    insert_limits(&mut response, decision);
    let headers = response.headers_mut();
    if let Some(seconds) = decision.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers.insert(SHOULD_RETRY, HeaderValue::from_static(if waiting_helps { "true" } else { "false" }));
    if let Some(id) = outcome.decision_id {
        insert_text(headers, DECISION_ID, id.to_string());
    }
    response
}

fn mark(response: &mut Response, event_id: Uuid, decision: &Decision) {
    insert_limits(response, decision);
    insert_text(response.headers_mut(), EVENT_ID, event_id.to_string());
}

/// The IETF fields, and the fields that OpenAI's clients know: of tokens and of calls, each by its tightest limit.
fn insert_limits(response: &mut Response, decision: &Decision) {
    insert_rate_limit(response, decision);
    for (quota_type, name) in [(QuotaType::Tokens, "tokens"), (QuotaType::ApiCalls, "requests")] {
        let limits = decision.limits.iter().filter(|state| state.quota_type == quota_type && state.limit.is_some());
        let Some(tightest) = limits.min_by_key(|state| state.remaining()) else { continue };
        let micros = tightest.resets_at.micros_since(decision.decided_at).max(0);
        let texts = [
            ("limit", tightest.limit.unwrap_or_default().to_string()),
            ("remaining", tightest.remaining().unwrap_or_default().to_string()),
            ("reset", duration_text(micros)),
        ];
        for (what, text) in texts {
            if let Ok(name) = HeaderName::try_from(format!("x-ratelimit-{what}-{name}")) {
                insert_text(response.headers_mut(), name, text);
            }
        }
    }
}

fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: String) {
    // Digits, letters and dashes: a header value.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

/// As OpenAI writes it: `6m0s`, `1s`, `17ms`.
fn duration_text(micros: i64) -> String {
    if micros < MICROS_PER_SECOND {
        return format!("{}ms", (micros + 999) / 1_000);
    }
    let seconds = (micros + MICROS_PER_SECOND - 1) / MICROS_PER_SECOND;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_written_as_openai_writes_it() {
        for (micros, text) in
            [(0, "0ms"), (16_500, "17ms"), (1_000_000, "1s"), (359_999_999, "6m0s"), (86_399_000_000, "23h59m59s")]
        {
            assert_eq!(duration_text(micros), text);
        }
    }
}
