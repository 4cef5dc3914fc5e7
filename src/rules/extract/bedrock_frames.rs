//! Reads usage out of the frames of a Bedrock stream: of a converse, whose `metadata` give it, and of a model's own
//! answer, which comes packed in chunks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ExtractError;
use super::frames::{FrameKind, Frames, Part};
use super::scan::{CHUNK, FoundValue, Scanner, USAGE, Wanted};

/// Most values that one frame may give, and the most bytes of theirs.
const VALUES_MAX: usize = 1_024;
const BYTES_MAX: usize = 64 << 10;
/// How many signs of base64 are unpacked at once: a multiple of four.
const SIGNS: usize = 512;

/// Where a stream stands. Keeps what its open frame gives, at most 64 KiB, until the frame is known to be as it was
/// sent.
pub(super) struct BedrockFrames {
    frames: Frames,
    reader: Reader,
    failure: Option<ExtractError>,
}

impl Default for BedrockFrames {
    fn default() -> Self {
        Self { frames: Frames::default(), reader: Reader::new(), failure: None }
    }
}

impl BedrockFrames {
    /// Takes the next bytes, and puts the values of the frames that they end into `ready`.
    pub(super) fn feed(&mut self, bytes: &[u8], ready: &mut Vec<FoundValue>) {
        if self.failure.is_some() {
            return;
        }
        let reader = &mut self.reader;
        let fed = self.frames.feed(bytes, |part| match part {
            Part::Payload(FrameKind::Chunk, bytes) => reader.unpack(bytes),
            Part::Payload(FrameKind::Metadata, bytes) => reader.scan(bytes),
            Part::Payload(FrameKind::Other, _) => Ok(()),
            Part::Whole => reader.end(ready),
        });
        self.failure = fed.err();
    }

    /// Fails where a frame was damaged, or gave too much. A frame whose end has not come gives nothing.
    pub(super) fn check(&self) -> Result<(), ExtractError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

/// What reads one payload after the other.
struct Reader {
    chunk: Scanner,
    usage: Scanner,
    packed: Vec<u8>,
    /// Whether the packed text has come to its padding.
    padded: bool,
    found: Vec<FoundValue>,
    /// The bytes of those.
    kept: usize,
}

impl Reader {
    fn new() -> Self {
        let (chunk, usage) = (Scanner::new(CHUNK), Scanner::new(USAGE));
        Self { chunk, usage, packed: Vec::with_capacity(SIGNS), padded: false, found: Vec::new(), kept: 0 }
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<(), ExtractError> {
        for byte in bytes {
            if let Some(value) = self.usage.take(*byte) {
                self.kept += value.bytes.as_ref().map_or(0, Vec::len);
                self.found.push(value);
                if self.found.len() > VALUES_MAX || self.kept > BYTES_MAX {
                    return Err(ExtractError::TooLarge);
                }
            }
        }
        Ok(())
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<(), ExtractError> {
        for byte in bytes {
            if let Some(sign) = self.chunk.passes(*byte) {
                self.packed.push(sign);
                if self.packed.len() == SIGNS {
                    self.flush()?;
                }
            }
            if self.chunk.take(*byte).is_some_and(|value| value.wanted == Wanted::Packed) {
                self.flush()?;
                self.padded = false;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ExtractError> {
        const NOT_BASE64: ExtractError = ExtractError::Damaged("its bytes are not base64");
        let mut bytes = [0; SIGNS / 4 * 3];
        let length = STANDARD.decode_slice(&self.packed, &mut bytes).map_err(|_| NOT_BASE64)?;
        if self.padded && !self.packed.is_empty() {
            return Err(NOT_BASE64);
        }
        self.padded |= self.packed.last() == Some(&b'=');
        self.packed.clear();
        self.scan(&bytes[..length])
    }

    fn end(&mut self, ready: &mut Vec<FoundValue>) -> Result<(), ExtractError> {
        ready.append(&mut self.found);
        self.kept = 0;
        self.chunk.reset();
        self.usage.reset();
        if self.packed.is_empty() && !self.padded {
            Ok(())
        } else {
            Err(ExtractError::Damaged("its bytes have no end"))
        }
    }
}
