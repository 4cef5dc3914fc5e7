//! Records: the disk's own shapes, encoded by bincode behind a version byte. Nothing outside this folder names bincode.
//!
//! Each record is `version · bincode`. A new shape is a new version beside the old one, which is read for ever.

mod audit;
mod backup;
mod job;
mod key;
mod price;
mod quota;
mod tenant;

use std::collections::BTreeMap;

use redb::{ReadableTable, Table};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::StoreError;
use super::tables::{FORMAT_VERSION, META_FORMAT, META_SECRET, META_STORE_ID};
use crate::domain::time::{PeriodType, Timestamp};

pub(super) use audit::{audit_leaf, decode_audit, encode_audit, recorded_at};
pub(super) use backup::{decode_backup, encode_backup};
pub(super) use job::{decode_job, encode_job};
pub(super) use key::{decode_api_key, encode_api_key};
pub use price::{StoredBook, StoredPrice};
pub(super) use price::{decode_book, decode_price, encode_book, encode_price};
pub use quota::FiledDenial;
pub(super) use quota::{
    STATES_PER_BLOCK, decode_denials, decode_operations, decode_quota_states, encode_denials, encode_operations,
    merge_quota_states,
};
pub(super) use tenant::{decode_plan, decode_tenant, encode_plan, encode_tenant};

const VERSION: u8 = 1;
/// Of records that have changed once: tenants, operations and filed denials.
const SECOND_VERSION: u8 = 2;
/// Of records that have changed twice: tenants, operations and filed denials, since there are thresholds and ceilings.
const THIRD_VERSION: u8 = 3;

/// Of records that have changed three times: tenants and operations, since tenants have prices of their own.
const FOURTH_VERSION: u8 = 4;

/// Bounds what a damaged record may make us allocate.
const MAX_RECORD: usize = 256 << 20;

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    encode_as(VERSION, record)
}

fn encode_as<T: Serialize>(version: u8, record: &T) -> Result<Vec<u8>, StoreError> {
    let mut out = vec![version];
    encode_body(record, &mut out)?;
    Ok(out)
}

fn encode_body<T: Serialize>(record: &T, out: &mut Vec<u8>) -> Result<(), StoreError> {
    bincode::serde::encode_into_std_write(record, out, bincode::config::standard())
        .map(|_| ())
        .map_err(|_| StoreError::Damaged("a record cannot be encoded"))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => decode_body(body),
        _ => Err(StoreError::Damaged("a record has an unknown version")),
    }
}

/// A record that has a second version: calls `first` or `second` with what stands behind the version byte.
fn decode_either<T>(
    bytes: &[u8],
    first: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    second: impl FnOnce(&[u8]) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => first(body),
        Some((&SECOND_VERSION, body)) => second(body),
        _ => Err(StoreError::Damaged("a record has an unknown version")),
    }
}

fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    match bincode::serde::decode_from_slice(body, bincode::config::standard().with_limit::<MAX_RECORD>()) {
        Ok((record, used)) if used == body.len() => Ok(record),
        _ => Err(StoreError::Damaged("a record cannot be read")),
    }
}

fn micros(time: Timestamp) -> i64 {
    time.micros()
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// The number of a period type in keys.
pub(super) const fn period_code(period_type: PeriodType) -> u8 {
    match period_type {
        PeriodType::Hourly => 0,
        PeriodType::Daily => 1,
        PeriodType::Monthly => 2,
    }
}

/// What a run of segment blocks holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Events in it.
    pub events: u64,
    /// The lowest entry id in it.
    pub first_entry_id: u64,
    /// The highest entry id in it.
    pub last_entry_id: u64,
    /// The earliest event time, in microseconds.
    pub first_time: i64,
    /// The latest event time, in microseconds.
    pub last_time: i64,
}

pub(super) fn encode_run(info: &RunInfo) -> Result<Vec<u8>, StoreError> {
    encode(info)
}

pub(super) fn decode_run(bytes: &[u8]) -> Result<RunInfo, StoreError> {
    decode(bytes)
}

/// How far the journal is filed, and what has to be known to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Commits up to this one are filed into segments.
    pub filed_seq: u64,
    /// The entry id after the last filed one.
    pub filed_next_entry_id: u64,
    /// Commits up to this one are in the saved quota counters.
    pub state_seq: u64,
    /// The server's time when the counters were saved last; the clock never starts before it.
    pub saved_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct CheckpointV1(u64, u64, u64, i64);

pub(super) fn encode_checkpoint(checkpoint: &Checkpoint) -> Result<Vec<u8>, StoreError> {
    let Checkpoint { filed_seq, filed_next_entry_id, state_seq, saved_at } = checkpoint;
    encode(&CheckpointV1(*filed_seq, *filed_next_entry_id, *state_seq, micros(*saved_at)))
}

pub(super) fn decode_checkpoint(bytes: &[u8]) -> Result<Checkpoint, StoreError> {
    let CheckpointV1(filed_seq, filed_next_entry_id, state_seq, saved_at) = decode(bytes)?;
    Ok(Checkpoint { filed_seq, filed_next_entry_id, state_seq, saved_at: instant(saved_at) })
}

/// What retention has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealtimeCut {
    /// Events strictly before this instant are gone from sight.
    pub cut: Timestamp,
    /// Events removed so far, ever.
    pub removed: u64,
}

pub(super) fn encode_cut(cut: &RealtimeCut) -> Result<Vec<u8>, StoreError> {
    encode(&(micros(cut.cut), cut.removed))
}

pub(super) fn decode_cut(bytes: &[u8]) -> Result<RealtimeCut, StoreError> {
    let (cut, removed) = decode(bytes)?;
    Ok(RealtimeCut { cut: instant(cut), removed })
}

/// What retention has taken of the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCut {
    /// Records before this instant are gone from sight.
    pub cut: Timestamp,
    /// The first record that is kept.
    pub min_index: u64,
    /// Records removed so far, ever.
    pub removed: u64,
}

pub(super) fn encode_audit_cut(cut: &AuditCut) -> Result<Vec<u8>, StoreError> {
    encode(&(micros(cut.cut), cut.min_index, cut.removed))
}

pub(super) fn decode_audit_cut(bytes: &[u8]) -> Result<AuditCut, StoreError> {
    let (cut, min_index, removed) = decode(bytes)?;
    Ok(AuditCut { cut: instant(cut), min_index, removed })
}

/// How far an hour's events are filed and folded, as entry ids; an hour is dirty while the first is above the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HourMark {
    /// The highest entry id filed into the hour.
    pub filed_through: u64,
    /// Every entry id up to this one is in the hour's row.
    pub folded_through: u64,
}

/// The store's own secret and id.
pub(super) type Identity = ([u8; 32], uuid::Uuid);

/// The format of the store; one that is newer than what is known here is refused.
pub(super) fn read_format(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u32, StoreError> {
    let version: u32 = match meta.get(META_FORMAT)? {
        Some(bytes) => decode(bytes.value())?,
        None => return Err(StoreError::Damaged("the store has no format version")),
    };
    if version > FORMAT_VERSION { Err(StoreError::NewerFormat { found: version }) } else { Ok(version) }
}

pub(super) fn write_format(meta: &mut Table<'_, &'static str, &'static [u8]>) -> Result<(), StoreError> {
    meta.insert(META_FORMAT, encode(&FORMAT_VERSION)?.as_slice())?;
    Ok(())
}

pub(super) fn encode_mark(mark: u64) -> Result<Vec<u8>, StoreError> {
    encode(&mark)
}

pub(super) fn decode_mark(bytes: &[u8]) -> Result<u64, StoreError> {
    decode(bytes)
}

pub(super) fn read_identity(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Identity, StoreError> {
    let (Some(secret), Some(id)) = (meta.get(META_SECRET)?, meta.get(META_STORE_ID)?) else {
        return Err(StoreError::Damaged("the store has no identity"));
    };
    Ok((decode(secret.value())?, uuid::Uuid::from_u128(decode(id.value())?)))
}

pub(super) fn write_identity(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    secret: &[u8; 32],
    store_id: uuid::Uuid,
) -> Result<(), StoreError> {
    write_format(meta)?;
    meta.insert(META_SECRET, encode(secret)?.as_slice())?;
    meta.insert(META_STORE_ID, encode(&store_id.as_u128())?.as_slice())?;
    Ok(())
}

type Labels = BTreeMap<String, String>;
