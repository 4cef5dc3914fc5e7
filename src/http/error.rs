//! Every error as an answer: one policy, one mapping.
//!
//! Policy. An answer is `{error, code, details?}`. A caller's mistake is told in full, names the field, and says what to
//! change. A failure of ours is told in one plain sentence without its inside, and logged once, here, with its cause.
//! Codes are stable and few: a new one only when a client acts on it. A quota refusal is no error: see `routes::quota`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::openai_shape::Told;
use super::wire::Fault;
use crate::audit::AuditError;
use crate::domain::event::Rejection;
use crate::domain::tenant::TenantStatus;
use crate::enforcer::EnforceError;
use crate::gateway::NoPlace;
use crate::jobs::JobError;
use crate::keys::{KeyError, KeyRefused};
use crate::tenants::AdminError;
use crate::tracker::{MaintainError, ReadError};
use crate::writer::WriteError;

/// The longest sentence of an error, in characters.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Option<Value>,
    retry_after_seconds: Option<u64>,
}

impl ApiError {
    /// A status, a stable code and a sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // What quotes its caller does not mirror megabytes.
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(end);
            message.push('…');
        }
        Self { status, code, message, details: None, retry_after_seconds: None }
    }

    /// 400 for a query parameter: its name, and the rest of the sentence.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", format!("{name} {reason}")).at_field(name)
    }

    /// 400 for a path that names no tenant.
    pub fn invalid_tenant_id(reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_tenant_id", reason.to_string()).at_field("tenant_id")
    }

    /// 404 for a tenant that was never seen.
    pub fn unknown_tenant(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "tenant_unknown", message)
    }

    /// 500: the cause is logged, not told.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed inside");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "something failed inside; it is in the log")
    }

    /// 401 for a route that asks for a key.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "ADMIN_AUTH_REQUIRED", "Unauthorized")
    }

    /// 403 for a key whose role, or whose tenants, do not reach that far.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "INSUFFICIENT_PERMISSIONS", "Forbidden")
    }

    /// 401 for the cron job's door. Its documented answer is the one without a code.
    pub fn wrong_cron_secret() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "", "Unauthorized")
    }

    /// Adds the name of the field at fault.
    pub fn at_field(self, field: &str) -> Self {
        self.with_details(json!({ "field": field }))
    }

    /// Adds details.
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Whether it refuses a body for its size.
    pub fn is_too_large(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// Its sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Adds `Retry-After`, in seconds.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

#[cfg(test)]
impl ApiError {
    /// Its stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let field = self.details.as_ref().and_then(|details| details["field"].as_str()).map(str::to_owned);
        let mut body = json!({ "error": self.message });
        if !self.code.is_empty() {
            body["code"] = self.code.into();
        }
        if let Some(details) = self.details {
            body["details"] = details;
        }
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Told { code: self.code, message: self.message, field });
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let status = match fault.code {
            "batch_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        let error = Self::new(status, fault.code, fault.message);
        match (fault.field, fault.place) {
            (Some(field), _) => error.at_field(&field),
            (None, Some((line, column))) => error.with_details(json!({ "line": line, "column": column })),
            (None, None) => error,
        }
    }
}

impl From<Rejection> for ApiError {
    /// A single event that the engine rejected; the field is the message's first word, when it is one.
    fn from(rejection: Rejection) -> Self {
        let status = match rejection.code {
            "tenant_unknown" => StatusCode::NOT_FOUND,
            "too_many_tenants" => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        let first = rejection.message.split([' ', ':']).next().unwrap_or_default();
        let field = super::wire::event::EVENT_FIELDS.into_iter().find(|field| *field == first);
        let error = Self::new(status, rejection.code, rejection.message);
        match field {
            Some(field) => error.at_field(field),
            None => error,
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let unavailable = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string());
        match &error {
            WriteError::QueueFull => unavailable("queue_full").retry_after(1),
            WriteError::OutcomeUnknown => unavailable("commit_outcome_unknown").retry_after(1),
            WriteError::Full(cause) => {
                tracing::error!(%cause, "the disk is full");
                let message = "the disk is full: nothing was recorded";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", message).retry_after(30)
            }
            WriteError::Unavailable(cause) => {
                tracing::error!(%cause, "the storage is not available");
                let message = "the storage is not available: nothing was recorded";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", message).retry_after(5)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownTenant(_) => Self::unknown_tenant(error.to_string()),
            // The reads' own names of the range are the parameters' below the camel case.
            ReadError::InvalidRange { field: "from", reason } => Self::parameter("startDate", reason),
            ReadError::InvalidRange { field: "to", reason } => Self::parameter("endDate", reason),
            ReadError::InvalidRange { field, reason } => Self::parameter(field, reason),
            ReadError::Storage(cause) => {
                tracing::error!(%cause, "the storage cannot be read");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", "the storage cannot be read")
                    .retry_after(5)
            }
        }
    }
}

impl From<EnforceError> for ApiError {
    fn from(error: EnforceError) -> Self {
        let answer = |status, code| Self::new(status, code, error.to_string());
        match &error {
            EnforceError::UnknownTenant(_) => Self::unknown_tenant(error.to_string()),
            EnforceError::Blocked { tenant_id, status } => match status {
                TenantStatus::Expired => answer(StatusCode::FORBIDDEN, "plan_expired"),
                TenantStatus::Suspended => answer(StatusCode::FORBIDDEN, "tenant_suspended"),
                TenantStatus::Cancelled => answer(StatusCode::FORBIDDEN, "tenant_cancelled"),
                TenantStatus::Deleted => Self::unknown_tenant(format!("the tenant `{tenant_id}` is unknown")),
                TenantStatus::Active => answer(StatusCode::FORBIDDEN, "tenant_blocked"),
            },
            EnforceError::InvalidRequest { field, .. } => {
                answer(StatusCode::BAD_REQUEST, "invalid_request").at_field(field)
            }
            EnforceError::ReservationConflict(_) => answer(StatusCode::CONFLICT, "reservation_conflict"),
            EnforceError::UnknownReservation(_) => answer(StatusCode::NOT_FOUND, "reservation_unknown"),
            EnforceError::UnknownDenial(..) => answer(StatusCode::NOT_FOUND, "denial_unknown"),
            EnforceError::Storage(cause) => {
                tracing::error!(%cause, "the storage cannot be read");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", "the storage cannot be read")
                    .retry_after(5)
            }
            EnforceError::AmbiguousReservation(_) => {
                answer(StatusCode::CONFLICT, "reservation_ambiguous").at_field("tenant_id")
            }
            EnforceError::UnpricedModel { .. } => answer(StatusCode::FORBIDDEN, "model_unpriced").at_field("model"),
            EnforceError::TooManyTenants(_) => answer(StatusCode::FORBIDDEN, "too_many_tenants"),
            EnforceError::GrantUnknown(id) => answer(StatusCode::SERVICE_UNAVAILABLE, "commit_outcome_unknown")
                .with_details(json!({ "reservation_id": id }))
                .retry_after(1),
            EnforceError::Write(error) => error.clone().into(),
        }
    }
}

impl From<NoPlace> for ApiError {
    fn from(full: NoPlace) -> Self {
        let (status, code) = match full {
            NoPlace::Door => (StatusCode::SERVICE_UNAVAILABLE, "door_full"),
            NoPlace::Tenant => (StatusCode::TOO_MANY_REQUESTS, "too_many_calls"),
        };
        Self::new(status, code, full.to_string()).retry_after(1)
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        let answer = |status, code| Self::new(status, code, error.to_string());
        match &error {
            AdminError::UnknownTenant(_) => Self::unknown_tenant(error.to_string()),
            AdminError::UnknownPlan { .. } => answer(StatusCode::BAD_REQUEST, "unknown_plan").at_field("plan"),
            AdminError::PlanInUse { .. } => answer(StatusCode::CONFLICT, "plan_in_use").at_field("plan"),
            AdminError::InvalidPrices(_) => answer(StatusCode::BAD_REQUEST, "invalid_prices"),
            AdminError::Invalid { field, .. } => answer(StatusCode::BAD_REQUEST, "invalid_request").at_field(field),
            AdminError::TooManyTenants(_) => answer(StatusCode::FORBIDDEN, "too_many_tenants"),
            AdminError::Write(error) => error.clone().into(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        let answer = |status, code| Self::new(status, code, error.to_string());
        match &error {
            KeyError::Refused(KeyRefused::Unknown) => answer(StatusCode::NOT_FOUND, "key_unknown"),
            KeyError::Refused(KeyRefused::Ended(_)) => answer(StatusCode::CONFLICT, "key_ended"),
            KeyError::Refused(KeyRefused::Replaced(by)) => {
                answer(StatusCode::CONFLICT, "key_replaced").with_details(json!({ "replaced_by": by.to_string() }))
            }
            KeyError::Refused(KeyRefused::TooMany) => answer(StatusCode::FORBIDDEN, "too_many_keys"),
            KeyError::Refused(KeyRefused::Invalid { field, .. }) => {
                answer(StatusCode::BAD_REQUEST, "invalid_request").at_field(field)
            }
            KeyError::Write(error) => error.clone().into(),
        }
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Invalid { field, reason } => Fault::field("invalid_request", field, reason).into(),
            AuditError::Storage(cause) => ReadError::Storage(cause).into(),
            AuditError::Write(error) => error.into(),
            AuditError::ClockUnconfirmed => MaintainError::ClockUnconfirmed.into(),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Running(_) => Self::new(StatusCode::CONFLICT, "job_running", error.to_string()),
            JobError::Failed(error) => error.into(),
        }
    }
}

impl From<MaintainError> for ApiError {
    fn from(error: MaintainError) -> Self {
        match error {
            MaintainError::Read(error) => error.into(),
            MaintainError::Write(error) => error.into(),
            MaintainError::ClockUnconfirmed => Self::new(StatusCode::CONFLICT, "clock_unconfirmed", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status_and_code() {
        let tenant = || "acme".parse().unwrap();
        let blocked = |status| EnforceError::Blocked { tenant_id: tenant(), status };
        for (error, status, code) in [
            (ApiError::from(EnforceError::UnknownTenant(tenant())), 404, "tenant_unknown"),
            (blocked(TenantStatus::Expired).into(), 403, "plan_expired"),
            (blocked(TenantStatus::Suspended).into(), 403, "tenant_suspended"),
            (blocked(TenantStatus::Cancelled).into(), 403, "tenant_cancelled"),
            (blocked(TenantStatus::Deleted).into(), 404, "tenant_unknown"),
            (EnforceError::ReservationConflict("r".to_owned()).into(), 409, "reservation_conflict"),
            (EnforceError::UnknownReservation("r".to_owned()).into(), 404, "reservation_unknown"),
            (WriteError::QueueFull.into(), 503, "queue_full"),
            (WriteError::OutcomeUnknown.into(), 503, "commit_outcome_unknown"),
            (WriteError::Full(String::new()).into(), 507, "storage_full"),
            (AdminError::UnknownPlan { plan: "x".to_owned(), known: "trial".to_owned() }.into(), 400, "unknown_plan"),
            (ReadError::UnknownTenant(tenant()).into(), 404, "tenant_unknown"),
        ] {
            assert_eq!((error.status().as_u16(), error.code()), (status, code));
        }
    }

    #[test]
    fn the_inside_of_a_failure_is_not_told() {
        let error = ApiError::from(WriteError::Unavailable("/secret/path: permission denied".to_owned()));
        assert!(!error.message().contains("secret"), "{}", error.message());
        let response = ApiError::from(WriteError::QueueFull).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_sentence_has_an_end() {
        let error = ApiError::parameter("limit", "é".repeat(100_000));
        assert!(error.message().starts_with("limit é") && error.message().ends_with("é…"), "{}", error.message());
        assert_eq!(error.message().chars().count(), 1_001);
    }

    #[tokio::test]
    async fn the_two_refusals_at_the_door_are_the_documented_ones() {
        for (error, documented) in [
            (ApiError::unauthorized(), json!({ "error": "Unauthorized", "code": "ADMIN_AUTH_REQUIRED" })),
            (ApiError::wrong_cron_secret(), json!({ "error": "Unauthorized" })),
        ] {
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            let body = axum::body::to_bytes(response.into_body(), 1_024).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), documented);
        }
    }

    #[test]
    fn a_rejection_of_a_single_event_names_its_field() {
        let rejection = Rejection { code: "invalid_event", message: "event_timestamp is 1 h ahead".to_owned() };
        assert_eq!(ApiError::from(rejection).details, Some(json!({ "field": "event_timestamp" })));
    }
}
