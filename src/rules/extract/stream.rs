//! Reads usage out of a body while it passes: whole JSON, JSON values one after the other, server-sent events, or
//! Amazon's event stream.

use serde_json::{Map, Value};

use super::bedrock_frames::BedrockFrames;
use super::hosted_tools::HostedTools;
use super::scan::{FoundValue, Scanner, USAGE, Wanted};
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
    /// Bedrock's own counts, for models that give none.
    metrics: Map<String, Value>,
    model: Option<String>,
    tools: HostedTools,
    too_large: bool,
}

enum Framing {
    /// Nothing but white space, and the mark of UTF-8, so far.
    Unknown,
    Json,
    Events(Line),
    Frames(Box<BedrockFrames>),
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
            scanner: Scanner::new(USAGE),
            usage: Map::new(),
            metrics: Map::new(),
            model: None,
            tools: HostedTools::default(),
            too_large: false,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if matches!(self.framing, Framing::Unknown) {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF);
            rest = &rest[rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len())..];
            self.framing = match rest.first() {
                None => return,
                Some(b'{' | b'[') => Framing::Json,
                // The length of a first frame, which is below 16 MiB; no text begins so.
                Some(0) => Framing::Frames(Box::default()),
                Some(_) => Framing::Events(LINE),
            };
        }
        if let Framing::Frames(frames) = &mut self.framing {
            let mut ready = Vec::new();
            frames.feed(rest, &mut ready);
            ready.into_iter().for_each(|value| self.note(value));
            return;
        }
        while let Some((byte, behind)) = rest.split_first() {
            self.take(*byte);
            rest = &behind[self.dull(behind)..];
        }
    }

    /// How many of the next bytes are the inside of a text that nobody wants: most of an answer is.
    fn dull(&self, bytes: &[u8]) -> usize {
        let in_payload = match &self.framing {
            Framing::Unknown | Framing::Frames(_) => false,
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
        if let Framing::Frames(frames) = &self.framing {
            frames.check()?;
        }
        if self.too_large {
            return Err(ExtractError::TooLarge);
        }
        if !self.usage.values().any(holds_counts) {
            if !self.metrics.values().any(holds_counts) {
                return Ok(None);
            }
            self.usage = as_converse(self.metrics);
        }
        let mut read = read(self.provider.as_deref(), self.api, &self.usage, self.model)?;
        self.tools.put(read.api, &mut read.counts);
        Ok(Some(read))
    }

    fn take(&mut self, byte: u8) {
        match &mut self.framing {
            Framing::Unknown | Framing::Frames(_) => {}
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
        if let Some(value) = self.scanner.take(byte) {
            self.note(value);
        }
    }

    fn note(&mut self, FoundValue { wanted, bytes, value_no }: FoundValue) {
        let Some(bytes) = bytes else {
            self.too_large |= !matches!(wanted, Wanted::Model | Wanted::ItemKind | Wanted::ActionKind);
            return;
        };
        // What does not parse was not JSON, and says nothing.
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return };
        match (wanted, value) {
            (Wanted::Usage, Value::Object(fields)) => self.merge(fields),
            (Wanted::BilledUnits, fields @ Value::Object(_)) => {
                self.merge(Map::from_iter([("billed_units".to_owned(), fields)]));
            }
            (Wanted::Metrics, Value::Object(fields)) => self.metrics = fields,
            (Wanted::ItemKind, Value::String(kind)) => self.tools.item(value_no, &kind),
            (Wanted::ActionKind, Value::String(kind)) => self.tools.action(value_no, &kind),
            (Wanted::Queries, Value::Array(queries)) => self.tools.queries(queries.len()),
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

/// Bedrock's counts by the names of its converse, which counts the same things.
fn as_converse(metrics: Map<String, Value>) -> Map<String, Value> {
    let named = |(name, value): (String, Value)| {
        let name = match name.as_str() {
            "inputTokenCount" => "inputTokens".to_owned(),
            "outputTokenCount" => "outputTokens".to_owned(),
            _ => name,
        };
        (name, value)
    };
    metrics.into_iter().map(named).collect()
}

/// Whether a field holds a number: usage that only names, say, a kind of traffic counts nothing.
fn holds_counts(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Object(fields) => fields.values().any(Value::is_number),
        _ => false,
    }
}
