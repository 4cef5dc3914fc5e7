//! Journal blocks: everything of one commit, in order.
//!
//! ```text
//! version · checksum of all that follows
//! nonce · commit time · first entry id · entry ids used
//! operations (bincode)
//! lz4: tenant numbers, ids, event columns
//! ```
//!
//! The nonce depends on a secret of the store: a caller cannot choose bytes that make a half-written commit look whole.

use super::StoreError;
use super::bytes::{Reader, put_planes, put_varint};
use super::column_reader::read_events;
use super::columns::{FIRST, MAX_EVENTS_IN_BLOCK, StoredEvent, WITH_LATER, put_events};
use super::id_column::{IdColumn, put_ids};
use super::records;
use crate::domain::quota::Denial;
use crate::domain::quota::Hold;
use crate::domain::tenant::Tenant;
use crate::domain::time::Timestamp;

const HEADER: usize = 9;
const MAX_INFLATED: usize = 1 << 30;

/// One commit: what was decided together and reaches the disk together.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its number, counted from 1 without gaps.
    pub seq: u64,
    /// The server's time, in whole milliseconds; the `created_at` of its events.
    pub committed_at: Timestamp,
    /// The entry id of its first event; denials take theirs behind the events.
    pub first_entry_id: u64,
    /// Entry ids used.
    pub entries: u64,
    /// The events accepted, in order.
    pub events: Vec<StoredEvent>,
    /// What else happened.
    pub operations: Vec<PlacedOperation>,
}

/// An operation and its place among the commit's events.
#[derive(Clone, Debug)]
pub struct PlacedOperation {
    /// It happened before the event of this place (or after all, when equal to their number).
    pub before_event: u32,
    /// What happened.
    pub operation: Operation,
}

/// What can happen to quotas in a commit, beside events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A grant.
    Hold {
        /// Whose.
        tenant_no: u32,
        /// What.
        hold: Hold,
    },
    /// The next `events` events settle this reservation.
    Settle {
        /// Whose.
        tenant_no: u32,
        /// Which.
        reservation_id: String,
        /// How many events follow that belong to it.
        events: u32,
    },
    /// A reservation given back.
    Release {
        /// Whose.
        tenant_no: u32,
        /// Which.
        reservation_id: String,
    },
    /// Denials of one limit.
    Denied {
        /// Whose.
        tenant_no: u32,
        /// Its place in the log.
        entry_id: u64,
        /// What was denied.
        denial: Denial,
    },
    /// A tenant as it is from here on.
    Tenant {
        /// Its number.
        tenant_no: u32,
        /// What it is.
        tenant: Box<Tenant>,
    },
}

/// The block of `commit`.
pub(super) fn encode(commit: &Commit, nonce: u64) -> Result<Vec<u8>, StoreError> {
    let mut columns = Vec::with_capacity(64 + commit.events.len() * 60);
    let tenants: Vec<u64> = commit.events.iter().map(|stored| u64::from(stored.tenant_no)).collect();
    put_planes(&mut columns, &tenants);
    let mut clocks = Vec::new();
    put_ids(&mut columns, &mut clocks, commit.events.iter(), false)?;
    columns.extend_from_slice(&clocks);
    let version = put_events(&mut columns, commit.events.iter(), false);

    let mut out = Vec::with_capacity(64 + columns.len() / 2);
    out.extend_from_slice(&[version, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&nonce.to_le_bytes());
    put_varint(&mut out, commit.committed_at.micros() as u64);
    put_varint(&mut out, commit.first_entry_id);
    put_varint(&mut out, commit.entries);
    let operations = records::encode_operations(&commit.operations)?;
    put_varint(&mut out, operations.len() as u64);
    out.extend_from_slice(&operations);
    put_varint(&mut out, commit.events.len() as u64);
    put_varint(&mut out, columns.len() as u64);
    out.extend_from_slice(&lz4_flex::block::compress(&columns));
    let checksum = xxhash_rust::xxh3::xxh3_64(&out[HEADER..]);
    out[1..HEADER].copy_from_slice(&checksum.to_le_bytes());
    Ok(out)
}

/// Reads the block of commit `seq`.
pub(super) fn decode(seq: u64, bytes: &[u8]) -> Result<Commit, StoreError> {
    let mut reader = Reader::new(bytes);
    if ![FIRST, WITH_LATER].contains(&reader.byte()?) {
        return Err(StoreError::Damaged("a journal block has an unknown version"));
    }
    if reader.u64_le()? != xxhash_rust::xxh3::xxh3_64(reader.rest()) {
        return Err(StoreError::Damaged("a journal block fails its checksum"));
    }
    let _nonce = reader.u64_le()?;
    let committed_at = Timestamp::from_micros(reader.varint()? as i64);
    let first_entry_id = reader.varint()?;
    let entries = reader.varint()?;
    let length = reader.count(reader.rest().len())?;
    let operations = records::decode_operations(reader.take(length)?)?;
    let count = reader.count(MAX_EVENTS_IN_BLOCK)?;
    let inflated = reader.count(MAX_INFLATED)?;
    let columns = lz4_flex::block::decompress(reader.rest(), inflated)
        .map_err(|_| StoreError::Damaged("a journal block cannot be inflated"))?;
    let mut reader = Reader::new(&columns);
    let tenants: Vec<u32> = reader.planes(count)?.into_iter().map(|number| number as u32).collect();
    let ids = IdColumn::read(&mut reader, count)?;
    let mut clocks = Reader::new(reader.rest());
    ids.skip_clocks(&mut reader)?;
    let events = read_events(&mut reader, (&tenants, 0..count), Some((first_entry_id, committed_at)), |times| {
        ids.finish(0..count, times, &mut clocks)
    })?;
    Ok(Commit { seq, committed_at, first_entry_id, entries, events, operations })
}
