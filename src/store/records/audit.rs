//! Audit records on disk: the payload, and the leaf that commits to it.
//!
//! A payload is `2 · salt · bincode`, a leaf `version · index · recorded_at · SHA-256 of the payload's bytes`. The salt
//! stands in the payload: when that is erased, nothing is left to guess the commitment from, and the leaf still stands.

use serde::{Deserialize, Serialize};

use sha2::{Digest, Sha256};

use super::{VERSION, decode, decode_body, encode_body, instant, micros};
use crate::domain::audit::{ActorType, AuditAction, AuditEntry, AuditRecord, AuditResult};
use crate::domain::time::Timestamp;
use crate::rules::audit_bundle::{LEAF_BYTES, LEAF_VERSION};
use crate::store::StoreError;

/// The version byte of payloads with a salt in front.
const VERSION_SALTED: u8 = 2;
const SALT_BYTES: usize = 32;

/// The salt of one payload.
pub(in crate::store) type Salt = [u8; SALT_BYTES];
/// Version, index, recorded_at in microseconds (both big-endian), commitment.
pub(in crate::store) type Leaf = [u8; LEAF_BYTES];

/// The leaf over a payload's bytes, as they are stored.
pub(in crate::store) fn audit_leaf(record: &AuditRecord, payload: &[u8]) -> Leaf {
    let mut leaf = [0; LEAF_BYTES];
    leaf[0] = LEAF_VERSION;
    leaf[1..9].copy_from_slice(&record.index.to_be_bytes());
    leaf[9..17].copy_from_slice(&micros(record.timestamp).to_be_bytes());
    leaf[17..].copy_from_slice(&Sha256::digest(payload));
    leaf
}

/// When the record of a leaf was recorded.
pub(in crate::store) fn recorded_at(leaf: &[u8]) -> Result<Timestamp, StoreError> {
    let bytes = leaf.get(9..17).and_then(|bytes| bytes.try_into().ok()).filter(|_| leaf[0] == LEAF_VERSION);
    let bytes = bytes.ok_or(StoreError::Damaged("an audit leaf has an unknown version"))?;
    Ok(instant(i64::from_be_bytes(bytes)))
}

/// The record as version 1 wrote it.
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

/// What version 2 added behind it.
#[derive(Default, Serialize, Deserialize)]
struct AddedV2 {
    ip_address: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    occurred_at: Option<i64>,
    key_id: Option<String>,
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

pub(in crate::store) fn encode_audit(record: &AuditRecord, salt: &Salt) -> Result<Vec<u8>, StoreError> {
    let entry = record.entry.clone();
    let added = AddedV2 {
        ip_address: entry.ip_address,
        user_agent: entry.user_agent,
        request_id: entry.request_id,
        occurred_at: entry.occurred_at.map(micros),
        key_id: entry.key_id,
    };
    let first = AuditV1 {
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
    };
    let mut out = vec![VERSION_SALTED];
    out.extend_from_slice(salt);
    encode_body(&(first, added), &mut out)?;
    Ok(out)
}

pub(in crate::store) fn decode_audit(bytes: &[u8]) -> Result<AuditRecord, StoreError> {
    let (record, added): (AuditV1, AddedV2) = match bytes.split_first() {
        Some((&VERSION_SALTED, salted)) => {
            let body = salted.get(SALT_BYTES..).ok_or(StoreError::Damaged("an audit record ends early"))?;
            decode_body(body)?
        }
        Some((&VERSION, _)) => (decode(bytes)?, AddedV2::default()),
        _ => return Err(StoreError::Damaged("an audit record has an unknown version")),
    };
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
            ip_address: added.ip_address,
            user_agent: added.user_agent,
            request_id: added.request_id,
            occurred_at: added.occurred_at.map(instant),
            key_id: added.key_id,
        },
    })
}
