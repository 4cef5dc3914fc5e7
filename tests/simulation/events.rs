//! Random events, and what the model makes of them.

use metergate::domain::event::UsageEvent;
use metergate::domain::money::Money;
use metergate::domain::quota::QuotaType;
use metergate::domain::tenant::TenantStatus;
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp};
use uuid::Uuid;

use super::model::{Amounts, Event, Model, Stage, Tenant};
use super::random::Random;
use super::world::tenant_id;

/// Femto-dollars that a token of `ada` costs by the list.
const LISTED: u128 = 400_000_000;

/// What becomes of an event: the name of its outcome, or the code of its rejection.
pub type Outcome = &'static str;

/// An event of a tenant. Without an id it cannot be asked for again.
pub fn random_event(random: &mut Random, name: &str, id: Option<String>, now: Timestamp) -> UsageEvent {
    let kinds =
        ["api_call", "api_call", "api_call", "chat_message", "chat_message", "embedding", "search", "kb_ingest", "own"];
    let mut event = UsageEvent::new(tenant_id(name), random.pick(&kinds).unwrap());
    event.event_id = id.map(|id| id.parse().unwrap());
    let ago = |micros: i64| Some(now.plus_micros(-micros));
    event.event_timestamp = match random.below(100) {
        0..66 => None,
        66..82 => ago(random.below(90) as i64 * MICROS_PER_SECOND),
        82..92 => ago(random.below(5 * 24) as i64 * MICROS_PER_HOUR + random.below(3_600_000_000) as i64),
        92..96 => ago(-(random.below(299) as i64) * MICROS_PER_SECOND),
        96 => ago(-5 * MICROS_PER_MINUTE),
        97 => ago(-5 * MICROS_PER_MINUTE - 1_000),
        98 => ago(-MICROS_PER_HOUR),
        _ => ago(7 * MICROS_PER_DAY + 1),
    };
    event.api_status_code = match random.below(20) {
        0..12 => None,
        12..15 => Some(200),
        15 => Some(301),
        16 => Some(404),
        17 => Some(500),
        _ => Some(429),
    };
    event.api_response_time_ms = (random.below(10) < 6).then(|| random.below(4_000) as u32);
    if event.event_type == "chat_message" {
        event.api_method = random.pick(&[None, Some("POST"), Some("GET")]).unwrap().map(Into::into);
        event.chat_session_id = random.coin().then(|| format!("s{}", random.below(6)).into());
    }
    match random.below(10) {
        0..4 => {
            let model = if random.below(8) == 0 { "nobody-knows" } else { "ada" };
            (event.model, event.provider) = (Some(model.into()), Some("openai".into()));
            event.input_tokens = Some(random.below(500));
            event.output_tokens = Some(random.below(400));
        }
        4..6 => {
            event.tokens_consumed = Some(random.below(900));
            event.cost_usd = Some(Money::from_femtos(u128::from(random.below(3_000)) * 1_000_000_000));
        }
        6..9 => event.tokens_consumed = Some(1 + random.below(900)),
        _ => {}
    }
    event
}

/// A new event id: words and UUIDs.
pub fn event_id(random: &mut Random, number: u64) -> String {
    match random.below(3) {
        0 => Uuid::from_u128(u128::from(random.next()) << 64 | u128::from(number)).to_string(),
        _ => format!("e{number}"),
    }
}

/// What it costs in femto-dollars, by its caller, or by the prices of its tenant at its time.
fn cost_of(tenant: &Tenant, event: &UsageEvent, now: Timestamp) -> Option<u128> {
    if let Some(cost) = event.cost_usd {
        return Some(cost.femtos());
    }
    if event.model.as_deref() != Some("ada") || event.status() == 429 {
        return None;
    }
    let at = event.event_timestamp.unwrap_or(now);
    let (input, output) = (u128::from(event.input_tokens?), u128::from(event.output_tokens?));
    let terms = tenant.terms.iter().rfind(|terms| terms.from <= at);
    Some(match terms {
        None => (input + output) * LISTED,
        Some(terms) => match terms.rate {
            Some((of_input, of_output)) => input * of_input + output * of_output,
            None => (input + output) * LISTED * (10_000 + terms.points) as u128 / 10_000,
        },
    })
}

fn charges_of(event: &UsageEvent, cost: Option<u128>) -> Amounts {
    let mut charges = Amounts::new();
    let status = event.status();
    if status == 429 {
        return charges;
    }
    charges.insert(QuotaType::Tokens, u128::from(event.tokens()));
    charges.insert(QuotaType::Cost, cost.unwrap_or(0));
    charges.insert(QuotaType::ApiCalls, 1);
    let sent = event.event_type == "chat_message" && event.api_method.as_deref() != Some("GET");
    charges.insert(QuotaType::ChatMessages, u128::from(sent && status < 400));
    charges.insert(QuotaType::Embeddings, u128::from(event.event_type == "embedding" && status < 400));
    charges
}

impl Model {
    /// What becomes of an event that is not taken, if it is not.
    fn refusal(&self, name: &str, event: &UsageEvent) -> Option<Outcome> {
        let known = self.tenants.get(name);
        let id = event.event_id.as_ref().map(ToString::to_string);
        if let Some(known) = id.and_then(|id| known?.with_id(&id)) {
            return Some(if known.given == *event { "duplicate" } else { "conflict" });
        }
        let at = event.event_timestamp.unwrap_or(self.now);
        if at.micros_since(self.now) > 5 * MICROS_PER_MINUTE {
            return Some("timestamp_in_future");
        }
        if at < self.oldest_kept(self.now) {
            return Some("timestamp_too_old");
        }
        known.filter(|tenant| tenant.status == TenantStatus::Deleted).map(|_| "tenant_deleted")
    }

    /// Records events of one tenant: of a reservation that was granted at an instant, or without one.
    pub fn record(&mut self, name: &str, events: &[UsageEvent], granted_at: Option<Timestamp>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for given in events {
            if let Some(refusal) = self.refusal(name, given) {
                outcomes.push(refusal);
                continue;
            }
            let now = self.now;
            let tenant = self.tenants.entry(name.to_owned());
            let tenant = tenant.or_insert_with(|| Tenant::new("trial", chrono_tz::UTC, now));
            let cost = cost_of(tenant, given, now);
            let at = given.event_timestamp.unwrap_or(now);
            if granted_at.is_none() && given.status() != 429 {
                let anonymous = |hold: &&mut super::model::Hold| hold.id.is_none() && hold.is_open(now);
                if let Some(oldest) = tenant.holds.iter_mut().find(anonymous) {
                    oldest.stage = Stage::Closed;
                }
            }
            tenant.events.push(Event {
                at,
                minute_at: granted_at.unwrap_or(now),
                day_at: granted_at.unwrap_or(at),
                charges: charges_of(given, cost),
                cost,
                given: given.clone(),
            });
            outcomes.push("accepted");
        }
        outcomes
    }
}
