//! The body of a call: read once, changed only where it must be, and otherwise forwarded as the caller wrote it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use hyper::body::Bytes;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::endpoint::Endpoint;
use super::prompt::PromptBound;

/// The most answers one call may ask for.
const MAX_CHOICES: u64 = 128;
/// The largest maximum of output a call may name.
const MAX_OUTPUT_TOKENS: u64 = 1_000_000_000;
/// The most fields of a body.
const MAX_FIELDS: usize = 256;

/// The longest sentence about what is wrong, in characters: it quotes what was sent, which may be of any length.
const MESSAGE_CHARS_MAX: usize = 400;

/// Fields that never reach the model.
const NOT_PROMPT: [&str; 28] = [
    "model",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "temperature",
    "top_p",
    "seed",
    "user",
    "metadata",
    "logprobs",
    "top_logprobs",
    "frequency_penalty",
    "presence_penalty",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "encoding_format",
    "dimensions",
    "include",
    "truncation",
    "previous_response_id",
    "logit_bias",
    "stop",
];

/// Fields that reach the model, or change what is done.
const PROMPT: [&str; 10] = [
    "messages",
    "input",
    "instructions",
    "prompt",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "background",
    "conversation",
];

/// What is wrong with a body: the field, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidCall {
    /// The field at fault, if it is one.
    pub param: Option<&'static str>,
    /// What to change.
    pub message: String,
}

/// A call, as far as the door must understand it.
#[derive(Clone, Debug)]
pub(super) struct CallBody {
    bytes: Bytes,
    fields: Vec<(String, Range<usize>)>,
    pub(super) model: String,
    pub(super) stream: bool,
    /// Whether the caller itself asked for usage at the end of a stream.
    pub(super) wants_usage: bool,
    pub(super) choices: u64,
    /// The maximum of output that the caller named, for one choice.
    pub(super) output_max: Option<u64>,
    pub(super) prompt_bound: u64,
}

impl CallBody {
    /// Reads a body of a call to `endpoint`.
    pub(super) fn read(endpoint: Endpoint, bytes: Bytes) -> Result<Self, InvalidCall> {
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid(None, "the body is not UTF-8"))?;
        let not_json = |error: serde_json::Error| invalid(None, format!("the body is not a JSON object: {error}"));
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = Fields.deserialize(&mut deserializer).map_err(not_json)?;
        deserializer.end().map_err(not_json)?;
        if let Some((name, known)) = read.iter().find_map(|(name, _)| Some((name, misspelled(name)?))) {
            let message = format!("`{name}` is not a field: some upstreams would read it as `{known}`; write it so");
            return Err(invalid(Some(known), message));
        }
        let raw = |name: &str| read.iter().find(|(known, _)| known == name).map(|(_, raw)| raw.get());

        let model: Option<String> = raw("model").and_then(|json| serde_json::from_str(json).ok());
        let model = model.filter(|model| (1..=128).contains(&model.len()) && !model.chars().any(char::is_control));
        let model = model.ok_or_else(|| invalid(Some("model"), "`model` must be the name of a model"))?;
        let stream = flag("stream", raw("stream"))? && endpoint.streams();
        if flag("background", raw("background"))? {
            let message =
                "`background` is not possible through this door: what such a response uses is not told in its answer";
            return Err(invalid(Some("background"), message));
        }
        let choices = count("n", raw("n"), MAX_CHOICES)?.unwrap_or(1);
        let mut output_max = None;
        for name in endpoint.output_fields() {
            // Upstreams differ in which of two they heed: the larger one is reserved.
            output_max = output_max.max(count(name, raw(name), MAX_OUTPUT_TOKENS)?);
        }
        let wants_usage = raw("stream_options").is_some_and(|json| {
            let options: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(json).ok();
            options.is_some_and(|options| options.get("include_usage") == Some(&serde_json::Value::Bool(true)))
        });
        let mut bound = PromptBound::new(&model);
        for (name, raw) in read.iter().filter(|(name, _)| !NOT_PROMPT.contains(&name.as_ref())) {
            bound.add(name, raw.get()).map_err(|_| invalid(None, format!("`{name}` is nested too deep")))?;
        }
        // Each raw value is a slice of the text it was read from.
        let start = text.as_ptr() as usize;
        let place = |raw: &RawValue| {
            let from = raw.get().as_ptr() as usize - start;
            from..from + raw.get().len()
        };
        let fields = read.iter().map(|(name, raw)| (name.clone().into_owned(), place(raw))).collect();
        let prompt_bound = bound.tokens();
        Ok(Self { fields, model, stream, wants_usage, choices, output_max, prompt_bound, bytes })
    }

    /// The body as it is sent upstream: with `cap` as its maximum of output, by this name, and with usage asked for at the
    /// end of a stream; otherwise byte for byte the caller's.
    pub(super) fn forwarded(&self, cap: Option<(&str, u64)>, ask_usage: bool) -> Bytes {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let mut added = String::new();
        if let Some((name, most)) = cap {
            match self.place(name) {
                // Null: it was not given.
                Some(place) => edits.push((place, most.to_string())),
                None => added.push_str(&format!(",\"{name}\":{most}")),
            }
        }
        if ask_usage {
            match self.place("stream_options") {
                Some(place) => {
                    let options = with_usage(&self.bytes[place.clone()]);
                    edits.push((place, options));
                }
                None => added.push_str(",\"stream_options\":{\"include_usage\":true}"),
            }
        }
        if edits.is_empty() && added.is_empty() {
            return self.bytes.clone();
        }
        // There is a last field, since there is a model; what is added goes behind it.
        let end = self.fields.iter().map(|(_, place)| place.end).max().unwrap_or_default();
        edits.push((end..end, added));
        edits.sort_by_key(|(place, _)| place.start);
        let mut out = Vec::with_capacity(self.bytes.len() + 128);
        let mut from = 0;
        for (place, text) in edits {
            out.extend_from_slice(&self.bytes[from..place.start]);
            out.extend_from_slice(text.as_bytes());
            from = place.end;
        }
        out.extend_from_slice(&self.bytes[from..]);
        out.into()
    }

    /// Whether the caller gave this field, other than null.
    pub(super) fn gives(&self, name: &str) -> bool {
        self.place(name).is_some_and(|place| &self.bytes[place] != b"null")
    }

    fn place(&self, name: &str) -> Option<Range<usize>> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, place)| place.clone())
    }
}

/// `stream_options` with usage asked for, and its other fields as they were.
fn with_usage(options: &[u8]) -> String {
    let mut known: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(options).unwrap_or_default();
    known.insert("include_usage".to_owned(), true.into());
    serde_json::Value::Object(known).to_string()
}

fn invalid(param: Option<&'static str>, message: impl Into<String>) -> InvalidCall {
    InvalidCall { param, message: message.into().chars().take(MESSAGE_CHARS_MAX).collect() }
}

/// The known field that `name` equals for who reads names without regard to case, and only for those.
fn misspelled(name: &str) -> Option<&'static str> {
    // The long s, too, is an s without regard to case.
    let folded = name.to_lowercase().replace('\u{17f}', "s");
    if folded == name {
        return None;
    }
    NOT_PROMPT.into_iter().chain(PROMPT).find(|known| *known == folded)
}

fn flag(name: &'static str, json: Option<&str>) -> Result<bool, InvalidCall> {
    match json {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid(Some(name), format!("`{name}` must be true or false"))),
    }
}

fn count(name: &'static str, json: Option<&str>, most: u64) -> Result<Option<u64>, InvalidCall> {
    match json.filter(|json| *json != "null").map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(count)) if (1..=most).contains(&count) => Ok(Some(count)),
        Some(_) => Err(invalid(Some(name), format!("`{name}` must be a whole number from 1 to {most}"))),
    }
}

/// Reads an object's fields in their order, each once: two of a name mean one thing here and another upstream.
struct Fields;

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::new();
        while let Some((name, raw)) = map.next_entry::<FieldName<'de>, &'de RawValue>()? {
            if fields.iter().any(|(known, _)| *known == name.0) {
                return Err(A::Error::custom(format_args!("`{}` stands twice", name.0)));
            }
            if fields.len() >= MAX_FIELDS {
                return Err(A::Error::custom(format_args!("more than {MAX_FIELDS} fields")));
            }
            fields.push((name.0, raw));
        }
        Ok(fields)
    }
}

/// A name as it stands in the text, or unescaped.
#[derive(serde::Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<CallBody, InvalidCall> {
        CallBody::read(Endpoint::ChatCompletions, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn what_need_not_change_is_forwarded_byte_for_byte() {
        let body = "{ \"zeta\": 1.50e1,\n\t\"model\" : \"gpt-4o\" , \"max_tokens\":7, \"x\":\"\\u00e9\" }\n";
        let call = read(body).unwrap();
        assert_eq!((call.model.as_str(), call.output_max, call.choices, call.stream), ("gpt-4o", Some(7), 1, false));
        assert_eq!(call.forwarded(None, false), body);
        assert_eq!(
            call.forwarded(Some(("max_completion_tokens", 9)), false),
            "{ \"zeta\": 1.50e1,\n\t\"model\" : \"gpt-4o\" , \"max_tokens\":7, \"x\":\"\\u00e9\",\"max_completion_tokens\":9 }\n"
        );
    }

    #[test]
    fn usage_is_asked_for_and_the_caller_s_other_options_stay() {
        let call = read(r#"{"model":"m","stream":true,"messages":[]}"#).unwrap();
        assert!(call.stream && !call.wants_usage);
        assert_eq!(
            call.forwarded(None, true),
            r#"{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":true}}"#
        );
        for (options, wants, forwarded) in [
            ("null", false, r#"{"include_usage":true}"#),
            (
                r#"{"include_usage":false,"include_obfuscation":false}"#,
                false,
                r#"{"include_obfuscation":false,"include_usage":true}"#,
            ),
            (r#"{"include_usage":true}"#, true, r#"{"include_usage":true}"#),
        ] {
            let call = read(&format!(r#"{{"stream_options":{options},"model":"m","stream":true}}"#)).unwrap();
            assert_eq!(call.wants_usage, wants);
            let expected = format!(r#"{{"stream_options":{forwarded},"model":"m","stream":true}}"#);
            assert_eq!(call.forwarded(None, !wants), expected);
        }
        let call = read(r#"{"max_tokens":null,"model":"m"}"#).unwrap();
        assert_eq!(call.forwarded(Some(("max_tokens", 5)), false), r#"{"max_tokens":5,"model":"m"}"#);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_and_named() {
        for (body, param, word) in [
            (r#"{"model":"m","max_tokens":1,"max_tokens":9999}"#, None, "`max_tokens` stands twice"),
            (r#"{"model":"m","max_tokens":1,"max\u005ftokens":9999}"#, None, "stands twice"),
            (r#"{"model":"m","max_tokens":1e3}"#, Some("max_tokens"), "whole number"),
            (r#"{"model":"m","max_completion_tokens":"7"}"#, Some("max_completion_tokens"), "whole number"),
            (r#"{"model":"m","n":0}"#, Some("n"), "from 1 to 128"),
            (r#"{"model":"m","stream":"true"}"#, Some("stream"), "true or false"),
            (r#"{"model":"m","background":true}"#, Some("background"), "not possible"),
            (r#"{"model":"m","Model":"gpt-4o"}"#, Some("model"), "`Model` is not a field"),
            (r#"{"model":"m","MAX_TOKENS":9999}"#, Some("max_tokens"), "`max_tokens`"),
            (r#"{"model":"m","N":9}"#, Some("n"), "`n`"),
            (r#"{"model":"m","max_to\u212aen\u017f":9}"#, Some("max_tokens"), "`max_tokens`"),
            (r#"{"model":7}"#, Some("model"), "name of a model"),
            (r#"[]"#, None, "not a JSON object"),
            (&format!("\"{}\"", "x".repeat(100_000)), None, "not a JSON object"),
            (&format!("{{\"{0}\":1,\"{0}\":2}}", "x".repeat(100_000)), None, "not a JSON object"),
            (
                &format!("{{\"model\":\"m\",\"{}\":{}1{}}}", "x".repeat(9_000), "[".repeat(120), "]".repeat(120)),
                None,
                "xxx",
            ),
            (r#"{"model":"m"} x"#, None, "not a JSON object"),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.param, param, "{body}");
            assert!(error.message.contains(word) && error.message.len() < 1_000, "{} bytes", error.message.len());
        }
    }

    #[test]
    fn the_larger_of_two_maxima_is_reserved() {
        assert_eq!(read(r#"{"model":"m","max_tokens":9,"max_completion_tokens":3}"#).unwrap().output_max, Some(9));
    }
}
