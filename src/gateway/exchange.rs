//! One call that was let in: what is held for it, what it used as far as is known, and its end, which settles it.
//!
//! However a call ends, its [`Exchange`] settles the hold with an event, once: by [`Exchange::end`], or when it is dropped
//! because the caller went away. The settlement is queued before the caller can see the end of the answer. Where the
//! upstream tells no usage, it is estimated from what was sent and seen, never above what was reserved, and the event's
//! metadata say `usage_estimated`. Where the answer was not seen at all (no answer in time, broken off, unreadable, the caller
//! gone before its first word), the reserved output stands for it, since the upstream bills what it made.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::Parts;
use super::call_body::CallBody;
use super::endpoint::Endpoint;
use super::event_stream::{contains, data_of};
use super::places::Place;
use super::token_bound::token_bound;
use super::upstream::Upstream;
use crate::domain::event::{EventId, EventOutcome, STATUS_ABANDONED, UsageEvent};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;
use crate::enforcer::EnforceError;
use crate::rules::extract::UsageStream;
use crate::rules::pricing::put_counts;
use crate::writer::{Receipt, Recorded, WriteError};

/// How long a settlement is tried again while the writer cannot take it.
const SETTLE_TRIES: u32 = 60;
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The upstream's answer was passed on to its end.
    Answered(u16),
    /// The upstream could not be reached: it was not asked.
    Unreachable,
    /// The upstream took longer than its timeout.
    TimedOut,
    /// The connection broke off: in the middle of the answer, or after the call was sent and before any answer.
    BrokeOff,
    /// The answer is compressed, although that was not asked for.
    Unreadable,
    /// The caller went away before the end.
    CallerGone,
    /// The caller went away before the upstream was asked.
    NeverSent,
}

impl Ending {
    /// The status the event is recorded with.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Answered(status) => status,
            Self::Unreachable | Self::BrokeOff | Self::Unreadable => 502,
            Self::TimedOut => 504,
            Self::CallerGone | Self::NeverSent => STATUS_ABANDONED,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::BrokeOff => "broke_off",
            Self::Unreadable => "unreadable",
            Self::CallerGone | Self::NeverSent => "caller_gone",
        }
    }

    /// Whether the upstream may have worked, although it did not tell for how many tokens.
    fn may_have_used(self) -> bool {
        match self {
            Self::Answered(status) => status < 400,
            Self::Unreachable | Self::NeverSent => false,
            Self::TimedOut | Self::BrokeOff | Self::Unreadable | Self::CallerGone => true,
        }
    }
}

/// What is known of a call when it is let in.
pub(super) struct Granted {
    pub(super) tenant_id: TenantId,
    pub(super) event_id: Uuid,
    /// Of its hold.
    pub(super) reservation_id: String,
    pub(super) endpoint: Endpoint,
    pub(super) started: Timestamp,
    pub(super) request_id: Option<String>,
    pub(super) chat_session_id: Option<String>,
    /// The output that is reserved, over all choices.
    pub(super) output_reserved: u64,
}

/// A call that is open.
pub(super) struct Exchange {
    parts: Arc<Parts>,
    upstream: Arc<Upstream>,
    granted: Granted,
    model: String,
    prompt_bound: u64,
    usage: Option<UsageStream>,
    /// The most tokens that the text seen so far can be.
    output_seen: u64,
    /// Whether the answer passes without its text being looked at.
    blind: bool,
    /// Whether the upstream has said that its answer is whole.
    pub(super) complete: bool,
    ended: Option<Ended>,
    open: Option<OpenCall>,
}

impl Exchange {
    pub(super) fn open(
        parts: Arc<Parts>,
        upstream: Arc<Upstream>,
        granted: Granted,
        body: &CallBody,
        place: Place,
    ) -> Self {
        let open = Some(OpenCall::new(&parts, place));
        let api = granted.endpoint.api(&upstream.provider);
        let usage = Some(UsageStream::new(Some(&upstream.provider), Some(api)));
        let (model, prompt_bound) = (body.model.clone(), body.prompt_bound);
        let (output_seen, blind, complete, ended) = (0, false, false, None);
        Self { parts, upstream, granted, model, prompt_bound, usage, output_seen, blind, complete, ended, open }
    }

    /// The answer is a stream of Bedrock's own, whose parts say themselves how they count. Before any of it is read.
    pub(super) fn reads_bedrock(&mut self) {
        self.usage = Some(UsageStream::new(Some(&self.upstream.provider), None));
        self.blind = true;
    }

    /// Reads usage out of the next bytes of the answer.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if let Some(usage) = &mut self.usage {
            usage.feed(bytes);
        }
    }

    /// Looks at an event of a stream: how much was said, and whether it was the last.
    pub(super) fn look(&mut self, event: &[u8]) {
        let Some(data) = data_of(event) else { return };
        if data == b"[DONE]" {
            self.complete = true;
            return;
        }
        if self.granted.endpoint == Endpoint::Responses {
            let ends = ["\"response.completed\"", "\"response.incomplete\"", "\"response.failed\""];
            // The type stands first; an answer's text has its quotes escaped.
            let head = &data[..data.len().min(128)];
            self.complete |= ends.iter().any(|end| contains(head, end.as_bytes()));
        }
        self.output_seen += said_in(data);
    }

    /// A whole answer that told no usage: all of its text counts.
    pub(super) fn look_at_whole(&mut self, body: &[u8]) {
        self.output_seen += token_bound(&String::from_utf8_lossy(body));
    }

    /// The id of the event that it is recorded as.
    pub(super) const fn event_id(&self) -> Uuid {
        self.granted.event_id
    }

    /// What it used, once it has ended.
    pub(super) fn used(&self) -> Option<UsageCounts> {
        self.ended.map(|ended| ended.counts)
    }

    /// Settles, once. What comes later changes nothing.
    pub(super) fn end(&mut self, ending: Ending) -> Ended {
        if let Some(ended) = self.ended {
            return ended;
        }
        let told = self.usage.take().and_then(|usage| {
            usage.finish().unwrap_or_else(|error| {
                // Which upstream's usage cannot be read is for its operator to know.
                tracing::warn!(upstream = self.upstream.name, %error, "usage could not be read out of an answer");
                None
            })
        });
        let estimated = told.is_none() && ending.may_have_used();
        let (counts, model) = match told {
            Some(told) => (told.counts, told.model),
            None if estimated => {
                self.parts.meter.estimated.add(1);
                let unseen = self.output_seen == 0 && (self.blind || !matches!(ending, Ending::Answered(_)));
                let output = if unseen { u64::MAX } else { self.output_seen }.min(self.granted.output_reserved);
                let counts = UsageCounts { input_tokens: Some(self.prompt_bound), ..UsageCounts::default() };
                match self.granted.endpoint {
                    Endpoint::Embeddings => (counts, None),
                    _ => (UsageCounts { output_tokens: Some(output), ..counts }, None),
                }
            }
            // Known to be nothing, so that it costs nothing: not unknown.
            None => (UsageCounts { input_tokens: Some(0), output_tokens: Some(0), ..UsageCounts::default() }, None),
        };
        let event = self.event(ending, &counts, model, estimated);
        let open = self.open.take();
        self.settle(event, open);
        let ended = Ended { counts };
        self.ended = Some(ended);
        ended
    }

    fn event(&self, ending: Ending, counts: &UsageCounts, model: Option<String>, estimated: bool) -> UsageEvent {
        let took = self.parts.now().micros_since(self.granted.started).max(0) / 1_000;
        let mut event = UsageEvent::new(self.granted.tenant_id.clone(), self.granted.endpoint.event_type());
        event.event_id = Some(EventId::Uuid(self.granted.event_id));
        event.api_method = Some("POST".into());
        event.api_endpoint = Some(self.granted.endpoint.path().into());
        event.api_status_code = Some(ending.status());
        event.api_response_time_ms = Some(u32::try_from(took).unwrap_or(u32::MAX));
        event.chat_session_id = self.granted.chat_session_id.as_deref().map(Into::into);
        event.model = Some(self.priced_model(model.as_deref()).into());
        event.provider = Some(self.upstream.provider.as_str().into());
        put_counts(&mut event, *counts);
        event.tokens_consumed = Some(counts.total_tokens());
        if self.granted.endpoint == Endpoint::Embeddings {
            event.embedding_tokens = counts.input_tokens;
        }
        let mut metadata = Map::new();
        metadata.insert("upstream".to_owned(), self.upstream.name.clone().into());
        if let Some(request_id) = &self.granted.request_id {
            metadata.insert("request_id".to_owned(), request_id.clone().into());
        }
        if !matches!(ending, Ending::Answered(_)) {
            metadata.insert("ended".to_owned(), ending.name().into());
        }
        if estimated {
            metadata.insert("usage_estimated".to_owned(), true.into());
        }
        event.metadata = Some(Value::Object(metadata).to_string().into());
        event
    }

    /// The model that the event names: the one that the upstream told, unless only the one that was asked for has a price.
    fn priced_model<'a>(&'a self, told: Option<&'a str>) -> &'a str {
        let Some(told) = told.filter(|told| (1..=128).contains(&told.len())) else { return &self.model };
        let (shared, now) = (self.parts.writer.shared(), self.parts.now());
        let (prices, own) = (shared.prices.load(), shared.own_prices(&self.granted.tenant_id));
        let has_price = |model| prices.has_price_for(own.as_deref(), Some(&self.upstream.provider), model, now);
        if has_price(told) || !has_price(&self.model) { told } else { &self.model }
    }

    /// Queues the settlement now; a full queue, or a commit that fails, is tried again in the background. The call counts
    /// as open until its settlement is on disk or given up.
    fn settle(&self, mut event: UsageEvent, open: Option<OpenCall>) {
        let tenant_id = self.granted.tenant_id.clone();
        let reservation_id = self.granted.reservation_id.clone();
        let parts = Arc::clone(&self.parts);
        let begin = move |event: &UsageEvent, parts: &Parts| {
            parts.enforcer.begin_settling(Some(&tenant_id), &reservation_id, vec![event.clone()])
        };
        let begun = begin(&event, &parts);
        let again = async move {
            let _open = open;
            let mut begun = begun;
            for _ in 0..SETTLE_TRIES {
                match wait(begun).await {
                    Ok(None | Some(EventOutcome::Accepted | EventOutcome::Duplicate)) => return,
                    Ok(Some(EventOutcome::Conflict)) => {
                        // Somebody has recorded another event under this id: what was used is charged all the same.
                        event.event_id = Some(EventId::Uuid(crate::ids::new_uuid_v7(parts.now())));
                    }
                    Ok(Some(EventOutcome::Rejected(rejection))) => {
                        tracing::error!(%rejection, "the usage of a call was rejected: it is not recorded");
                        parts.meter.unsettled.add(1);
                        return;
                    }
                    Err(EnforceError::Write(_)) => tokio::time::sleep(SETTLE_PAUSE).await,
                    Err(error) => {
                        tracing::error!(%error, "a call could not be settled: its hold lapses, and its usage is not recorded");
                        parts.meter.unsettled.add(1);
                        return;
                    }
                }
                begun = begin(&event, &parts);
            }
            tracing::error!("a call could not be settled in time: its hold lapses, and its usage is not recorded");
            parts.meter.unsettled.add(1);
        };
        match tokio::runtime::Handle::try_current() {
            // It ends by itself, and tells what it could not do.
            Ok(runtime) => drop(runtime.spawn(again)),
            Err(_) => tracing::debug!("a call ended outside of the runtime: its settlement is queued, not watched"),
        }
    }
}

/// What became of the one event of a settlement.
async fn wait(begun: Result<Receipt<Recorded>, EnforceError>) -> Result<Option<EventOutcome>, EnforceError> {
    let recorded = begun?.await.map_err(|error: WriteError| EnforceError::from(error))?;
    Ok(recorded.outcomes.into_iter().next())
}

/// Counts a call as open, and keeps its place, for as long as it lives.
struct OpenCall {
    parts: Arc<Parts>,
    _place: Place,
}

impl OpenCall {
    fn new(parts: &Arc<Parts>, place: Place) -> Self {
        parts.meter.opened();
        Self { parts: Arc::clone(parts), _place: place }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.parts.meter.closed();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let ending = if self.complete { Ending::Answered(200) } else { Ending::CallerGone };
        self.end(ending);
    }
}

/// What a call came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// By class; estimated where the upstream told nothing.
    pub(super) counts: UsageCounts,
}

/// The most tokens that the text of a chunk can be: of its `content`, `delta`, `arguments`, `text`, `refusal` and
/// `reasoning` texts. JSON in one line without spaces, as every known upstream streams it; spaces are allowed for.
pub(super) fn said_in(data: &[u8]) -> u64 {
    const NAMES: [&str; 8] =
        ["content", "delta", "arguments", "text", "refusal", "reasoning", "reasoning_content", "partial_json"];
    let (mut tokens, mut place) = (0, 0);
    while let Some((text, end)) = next_string(data, place) {
        place = end;
        let rest = data[end..].trim_ascii_start();
        let Some(value) = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start) else { continue };
        if value.first() != Some(&b'"') || !NAMES.iter().any(|name| name.as_bytes() == text) {
            continue;
        }
        let from = data.len() - value.len();
        if let Some((said, end)) = next_string(data, from) {
            // Escaped as it stands: longer than what was said, never shorter.
            tokens += token_bound(&String::from_utf8_lossy(said));
            place = end;
        }
    }
    tokens
}

/// The next JSON string from `from` on, without its quotes, and where it ends.
fn next_string(data: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let start = from + data.get(from..)?.iter().position(|byte| *byte == b'"')? + 1;
    let mut place = start;
    loop {
        match data.get(place)? {
            b'"' => return Some((&data[start..place], place + 1)),
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_out_of_a_chunk_and_nothing_else() {
        for (data, tokens) in [
            (r#"{"id":"chatcmpl-1","model":"gpt","choices":[{"delta":{"role":"assistant","content":"the"}}]}"#, 2),
            (r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a"}}]}}]}"#, 4),
            (r#"{"type":"response.output_text.delta","delta":"the","logprobs":[]}"#, 2),
            (r#"{"choices":[{"delta":{"content": "the"}}]}"#, 2),
            (r#"{"choices":[{"delta":{"content":null}}]}"#, 0),
            (r#"{"choices":[{"delta":{"content":"the"#, 0),
            ("not JSON", 0),
        ] {
            assert_eq!(said_in(data.as_bytes()), tokens, "{data}");
        }
    }
}
