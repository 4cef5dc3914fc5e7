//! Event ids as a column of their own, outside the compressed part, so that an id is found without inflating a block.
//!
//! A UUIDv7 keeps its 74 random bits here, packed; its clock is kept as a difference to the event's time. Any other UUID
//! keeps its 128 bits. Texts keep their bytes, compressed together when that helps.

use compact_str::CompactString;
use uuid::Uuid;

use super::StoreError;
use super::bytes::{BitReader, BitWriter, Reader, put_planes, put_varint, unzigzag, zigzag};
use super::columns::StoredEvent;
use crate::domain::event::{EventId, IdKey, is_v7, v7_random};

const TEXT: u8 = 0;
const UUID: u8 = 1;
const UUID_V7: u8 = 2;
/// Each id has a class of its own, listed.
const MIXED: u8 = 3;

/// Bits of a UUIDv7 that are neither its clock nor its version and variant.
const V7_RANDOM_BITS: usize = 74;
/// Texts below this many bytes are not worth a compressor's header.
const COMPRESS_FROM: usize = 64;

fn class_of(id: &EventId) -> u8 {
    match id {
        EventId::Text(_) => TEXT,
        EventId::Uuid(uuid) if is_v7(uuid) => UUID_V7,
        EventId::Uuid(_) => UUID,
    }
}

fn v7_clock(uuid: &Uuid) -> i64 {
    (uuid.as_u128() >> 80) as i64
}

fn v7(clock: i64, random: u128) -> Uuid {
    let bits = (clock as u128 & 0xffff_ffff_ffff) << 80
        | 7 << 76
        | (random >> 62 & 0xfff) << 64
        | 2 << 62
        | random & ((1 << 62) - 1);
    Uuid::from_u128(bits)
}

/// Appends the column, its texts compressed when `squeeze`, and the clocks of UUIDv7 ids to `clocks`, which belongs into the compressed part.
pub(super) fn put_ids<'a>(
    out: &mut Vec<u8>,
    clocks: &mut Vec<u8>,
    events: impl Iterator<Item = &'a StoredEvent> + Clone,
    squeeze: bool,
) -> Result<(), StoreError> {
    let mut classes = events.clone().map(|stored| class_of(&stored.event_id));
    let first = classes.next().unwrap_or(TEXT);
    if classes.all(|class| class == first) {
        out.push(first);
    } else {
        out.push(MIXED);
        out.extend(events.clone().map(|stored| class_of(&stored.event_id)));
    }

    let mut packed = BitWriter::default();
    let mut drift = Vec::new();
    let mut texts = Vec::new();
    let mut lengths = Vec::new();
    for stored in events {
        match (&stored.event_id, class_of(&stored.event_id)) {
            (EventId::Uuid(uuid), UUID_V7) => {
                packed.put(v7_random(uuid), V7_RANDOM_BITS);
                drift.push(zigzag(stored.event_timestamp.micros() / 1_000 - v7_clock(uuid)));
            }
            (EventId::Uuid(uuid), _) => packed.put(uuid.as_u128(), 128),
            (EventId::Text(text), _) => {
                texts.extend_from_slice(text.as_bytes());
                lengths.push(text.len() as u64);
            }
        }
    }
    let packed = packed.finish();
    put_varint(out, packed.len() as u64);
    out.extend_from_slice(&packed);
    put_planes(out, &lengths);
    put_varint(out, texts.len() as u64);
    if squeeze && texts.len() >= COMPRESS_FROM {
        let squeezed = zstd::bulk::compress(&texts, 1).map_err(|_| StoreError::Damaged("ids cannot be compressed"))?;
        put_varint(out, squeezed.len() as u64);
        out.extend_from_slice(&squeezed);
    } else {
        put_varint(out, 0);
        out.extend_from_slice(&texts);
    }
    put_planes(clocks, &drift);
    Ok(())
}

/// The column, read; UUIDv7 ids are whole only once their clocks are known.
pub(super) struct IdColumn {
    ids: Vec<PartialId>,
}

enum PartialId {
    Text(CompactString),
    Uuid(u128),
    V7Random(u128),
}

impl PartialId {
    fn key(&self) -> IdKey<'_> {
        match self {
            Self::Text(text) => IdKey::Text(text),
            Self::Uuid(bits) => IdKey::Bits(*bits),
            Self::V7Random(random) => IdKey::Bits(*random),
        }
    }
}

impl IdColumn {
    pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Self, StoreError> {
        let uniform = reader.byte()?;
        let classes = if uniform == MIXED { reader.take(count)?.to_vec() } else { vec![uniform; count] };
        let packed_bytes = reader.count(reader.rest().len())?;
        let mut packed = BitReader::new(reader.take(packed_bytes)?);
        let texts_count = classes.iter().filter(|&&class| class == TEXT).count();
        let mut lengths = reader.planes(texts_count)?.into_iter();
        let texts_bytes = reader.count(texts_count.saturating_mul(512))?;
        let inflated;
        let mut texts = match reader.count(reader.rest().len())? {
            0 => Reader::new(reader.take(texts_bytes)?),
            length => {
                inflated = zstd::bulk::decompress(reader.take(length)?, texts_bytes)
                    .map_err(|_| StoreError::Damaged("ids cannot be inflated"))?;
                Reader::new(&inflated)
            }
        };
        let mut ids = Vec::with_capacity(count);
        for class in classes {
            ids.push(match class {
                TEXT => {
                    let bytes = texts.take(lengths.next().unwrap_or(0) as usize)?;
                    let text = std::str::from_utf8(bytes).map_err(|_| StoreError::Damaged("an id is not UTF-8"))?;
                    PartialId::Text(text.into())
                }
                UUID => PartialId::Uuid(packed.take(128)?),
                UUID_V7 => PartialId::V7Random(packed.take(V7_RANDOM_BITS)?),
                _ => return Err(StoreError::Damaged("an id has no known class")),
            });
        }
        Ok(Self { ids })
    }

    /// The part of each id that is known without inflating, by which ids are hashed.
    pub(super) fn keys(&self) -> impl Iterator<Item = IdKey<'_>> {
        self.ids.iter().map(PartialId::key)
    }

    /// The whole ids, given the event times in microseconds and the clocks [`put_ids`] left in the compressed part.
    pub(super) fn finish(self, times: &[i64], clocks: &mut Reader<'_>) -> Result<Vec<EventId>, StoreError> {
        let v7_count = self.ids.iter().filter(|id| matches!(id, PartialId::V7Random(_))).count();
        let mut drift = clocks.planes(v7_count)?.into_iter();
        Ok(self
            .ids
            .into_iter()
            .zip(times)
            .map(|(id, time)| match id {
                PartialId::Text(text) => EventId::Text(text),
                PartialId::Uuid(bits) => EventId::Uuid(Uuid::from_u128(bits)),
                PartialId::V7Random(random) => {
                    let clock = (time / 1_000).wrapping_sub(unzigzag(drift.next().unwrap_or(0)));
                    EventId::Uuid(v7(clock, random))
                }
            })
            .collect())
    }
}

impl IdColumn {
    /// Steps over the clocks in the compressed part.
    pub(super) fn skip_clocks(&self, reader: &mut Reader<'_>) -> Result<(), StoreError> {
        let v7_count = self.ids.iter().filter(|id| matches!(id, PartialId::V7Random(_))).count();
        reader.planes(v7_count).map(drop)
    }
}
