//! Event ids as a column of their own, outside the compressed part, so that an id is found without inflating a block.
//!
//! A UUIDv7 keeps its 74 random bits here, packed; its clock is kept as a difference to the event's time. A UUIDv4 keeps
//! its 122 random bits, any other UUID its 128. Texts keep their bytes, compressed together when that helps.

use std::borrow::Cow;
use std::ops::Range;

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
const UUID_V4: u8 = 4;

/// Bits of a UUIDv7 that are neither its clock nor its version and variant.
const V7_RANDOM_BITS: usize = 74;
/// Bits of a UUIDv4 that are neither its version nor its variant.
const V4_RANDOM_BITS: usize = 122;
/// Texts below this many bytes are not worth a compressor's header.
const COMPRESS_FROM: usize = 64;

fn class_of(id: &EventId) -> u8 {
    match id {
        EventId::Text(_) => TEXT,
        EventId::Uuid(uuid) if is_v7(uuid) => UUID_V7,
        EventId::Uuid(uuid) if is_v4(uuid) => UUID_V4,
        EventId::Uuid(_) => UUID,
    }
}

fn is_v4(uuid: &Uuid) -> bool {
    uuid.as_u128() >> 76 & 0xf == 4 && uuid.as_u128() >> 62 & 3 == 2
}

/// The first 48 bits of a UUID: the clock of a UUIDv7.
fn first_bits(uuid: &Uuid) -> u128 {
    uuid.as_u128() >> 80
}

/// The UUID of a version with these first 48 bits and these other 74.
fn of_version(version: u128, first: u128, other: u128) -> u128 {
    (first & 0xffff_ffff_ffff) << 80 | version << 76 | (other >> 62 & 0xfff) << 64 | 2 << 62 | other & ((1 << 62) - 1)
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
                drift.push(zigzag(stored.event_timestamp.micros() / 1_000 - first_bits(uuid) as i64));
            }
            (EventId::Uuid(uuid), UUID_V4) => {
                packed.put(first_bits(uuid) << V7_RANDOM_BITS | v7_random(uuid), V4_RANDOM_BITS);
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

/// The column, checked but not taken apart; UUIDv7 ids are whole only once their clocks are known.
pub(super) struct IdColumn<'a> {
    count: usize,
    /// The class of all, or [`MIXED`].
    class: u8,
    /// The class of each, where they differ.
    classes: &'a [u8],
    packed: &'a [u8],
    /// How long each text is.
    lengths: Vec<u64>,
    texts: Cow<'a, str>,
}

/// An id as the column has it.
#[derive(Clone, Copy)]
enum PartialId<'a> {
    Text(&'a str),
    Uuid(u128),
    V7Random(u128),
}

impl<'a> PartialId<'a> {
    const fn key(self) -> IdKey<'a> {
        match self {
            Self::Text(text) => IdKey::Text(text),
            Self::Uuid(bits) | Self::V7Random(bits) => IdKey::Bits(bits),
        }
    }
}

impl<'a> IdColumn<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, count: usize) -> Result<Self, StoreError> {
        let class = reader.byte()?;
        let classes = reader.take(if class == MIXED { count } else { 0 })?;
        if class > UUID_V4 || classes.iter().any(|class| *class == MIXED || *class > UUID_V4) {
            return Err(StoreError::Damaged("an id has no known class"));
        }
        let packed_bytes = reader.count(reader.rest().len())?;
        let packed = reader.take(packed_bytes)?;
        let texts_count = if class == TEXT { count } else { classes.iter().filter(|class| **class == TEXT).count() };
        let lengths = reader.planes(texts_count)?;
        let texts_bytes = reader.count(texts_count.saturating_mul(512))?;
        let texts = match reader.count(reader.rest().len())? {
            0 => Cow::Borrowed(std::str::from_utf8(reader.take(texts_bytes)?).map_err(not_utf8)?),
            length => {
                let inflated = zstd::bulk::decompress(reader.take(length)?, texts_bytes)
                    .map_err(|_| StoreError::Damaged("ids cannot be inflated"))?;
                Cow::Owned(String::from_utf8(inflated).map_err(not_utf8)?)
            }
        };
        let column = Self { count, class, classes, packed, lengths, texts };
        let end = column.place(count);
        let mut at = 0usize;
        let whole = column.lengths.iter().all(|length| {
            at = at.saturating_add(usize::try_from(*length).unwrap_or(usize::MAX));
            column.texts.is_char_boundary(at)
        });
        if !whole || end.bit > packed.len() * 8 {
            return Err(StoreError::Damaged("ids end early"));
        }
        Ok(column)
    }

    fn class_at(&self, place: usize) -> u8 {
        if self.class == MIXED { self.classes[place] } else { self.class }
    }

    /// Where the id at `place` begins.
    fn place(&self, place: usize) -> Place {
        let with = |class: u8| match self.class {
            MIXED => self.classes[..place].iter().filter(|of| **of == class).count(),
            uniform => {
                if uniform == class {
                    place
                } else {
                    0
                }
            }
        };
        let (texts, v7s) = (with(TEXT), with(UUID_V7));
        Place {
            bit: with(UUID) * 128 + with(UUID_V4) * V4_RANDOM_BITS + v7s * V7_RANDOM_BITS,
            text: texts,
            text_byte: self.lengths[..texts].iter().fold(0, |sum, length| sum.saturating_add(*length as usize)),
            v7s,
        }
    }

    /// The ids at `places`, which are within the column.
    fn ids(&self, places: Range<usize>) -> impl Iterator<Item = PartialId<'_>> {
        let Place { bit, mut text, mut text_byte, .. } = self.place(places.start);
        let mut packed = BitReader::at(self.packed, bit);
        places.map(move |place| match self.class_at(place) {
            // That all is there was found when the column was read.
            UUID => PartialId::Uuid(packed.take(128).unwrap_or_default()),
            UUID_V4 => {
                let random = packed.take(V4_RANDOM_BITS).unwrap_or_default();
                PartialId::Uuid(of_version(4, random >> V7_RANDOM_BITS, random))
            }
            UUID_V7 => PartialId::V7Random(packed.take(V7_RANDOM_BITS).unwrap_or_default()),
            _ => {
                let end = text_byte + self.lengths[text] as usize;
                let id = self.texts.get(text_byte..end).unwrap_or_default();
                (text, text_byte) = (text + 1, end);
                PartialId::Text(id)
            }
        })
    }

    /// The part of each id that is known without inflating, by which ids are hashed.
    pub(super) fn keys(&self, places: Range<usize>) -> impl Iterator<Item = IdKey<'_>> {
        self.ids(places).map(PartialId::key)
    }

    /// The whole ids at `places`, given all event times in microseconds and the clocks [`put_ids`] left in the compressed
    /// part.
    pub(super) fn finish(
        &self,
        places: Range<usize>,
        times: &[i64],
        clocks: &mut Reader<'_>,
    ) -> Result<Vec<EventId>, StoreError> {
        let drift = clocks.planes(self.place(self.count).v7s)?;
        let mut drift = drift.into_iter().skip(self.place(places.start).v7s);
        let ids = self.ids(places.clone()).zip(&times[places]);
        Ok(ids
            .map(|(id, time)| match id {
                PartialId::Text(text) => EventId::Text(text.into()),
                PartialId::Uuid(bits) => EventId::Uuid(Uuid::from_u128(bits)),
                PartialId::V7Random(random) => {
                    let clock = (time / 1_000).wrapping_sub(unzigzag(drift.next().unwrap_or(0)));
                    EventId::Uuid(Uuid::from_u128(of_version(7, clock as u128, random)))
                }
            })
            .collect())
    }

    /// Steps over the clocks in the compressed part.
    pub(super) fn skip_clocks(&self, reader: &mut Reader<'_>) -> Result<(), StoreError> {
        reader.skip_planes(self.place(self.count).v7s)
    }
}

/// What stands before an id in the column.
struct Place {
    bit: usize,
    text: usize,
    text_byte: usize,
    v7s: usize,
}

fn not_utf8<T>(_: T) -> StoreError {
    StoreError::Damaged("an id is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::format_tests::event;

    fn read_back(bytes: &[u8], clocks: &[u8], times: &[i64]) -> Vec<EventId> {
        let column = IdColumn::read(&mut Reader::new(bytes), times.len()).unwrap();
        column.finish(0..times.len(), times, &mut Reader::new(clocks)).unwrap()
    }

    #[test]
    fn a_random_id_takes_its_random_bits_and_nothing_more() {
        let ids: Vec<EventId> = (0..64).map(|_| EventId::Uuid(Uuid::new_v4())).collect();
        let events: Vec<StoredEvent> = ids.iter().map(|id| StoredEvent { event_id: id.clone(), ..event() }).collect();
        let (mut bytes, mut clocks) = (Vec::new(), Vec::new());
        put_ids(&mut bytes, &mut clocks, events.iter(), true).unwrap();
        assert_eq!(read_back(&bytes, &clocks, &[0; 64]), ids);
        // A class, two lengths that take one or two bytes, and no texts.
        let rest = bytes.len() - 64 * V4_RANDOM_BITS / 8;
        assert!(rest <= 6, "{rest} bytes beside the random ones");
    }

    #[test]
    fn an_id_that_was_kept_whole_is_still_read() {
        let uuid = Uuid::new_v4();
        let mut packed = BitWriter::default();
        packed.put(uuid.as_u128(), 128);
        let packed = packed.finish();
        let mut bytes = vec![UUID, 16];
        bytes.extend_from_slice(&packed);
        put_planes(&mut bytes, &[]);
        bytes.extend_from_slice(&[0, 0]);
        let mut clocks = Vec::new();
        put_planes(&mut clocks, &[]);
        assert_eq!(read_back(&bytes, &clocks, &[0]), [EventId::Uuid(uuid)]);
    }
}
