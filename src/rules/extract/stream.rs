//! Reads usage out of a body while it passes: whole JSON, JSON values one after the other, or server-sent events.

use serde_json::{Map, Value};

use super::scan::{FoundValue, Scanner, Wanted};
use super::{Api, ExtractError, Extracted, read};

/// Most fields that usage may have.
const MAX_FIELDS: usize = 64;
/// Longest name of a model.
const MAX_MODEL: usize = 256;

/// Fed with the bytes of an answer, cut anywhere; keeps only the usage: a few KiB, however long the answer, and never more
/// than 64 fields that came in objects of 32 KiB.
///
/// Providers report usage as it stands so far, some in several events (Anthropic: the input at the start, the output at
/// the end), so a later field replaces an earlier one, and a null replaces nothing.
pub struct UsageStream {
    provider: Option<String>,
    api: Option<Api>,
    framing: Framing,
    scanner: Scanner,
    usage: Map<String, Value>,
    model: Option<String>,
    too_large: bool,
}

enum Framing {
    /// Nothing but white space, and the mark of UTF-8, so far.
    Unknown,
    Json,
    Events(Line),
}

/// Where a line of server-sent events stands.
#[derive(Clone, Copy)]
struct Line {
    /// How many of its bytes have been seen, as far as that matters.
    seen: usize,
    /// Whether it can still be, or is, a line of data.
    data: bool,
    /// Whether the last byte was a carriage return, whose line feed is not a line of its own.
    returned: bool,
}

const DATA: &[u8] = b"data:";
const LINE: Line = Line { seen: 0, data: true, returned: false };

impl UsageStream {
    /// For an answer of `provider` to a call of `api`, as far as they are known.
    pub fn new(provider: Option<&str>, api: Option<Api>) -> Self {
        Self {
            provider: provider.map(str::to_owned),
            api,
            framing: Framing::Unknown,
            scanner: Scanner::new(),
            usage: Map::new(),
            model: None,
            too_large: false,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            self.take(*byte);
            rest = &behind[self.dull(behind)..];
        }
    }

    /// How many of the next bytes are the inside of a text that nobody wants: most of an answer is.
    fn dull(&self, bytes: &[u8]) -> usize {
        let in_payload = match &self.framing {
            Framing::Unknown => false,
            Framing::Json => true,
            Framing::Events(line) => line.data && line.seen > DATA.len(),
        };
        if !in_payload || !self.scanner.is_inside_dull_text() {
            return 0;
        }
        let matters = |byte: &u8| matches!(byte, b'"' | b'\\' | b'\n' | b'\r');
        bytes.iter().position(matters).unwrap_or(bytes.len())
    }

    /// The model that answers, as soon as it is known.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What the answer took. `None` where it carried no usage: an error, or a stream that was not asked for it or broke off
    /// before.
    pub fn finish(mut self) -> Result<Option<Extracted>, ExtractError> {
        // A number at the very end is only ended by what follows it.
        self.take(b'\n');
        if self.too_large {
            return Err(ExtractError::TooLarge);
        }
        if !self.usage.values().any(holds_counts) {
            return Ok(None);
        }
        read(self.provider.as_deref(), self.api, &self.usage, self.model).map(Some)
    }

    fn take(&mut self, byte: u8) {
        match &mut self.framing {
            Framing::Unknown => match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF => {}
                b'{' | b'[' => {
                    self.framing = Framing::Json;
                    self.scan(byte);
                }
                _ => {
                    self.framing = Framing::Events(LINE);
                    self.take(byte);
                }
            },
            Framing::Json => self.scan(byte),
            Framing::Events(line) => {
                let before = *line;
                if byte == b'\n' && before.returned {
                    line.returned = false;
                } else if byte == b'\n' || byte == b'\r' {
                    *line = Line { returned: byte == b'\r', ..LINE };
                    if before.seen == 0 {
                        // An empty line ends an event, whatever was in it.
                        self.scanner.reset();
                    } else if before.data {
                        self.scan(b'\n');
                    }
                } else {
                    line.returned = false;
                    line.seen = (before.seen + 1).min(DATA.len() + 1);
                    if before.seen < DATA.len() {
                        line.data = before.data && DATA[before.seen] == byte;
                    } else if before.data {
                        self.scan(byte);
                    }
                }
            }
        }
    }

    fn scan(&mut self, byte: u8) {
        let Some(FoundValue { wanted, bytes }) = self.scanner.take(byte) else { return };
        let Some(bytes) = bytes else {
            self.too_large |= wanted != Wanted::Model;
            return;
        };
        // What does not parse was not JSON, and says nothing.
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return };
        match (wanted, value) {
            (Wanted::Usage, Value::Object(fields)) => self.merge(fields),
            (Wanted::BilledUnits, fields @ Value::Object(_)) => {
                self.merge(Map::from_iter([("billed_units".to_owned(), fields)]));
            }
            (Wanted::Model, Value::String(model)) if model.len() <= MAX_MODEL && !model.is_empty() => {
                self.model = Some(model);
            }
            _ => {}
        }
    }

    fn merge(&mut self, fields: Map<String, Value>) {
        for (name, value) in fields {
            if !value.is_null() {
                self.usage.insert(name, value);
            }
        }
        if self.usage.len() > MAX_FIELDS {
            self.too_large = true;
            self.usage.clear();
        }
    }
}

/// Whether a field holds a number: usage that only names, say, a kind of traffic counts nothing.
fn holds_counts(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Object(fields) => fields.values().any(Value::is_number),
        _ => false,
    }
}
