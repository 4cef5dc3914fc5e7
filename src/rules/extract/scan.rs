//! Finds a few values in JSON as it passes, byte by byte, without keeping the rest.
//!
//! It does not validate: on JSON it finds exactly the values at the paths that are wanted, on anything else it finds
//! nothing or something that does not parse, and it never keeps more than [`MAX_VALUE`] bytes and a few short keys.

/// Largest value that is kept.
pub(super) const MAX_VALUE: usize = 32 << 10;
/// How deep JSON may be nested before a frame is given up.
const MAX_DEPTH: usize = 128;
/// How many keys of a path are remembered, and how long they may be.
const MAX_PATH: usize = 6;
const MAX_KEY: usize = 32;

/// A value that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Usage,
    /// Cohere's, which may be alone.
    BilledUnits,
    /// What Bedrock adds to the last part of an answer, whoever made the model.
    Metrics,
    Model,
    /// What kind of thing one item of a response is.
    ItemKind,
    /// What a call of a tool did.
    ActionKind,
    /// What Google searched for.
    Queries,
    /// The answer of a model inside a frame of Bedrock, in base64: handed on as it comes, never kept.
    Packed,
}

/// Where values are, and which. [`ITEM`] is each item of a list.
pub(super) type Paths = &'static [(&'static [&'static str], Wanted)];

const ITEM: &str = "[]";

/// Where usage and models are. A list around the whole does not count as a step.
pub(super) const USAGE: Paths = &[
    (&["usage"], Wanted::Usage),
    (&["usageMetadata"], Wanted::Usage),
    (&["message", "usage"], Wanted::Usage),
    (&["response", "usage"], Wanted::Usage),
    (&["delta", "usage"], Wanted::Usage),
    (&["x_groq", "usage"], Wanted::Usage),
    (&["metadata", "usage"], Wanted::Usage),
    (&["amazon-bedrock-invocationMetrics"], Wanted::Metrics),
    (&["meta", "billed_units"], Wanted::BilledUnits),
    (&["response", "meta", "billed_units"], Wanted::BilledUnits),
    (&["model"], Wanted::Model),
    (&["modelVersion"], Wanted::Model),
    (&["message", "model"], Wanted::Model),
    (&["response", "model"], Wanted::Model),
    (&["output", ITEM, "type"], Wanted::ItemKind),
    (&["response", "output", ITEM, "type"], Wanted::ItemKind),
    (&["output", ITEM, "action", "type"], Wanted::ActionKind),
    (&["response", "output", ITEM, "action", "type"], Wanted::ActionKind),
    (&["candidates", ITEM, "groundingMetadata", "webSearchQueries"], Wanted::Queries),
];
/// Where a chunk of Bedrock has what it holds.
pub(super) const CHUNK: Paths = &[(&["bytes"], Wanted::Packed)];

/// A value that was found, as its bytes.
pub(super) struct FoundValue {
    pub wanted: Wanted,
    /// `None` when it was longer than [`MAX_VALUE`].
    pub bytes: Option<Vec<u8>>,
    /// Another number for another one of the values that follow each other, in which it stands.
    pub value_no: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A key, or the end of an object.
    Key,
    /// After a key.
    Colon,
    /// A value.
    Value,
    /// Inside a number or a word.
    Scalar,
    /// After a value.
    After,
}

pub(super) struct Scanner {
    paths: Paths,
    /// True for an object, false for a list.
    stack: Vec<bool>,
    keys: [Vec<u8>; MAX_PATH],
    place: Place,
    in_string: bool,
    escaped: bool,
    string_is_key: bool,
    capture: Option<Capture>,
    given_up: bool,
    /// How many values have begun that are in no other, or in a list around the whole.
    begun: u64,
}

struct Capture {
    wanted: Wanted,
    depth: usize,
    bytes: Vec<u8>,
    too_long: bool,
}

impl Scanner {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            stack: Vec::new(),
            keys: Default::default(),
            place: Place::Value,
            in_string: false,
            escaped: false,
            string_is_key: false,
            capture: None,
            given_up: false,
            begun: 0,
        }
    }

    /// Forgets what was begun.
    pub(super) fn reset(&mut self) {
        self.stack.clear();
        self.place = Place::Value;
        (self.in_string, self.escaped, self.string_is_key, self.given_up) = (false, false, false, false);
        self.capture = None;
    }

    /// Whether it is inside a text that is neither kept nor a key, and no escape is open.
    pub(super) fn is_inside_dull_text(&self) -> bool {
        self.in_string && !self.escaped && !self.string_is_key && self.capture.is_none() && !self.given_up
    }

    /// What the next byte adds to a packed text, if it is inside of one: a sign that base64 does not have for an escape
    /// that base64 does not need.
    pub(super) fn passes(&self, byte: u8) -> Option<u8> {
        let packed = self.capture.as_ref().is_some_and(|capture| capture.wanted == Wanted::Packed);
        if !(packed && self.in_string) || self.string_is_key {
            return None;
        }
        match (self.escaped, byte) {
            (false, b'"' | b'\\') => None,
            (false, byte) | (true, byte @ b'/') => Some(byte),
            (true, _) => Some(b'\\'),
        }
    }

    /// Takes one byte; answers with a value that it completed.
    pub(super) fn take(&mut self, byte: u8) -> Option<FoundValue> {
        if self.given_up {
            return None;
        }
        if self.in_string {
            self.keep(byte);
            return self.inside_string(byte);
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => self.end_scalar(),
            b'"' => {
                self.begin_string();
                None
            }
            b'{' | b'[' => {
                self.open(byte);
                None
            }
            b'}' | b']' => self.close(byte),
            b',' => {
                let found = self.end_scalar();
                self.keep(byte);
                self.place = if self.stack.last() == Some(&true) { Place::Key } else { Place::Value };
                found
            }
            b':' => {
                self.keep(byte);
                self.place = Place::Value;
                None
            }
            _ => {
                if self.place == Place::Value {
                    self.begin_value();
                    self.place = Place::Scalar;
                }
                self.keep(byte);
                None
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if let Some(capture) = self.capture.as_mut().filter(|capture| capture.wanted != Wanted::Packed) {
            if capture.bytes.len() < MAX_VALUE {
                capture.bytes.push(byte);
            } else {
                capture.too_long = true;
            }
        }
    }

    fn begin_string(&mut self) {
        self.string_is_key = self.place == Place::Key;
        if self.string_is_key {
            if let Some(key) = self.stack.len().checked_sub(1).and_then(|at| self.keys.get_mut(at)) {
                key.clear();
            }
        } else {
            self.begin_value();
        }
        self.keep(b'"');
        self.in_string = true;
    }

    fn inside_string(&mut self, byte: u8) -> Option<FoundValue> {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            if self.string_is_key {
                self.place = Place::Colon;
                return None;
            }
            self.place = Place::After;
            return self.end_value();
        }
        if self.string_is_key
            && let Some(key) = self.stack.len().checked_sub(1).and_then(|at| self.keys.get_mut(at))
            && key.len() <= MAX_KEY
        {
            key.push(byte);
        }
        None
    }

    fn open(&mut self, byte: u8) {
        self.begin_value();
        self.keep(byte);
        if self.stack.len() >= MAX_DEPTH {
            self.given_up = true;
            return;
        }
        let is_object = byte == b'{';
        self.begun += u64::from(matches!(self.stack.as_slice(), [] | [false]));
        self.stack.push(is_object);
        self.place = if is_object { Place::Key } else { Place::Value };
    }

    fn close(&mut self, byte: u8) -> Option<FoundValue> {
        let scalar = self.end_scalar();
        self.keep(byte);
        self.stack.pop();
        self.place = Place::After;
        let closed = self.end_value();
        if self.stack.is_empty() {
            self.reset();
        }
        // A scalar that is wanted ends before the bracket that closes what holds it, so both are never found at once.
        scalar.or(closed)
    }

    fn end_scalar(&mut self) -> Option<FoundValue> {
        if self.place != Place::Scalar {
            return None;
        }
        self.place = Place::After;
        self.end_value()
    }

    fn begin_value(&mut self) {
        if self.capture.is_some() || self.place != Place::Value {
            return;
        }
        if let Some(wanted) = self.wanted() {
            self.capture = Some(Capture { wanted, depth: self.stack.len(), bytes: Vec::new(), too_long: false });
        }
    }

    fn end_value(&mut self) -> Option<FoundValue> {
        let capture = self.capture.take_if(|capture| capture.depth == self.stack.len())?;
        let bytes = (!capture.too_long).then_some(capture.bytes);
        Some(FoundValue { wanted: capture.wanted, bytes, value_no: self.begun })
    }

    fn wanted(&self) -> Option<Wanted> {
        let skip = usize::from(self.stack.first() == Some(&false));
        let steps = self.stack.get(skip..)?;
        if steps.is_empty() || self.stack.len() > MAX_PATH {
            return None;
        }
        let keys = &self.keys[skip..self.stack.len()];
        let is_at = |path: &[&str]| {
            let here = |(step, (is_object, key)): (&&str, (&bool, &Vec<u8>))| match *is_object {
                true => step.as_bytes() == key,
                false => *step == ITEM,
            };
            path.len() == steps.len() && path.iter().zip(steps.iter().zip(keys)).all(here)
        };
        self.paths.iter().find(|(path, _)| is_at(path)).map(|(_, wanted)| *wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Vec<(Wanted, String)> {
        let mut scanner = Scanner::new(USAGE);
        let values = json.bytes().filter_map(|byte| scanner.take(byte));
        values.map(|value| (value.wanted, String::from_utf8(value.bytes.unwrap()).unwrap())).collect()
    }

    #[test]
    fn values_are_found_at_their_path_and_nowhere_else() {
        let json = r#" {"id":"\"usage\":{","choices":[{"usage":1,"model":"no"}],"model" : "gpt", "x":{"usage":2},
            "usage": {"a":[1,{"b":"}"}],"c":null} , "n":-1.5e3,"message":{"model":"m","usage":{"d":3}}} "#;
        let expected = [
            (Wanted::Model, r#""gpt""#),
            (Wanted::Usage, r#"{"a":[1,{"b":"}"}],"c":null}"#),
            (Wanted::Model, r#""m""#),
            (Wanted::Usage, r#"{"d":3}"#),
        ];
        let values = found(json);
        let values: Vec<(Wanted, String)> =
            values.into_iter().map(|(wanted, text)| (wanted, text.replace([' ', '\n'], ""))).collect();
        assert_eq!(values, expected.map(|(wanted, text)| (wanted, text.to_owned())));
    }

    #[test]
    fn a_list_around_the_whole_does_not_count_as_a_step() {
        let values = found(r#"[{"usageMetadata":{"p":1}},{"usageMetadata":{"p":2}}]{"usage":null}"#);
        let texts: Vec<&str> = values.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, [r#"{"p":1}"#, r#"{"p":2}"#, "null"]);
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_not_kept() {
        let mut scanner = Scanner::new(USAGE);
        let long = format!(r#"{{"usage":"{}"}}"#, "x".repeat(MAX_VALUE));
        let values: Vec<FoundValue> = long.bytes().filter_map(|byte| scanner.take(byte)).collect();
        assert!(values.len() == 1 && values[0].bytes.is_none());
        assert!(found(&format!(r#"{}{{"usage":{{}}}}"#, "[".repeat(1_000))).is_empty());
    }
}
