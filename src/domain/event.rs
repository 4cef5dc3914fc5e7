//! Usage events: what a caller says happened, before and after it is recorded.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use uuid::Uuid;

use super::money::Money;
use super::price_terms::Markup;
use super::tenant::TenantId;
use super::time::{MICROS_PER_MINUTE, Timestamp};
use super::usage::UsageCounts;

/// The most tokens, results or session members one event may name.
pub const MAX_COUNT_PER_EVENT: u64 = 1_000_000_000_000;
/// The largest metadata object, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 4 * 1024;
/// How far ahead of the server's clock an event's time may be.
pub const MAX_AHEAD_MICROS: i64 = 5 * MICROS_PER_MINUTE;
/// The status of a call that its tracker never heard the end of.
pub const STATUS_ABANDONED: u16 = 499;

/// Names that the product itself gives a meaning; callers may use their own beside them.
pub mod event_types {
    /// A call of an API.
    pub const API_CALL: &str = "api_call";
    /// A message of a chat, sent or received.
    pub const CHAT_MESSAGE: &str = "chat_message";
    /// An embedding made.
    pub const EMBEDDING: &str = "embedding";
    /// A semantic search.
    pub const SEARCH: &str = "search";
    /// A document taken into a knowledge base.
    pub const KB_INGEST: &str = "kb_ingest";
}

/// An event's id, the caller's idempotency key: 1 to 128 printable characters, unique in its tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventId {
    /// A UUID in its canonical lower-case form.
    Uuid(Uuid),
    /// Any other text.
    Text(CompactString),
}

/// A text that cannot be an event id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id is 1 to 128 printable characters")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(uuid) = canonical_uuid(text) {
            return Ok(Self::Uuid(uuid));
        }
        let length = text.chars().count();
        if (1..=128).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self::Text(text.into()))
        } else {
            Err(InvalidEventId)
        }
    }
}

/// The UUID whose canonical text this is, so that text and value stand for each other exactly.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse_ascii(text.as_bytes()).ok()
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => fmt::Display::fmt(uuid, f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The part of an id that is hashed: a text, a UUID's bits, or the 74 random bits of a UUIDv7.
///
/// Different ids have different keys, but for two UUIDv7 that differ in nothing except their clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdKey<'a> {
    /// Of a text.
    Text(&'a str),
    /// Of a UUID.
    Bits(u128),
}

impl EventId {
    /// The part by which the store finds it.
    pub fn key(&self) -> IdKey<'_> {
        match self {
            Self::Text(text) => IdKey::Text(text),
            Self::Uuid(uuid) if is_v7(uuid) => IdKey::Bits(v7_random(uuid)),
            Self::Uuid(uuid) => IdKey::Bits(uuid.as_u128()),
        }
    }
}

/// Whether a UUID is of version 7 and the RFC 9562 variant.
pub fn is_v7(uuid: &Uuid) -> bool {
    uuid.as_u128() >> 76 & 0xf == 7 && uuid.as_u128() >> 62 & 3 == 2
}

/// The 74 bits of a UUIDv7 that are neither clock nor version nor variant.
pub fn v7_random(uuid: &Uuid) -> u128 {
    let bits = uuid.as_u128();
    (bits >> 64 & 0xfff) << 62 | bits & ((1 << 62) - 1)
}

/// One usage event as its caller gave it: only `tenant_id` and `event_type` are required.
///
/// Fields hold what was given, before defaults, so that a retry can be compared with it.
/// The names are the documented columns of `tenant_usage_realtime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent {
    /// Whose usage it is.
    pub tenant_id: TenantId,
    /// 1 to 50 characters: one of [`event_types`] or the caller's own.
    pub event_type: CompactString,
    /// The caller's idempotency key.
    pub event_id: Option<EventId>,
    /// When it happened; default: when it is recorded.
    pub event_timestamp: Option<Timestamp>,
    /// At most 10 characters.
    pub api_method: Option<CompactString>,
    /// At most 255 characters.
    pub api_endpoint: Option<CompactString>,
    /// 100 to 599.
    pub api_status_code: Option<u16>,
    /// Whole milliseconds.
    pub api_response_time_ms: Option<u32>,
    /// At most 128 characters.
    pub chat_session_id: Option<CompactString>,
    /// The model's name, at most 128 characters.
    pub model: Option<CompactString>,
    /// Who served the model, at most 64 characters: by whose price list it is priced.
    pub provider: Option<CompactString>,
    /// Tokens embedded; default for embeddings: the tokens consumed.
    pub embedding_tokens: Option<u64>,
    /// Tokens of a search query; default for searches: the tokens consumed.
    pub search_query_tokens: Option<u64>,
    /// Results of a search.
    pub search_result_count: Option<u64>,
    /// Tokens consumed in all; default: input + output.
    pub tokens_consumed: Option<u64>,
    /// Input tokens, the cached ones among them.
    pub input_tokens: Option<u64>,
    /// Input tokens served from a cache; part of the input.
    pub cached_input_tokens: Option<u64>,
    /// Output tokens, the reasoning ones among them.
    pub output_tokens: Option<u64>,
    /// Reasoning tokens; part of the output.
    pub reasoning_tokens: Option<u64>,
    /// Counts read out of the provider's own usage that have no field here; those that have one stand there.
    pub usage: Option<Box<UsageCounts>>,
    /// What it cost, by the caller's own reckoning.
    pub cost_usd: Option<Money>,
    /// What it cost by the price book when it was recorded. The server's own, never the caller's: it replaces whatever
    /// stands here.
    pub estimate: Option<Estimate>,
    /// A JSON object with sorted keys, at most [`MAX_METADATA_BYTES`].
    pub metadata: Option<Box<str>>,
}

/// A cost by the price book, and the price it was reckoned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The sum, exact.
    pub cost: Money,
    /// The number of the price row in this store; a row never changes.
    pub price_no: u32,
    /// What of it is the tenant's markup on that row's price.
    pub markup: Markup,
}

impl UsageEvent {
    /// An event with nothing but the two required fields.
    pub fn new(tenant_id: TenantId, event_type: &str) -> Self {
        Self {
            tenant_id,
            event_type: event_type.into(),
            event_id: None,
            event_timestamp: None,
            api_method: None,
            api_endpoint: None,
            api_status_code: None,
            api_response_time_ms: None,
            chat_session_id: None,
            model: None,
            provider: None,
            embedding_tokens: None,
            search_query_tokens: None,
            search_result_count: None,
            tokens_consumed: None,
            input_tokens: None,
            cached_input_tokens: None,
            output_tokens: None,
            reasoning_tokens: None,
            usage: None,
            cost_usd: None,
            estimate: None,
            metadata: None,
        }
    }

    /// The fields of [`UsageEvent::counts`], in their order; it is also that of the stored columns and of content digests.
    pub const COUNTS: [&str; 8] = [
        "embedding_tokens",
        "search_query_tokens",
        "search_result_count",
        "tokens_consumed",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
    ];

    /// The counts as given, each at most [`MAX_COUNT_PER_EVENT`].
    pub const fn counts(&self) -> [Option<u64>; Self::COUNTS.len()] {
        [
            self.embedding_tokens,
            self.search_query_tokens,
            self.search_result_count,
            self.tokens_consumed,
            self.input_tokens,
            self.cached_input_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        ]
    }

    /// What it cost: as the caller says, else as estimated; `None` is unknown, never free.
    pub fn cost(&self) -> Option<Money> {
        self.cost_usd.or(self.estimate.map(|estimate| estimate.cost))
    }

    /// Tokens consumed: as given, else input + output, else 0.
    pub fn tokens(&self) -> u64 {
        // Each is at most MAX_COUNT_PER_EVENT.
        self.tokens_consumed.unwrap_or_else(|| self.input_tokens.unwrap_or(0) + self.output_tokens.unwrap_or(0))
    }

    /// The HTTP status it counts as: as given, else 200.
    pub fn status(&self) -> u16 {
        self.api_status_code.unwrap_or(200)
    }

    /// Whether it records a call that a rate limit refused.
    pub fn is_rate_limited(&self) -> bool {
        self.status() == 429
    }

    /// Checks every bound that does not depend on the time. Fails with the first field that breaks one.
    pub fn validate(&self) -> Result<(), InvalidEvent> {
        text_within("event_type", Some(&self.event_type), 1, 50)?;
        text_within("api_method", self.api_method.as_ref(), 0, 10)?;
        text_within("api_endpoint", self.api_endpoint.as_ref(), 0, 255)?;
        text_within("chat_session_id", self.chat_session_id.as_ref(), 1, 128)?;
        text_within("model", self.model.as_ref(), 1, 128)?;
        text_within("provider", self.provider.as_ref(), 1, 64)?;
        if self.api_status_code.is_some_and(|status| !(100..=599).contains(&status)) {
            return Err(InvalidEvent::new("api_status_code", "must be an HTTP status from 100 to 599"));
        }
        for (field, count) in Self::COUNTS.into_iter().zip(self.counts()) {
            if count.is_some_and(|count| count > MAX_COUNT_PER_EVENT) {
                return Err(InvalidEvent::new(field, "is above 1,000,000,000,000"));
            }
        }
        if self.metadata.as_ref().is_some_and(|json| json.len() > MAX_METADATA_BYTES) {
            return Err(InvalidEvent::new("metadata", "is larger than 4 KiB of JSON"));
        }
        Ok(())
    }
}

/// Why one event was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidEvent {
    /// The field at fault, by its JSON name.
    pub field: &'static str,
    /// What is wrong with it, as the rest of a sentence that starts with the field.
    pub reason: String,
}

impl InvalidEvent {
    /// `field` and the rest of the sentence.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

fn text_within(field: &'static str, text: Option<&CompactString>, min: usize, max: usize) -> Result<(), InvalidEvent> {
    let Some(text) = text else { return Ok(()) };
    if text.len() < min {
        return Err(InvalidEvent::new(field, "must not be empty"));
    }
    if text.len() > max && text.chars().count() > max {
        return Err(InvalidEvent::new(field, format!("is longer than {max} characters")));
    }
    // Without a way out of it, the loop looks at many bytes at once.
    if text.bytes().fold(false, |found, byte| found | byte.is_ascii_control()) {
        return Err(InvalidEvent::new(field, "contains a control character"));
    }
    Ok(())
}

/// An event that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the log, given at commit; never changes.
    pub entry_id: u64,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When it happened: as given, else when it was recorded.
    pub event_timestamp: Timestamp,
    /// Its id: the caller's, else one the server made.
    pub event_id: EventId,
    /// Whether the caller gave the id.
    pub event_id_given: bool,
    /// What the caller gave.
    pub event: UsageEvent,
}

/// What became of one event of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// Recorded now.
    Accepted,
    /// Recorded before, with the same content: counted once.
    Duplicate,
    /// The id is known with other content: nothing changed.
    Conflict,
    /// Not recorded, for this reason.
    Rejected(Rejection),
}

/// Why an event was rejected: a stable code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// A stable code, such as `invalid_event`.
    pub code: &'static str,
    /// What to change.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_given() {
        for text in [
            "0192f3c4-5a6b-7c8d-9e0f-112233445566",
            "0192F3C4-5A6B-7C8D-9E0F-112233445566",
            "order 7 / line 3",
            "chatcmpl-9x",
            "0192f3c45a6b7c8d9e0f112233445566",
        ] {
            assert_eq!(text.parse::<EventId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        assert!("".parse::<EventId>().is_err());
        assert!("a\nb".parse::<EventId>().is_err());
        assert!("x".repeat(129).parse::<EventId>().is_err());
    }
}
