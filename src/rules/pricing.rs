//! Pricing events: which counts an event is priced by, and why it may have no price.

use crate::domain::event::{UsageEvent, event_types};
use crate::domain::money::Money;
use crate::domain::price::PriceRow;
use crate::domain::usage::UsageCounts;
use crate::rules::extract::{ExtractError, extract_usage};
use crate::rules::prices::{Cost, CostError, cost, total};

/// Why an event has no cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// It names no model.
    #[error("the event names no model")]
    NoModel,
    /// The price book has no price of its model at its time.
    #[error("the price book has no price for this model at this time")]
    UnknownModel,
    /// Its counts do not say what was input and what output.
    #[error("the event does not say how many tokens were input and how many output")]
    NoCounts,
    /// The price does not fit its counts.
    #[error(transparent)]
    Counts(#[from] CostError),
    /// Calls of tools that the provider ran and that the price list has no price for.
    #[error(
        "the price list has no price for {0} calls of hosted tools (web or file searches, code interpreters) of the event"
    )]
    HostedTools(u64),
    /// A rate limit refused the call: it cost nothing.
    #[error("a rate limit refused the call: there is nothing to price")]
    RateLimited,
}

/// The counts by which an event is priced, or `None` when they do not say what was input and what output.
///
/// Where one side of the call is given, the other is what `tokens_consumed` has beyond it, else 0. Tokens of an embedding
/// or a search are input. Nothing else is derived.
pub fn counts_of(event: &UsageEvent) -> Option<UsageCounts> {
    let mut counts = event.usage.as_deref().copied().unwrap_or_default();
    let beyond = |given: u64| event.tokens_consumed.map_or(0, |all| all.saturating_sub(given));
    (counts.input_tokens, counts.output_tokens) = match (event.input_tokens, event.output_tokens) {
        (Some(input), Some(output)) => (Some(input), Some(output)),
        (Some(input), None) => (Some(input), Some(beyond(input))),
        (None, Some(output)) => (Some(beyond(output)), Some(output)),
        (None, None) => match event.event_type.as_str() {
            event_types::EMBEDDING => (Some(event.embedding_tokens.or(event.tokens_consumed)?), None),
            event_types::SEARCH => (Some(event.search_query_tokens.or(event.tokens_consumed)?), None),
            // Usage without tokens: by request, or by search.
            _ if event.tokens_consumed.is_none() && counts != UsageCounts::default() => (None, None),
            _ => return None,
        },
    };
    counts.cached_input_tokens = event.cached_input_tokens;
    counts.reasoning_tokens = event.reasoning_tokens;
    if event.event_type == event_types::EMBEDDING {
        let embedded = event.embedding_tokens.or(counts.input_tokens);
        // What is cached or written cannot be embedded as well.
        counts.embedding_tokens = embedded.filter(|_| counts.cached_input_tokens.unwrap_or(0) == 0);
    }
    Some(counts)
}

/// What an event costs by a price row.
pub fn cost_of(event: &UsageEvent, row: &PriceRow) -> Result<Cost, Unpriced> {
    let counts = counts_of(event).ok_or(Unpriced::NoCounts)?;
    let cost = cost(row, &counts)?;
    // A sum without them would be too little: unknown, not free.
    if cost.unpriced_calls > 0 { Err(Unpriced::HostedTools(cost.unpriced_calls)) } else { Ok(cost) }
}

/// The sum of [`cost_of`] alone: what an event is recorded with.
pub fn total_of(event: &UsageEvent, row: &PriceRow) -> Result<Money, Unpriced> {
    let counts = counts_of(event).ok_or(Unpriced::NoCounts)?;
    let (total, unpriced_calls) = total(row, &counts)?;
    if unpriced_calls > 0 { Err(Unpriced::HostedTools(unpriced_calls)) } else { Ok(total) }
}

/// Reads the provider's own usage into an event that gives no counts itself. Fails where the shape is not known.
pub fn put_usage(event: &mut UsageEvent, usage: &serde_json::Value) -> Result<(), ExtractError> {
    put_counts(event, extract_usage(event.provider.as_deref(), None, usage)?.counts);
    Ok(())
}

/// Puts counts into an event: those that have a field there, and the rest beside them.
pub fn put_counts(event: &mut UsageEvent, mut counts: UsageCounts) {
    event.input_tokens = counts.input_tokens.take();
    event.cached_input_tokens = counts.cached_input_tokens.take();
    event.output_tokens = counts.output_tokens.take();
    event.reasoning_tokens = counts.reasoning_tokens.take();
    event.embedding_tokens = counts.embedding_tokens.take();
    event.usage = (counts != UsageCounts::default()).then(|| Box::new(counts));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str) -> UsageEvent {
        UsageEvent::new("acme".parse().unwrap(), event_type)
    }

    #[test]
    fn counts_are_taken_as_given_and_never_guessed() {
        let given = |event: UsageEvent| counts_of(&event).map(|counts| (counts.input_tokens, counts.output_tokens));
        let call = |consumed, input, output| {
            given(UsageEvent {
                tokens_consumed: consumed,
                input_tokens: input,
                output_tokens: output,
                ..event("api_call")
            })
        };
        assert_eq!(call(Some(99), Some(7), Some(5)), Some((Some(7), Some(5))));
        assert_eq!(call(Some(99), Some(7), None), Some((Some(7), Some(92))));
        assert_eq!(call(None, None, Some(5)), Some((Some(0), Some(5))));
        assert_eq!(call(Some(99), None, None), None, "what of it was input?");
        assert_eq!(call(None, None, None), None);
        assert_eq!(given(UsageEvent { tokens_consumed: Some(8), ..event("embedding") }), Some((Some(8), None)));
        assert_eq!(given(UsageEvent { search_query_tokens: Some(8), ..event("search") }), Some((Some(8), None)));
    }

    #[test]
    fn the_provider_s_own_usage_is_read_into_the_counts() {
        let mut event = event("api_call");
        event.provider = Some("anthropic".into());
        let usage = serde_json::json!({
            "input_tokens": 10, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 7
        });
        put_usage(&mut event, &usage).unwrap();
        assert_eq!(
            (event.input_tokens, event.cached_input_tokens, event.output_tokens),
            (Some(1110), Some(1000), Some(7))
        );
        assert_eq!(event.usage.as_ref().and_then(|usage| usage.cache_write_tokens), Some(100));
        assert_eq!(event.tokens(), 1117);
        assert!(put_usage(&mut event, &serde_json::json!({"tokens_in": 1})).is_err());
    }
}
