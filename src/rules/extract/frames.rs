//! The frames of Amazon's event stream (`application/vnd.amazon.eventstream`) as they pass, cut anywhere.
//!
//! A frame is its length, the length of its headers, a checksum of both, the headers, a payload, and a checksum of all
//! of it. What fails a checksum or a length ends the stream: nothing behind it is looked at.

use crc32fast::Hasher;

use super::ExtractError;

/// Two lengths and their checksum.
const PRELUDE: usize = 12;
/// Everything but headers and payload.
const FRAME: u32 = 16;
/// Longest headers: no service may send longer ones.
const HEADERS_MAX: u32 = 128 << 10;

/// Kinds of headers' values, by the number that names them.
const BYTES: u8 = 6;
const STRING: u8 = 7;

/// What a frame's headers say of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// `chunk`: a part of the model's own answer, packed.
    Chunk,
    /// `metadata`: of a converse.
    Metadata,
    /// Another event, an exception, or an error.
    #[default]
    Other,
}

/// What passes.
pub(super) enum Part<'a> {
    /// The next bytes of a payload, which are not yet known to be as they were sent.
    Payload(FrameKind, &'a [u8]),
    /// The frame that they are of is whole, and as it was sent.
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Prelude,
    Headers,
    Payload,
    Checksum,
}

/// Where the stream stands. Keeps the headers of one frame and nothing of its payload.
pub(super) struct Frames {
    section: Section,
    /// Bytes of the section that have not come.
    left: u32,
    payload: u32,
    kept: Vec<u8>,
    sum: Hasher,
    kind: FrameKind,
}

impl Default for Frames {
    fn default() -> Self {
        let (section, kept, sum) = (Section::Prelude, Vec::new(), Hasher::new());
        Self { section, left: PRELUDE as u32, payload: 0, kept, sum, kind: FrameKind::Other }
    }
}

impl Frames {
    /// Takes the next bytes. After an error it must not be fed again.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut pass: impl FnMut(Part<'_>) -> Result<(), ExtractError>,
    ) -> Result<(), ExtractError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let here = rest.len().min(self.left as usize);
            let (part, behind) = rest.split_at(here);
            self.left -= here as u32;
            rest = behind;
            if self.section == Section::Payload {
                self.sum.update(part);
                pass(Part::Payload(self.kind, part))?;
            } else {
                self.kept.extend_from_slice(part);
            }
            while self.left == 0 {
                if self.end_section()? {
                    pass(Part::Whole)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on to the next section; answers whether that ended a frame.
    fn end_section(&mut self) -> Result<bool, ExtractError> {
        let kept = std::mem::take(&mut self.kept);
        (self.section, self.left) = match self.section {
            Section::Prelude => {
                let [total, headers, sum] = [0, 4, 8].map(|from| number(&kept[from..]));
                if sum != crc32fast::hash(&kept[..8]) {
                    return Err(ExtractError::Damaged("the checksum of its lengths is wrong"));
                }
                let payload = total.checked_sub(FRAME).and_then(|inner| inner.checked_sub(headers));
                self.payload = payload.ok_or(ExtractError::Damaged("it is shorter than its headers"))?;
                if headers > HEADERS_MAX {
                    return Err(ExtractError::Damaged("its headers are longer than 128 KiB"));
                }
                self.sum = Hasher::new();
                self.sum.update(&kept);
                (Section::Headers, headers)
            }
            Section::Headers => {
                self.kind = kind(&kept).ok_or(ExtractError::Damaged("its headers cannot be read"))?;
                self.sum.update(&kept);
                (Section::Payload, self.payload)
            }
            Section::Payload => (Section::Checksum, 4),
            Section::Checksum => {
                if number(&kept) != std::mem::take(&mut self.sum).finalize() {
                    return Err(ExtractError::Damaged("its checksum is wrong"));
                }
                (Section::Prelude, PRELUDE as u32)
            }
        };
        Ok(self.section == Section::Prelude)
    }
}

/// The number of four bytes, the highest first.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// What headers say; `None` where they cannot be read.
fn kind(headers: &[u8]) -> Option<FrameKind> {
    let (mut message, mut event) = (None, None);
    let mut rest = headers;
    while let Some((length, behind)) = rest.split_first() {
        let (name, behind) = behind.split_at_checked(usize::from(*length).max(1))?;
        let (value_kind, behind) = behind.split_first()?;
        let (length, behind) = match *value_kind {
            0 | 1 => (0, behind),
            2 => (1, behind),
            3 => (2, behind),
            4 => (4, behind),
            5 | 8 => (8, behind),
            9 => (16, behind),
            BYTES | STRING => {
                let ([high, low], behind) = behind.split_first_chunk()?;
                (usize::from(u16::from_be_bytes([*high, *low])), behind)
            }
            _ => return None,
        };
        let (value, behind) = behind.split_at_checked(length)?;
        rest = behind;
        let known = match name {
            b":message-type" => &mut message,
            b":event-type" => &mut event,
            _ => continue,
        };
        if *value_kind != STRING || known.replace(value).is_some() {
            return None;
        }
    }
    Some(match (message, event) {
        (Some(b"event"), Some(b"chunk")) => FrameKind::Chunk,
        (Some(b"event"), Some(b"metadata")) => FrameKind::Metadata,
        _ => FrameKind::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `{'foo':'bar'}` with one header, as published with other implementations of the format.
    const PUBLISHED: &str = concat!(
        "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e",
        "7b27666f6f273a27626172277d8d9c08b1"
    );

    fn published() -> Vec<u8> {
        let digits = |place| u8::from_str_radix(&PUBLISHED[place..place + 2], 16).unwrap();
        (0..PUBLISHED.len()).step_by(2).map(digits).collect()
    }

    fn feed(bytes: &[u8], step: usize) -> (Vec<u8>, usize, Result<(), ExtractError>) {
        let (mut payload, mut whole, mut frames) = (Vec::new(), 0, Frames::default());
        let mut fed = Ok(());
        for part in bytes.chunks(step) {
            fed = frames.feed(part, |part| {
                match part {
                    Part::Payload(kind, part) => {
                        assert_eq!(kind, FrameKind::Other);
                        payload.extend_from_slice(part);
                    }
                    Part::Whole => whole += 1,
                }
                Ok(())
            });
            if fed.is_err() {
                break;
            }
        }
        (payload, whole, fed)
    }

    #[test]
    fn a_published_frame_is_read_however_it_is_cut() {
        let twice = [published(), published()].concat();
        for step in 1..=twice.len() {
            assert_eq!(feed(&twice, step), (b"{'foo':'bar'}{'foo':'bar'}".to_vec(), 2, Ok(())), "{step}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found_before_the_frame_counts() {
        for bit in 0..published().len() * 8 {
            let mut flipped = published();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (_, whole, fed) = feed(&flipped, 7);
            assert!(whole == 0 && fed.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn headers_of_every_kind_are_passed_over_and_broken_ones_refused() {
        let header = |name: &str, kind: u8, value: &[u8]| {
            let length =
                if kind == BYTES || kind == STRING { (value.len() as u16).to_be_bytes().to_vec() } else { vec![] };
            [&[name.len() as u8], name.as_bytes(), &[kind], &length, value].concat()
        };
        let event = [header(":event-type", STRING, b"chunk"), header(":message-type", STRING, b"event")].concat();
        for (value_kind, length) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 300), (7, 9), (8, 8), (9, 16)]
        {
            let all = [header("x", value_kind, &vec![9; length]), event.clone()].concat();
            assert_eq!(kind(&all), Some(FrameKind::Chunk), "{value_kind}");
            assert_eq!(kind(&all[..all.len() - 1]), None, "{value_kind}");
        }
        assert_eq!(kind(&[]), Some(FrameKind::Other));
        assert_eq!(kind(&header(":event-type", STRING, b"metadata")), Some(FrameKind::Other));
        let exception =
            [header(":event-type", STRING, b"chunk"), header(":message-type", STRING, b"exception")].concat();
        assert_eq!(kind(&exception), Some(FrameKind::Other));
        for broken in
            [header("x", 10, b""), header("", 0, b""), event.repeat(2), header(":event-type", BYTES, b"chunk")]
        {
            assert_eq!(kind(&broken), None, "{broken:?}");
        }
    }
}
