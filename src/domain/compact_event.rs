//! An event as it travels through the writer, the filer and the store: a fourth of the size of what its caller gave.
//!
//! It holds exactly what a [`UsageEvent`] holds, but for tenant, id and time, which stand beside it: names by number, counts
//! and cost in the width that nearly all of them fit, and what is rare behind one pointer.

use compact_str::CompactString;

use super::event::{Estimate, EventId, UsageEvent};
use super::money::Money;
use super::names::Name;
use super::price_terms::Markup;
use super::tenant::TenantId;
use super::time::Timestamp;
use super::usage::UsageCounts;

/// The texts of an event that repeat, in column order.
pub const TEXTS: usize = 5;
/// The optional counts of an event; status and response time stand before them.
pub const COUNTS: usize = UsageEvent::COUNTS.len();

const EVENT_TYPE: usize = 0;
const METHOD: usize = 1;
const ENDPOINT: usize = 2;
const MODEL: usize = 3;
const PROVIDER: usize = 4;

/// Where its cost comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CostKind {
    Unknown,
    Given,
    Estimated,
}

/// A text that may be kept as a name; cheap to copy where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Kept once for all.
    Kept(Name),
    /// With its event.
    Own(Box<str>),
}

impl Text {
    /// Of `text`.
    pub fn of(text: &str) -> Self {
        Name::of(text).map_or_else(|| Self::Own(text.into()), Self::Kept)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kept(name) => name.as_str(),
            Self::Own(text) => text,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactEvent {
    counts: [u32; COUNTS],
    names: [Option<Name>; TEXTS],
    /// A bit for each count that is given.
    given: u8,
    cost_kind: CostKind,
    status: Option<std::num::NonZeroU16>,
    time_given: bool,
    response_time_given: bool,
    response_time_ms: u32,
    price_no: u32,
    markup: Markup,
    /// Femto-dollars.
    cost: u64,
    session: Option<Box<str>>,
    metadata: Option<Box<str>>,
    rare: Option<Box<Rare>>,
}

/// What hardly any event has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    texts: [Option<Box<str>>; TEXTS],
    /// What a count has beyond 32 bits.
    counts_above: [u32; COUNTS],
    /// What the cost has beyond 64 bits.
    cost_above: u64,
    usage: Option<UsageCounts>,
}

impl CompactEvent {
    /// An event of this type and nothing else.
    pub fn new(event_type: Text) -> Self {
        let mut event = Self {
            counts: [0; COUNTS],
            names: [None; TEXTS],
            given: 0,
            cost_kind: CostKind::Unknown,
            status: None,
            time_given: false,
            response_time_given: false,
            response_time_ms: 0,
            price_no: 0,
            markup: Markup::NONE,
            cost: 0,
            session: None,
            metadata: None,
            rare: None,
        };
        event.set_text(EVENT_TYPE, event_type);
        event
    }

    /// What the caller gave, without tenant, id and time.
    pub fn from_usage(mut event: UsageEvent) -> Self {
        Self::take_from(&mut event)
    }

    /// [`CompactEvent::from_usage`] without moving the event. What it holds in boxes is taken out of it.
    pub fn take_from(event: &mut UsageEvent) -> Self {
        let mut compact = Self::new(Text::of(&event.event_type));
        for (field, text) in [
            (METHOD, &event.api_method),
            (ENDPOINT, &event.api_endpoint),
            (MODEL, &event.model),
            (PROVIDER, &event.provider),
        ] {
            if let Some(text) = text {
                compact.set_text(field, Text::of(text));
            }
        }
        for (place, count) in event.counts().into_iter().enumerate() {
            compact.set_count(place, count);
        }
        compact.time_given = event.event_timestamp.is_some();
        compact.set_status(event.api_status_code);
        compact.set_response_time(event.api_response_time_ms);
        match (event.cost_usd, event.estimate) {
            (Some(cost), _) => compact.set_given_cost(cost),
            (None, Some(estimate)) => compact.set_estimate(estimate),
            (None, None) => {}
        }
        compact.session = event.chat_session_id.as_deref().map(Into::into);
        compact.metadata = event.metadata.take();
        if let Some(usage) = event.usage.take() {
            compact.set_usage(*usage);
        }
        compact
    }

    /// As its caller gave it. `at` is its time, taken if it was given.
    pub fn to_usage(&self, tenant_id: TenantId, event_id: Option<EventId>, at: Timestamp) -> UsageEvent {
        let text = |text: Option<&str>| text.map(CompactString::from);
        UsageEvent {
            tenant_id,
            event_type: self.event_type().into(),
            event_id,
            event_timestamp: self.time_given.then_some(at),
            api_method: text(self.api_method()),
            api_endpoint: text(self.api_endpoint()),
            api_status_code: self.api_status_code(),
            api_response_time_ms: self.api_response_time_ms(),
            chat_session_id: text(self.chat_session_id()),
            model: text(self.model()),
            provider: text(self.provider()),
            embedding_tokens: self.count(0),
            search_query_tokens: self.count(1),
            search_result_count: self.count(2),
            tokens_consumed: self.count(3),
            input_tokens: self.count(4),
            cached_input_tokens: self.count(5),
            output_tokens: self.count(6),
            reasoning_tokens: self.count(7),
            usage: self.usage().copied().map(Box::new),
            cost_usd: self.cost_usd(),
            estimate: self.estimate(),
            metadata: self.metadata.clone(),
        }
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn text(&self, field: usize) -> Option<&str> {
        match self.names[field] {
            Some(name) => Some(name.as_str()),
            None => self.rare.as_ref()?.texts[field].as_deref(),
        }
    }

    fn set_text(&mut self, field: usize, text: Text) {
        match text {
            Text::Kept(name) => self.names[field] = Some(name),
            Text::Own(text) => self.rare_mut().texts[field] = Some(text),
        }
    }

    /// 1 to 50 characters.
    pub fn event_type(&self) -> &str {
        self.text(EVENT_TYPE).unwrap_or_default()
    }

    /// At most 10 characters.
    pub fn api_method(&self) -> Option<&str> {
        self.text(METHOD)
    }

    /// At most 255 characters.
    pub fn api_endpoint(&self) -> Option<&str> {
        self.text(ENDPOINT)
    }

    /// At most 128 characters.
    pub fn model(&self) -> Option<&str> {
        self.text(MODEL)
    }

    /// At most 64 characters.
    pub fn provider(&self) -> Option<&str> {
        self.text(PROVIDER)
    }

    /// At most 128 characters.
    pub fn chat_session_id(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A JSON object.
    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    /// Counts of the provider's own that have no field.
    pub fn usage(&self) -> Option<&UsageCounts> {
        self.rare.as_ref()?.usage.as_ref()
    }

    /// Whether the caller gave its time.
    pub const fn time_given(&self) -> bool {
        self.time_given
    }

    /// 100 to 599, as given.
    pub fn api_status_code(&self) -> Option<u16> {
        self.status.map(std::num::NonZeroU16::get)
    }

    /// Whole milliseconds.
    pub fn api_response_time_ms(&self) -> Option<u32> {
        self.response_time_given.then_some(self.response_time_ms)
    }

    /// The count at `place` of [`UsageEvent::COUNTS`], as given.
    pub fn count(&self, place: usize) -> Option<u64> {
        (self.given >> place & 1 == 1).then(|| {
            let above = self.rare.as_ref().map_or(0, |rare| rare.counts_above[place]);
            u64::from(above) << 32 | u64::from(self.counts[place])
        })
    }

    /// Tokens embedded, as given.
    pub fn embedding_tokens(&self) -> Option<u64> {
        self.count(0)
    }

    /// Input tokens, as given.
    pub fn input_tokens(&self) -> Option<u64> {
        self.count(4)
    }

    /// Cached input tokens, as given.
    pub fn cached_input_tokens(&self) -> Option<u64> {
        self.count(5)
    }

    /// Output tokens, as given.
    pub fn output_tokens(&self) -> Option<u64> {
        self.count(6)
    }

    /// Reasoning tokens, as given.
    pub fn reasoning_tokens(&self) -> Option<u64> {
        self.count(7)
    }

    /// Tokens consumed: as given, else input + output, else 0.
    pub fn tokens(&self) -> u64 {
        // Each is at most MAX_COUNT_PER_EVENT.
        self.count(3).unwrap_or_else(|| self.input_tokens().unwrap_or(0) + self.output_tokens().unwrap_or(0))
    }

    /// The HTTP status it counts as: as given, else 200.
    pub fn status(&self) -> u16 {
        self.api_status_code().unwrap_or(200)
    }

    /// Whether it records a call that a rate limit refused.
    pub fn is_rate_limited(&self) -> bool {
        self.status() == 429
    }

    fn any_cost(&self) -> Money {
        let above = self.rare.as_ref().map_or(0, |rare| rare.cost_above);
        Money::from_femtos(u128::from(above) << 64 | u128::from(self.cost))
    }

    /// What it cost: as the caller says, else as estimated; `None` is unknown, never free.
    pub fn cost(&self) -> Option<Money> {
        (self.cost_kind != CostKind::Unknown).then(|| self.any_cost())
    }

    /// What it cost, by the caller's own reckoning.
    pub fn cost_usd(&self) -> Option<Money> {
        (self.cost_kind == CostKind::Given).then(|| self.any_cost())
    }

    /// What it cost by the price book when it was recorded.
    pub fn estimate(&self) -> Option<Estimate> {
        let (price_no, markup) = (self.price_no, self.markup);
        (self.cost_kind == CostKind::Estimated).then(|| Estimate { cost: self.any_cost(), price_no, markup })
    }

    fn set_any_cost(&mut self, cost: Money) {
        let femtos = cost.femtos();
        self.cost = femtos as u64;
        let above = (femtos >> 64) as u64;
        if above != 0 || self.rare.is_some() {
            self.rare_mut().cost_above = above;
        }
    }

    /// Sets the caller's cost.
    pub fn set_given_cost(&mut self, cost: Money) {
        self.cost_kind = CostKind::Given;
        self.set_any_cost(cost);
    }

    /// Sets the estimate, where the caller gave no cost.
    pub fn set_estimate(&mut self, estimate: Estimate) {
        self.cost_kind = CostKind::Estimated;
        self.price_no = estimate.price_no;
        self.markup = estimate.markup;
        self.set_any_cost(estimate.cost);
    }

    /// Sets the count at `place` of [`UsageEvent::COUNTS`]; `None` leaves it as it is.
    pub fn set_count(&mut self, place: usize, count: Option<u64>) {
        let Some(count) = count else { return };
        self.given |= 1 << place;
        self.counts[place] = count as u32;
        let above = (count >> 32) as u32;
        if above != 0 {
            self.rare_mut().counts_above[place] = above;
        }
    }

    /// Sets the status; 0 is none.
    pub fn set_status(&mut self, status: Option<u16>) {
        self.status = status.and_then(std::num::NonZeroU16::new);
    }

    /// Sets the response time.
    pub fn set_response_time(&mut self, milliseconds: Option<u32>) {
        self.response_time_given = milliseconds.is_some();
        self.response_time_ms = milliseconds.unwrap_or(0);
    }

    /// Says that the caller gave its time.
    pub const fn set_time_given(&mut self, given: bool) {
        self.time_given = given;
    }

    /// Sets the texts that repeat but for the type: method, endpoint, model, provider.
    pub fn set_texts(&mut self, texts: [Option<Text>; TEXTS - 1]) {
        for (place, text) in texts.into_iter().enumerate() {
            if let Some(text) = text {
                self.set_text(METHOD + place, text);
            }
        }
    }

    /// Sets the chat session.
    pub fn set_session(&mut self, session: Option<Box<str>>) {
        self.session = session;
    }

    /// Sets the metadata.
    pub fn set_metadata(&mut self, metadata: Option<Box<str>>) {
        self.metadata = metadata;
    }

    /// Sets the provider's own counts.
    pub fn set_usage(&mut self, usage: UsageCounts) {
        self.rare_mut().usage = Some(usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        let (compact, given) = (size_of::<CompactEvent>(), size_of::<UsageEvent>());
        assert!(compact <= 120 && given >= 3 * compact, "{compact} of {given} bytes");
    }

    #[test]
    fn everything_comes_back_as_it_was_given() {
        let tenant: TenantId = "acme".parse().unwrap();
        let at: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let bare = UsageEvent::new(tenant.clone(), "api_call");
        let full = UsageEvent {
            event_id: Some("call-1".parse().unwrap()),
            event_timestamp: Some(at),
            api_method: Some("POST".into()),
            api_endpoint: Some("/x".repeat(120).into()),
            api_status_code: Some(599),
            api_response_time_ms: Some(0),
            chat_session_id: Some("s".into()),
            model: Some("gpt-x".into()),
            provider: Some("openai".into()),
            embedding_tokens: Some(0),
            search_query_tokens: Some(u64::from(u32::MAX)),
            search_result_count: Some(u64::from(u32::MAX) + 1),
            tokens_consumed: Some(1_000_000_000_000),
            input_tokens: Some(1),
            cached_input_tokens: Some(2),
            output_tokens: Some(3),
            reasoning_tokens: Some(4),
            usage: Some(Box::new(UsageCounts { web_searches: Some(7), ..UsageCounts::default() })),
            cost_usd: Some(Money::from_femtos(u128::from(u64::MAX) * 9 + 5)),
            estimate: None,
            metadata: Some("{}".into()),
            ..bare.clone()
        };
        let estimated = UsageEvent {
            cost_usd: None,
            estimate: Some(Estimate {
                cost: Money::from_femtos(u128::MAX),
                price_no: 3,
                markup: Markup::from_basis_points(-250).unwrap(),
            }),
            ..full.clone()
        };
        let free = UsageEvent { cost_usd: Some(Money::ZERO), ..bare.clone() };
        for event in [bare, full, estimated, free] {
            let compact = CompactEvent::take_from(&mut event.clone());
            assert_eq!((compact.cost(), compact.tokens()), (event.cost(), event.tokens()));
            assert_eq!(compact.to_usage(tenant.clone(), event.event_id.clone(), at), event);
        }
    }

    #[test]
    fn a_price_that_shrinks_leaves_nothing_of_the_old_one() {
        let mut event = CompactEvent::take_from(&mut UsageEvent::new("acme".parse().unwrap(), "api_call"));
        event.set_estimate(Estimate { cost: Money::from_femtos(u128::MAX), price_no: 1, markup: Markup::NONE });
        event.set_estimate(Estimate { cost: Money::from_femtos(5), price_no: 2, markup: Markup::NONE });
        assert_eq!(event.cost(), Some(Money::from_femtos(5)));
    }
}
