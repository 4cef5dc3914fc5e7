//! What an auditor takes away from the audit log: checkpoints, proofs, the whole log; and its verification.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::stream_body::stream_body;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::super::wire::{Fault, base64};
use super::audit::{ambiguous_event, note_foreign, unknown_event};
use super::blocking;
use crate::audit::{AuditVerification, ExportLine};
use crate::rules::checkpoint::VerifierKey;
use crate::rules::merkle::Hash;

/// The header with the verifier key of a checkpoint.
const VERIFIER_HEADER: &str = "x-metergate-verifier-key";
/// Bytes that are gathered before they are sent.
const PIECE_BYTES: usize = 64 * 1024;

/// A signed note over every record that was acknowledged before, as text.
pub async fn checkpoint(State(state): State<HttpState>, uri: Uri) -> Result<Response, ApiError> {
    Params::read(&uri, &[])?;
    let note = state.audit.checkpoint().await?;
    let note = note.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "audit_log_empty", "the audit log has no record to sign for yet")
    })?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned()),
        (VERIFIER_HEADER, state.audit.verifier_key()),
    ];
    Ok((headers, note).into_response())
}

/// `?event_id&tenant_id | index, size?` -> the leaf, its siblings and the root.
pub async fn inclusion(State(state): State<HttpState>, caller: Caller, uri: Uri) -> Result<Json<Value>, ApiError> {
    let params = Params::read(&uri, &["event_id", "tenant_id", "tenantId", "index", "size"])?;
    let (event_id, index) = (params.parsed::<Uuid>("event_id")?, params.parsed::<u64>("index")?);
    let (tenant_id, size) = (params.tenant()?, params.parsed::<u64>("size")?);
    if event_id.is_some() == index.is_some() {
        return Err(ApiError::parameter("event_id", "or index is required, and not both"));
    }
    let proof = blocking(move || {
        let event = match (event_id, index) {
            (Some(event_id), _) => {
                let mut found = state.audit.get_audit_event(event_id)?;
                note_foreign(&caller, found.iter().map(|event| event.record.entry.tenant_id.as_ref()));
                found.retain(|event| {
                    let whose = event.record.entry.tenant_id.as_ref();
                    caller.may_see(whose) && (tenant_id.is_none() || tenant_id.as_ref() == whose)
                });
                if found.len() > 1 {
                    return Err(ambiguous_event(event_id));
                }
                found.pop().ok_or_else(|| unknown_event(event_id))?
            }
            (None, index) => {
                let index = index.unwrap_or_default();
                let found = state.audit.get_audit_event_at(index)?;
                if found.is_none() && !caller.is_scoped() {
                    // Erased or freed: its leaf stands, and says nothing of anybody.
                    return Ok(state.audit.inclusion_proof(index, size)?);
                }
                let found = found.filter(|event| caller.may_see(event.record.entry.tenant_id.as_ref()));
                found.ok_or_else(|| {
                    let message = format!("there is no audit event at index {index}, or retention has taken it");
                    ApiError::new(StatusCode::NOT_FOUND, "audit_event_unknown", message)
                })?
            }
        };
        Ok(state.audit.inclusion_proof(event.record.index, size)?)
    });
    let proof = proof.await??;
    Ok(Json(json!({
        "index": proof.index,
        "size": proof.size,
        "leaf": base64(&proof.leaf),
        "leaf_hash": base64(&proof.leaf_hash),
        "proof": hashes(&proof.proof),
        "root": base64(&proof.root),
    })))
}

/// `?old&new?` -> what shows that the log has only grown.
pub async fn consistency(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let params = Params::read(&uri, &["old", "new"])?;
    let old = params.parsed::<u64>("old")?.ok_or_else(|| ApiError::parameter("old", "is required"))?;
    let new = params.parsed::<u64>("new")?;
    let proof = blocking(move || state.audit.consistency_proof(old, new)).await??;
    Ok(Json(json!({
        "old": { "size": proof.old.0, "root": base64(&proof.old.1) },
        "new": { "size": proof.new.0, "root": base64(&proof.new.1) },
        "proof": hashes(&proof.proof),
    })))
}

fn hashes(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| base64(hash)).collect()
}

/// `{checkpoint?, verifier_key?}` -> whether the log is whole, and what is not.
pub async fn verify(
    State(state): State<HttpState>,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let checkpoint: Option<String> = object.value("checkpoint")?;
    let verifier: Option<VerifierKey> = object.parsed("verifier_key")?;
    object.finish("checkpoint and verifier_key")?;
    if verifier.is_some() && checkpoint.is_none() {
        return Err(Fault::field(INVALID_REQUEST, "checkpoint", "is required beside verifier_key").into());
    }
    let found = blocking(move || state.audit.verify_audit(checkpoint.as_deref(), verifier.as_ref())).await??;
    Ok(Json(verification(&found)))
}

fn verification(found: &AuditVerification) -> Value {
    let AuditVerification { check, kept } = found;
    let faults: Vec<Value> =
        check.faults.iter().map(|(index, fault)| json!({ "index": index, "fault": fault })).collect();
    json!({
        "whole": found.is_whole(),
        "size": check.size,
        "root": base64(&check.root),
        "records": check.records,
        "freed_by_retention": check.freed,
        "erased": check.erased,
        "missing": check.missing.iter().map(|(from, to)| json!({ "from": from, "to": to })).collect::<Vec<_>>(),
        "faults": faults,
        "checkpoint": kept.as_ref().map(|kept| json!({
            "size": kept.size,
            "root": base64(&kept.root),
            "agrees": kept.fault.is_none(),
            "fault": kept.fault,
        })),
    })
}

/// The whole log as JSON Lines that `metergate audit verify --bundle` reads: each leaf, and the stored bytes it commits to.
pub async fn export(State(state): State<HttpState>, uri: Uri) -> Result<Response, ApiError> {
    Params::read(&uri, &[])?;
    let note = state.audit.checkpoint().await?;
    let verifier = state.audit.verifier_key();
    let (pieces, body) = stream_body();
    tokio::task::spawn_blocking(move || {
        let first = json!({ "kind": "audit_log", "format": 1, "checkpoint": note, "verifier_key": verifier });
        let mut waiting = format!("{first}\n").into_bytes();
        let send = |waiting: &mut Vec<u8>| pieces.blocking_send(Ok(Bytes::from(std::mem::take(waiting)))).is_ok();
        let shown = state.audit.export_audit(&mut |ExportLine { index, leaf, payload }| {
            let payload = payload.map(|bytes| base64(&bytes));
            let line = json!({ "index": index, "leaf": base64(&leaf), "record": payload });
            waiting.extend_from_slice(format!("{line}\n").as_bytes());
            waiting.len() < PIECE_BYTES || send(&mut waiting)
        });
        match shown {
            Ok((size, min_index)) => {
                let end = json!({ "kind": "end", "size": size, "min_index": min_index });
                waiting.extend_from_slice(format!("{end}\n").as_bytes());
                let _reader_may_be_gone = send(&mut waiting);
            }
            Err(error) => {
                let _reader_may_be_gone = pieces.blocking_send(Err(ApiError::from(error).into()));
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}
