//! Usage events as they are sent to us, read straight into domain values: the hot path.

use std::cell::{Cell, RefCell};
use std::fmt;

use compact_str::CompactString;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{parsed, whole};
use super::object::{read_array, too_many};
use super::scalar::money_of;
use super::{Fault, named, reason};
use crate::domain::event::{EventId, InvalidEvent, UsageEvent};
use crate::domain::money::Money;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::rules::pricing::put_usage;

/// The most events in one JSON batch.
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// The code of an event that breaks a rule.
pub const INVALID_EVENT: &str = "invalid_event";

/// The names of an event's fields.
pub const EVENT_FIELDS: [&str; 22] = [
    "tenant_id",
    "event_type",
    "event_id",
    "event_timestamp",
    "api_method",
    "api_endpoint",
    "api_status_code",
    "api_response_time_ms",
    "chat_session_id",
    "model",
    "embedding_tokens",
    "search_query_tokens",
    "search_result_count",
    "tokens_consumed",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "metadata",
    "provider",
    "usage",
];
/// The largest usage object, in bytes of JSON.
const USAGE_BYTES_MAX: usize = 64 * 1024;

/// An event as sent, before what surrounds it (an envelope, a header) fills its gaps.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields of UsageEvent")]
pub struct EventDraft {
    pub tenant_id: Option<TenantId>,
    pub event_type: Option<CompactString>,
    pub event_id: Option<EventId>,
    pub event_timestamp: Option<Timestamp>,
    pub api_method: Option<CompactString>,
    pub api_endpoint: Option<CompactString>,
    pub api_status_code: Option<u64>,
    pub api_response_time_ms: Option<u64>,
    pub chat_session_id: Option<CompactString>,
    pub model: Option<CompactString>,
    pub embedding_tokens: Option<u64>,
    pub search_query_tokens: Option<u64>,
    pub search_result_count: Option<u64>,
    pub tokens_consumed: Option<u64>,
    pub input_tokens: Option<u64>,
    pub cached_input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    pub cost_usd: Option<Money>,
    pub metadata: Option<Box<str>>,
    pub provider: Option<CompactString>,
    pub usage: Option<Box<serde_json::Value>>,
}

impl EventDraft {
    /// Reads one JSON object. Fails with the first field at fault.
    pub fn read(json: &[u8]) -> Result<Self, Fault> {
        let place = Place::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let draft = DraftSeed(&place).deserialize(&mut reader).and_then(|draft| reader.end().map(|()| draft));
        draft.map_err(|error| place.fault(&error))
    }

    /// Reads a JSON array of at most [`BATCH_EVENTS_MAX`]; a bad event is a fault of its own, broken JSON one of all.
    pub fn read_batch(json: &[u8]) -> Result<Vec<Result<Self, Fault>>, Fault> {
        // One pass when every event is well; only a batch with a bad one is split first, so that the others survive.
        let place = Place::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let drafts = reader.deserialize_seq(ListVisitor(&place)).and_then(|drafts| reader.end().map(|()| drafts));
        match drafts {
            Ok(drafts) => Ok(drafts),
            Err(_) => {
                let elements = read_array(json, BATCH_EVENTS_MAX)?;
                Ok(elements.into_iter().map(|element| Self::read(element.get().as_bytes())).collect())
            }
        }
    }

    /// The finished event, every bound that does not depend on the time checked.
    pub fn finish(self) -> Result<UsageEvent, Fault> {
        let missing = |field: &'static str| Fault::field(INVALID_EVENT, field, "is required");
        let tenant_id = self.tenant_id.ok_or_else(|| missing("tenant_id"))?;
        let event_type = self.event_type.ok_or_else(|| missing("event_type"))?;
        let given = [
            ("tokens_consumed", self.tokens_consumed),
            ("input_tokens", self.input_tokens),
            ("cached_input_tokens", self.cached_input_tokens),
            ("output_tokens", self.output_tokens),
            ("reasoning_tokens", self.reasoning_tokens),
            ("embedding_tokens", self.embedding_tokens),
        ];
        let mut event = UsageEvent {
            tenant_id,
            event_type,
            event_id: self.event_id,
            event_timestamp: self.event_timestamp,
            api_method: self.api_method,
            api_endpoint: self.api_endpoint,
            api_status_code: narrow(self.api_status_code, "api_status_code", "must be an HTTP status from 100 to 599")?,
            api_response_time_ms: narrow(self.api_response_time_ms, "api_response_time_ms", "is above 4,294,967,295")?,
            chat_session_id: self.chat_session_id,
            model: self.model,
            embedding_tokens: self.embedding_tokens,
            search_query_tokens: self.search_query_tokens,
            search_result_count: self.search_result_count,
            tokens_consumed: self.tokens_consumed,
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            cost_usd: self.cost_usd,
            metadata: self.metadata,
            provider: self.provider,
            usage: None,
            estimate: None,
        };
        if let Some(usage) = self.usage {
            if let Some((field, _)) = given.into_iter().find(|(_, count)| count.is_some()) {
                return Err(Fault::field(
                    INVALID_EVENT,
                    "usage",
                    format_args!("stands instead of {field}: give one of them"),
                ));
            }
            put_usage(&mut event, &usage)
                .map_err(|error| Fault::field("usage_unreadable", "usage", format_args!("cannot be read: {error}")))?;
        }
        event.validate()?;
        Ok(event)
    }
}

impl From<InvalidEvent> for Fault {
    fn from(invalid: InvalidEvent) -> Self {
        Self::field(INVALID_EVENT, invalid.field, invalid.reason)
    }
}

fn narrow<T: TryFrom<u64>>(value: Option<u64>, field: &'static str, reason: &str) -> Result<Option<T>, Fault> {
    value.map(|value| T::try_from(value).map_err(|_| Fault::field(INVALID_EVENT, field, reason))).transpose()
}

/// Where the reader is, for the fault it may end in.
#[derive(Default)]
struct Place {
    field: Cell<Option<usize>>,
    fault: RefCell<Option<Fault>>,
}

impl Place {
    fn refuse<E: de::Error>(&self, fault: Fault) -> E {
        let error = E::custom(&fault.message);
        *self.fault.borrow_mut() = Some(fault);
        error
    }

    fn fault(&self, error: &serde_json::Error) -> Fault {
        if let Some(fault) = self.fault.borrow_mut().take() {
            return fault;
        }
        if !error.is_data() {
            return Fault::syntax(error);
        }
        match self.field.get() {
            Some(0) => Fault::field("invalid_tenant_id", EVENT_FIELDS[0], reason(error)),
            Some(field) => Fault::field(INVALID_EVENT, EVENT_FIELDS[field], reason(error)),
            None => Fault::whole(INVALID_EVENT, format!("an event {}", reason(error))),
        }
    }
}

struct DraftSeed<'p>(&'p Place);

impl<'de> DeserializeSeed<'de> for DraftSeed<'_> {
    type Value = EventDraft;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<EventDraft, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DraftSeed<'_> {
    type Value = EventDraft;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventDraft, A::Error> {
        let place = self.0;
        let mut draft = EventDraft::default();
        let mut seen = 0u32;
        while let Some(field) = map.next_key_seed(FieldSeed(place))? {
            place.field.set(Some(field));
            if seen & (1 << field) != 0 {
                return Err(place.refuse(Fault::field(INVALID_EVENT, EVENT_FIELDS[field], "is given twice")));
            }
            seen |= 1 << field;
            // The order of EVENT_FIELDS.
            match field {
                0 => draft.tenant_id = parsed(&mut map)?,
                1 => draft.event_type = parsed(&mut map)?,
                2 => draft.event_id = parsed(&mut map)?,
                3 => draft.event_timestamp = parsed(&mut map)?,
                4 => draft.api_method = parsed(&mut map)?,
                5 => draft.api_endpoint = parsed(&mut map)?,
                6 => draft.api_status_code = whole(&mut map)?,
                7 => draft.api_response_time_ms = whole(&mut map)?,
                8 => draft.chat_session_id = parsed(&mut map)?,
                9 => draft.model = parsed(&mut map)?,
                10 => draft.embedding_tokens = whole(&mut map)?,
                11 => draft.search_query_tokens = whole(&mut map)?,
                12 => draft.search_result_count = whole(&mut map)?,
                13 => draft.tokens_consumed = whole(&mut map)?,
                14 => draft.input_tokens = whole(&mut map)?,
                15 => draft.cached_input_tokens = whole(&mut map)?,
                16 => draft.output_tokens = whole(&mut map)?,
                17 => draft.reasoning_tokens = whole(&mut map)?,
                18 => draft.cost_usd = money_of(map.next_value::<&RawValue>()?).map_err(de::Error::custom)?,
                20 => draft.provider = parsed(&mut map)?,
                21 => draft.usage = usage_of(map.next_value::<&RawValue>()?).map_err(de::Error::custom)?,
                _ => draft.metadata = metadata_of(map.next_value::<&RawValue>()?).map_err(de::Error::custom)?,
            }
            place.field.set(None);
        }
        Ok(draft)
    }
}

/// An object as text with sorted keys; null is `None`.
fn metadata_of(raw: &RawValue) -> Result<Option<Box<str>>, String> {
    match raw.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'{') => {
            let sorted: serde_json::Value = serde_json::from_str(raw.get()).map_err(|error| reason(&error))?;
            Ok(Some(sorted.to_string().into_boxed_str()))
        }
        _ => Err("must be a JSON object".to_owned()),
    }
}

/// The provider's own object as it is; null is `None`.
fn usage_of(raw: &RawValue) -> Result<Option<Box<serde_json::Value>>, String> {
    match raw.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'{') if raw.get().len() > USAGE_BYTES_MAX => Err("is larger than 64 KiB of JSON".to_owned()),
        Some(b'{') => {
            serde_json::from_str(raw.get()).map(|usage| Some(Box::new(usage))).map_err(|error| reason(&error))
        }
        _ => Err("must be the JSON object that the provider sent".to_owned()),
    }
}

/// A field's name as its place in [`EVENT_FIELDS`].
struct FieldSeed<'p>(&'p Place);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<usize, E> {
        EVENT_FIELDS.iter().position(|known| *known == name).ok_or_else(|| {
            let name = named(name).to_owned();
            self.0.refuse(Fault::field(INVALID_EVENT, name, "is not a field of an event: put it into `metadata`"))
        })
    }
}

struct ListVisitor<'p>(&'p Place);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Vec<Result<EventDraft, Fault>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut drafts = Vec::new();
        while let Some(draft) = seq.next_element_seed(DraftSeed(self.0))? {
            if drafts.len() == BATCH_EVENTS_MAX {
                return Err(self.0.refuse(too_many(BATCH_EVENTS_MAX)));
            }
            drafts.push(Ok(draft));
        }
        Ok(drafts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::usage::SentEvent;

    fn read(json: &str) -> Result<UsageEvent, Fault> {
        EventDraft::read(json.as_bytes())?.finish()
    }

    fn with(field: &str, value: &str) -> Result<UsageEvent, Fault> {
        read(&format!(r#"{{"tenant_id":"acme","event_type":"api_call","{field}":{value}}}"#))
    }

    #[test]
    fn each_bad_field_is_named_with_its_code() {
        for (field, value, code) in [
            ("event_id", "7", INVALID_EVENT),
            ("event_id", r#""""#, INVALID_EVENT),
            ("event_timestamp", r#""yesterday""#, INVALID_EVENT),
            ("event_timestamp", "1732440000", INVALID_EVENT),
            ("api_method", r#""A-VERY-LONG-METHOD""#, INVALID_EVENT),
            ("api_endpoint", "{}", INVALID_EVENT),
            ("api_status_code", "99", INVALID_EVENT),
            ("api_status_code", "70000", INVALID_EVENT),
            ("api_status_code", r#""200""#, INVALID_EVENT),
            ("api_response_time_ms", "12.5", INVALID_EVENT),
            ("api_response_time_ms", "5000000000", INVALID_EVENT),
            ("chat_session_id", r#""""#, INVALID_EVENT),
            ("model", "true", INVALID_EVENT),
            ("embedding_tokens", "-1", INVALID_EVENT),
            ("search_query_tokens", "1.0", INVALID_EVENT),
            ("search_result_count", "[]", INVALID_EVENT),
            ("tokens_consumed", r#""12""#, INVALID_EVENT),
            ("input_tokens", "1e3", INVALID_EVENT),
            ("cached_input_tokens", "1000000000001", INVALID_EVENT),
            ("output_tokens", "18446744073709551616", INVALID_EVENT),
            ("reasoning_tokens", "false", INVALID_EVENT),
            ("cost_usd", "-0.1", INVALID_EVENT),
            ("cost_usd", "1e-16", INVALID_EVENT),
            ("cost_usd", r#""a lot""#, INVALID_EVENT),
            ("cost_usd", "[1]", INVALID_EVENT),
            ("metadata", r#""text""#, INVALID_EVENT),
            ("metadata", "[]", INVALID_EVENT),
            ("prompt", r#""hello""#, INVALID_EVENT),
            ("provider", "7", INVALID_EVENT),
            ("provider", r#""""#, INVALID_EVENT),
            ("usage", "[]", INVALID_EVENT),
            ("usage", r#"{"tokens_in":1,"tokens_out":2}"#, "usage_unreadable"),
            ("usage", r#"{"prompt_tokens":"1","completion_tokens":2}"#, "usage_unreadable"),
        ] {
            let fault = with(field, value).expect_err(field);
            assert_eq!((fault.code, fault.field.as_deref()), (code, Some(field)), "{value}: {fault}");
            assert!(fault.message.starts_with(field), "{fault}");
        }
    }

    #[test]
    fn a_bad_whole_is_told_apart() {
        for (json, code, field) in [
            (r#"{"event_type":"x"}"#, INVALID_EVENT, Some("tenant_id")),
            (r#"{"tenant_id":"acme"}"#, INVALID_EVENT, Some("event_type")),
            (r#"{"tenant_id":"a/b","event_type":"x"}"#, "invalid_tenant_id", Some("tenant_id")),
            (r#"{"tenant_id":7,"event_type":"x"}"#, "invalid_tenant_id", Some("tenant_id")),
            (r#"{"tenant_id":"a","event_type":""}"#, INVALID_EVENT, Some("event_type")),
            (r#"{"tenant_id":"a","tenant_id":"b","event_type":"x"}"#, INVALID_EVENT, Some("tenant_id")),
            (r#""acme""#, INVALID_EVENT, None),
            (r#"{"tenant_id":"a""#, "invalid_json", None),
            (r#"{"tenant_id":"a","event_type":"x"} x"#, "invalid_json", None),
            ("", "invalid_json", None),
        ] {
            let fault = read(json).expect_err(json);
            assert_eq!((fault.code, fault.field.as_deref()), (code, field), "{json}: {fault}");
        }
        let message = with("input_tokens", "-5").unwrap_err().message;
        assert_eq!(message, "input_tokens must be a whole number of 0 or more, not integer `-5`");
        let message = with("prompt", "1").unwrap_err().message;
        assert_eq!(message, "prompt is not a field of an event: put it into `metadata`");
    }

    #[test]
    fn a_whole_event_is_read_and_written_back_the_same() {
        let json = r#"{"tenant_id":"acme","event_type":"chat_message","event_id":"0192f3c4-5a6b-7c8d-9e0f-112233445566",
            "event_timestamp":"2026-11-24T09:30:00.25Z","api_method":"POST","api_endpoint":"/chat","api_status_code":200,
            "api_response_time_ms":812,"chat_session_id":"s \"1\"","model":"m","embedding_tokens":1,"search_query_tokens":2,
            "search_result_count":3,"tokens_consumed":4,"input_tokens":5,"cached_input_tokens":6,"output_tokens":7,
            "reasoning_tokens":8,"cost_usd":0.000000000000001,"metadata":{"b":[1,2.5],"a":{"is_response":true}}}"#;
        let event = read(json).unwrap();
        assert_eq!(event.cost_usd.map(Money::femtos), Some(1));
        assert_eq!(event.metadata.as_deref(), Some(r#"{"a":{"is_response":true},"b":[1,2.5]}"#));
        let sent = serde_json::to_string(&SentEvent::from(&event)).unwrap();
        assert_eq!(read(&sent).unwrap(), event, "{sent}");
    }

    #[test]
    fn a_provider_s_usage_stands_instead_of_counts() {
        let usage = r#""provider":"openai","usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,
            "prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":3}}"#;
        let event =
            read(&format!(r#"{{"tenant_id":"acme","event_type":"api_call","model":"gpt-4o",{usage}}}"#)).unwrap();
        assert_eq!((event.input_tokens, event.cached_input_tokens), (Some(9), Some(5)));
        assert_eq!((event.output_tokens, event.reasoning_tokens, event.tokens()), (Some(4), Some(3), 13));
        assert_eq!(event.usage, None, "nothing that has no field of its own");
        let both = read(&format!(r#"{{"tenant_id":"acme","event_type":"x","input_tokens":9,{usage}}}"#)).unwrap_err();
        assert_eq!(both.message, "usage stands instead of input_tokens: give one of them");
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let nulls = EVENT_FIELDS[2..].iter().map(|field| format!(r#","{field}":null"#)).collect::<String>();
        let event = read(&format!(r#"{{"tenant_id":"acme","event_type":"x"{nulls}}}"#)).unwrap();
        assert_eq!(event, UsageEvent::new("acme".parse().unwrap(), "x"));
    }

    #[test]
    fn metadata_may_have_4_kib_and_no_more_and_deep_nesting_is_refused() {
        let of = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert!(with("metadata", &of(4_096)).is_ok());
        assert_eq!(with("metadata", &of(4_097)).unwrap_err().field.as_deref(), Some("metadata"));
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(with("metadata", &deep).unwrap_err().field.as_deref(), Some("metadata"));
    }

    #[test]
    fn a_batch_has_its_most() {
        let batch = |count: usize| format!("[{}]", vec![r#"{"tenant_id":"a","event_type":"x"}"#; count].join(","));
        assert_eq!(EventDraft::read_batch(batch(BATCH_EVENTS_MAX).as_bytes()).unwrap().len(), BATCH_EVENTS_MAX);
        let fault = EventDraft::read_batch(batch(BATCH_EVENTS_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(fault.code, "batch_too_large");
        assert_eq!(EventDraft::read_batch(b"[]").unwrap().len(), 0);
    }
}
