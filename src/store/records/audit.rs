//! Audit records on disk.

use serde::{Deserialize, Serialize};

use super::{decode, encode, instant, micros};
use crate::domain::audit::{ActorType, AuditAction, AuditEntry, AuditRecord, AuditResult};
use crate::store::StoreError;

#[derive(Serialize, Deserialize)]
struct AuditV1 {
    index: u64,
    event_id: u128,
    timestamp: i64,
    tenant_id: Option<String>,
    event_type: String,
    entity_type: String,
    entity_id: Option<String>,
    action: u8,
    actor_type: u8,
    actor_id: Option<String>,
    old_values: Option<String>,
    new_values: Option<String>,
    changes_summary: Option<String>,
    result: u8,
    error_message: Option<String>,
}

// A word's number on disk is its place here: append, never reorder.
const ACTIONS: [AuditAction; 5] =
    [AuditAction::Create, AuditAction::Update, AuditAction::Delete, AuditAction::Access, AuditAction::Error];
const ACTORS: [ActorType; 4] = [ActorType::System, ActorType::Admin, ActorType::Tenant, ActorType::Visitor];
const RESULTS: [AuditResult; 3] = [AuditResult::Success, AuditResult::Failure, AuditResult::Partial];

fn number<T: PartialEq>(words: &[T], word: &T) -> u8 {
    // Every word stands in its list, and the lists are short.
    words.iter().position(|known| known == word).unwrap_or(0) as u8
}

fn word<T: Copy>(words: &[T], number: u8) -> Result<T, StoreError> {
    words.get(usize::from(number)).copied().ok_or(StoreError::Damaged("an audit record holds an unknown word"))
}

pub(in crate::store) fn encode_audit(record: &AuditRecord) -> Result<Vec<u8>, StoreError> {
    let entry = record.entry.clone();
    encode(&AuditV1 {
        index: record.index,
        event_id: record.event_id.as_u128(),
        timestamp: micros(record.timestamp),
        tenant_id: entry.tenant_id.map(|id| id.to_string()),
        event_type: entry.event_type,
        entity_type: entry.entity_type,
        entity_id: entry.entity_id,
        action: number(&ACTIONS, &entry.action),
        actor_type: number(&ACTORS, &entry.actor_type),
        actor_id: entry.actor_id,
        old_values: entry.old_values,
        new_values: entry.new_values,
        changes_summary: entry.changes_summary,
        result: number(&RESULTS, &entry.result),
        error_message: entry.error_message,
    })
}

pub(in crate::store) fn decode_audit(bytes: &[u8]) -> Result<AuditRecord, StoreError> {
    let record: AuditV1 = decode(bytes)?;
    let tenant_id = record.tenant_id.map(|id| id.parse()).transpose();
    Ok(AuditRecord {
        index: record.index,
        event_id: uuid::Uuid::from_u128(record.event_id),
        timestamp: instant(record.timestamp),
        entry: AuditEntry {
            tenant_id: tenant_id.map_err(|_| StoreError::Damaged("an audit record names no valid tenant"))?,
            event_type: record.event_type,
            entity_type: record.entity_type,
            entity_id: record.entity_id,
            action: word(&ACTIONS, record.action)?,
            actor_type: word(&ACTORS, record.actor_type)?,
            actor_id: record.actor_id,
            old_values: record.old_values,
            new_values: record.new_values,
            changes_summary: record.changes_summary,
            result: word(&RESULTS, record.result)?,
            error_message: record.error_message,
        },
    })
}
