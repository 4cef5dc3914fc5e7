//! Checking, enforcing and showing quotas; and how every decision is answered.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::frame::RequestId;
use super::super::params::{NoParams, Params, PathTenant, read_date};
use super::super::wire::explain::ExplanationJson;
use super::super::wire::quota::{DecisionJson, QuotaRequest, QuotaStatusJson};
use super::blocking;
use crate::domain::quota::{Decision, QuotaType, Window};
use crate::domain::time::MICROS_PER_SECOND;
use crate::enforcer::ExplainQuery;

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Only looks: 200 whatever the answer is.
pub async fn check(
    State(state): State<HttpState>,
    caller: Caller,
    _: NoParams,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = QuotaRequest::read(&body)?;
    caller.check(&request.tenant_id)?;
    require_price(&state, &request)?;
    let decision = state.enforcer.check(&request.tenant_id, &request.items)?;
    Ok(answer(StatusCode::OK, &decision, DecisionJson::new(&decision, request.single, None)))
}

/// Takes an anonymous hold: 200, or 429 when denied.
pub async fn enforce(
    State(state): State<HttpState>,
    caller: Caller,
    _: NoParams,
    request_id: RequestId,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = QuotaRequest::read(&body)?;
    caller.check(&request.tenant_id)?;
    require_price(&state, &request)?;
    let outcome = state.enforcer.enforce(&request.tenant_id, &request.items, request_id.as_deref()).await?;
    let mut json = DecisionJson::new(&outcome.decision, request.single, outcome.decision_id);
    json.durable = (!outcome.durable).then_some(false);
    Ok(answer(status_of(&outcome.decision), &outcome.decision, json))
}

/// 403 `model_unpriced` for a model without a price, where the tenant has a cost limit.
pub(super) fn require_price(state: &HttpState, request: &QuotaRequest) -> Result<(), ApiError> {
    let (provider, model) = request.named_model();
    Ok(state.enforcer.require_price(&request.tenant_id, provider, model)?)
}

/// Everything about a tenant's quotas now.
pub async fn status(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    _: NoParams,
) -> Result<Json<QuotaStatusJson>, ApiError> {
    Ok(Json(QuotaStatusJson::from(&state.enforcer.get_quota_status(&tenant_id)?)))
}

/// `?decision_id`, `?request_id` or `?at`; without any, the latest denial.
pub async fn explain(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Json<ExplanationJson>, ApiError> {
    let params = Params::read(&uri, &["decision_id", "request_id", "at"])?;
    let query = match (params.parsed("decision_id")?, params.get("request_id"), params.get("at")) {
        (None, None, None) => ExplainQuery::Latest,
        (Some(id), None, None) => ExplainQuery::Decision(id),
        (None, Some(id), None) => ExplainQuery::Request(id.to_owned()),
        (None, None, Some(text)) => match read_date(text, false) {
            Some(time) => ExplainQuery::At(time),
            None => return Err(ApiError::parameter("at", "is not an RFC 3339 time, such as 2026-11-24T14:03:00Z")),
        },
        _ => return Err(ApiError::parameter("decision_id", "request_id and at exclude each other: give one of them")),
    };
    let explained = blocking(move || {
        let explanation = state.enforcer.explain(&tenant_id, &query)?;
        Ok::<_, ApiError>(ExplanationJson::new(&tenant_id, &explanation))
    });
    Ok(Json(explained.await??))
}

/// 200 when granted, 429 when denied.
pub(super) fn status_of(decision: &Decision) -> StatusCode {
    if decision.allowed { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS }
}

/// A decision with the header fields that say the same.
pub(super) fn answer(status: StatusCode, decision: &Decision, json: DecisionJson) -> Response {
    let mut response = (status, Json(json)).into_response();
    insert_rate_limit(&mut response, decision);
    if let (StatusCode::TOO_MANY_REQUESTS, Some(seconds)) = (status, decision.retry_after_seconds) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The header fields that say what a decision left.
pub(super) fn insert_rate_limit(response: &mut Response, decision: &Decision) {
    let (policy, state) = rate_limit_fields(decision);
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        // Names of types and windows, and digits: a header value.
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_maybe_shared(Bytes::from(text))) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): an item for each limit, none for what is
/// unlimited. Cost is counted in millionths of a dollar, as its `qu` says, since the draft knows whole numbers only.
fn rate_limit_fields(decision: &Decision) -> (String, String) {
    // An item has at most about 70 bytes.
    let room = || String::with_capacity(72 * decision.limits.len());
    let (mut policy, mut state, mut digits) = (room(), room(), itoa::Buffer::new());
    for limit in &decision.limits {
        let (Some(quota), Some(remaining)) = (limit.limit, limit.remaining()) else { continue };
        let (kind, window) = (limit.quota_type, limit.window);
        let micros = limit.resets_at.micros_since(decision.decided_at).max(0);
        let seconds = (micros + MICROS_PER_SECOND - 1) / MICROS_PER_SECOND;
        for field in [&mut policy, &mut state] {
            let comma = if field.is_empty() { "\"" } else { ", \"" };
            [comma, kind.name(), "-", window.name(), "\";"].into_iter().for_each(|text| field.push_str(text));
        }
        policy.push_str("q=");
        policy.push_str(digits.format(units(kind, quota)));
        policy.push_str(";w=");
        policy.push_str(digits.format(window_seconds(window)));
        if kind == QuotaType::Cost {
            policy.push_str(";qu=\"micro-usd\"");
        }
        state.push_str("r=");
        state.push_str(digits.format(units(kind, remaining)));
        state.push_str(";t=");
        state.push_str(digits.format(seconds.unsigned_abs()));
    }
    (policy, state)
}

/// Whole units, rounded down; at most the 15 digits that a structured field's integer has.
fn units(kind: QuotaType, amount: u128) -> u64 {
    const FEMTOS_PER_MICRO: u128 = 1_000_000_000;
    let units = if kind == QuotaType::Cost { amount / FEMTOS_PER_MICRO } else { amount };
    units.min(999_999_999_999_999) as u64
}

/// The window's nominal length: the field is a policy, not a calendar.
fn window_seconds(window: Window) -> u64 {
    match window {
        Window::Minute => 60,
        Window::Day => 86_400,
        Window::Month => 2_592_000,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::quota::{DeniedBy, LimitState, QuotaCheckResult, Scope};
    use crate::domain::time::Timestamp;

    fn denied() -> Decision {
        let decided_at: Timestamp = "2026-11-24T23:00:00Z".parse().unwrap();
        let state = |quota_type, window, limit, used, seconds: i64| LimitState {
            quota_type,
            window,
            limit,
            used,
            held: 0,
            resets_at: decided_at.plus_micros(seconds * MICROS_PER_SECOND - 1),
        };
        let day = state(QuotaType::Tokens, Window::Day, Some(10_000), 9_950, 3_600);
        let result =
            QuotaCheckResult { allowed: false, tokens_remaining: Some(50), quota_limit: Some(10_000), error: None };
        Decision {
            allowed: false,
            results: BTreeMap::from([(QuotaType::Tokens, result)]),
            limits: vec![
                day,
                state(QuotaType::ApiCalls, Window::Minute, Some(30), 31, 12),
                state(QuotaType::Embeddings, Window::Day, None, 7, 3_600),
                state(QuotaType::Cost, Window::Month, Some(12_500_000_000_000_000), 2_000_000_000_000, 86_400),
            ],
            denied_by: vec![DeniedBy { state: day, asked: 200, scope: Scope::Tenant }],
            would_deny: Vec::new(),
            retry_after_seconds: Some(3_600),
            decided_at,
        }
    }

    #[test]
    fn the_header_fields_name_each_limit_in_force() {
        let (policy, state) = rate_limit_fields(&denied());
        assert_eq!(
            policy,
            "\"tokens-day\";q=10000;w=86400, \"api_calls-minute\";q=30;w=60, \
             \"cost-month\";q=12500000;w=2592000;qu=\"micro-usd\""
        );
        assert_eq!(
            state,
            "\"tokens-day\";r=50;t=3600, \"api_calls-minute\";r=0;t=12, \"cost-month\";r=12498000;t=86400"
        );
    }

    #[test]
    fn a_denial_says_limit_window_rest_and_reset() {
        let decision = denied();
        let json = DecisionJson::new(&decision, Some(QuotaType::Tokens), None);
        let shown = serde_json::to_value(&json).unwrap();
        assert_eq!(
            shown,
            serde_json::json!({
                "allowed": false,
                "tokens_remaining": 50,
                "quota_limit": 10_000,
                "error": "Quota exceeded: the limit is 10000 tokens per day, 50 of it left, 200 asked for; \
                          it resets at 2026-11-24T23:59:59.999999Z",
                "code": "quota_exceeded",
                "denied_by": [{"scope": "tenant",
                    "quota_type": "tokens", "window": "day", "limit": 10_000, "used": 9_950, "held": 0,
                    "remaining": 50, "resets_at": "2026-11-24T23:59:59.999999Z", "asked": 200,
                }],
                "retry_after_seconds": 3_600,
            })
        );
        let response = answer(status_of(&decision), &decision, json);
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &HeaderValue::from(3_600)));
        assert!(response.headers().contains_key("ratelimit") && response.headers().contains_key("ratelimit-policy"));
    }

    #[test]
    fn unlimited_is_minus_one_and_null() {
        let mut decision = denied();
        decision.allowed = true;
        decision.denied_by.clear();
        let unlimited = QuotaCheckResult { allowed: true, tokens_remaining: None, quota_limit: None, error: None };
        decision.results = BTreeMap::from([(QuotaType::Tokens, unlimited)]);
        let single = serde_json::to_value(DecisionJson::new(&decision, Some(QuotaType::Tokens), None)).unwrap();
        assert_eq!(single, serde_json::json!({ "allowed": true, "tokens_remaining": -1, "quota_limit": null }));
        let several = serde_json::to_value(DecisionJson::new(&decision, None, None)).unwrap();
        assert_eq!(several["results"]["tokens"]["tokens_remaining"], -1);
    }
}
