//! Erasure, asked for by an administrator.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::By;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::wire::Fault;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::backups::{listed_json, unreadable};
use super::blocking;
use crate::domain::tenant::TenantId;
use crate::erasure::EraseError;
use crate::rules::erasure::Subject;

/// `{subject, id, tenant_id?, dry_run?}` -> what was erased, and the backups that may still hold it.
pub async fn run(
    State(state): State<HttpState>,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let (subject, dry_run) = read(&body)?;
    let kind = subject.kind();
    let (erased, backups) = blocking(move || {
        let erased = state.engine.erasure().erase(&subject, dry_run, &actor).map_err(refused)?;
        let backups = state.engine.backups().made_between(erased.first_at, erased.finished_at).map_err(unreadable)?;
        Ok::<_, ApiError>((erased, backups))
    })
    .await??;
    let backups: Vec<Value> = backups.iter().map(listed_json).collect();
    Ok(Json(json!({
        "erasure_id": (!dry_run).then(|| erased.erasure_id.to_string()),
        "subject": kind,
        "dry_run": dry_run,
        "audit_records": erased.audit_records,
        "events": erased.events,
        "denials": erased.denials,
        "first_at": erased.first_at.map(|at| at.to_string()),
        "finished_at": erased.finished_at.to_string(),
        "file_rewritten": erased.rewritten,
        "writers_paused_ms": erased.paused.as_millis() as u64,
        "file_bytes_before": erased.file_bytes.0,
        "file_bytes_after": erased.file_bytes.1,
        "old_files_still_read": erased.still_read,
        "backups": backups,
    })))
}

fn read(body: &[u8]) -> Result<(Subject, bool), ApiError> {
    let mut object = Object::read(body)?;
    let kind: String = object.value("subject")?.ok_or_else(|| object.missing("subject"))?;
    let id: String = object.value("id")?.ok_or_else(|| object.missing("id"))?;
    let tenant_id: Option<TenantId> = object.parsed("tenant_id")?;
    let dry_run = object.value("dry_run")?.unwrap_or(false);
    object.finish("subject, id, tenant_id and dry_run")?;
    let fault = |field, what: String| ApiError::from(Fault::field(INVALID_REQUEST, field, what));
    let subject = match (kind.as_str(), tenant_id) {
        ("actor", tenant_id) => Subject::Actor { id, tenant_id },
        ("session", tenant_id) => Subject::Session { id, tenant_id },
        ("tenant", None) => {
            let parsed = id.parse().map_err(|error| fault("id", format!("is wrong: {error}")));
            Subject::Tenant(parsed?)
        }
        ("tenant", Some(_)) => {
            return Err(fault("tenant_id", "does not go with the subject tenant: use id".to_owned()));
        }
        _ => return Err(fault("subject", "must be actor, session or tenant".to_owned())),
    };
    Ok((subject, dry_run))
}

fn refused(error: EraseError) -> ApiError {
    match error {
        EraseError::InvalidId(reason) => Fault::field(INVALID_REQUEST, "id", reason).into(),
        EraseError::UnknownTenant(_) => ApiError::unknown_tenant(error.to_string()),
        EraseError::TenantNotDeleted(_) => {
            ApiError::new(StatusCode::CONFLICT, "tenant_not_deleted", error.to_string()).at_field("id")
        }
        EraseError::Store(error) => unreadable(error),
        EraseError::Write(error) => error.into(),
        EraseError::Rewrite(ref cause) => {
            tracing::error!(%cause, "an erasure could not write the file anew");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "erasure_unfinished", error.to_string())
        }
    }
}
