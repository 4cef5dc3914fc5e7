//! Segment blocks: the events of many tenants, sorted by tenant and time, in a little under 32 KiB.
//!
//! ```text
//! version · checksum of all that follows
//! tenants: (number, events)... · first and last event time
//! ids, packed                                  found without inflating anything
//! zstd: clocks of UUIDv7 ids, event columns
//! ```

use std::ops::{Range, RangeInclusive};

use super::StoreError;
use super::bytes::{Reader, put_varint, unzigzag, zigzag};
use super::column_reader::{EventColumns, FiledEvent, read_events};
use super::columns::{FIRST, MAX_EVENTS_IN_BLOCK, StoredEvent, WITH_LATER, put_events};
use super::id_column::{IdColumn, put_ids};
use crate::domain::event::IdKey;

/// redb rounds a value up to 4 KiB x 2^k; a block plus its page's overhead stays just below one of 32 KiB.
pub(super) const BLOCK_BYTES: usize = 32 * 1024 - 96;
const HEADER: usize = 9;
/// A block inflates to at most this.
const MAX_INFLATED: usize = 64 << 20;

/// The first tenant number of a block, and its bytes.
pub(super) type CutBlock = (u32, Vec<u8>);

/// Events in key order, cut into blocks that fit.
///
/// `events` must be sorted by (tenant number, event time, entry id). Gives (first tenant number, block bytes).
pub(super) fn cut_into_blocks(events: &[&StoredEvent]) -> Result<Vec<CutBlock>, StoreError> {
    cut(events, true).map(|(blocks, _)| blocks)
}

/// The same, but for events at the end that fill no block; gives how many those are.
pub(super) fn cut_full_blocks(events: &[&StoredEvent]) -> Result<(Vec<CutBlock>, usize), StoreError> {
    cut(events, false)
}

fn cut(events: &[&StoredEvent], to_the_end: bool) -> Result<(Vec<CutBlock>, usize), StoreError> {
    let mut blocks = Vec::new();
    let mut rest = events;
    // A guess that follows what the last block needed, so that most blocks are encoded once.
    let mut guess = 1_024usize;
    while !rest.is_empty() {
        let mut take = guess.min(rest.len());
        let mut block = encode(&rest[..take])?;
        while block.len() > BLOCK_BYTES && take > 1 {
            take = (take * BLOCK_BYTES * 96 / 100 / block.len()).clamp(1, take - 1);
            block = encode(&rest[..take])?;
        }
        // A block that came out small is filled, as long as there is more to put in.
        let is_small = |block: &[u8]| block.len() < BLOCK_BYTES * 8 / 10;
        if take < rest.len() && is_small(&block) {
            let more = filled(take, block.len()).clamp(take, rest.len());
            let fuller = encode(&rest[..more])?;
            if fuller.len() <= BLOCK_BYTES {
                (take, block) = (more, fuller);
            }
        }
        if take == rest.len() && is_small(&block) && !to_the_end {
            break;
        }
        guess = filled(take, block.len());
        blocks.push((rest[0].tenant_no, block));
        rest = &rest[take..];
    }
    Ok((blocks, rest.len()))
}

/// How many events fill a block, given that `events` made one of `bytes`.
fn filled(events: usize, bytes: usize) -> usize {
    (events * BLOCK_BYTES * 96 / 100 / bytes.max(1)).max(1)
}

fn encode(events: &[&StoredEvent]) -> Result<Vec<u8>, StoreError> {
    let mut out = vec![FIRST, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut tenants: Vec<(u32, u64)> = Vec::new();
    for stored in events {
        match tenants.last_mut() {
            Some((tenant, count)) if *tenant == stored.tenant_no => *count += 1,
            _ => tenants.push((stored.tenant_no, 1)),
        }
    }
    put_varint(&mut out, tenants.len() as u64);
    let mut last = 0;
    for (tenant, count) in tenants {
        put_varint(&mut out, u64::from(tenant - last));
        put_varint(&mut out, count);
        last = tenant;
    }
    let times = || events.iter().map(|stored| stored.event_timestamp.micros());
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    put_varint(&mut out, zigzag(first));
    put_varint(&mut out, zigzag(last - first));

    let mut columns = Vec::with_capacity(events.len() * 40);
    put_ids(&mut out, &mut columns, events.iter().copied(), true)?;
    out[0] = put_events(&mut columns, events.iter().copied(), true);
    put_varint(&mut out, columns.len() as u64);
    out.extend(zstd::bulk::compress(&columns, 1).map_err(|_| StoreError::Damaged("a block cannot be compressed"))?);

    let checksum = xxhash_rust::xxh3::xxh3_64(&out[HEADER..]);
    out[1..HEADER].copy_from_slice(&checksum.to_le_bytes());
    Ok(out)
}

/// A block whose checksum holds and whose directory is read; nothing is inflated yet.
pub(super) struct Block<'a> {
    tenants: Vec<(u32, usize)>,
    /// Event times, first and last, in microseconds.
    pub(super) span: (i64, i64),
    ids: IdColumn<'a>,
    count: usize,
    inflated: usize,
    columns: &'a [u8],
}

impl<'a> Block<'a> {
    /// Fails when the version is unknown or the bytes are not those that were written.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes);
        if ![FIRST, WITH_LATER].contains(&reader.byte()?) {
            return Err(StoreError::Damaged("a segment block has an unknown version"));
        }
        if reader.u64_le()? != xxhash_rust::xxh3::xxh3_64(reader.rest()) {
            return Err(StoreError::Damaged("a segment block fails its checksum"));
        }
        let count = reader.count(MAX_EVENTS_IN_BLOCK)?;
        let mut tenants = Vec::with_capacity(count);
        let (mut tenant, mut events) = (0u32, 0usize);
        for _ in 0..count {
            tenant = tenant.wrapping_add(reader.varint()? as u32);
            let of_tenant = reader.count(MAX_EVENTS_IN_BLOCK)?;
            events += of_tenant;
            tenants.push((tenant, of_tenant));
        }
        if events > MAX_EVENTS_IN_BLOCK {
            return Err(StoreError::Damaged("a block claims too many events"));
        }
        let first = unzigzag(reader.varint()?);
        let span = (first, first.wrapping_add(unzigzag(reader.varint()?)));
        let ids = IdColumn::read(&mut reader, events)?;
        let inflated = reader.count(MAX_INFLATED)?;
        Ok(Self { tenants, span, ids, count: events, inflated, columns: reader.rest() })
    }

    /// What the columns inflate to, in bytes, and the columns.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (usize, &'a [u8]) {
        (self.inflated, self.columns)
    }

    /// Events in it.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// The places of a tenant's events, empty when it has none here.
    pub(super) fn places_of(&self, tenant_no: u32) -> Range<usize> {
        let mut start = 0;
        for &(tenant, count) in &self.tenants {
            if tenant == tenant_no {
                return start..start + count;
            }
            start += count;
        }
        0..0
    }

    /// Hands out each id's tenant number and the part of it that is known without inflating.
    pub(super) fn each_id_key(&self, mut see: impl FnMut(u32, IdKey<'_>)) {
        let mut keys = self.ids.keys(0..self.count);
        for &(tenant, count) in &self.tenants {
            keys.by_ref().take(count).for_each(|key| see(tenant, key));
        }
    }

    /// The places of a tenant's events whose ids have this key: hardly ever more than one.
    pub(super) fn places_with(&self, tenant_no: u32, key: IdKey<'_>) -> Vec<usize> {
        let places = self.places_of(tenant_no);
        let with_keys = places.clone().zip(self.ids.keys(places));
        with_keys.filter(|(_, of)| *of == key).map(|(place, _)| place).collect()
    }

    /// The places of the events of these tenants.
    pub(super) fn places_within(&self, tenants: &RangeInclusive<u32>) -> Range<usize> {
        let events = |tenants: &[(u32, usize)]| tenants.iter().map(|(_, count)| count).sum::<usize>();
        let first = self.tenants.partition_point(|(tenant, _)| tenant < tenants.start());
        let end = self.tenants.partition_point(|(tenant, _)| tenant <= tenants.end()).max(first);
        let start = events(&self.tenants[..first]);
        start..start + events(&self.tenants[first..end])
    }

    /// Inflates every event.
    pub(super) fn events(&self) -> Result<Vec<StoredEvent>, StoreError> {
        self.events_at(0..self.count)
    }

    /// Inflates the events at these places.
    pub(super) fn events_at(&self, places: Range<usize>) -> Result<Vec<StoredEvent>, StoreError> {
        let columns = zstd::bulk::decompress(self.columns, self.inflated).map_err(not_inflated)?;
        // The clocks of the ids stand before the columns, whose times they need: find their end first.
        let mut clocks = Reader::new(&columns);
        let mut reader = Reader::new(&columns);
        self.ids.skip_clocks(&mut reader)?;
        let ids = |times: &[i64]| self.ids.finish(places.clone(), times, &mut clocks);
        read_events(&mut reader, (&self.tenant_of_each(), places.clone()), None, ids)
    }

    /// Hands out the events at these places, without their ids.
    pub(super) fn each_at(
        &self,
        places: Range<usize>,
        inflater: &mut Inflater,
        see: &mut impl FnMut(FiledEvent),
    ) -> Result<(), StoreError> {
        let mut reader = Reader::new(inflater.inflate(self.columns, self.inflated)?);
        self.ids.skip_clocks(&mut reader)?;
        let columns = EventColumns::read(&mut reader, self.count, places, true)?;
        columns.each(&self.tenant_of_each(), Default::default(), |event, _| see(event));
        Ok(())
    }

    fn tenant_of_each(&self) -> Vec<u32> {
        self.tenants.iter().flat_map(|&(tenant, count)| std::iter::repeat_n(tenant, count)).collect()
    }
}

fn not_inflated(_: std::io::Error) -> StoreError {
    StoreError::Damaged("a segment block cannot be inflated")
}

/// Inflates block after block in the same memory.
pub(super) struct Inflater {
    zstd: zstd::bulk::Decompressor<'static>,
    columns: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new().map_err(not_inflated)?, columns: Vec::new() })
    }

    fn inflate(&mut self, columns: &[u8], inflated: usize) -> Result<&[u8], StoreError> {
        self.columns.clear();
        self.columns.reserve(inflated);
        self.zstd.decompress_to_buffer(columns, &mut self.columns).map_err(not_inflated)?;
        Ok(&self.columns)
    }
}
