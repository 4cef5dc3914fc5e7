//! What a call looks like: kinds, models, tokens, statuses and times like those of public traces. Pure: a seed decides all.

use serde_json::{Value, json};

use super::random::Random;
use super::tenants::{DemoTenant, TENANTS};
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

/// The model of embeddings and searches.
const EMBEDDING_MODEL: &str = "text-embedding-3-small";
/// The longest prompt, in tokens.
const INPUT_MAX: u64 = 120_000;
const OUTPUT_MAX: u64 = 4_096;
/// The longest answer time, in milliseconds.
const MILLIS_MAX: u64 = 120_000;
/// Saturday and Sunday have so many percent of a working day's calls.
const WEEKEND_PERCENT: u64 = 45;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whose.
    pub tenant: &'static str,
    /// Such as `chat_message`.
    pub event_type: &'static str,
    /// The chat it belongs to.
    pub session: Option<String>,
    /// The model that answered.
    pub model: &'static str,
    /// Input, cached input and output tokens; all 0 when it failed.
    pub tokens: [u64; 3],
    /// The HTTP status.
    pub status: u16,
    /// How long it took.
    pub millis: u64,
}

impl Call {
    /// The next call of a tenant.
    pub fn next(tenant: &DemoTenant, random: &mut Random) -> Self {
        let event_type = *random.weighted(&[
            (58, "chat_message"),
            (22, "api_call"),
            (11, "embedding"),
            (7, "search"),
            (2, "kb_ingest"),
        ]);
        let chat = matches!(event_type, "chat_message" | "api_call");
        let model = match event_type {
            "chat_message" | "api_call" => *random.weighted(tenant.models),
            _ => EMBEDDING_MODEL,
        };
        let input = match event_type {
            "embedding" => random.log_normal(450.0, 0.9, 8_191),
            "search" => random.log_normal(14.0, 0.6, 200),
            "kb_ingest" => random.log_normal(2_500.0, 0.9, INPUT_MAX),
            _ => random.log_normal(1_000.0, 1.25, INPUT_MAX),
        };
        // Half of the calls begin with a long prompt that was sent before.
        let cached = if chat && input > 1_024 && random.percent(50) { input / 2 / 128 * 128 } else { 0 };
        let output = if chat { random.log_normal(210.0, 0.9, OUTPUT_MAX) } else { 0 };
        let status = if random.percent(tenant.failing_percent) {
            *random.weighted(&[(4, 500), (3, 503), (2, 504), (3, 400), (2, 404), (3, 429)])
        } else {
            200
        };
        let usual = random.log_normal(if chat { 350.0 } else { 60.0 }, 0.4, MILLIS_MAX) + output * 9;
        // Some answers are slow, and a gateway that gave up took its full time.
        let slow = if random.percent(3) { 8 } else { 1 };
        let millis = if status == 504 { 60_000 } else { (usual * slow).min(MILLIS_MAX) };
        let tokens = if status == 200 { [input, cached, output] } else { [0; 3] };
        let session = (event_type == "chat_message").then(|| format!("demo-chat-{:05x}", random.below(1 << 20)));
        Self { tenant: tenant.id, event_type, session, model, tokens, status, millis }
    }

    /// Every token of it.
    pub const fn tokens_in_all(&self) -> u64 {
        self.tokens[0] + self.tokens[2]
    }

    /// As an event of `POST /api/usage/events`; without a time it happens now.
    pub fn event(&self, at: Option<Timestamp>, event_id: Option<String>) -> Value {
        let endpoint = match self.event_type {
            "chat_message" => "/api/widget/chat",
            "api_call" => "/v1/chat/completions",
            "embedding" => "/v1/embeddings",
            "search" => "/v1/search",
            _ => "/v1/documents",
        };
        let mut event = json!({
            "tenant_id": self.tenant, "event_type": self.event_type, "api_method": "POST", "api_endpoint": endpoint,
            "api_status_code": self.status, "api_response_time_ms": self.millis,
            "model": self.model, "input_tokens": self.tokens[0], "output_tokens": self.tokens[2],
        });
        let cached = self.tokens[1];
        let mut put = |name: &str, value: Value| event[name] = value;
        if cached > 0 {
            put("cached_input_tokens", cached.into());
        }
        if self.event_type == "search" && self.status == 200 {
            put("search_result_count", 5.into());
        }
        if let Some(session) = &self.session {
            put("chat_session_id", session.as_str().into());
        }
        if let Some(at) = at {
            put("event_timestamp", at.to_string().into());
        }
        if let Some(event_id) = event_id {
            put("event_id", event_id.into());
        }
        event
    }
}

/// Everything that happened on a UTC day (days since 1970) before `until`, as events whose ids are the same every time.
pub fn day(seed: u64, day: u32, until: Timestamp) -> Vec<Value> {
    let mut events = Vec::new();
    // The first day of 1970 was a Thursday.
    let weekend = matches!((day + 4) % 7, 0 | 6);
    for (place, tenant) in TENANTS.iter().enumerate() {
        let mut random = Random::new(&[seed, u64::from(day), place as u64]);
        let rhythm = tenant.rhythm();
        let calls = if weekend { tenant.calls_per_day * WEEKEND_PERCENT / 100 } else { tenant.calls_per_day };
        let mut session = None;
        for number in 0..calls {
            let second = i64::from(*random.weighted(&rhythm)) * 3_600 + random.below(3_600) as i64;
            let at =
                Timestamp::of_day(day).plus_micros(second * MICROS_PER_SECOND + random.below(1_000) as i64 * 1_000);
            let mut call = Call::next(tenant, &mut random);
            // A chat has about four messages.
            if call.session.is_some() {
                if session.is_none() || random.percent(25) {
                    session.clone_from(&call.session);
                }
                call.session.clone_from(&session);
            }
            if at < until {
                events.push(call.event(Some(at), Some(format!("demo-{seed}-{day}-{number}"))));
            }
        }
    }
    events
}

/// The tenant of the next live call.
pub fn next_tenant(random: &mut Random) -> &'static DemoTenant {
    let shares: Vec<(u32, &'static DemoTenant)> = TENANTS.iter().map(|tenant| (tenant.live_share, tenant)).collect();
    random.weighted::<&'static DemoTenant>(&shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(count: usize) -> Vec<Call> {
        let mut random = Random::new(&[7]);
        (0..count).map(|_| Call::next(&TENANTS[0], &mut random)).collect()
    }

    fn quantile(mut counts: Vec<u64>, percent: usize) -> u64 {
        counts.sort_unstable();
        counts[counts.len() * percent / 100]
    }

    #[test]
    fn prompts_and_answers_have_the_medians_and_tails_of_public_traces() {
        let chats = calls(20_000).into_iter().filter(|call| call.status == 200 && call.tokens[2] > 0);
        let (inputs, outputs): (Vec<u64>, Vec<u64>) = chats.map(|call| (call.tokens[0], call.tokens[2])).unzip();
        let input = [50, 99].map(|percent| quantile(inputs.clone(), percent));
        assert!((900..1_100).contains(&input[0]), "{input:?}");
        assert!(input[1] > 10 * input[0], "the tail is heavy: {input:?}");
        let output = [50, 99].map(|percent| quantile(outputs.clone(), percent));
        assert!((130..=400).contains(&output[0]) && output[1] > 5 * output[0], "{output:?}");
    }

    #[test]
    fn failures_cost_no_tokens_and_some_answers_are_slow() {
        let calls = calls(20_000);
        let failed: Vec<&Call> = calls.iter().filter(|call| call.status != 200).collect();
        assert!((200..800).contains(&failed.len()), "{}", failed.len());
        assert!(failed.iter().all(|call| call.tokens_in_all() == 0));
        for status in [400, 429, 500, 503, 504] {
            assert!(failed.iter().any(|call| call.status == status), "{status}");
        }
        let millis: Vec<u64> = calls.iter().map(|call| call.millis).collect();
        assert!(quantile(millis.clone(), 99) > 5 * quantile(millis, 50));
    }

    #[test]
    fn the_same_seed_makes_the_same_day_and_another_seed_another() {
        let end = Timestamp::MAX;
        assert_eq!(day(7, 20_000, end), day(7, 20_000, end));
        assert_ne!(day(7, 20_000, end), day(8, 20_000, end));
        assert_ne!(day(7, 20_000, end).len(), 0);
    }

    #[test]
    fn a_day_has_a_rhythm_weekends_are_quiet_and_nothing_lies_ahead() {
        // 2026-11-23, a Monday, and the Sunday before.
        let (monday, sunday) = (20_780, 20_779);
        let whole = day(7, monday, Timestamp::MAX);
        assert!(day(7, sunday, Timestamp::MAX).len() * 2 < whole.len());
        let hour_of = |event: &Value| event["event_timestamp"].as_str().unwrap()[11..13].parse::<u32>().unwrap();
        let within = |hours: std::ops::Range<u32>| {
            whole
                .iter()
                .filter(|event| event["tenant_id"] == "northwind-bank" && hours.contains(&hour_of(event)))
                .count()
        };
        assert!(within(8..13) > 4 * within(0..5), "{} {}", within(8..13), within(0..5));
        let noon = Timestamp::of_day(monday).plus_micros(12 * 3_600 * MICROS_PER_SECOND);
        let morning = day(7, monday, noon);
        assert!(!morning.is_empty() && morning.iter().all(|event| hour_of(event) < 12));
        // What is left out changes nothing of the rest.
        assert!(morning.iter().all(|event| whole.contains(event)));
    }

    #[test]
    fn every_tenant_has_its_share_of_the_live_traffic() {
        assert_eq!(TENANTS.iter().map(|tenant| tenant.live_share).sum::<u32>(), 100);
        let mut random = Random::new(&[1]);
        let met: std::collections::BTreeSet<&str> = (0..1_000).map(|_| next_tenant(&mut random).id).collect();
        assert_eq!(met.len(), TENANTS.len());
    }
}
