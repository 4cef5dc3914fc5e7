//! Where all traffic of the benches comes from: real traces repeated with fresh ids, or made up from their published
//! medians and tails where the traces are absent.

pub mod arguments;
pub mod happening;
mod random;
mod templates;

use metergate::domain::event::{EventId, UsageEvent};
use metergate::domain::tenant::TenantId;
use metergate::domain::time::Timestamp;

pub use happening::{Happening, MODELS};
pub use random::Random;
pub use templates::{Template, Templates};

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// What traffic is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many events.
    pub events: usize,
    /// Of how many tenants.
    pub tenants: u32,
    /// The instant after the last event, in microseconds since 1970.
    pub end: i64,
    /// How long it lasts, in microseconds.
    pub span: i64,
    /// UUIDv7 ids, otherwise UUIDv4.
    pub v7: bool,
    /// Other seeds, other ids.
    pub seed: u64,
}

/// Happenings in the order of their arrival.
pub struct Traffic<'a> {
    templates: &'a [Template],
    wanted: Wanted,
    random: Random,
    made: usize,
}

impl<'a> Traffic<'a> {
    /// From the start of the traffic.
    pub fn new(templates: &'a Templates, wanted: Wanted) -> Self {
        Self { templates: &templates.all, random: Random(wanted.seed), wanted, made: 0 }
    }
}

impl Iterator for Traffic<'_> {
    type Item = Happening;

    fn next(&mut self) -> Option<Happening> {
        let Wanted { events, tenants, end, span, v7, .. } = self.wanted;
        if self.made == events {
            return None;
        }
        // The traces' day is run through again and again, so often that the events are reached; it takes the span in all.
        let passes = events as f64 / self.templates.len() as f64;
        let (pass, place) = (self.made / self.templates.len(), self.made % self.templates.len());
        self.made += 1;
        let template = &self.templates[place];
        let share = (pass as f64 + f64::from(template.of_day)) / passes;
        let micros = end - span + ((span - 1) as f64 * share.min(1.0)) as i64;
        // The traces' clients stand side by side in as many groups as make up the tenants.
        let groups = u64::from(tenants.div_ceil(templates::CLIENTS));
        let group = (self.random.next() % groups) as u32;
        let tenant_no = (group * templates::CLIENTS + template.client) % tenants;
        let random = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let (version, clock) = if v7 { (7, (micros / 1_000) as u128) } else { (4, random >> 80) };
        let id =
            clock << 80 | version << 76 | (random >> 4 & 0xfff) << 64 | 0b10 << 62 | random >> 64 & ((1 << 62) - 1);
        let noise = self.random.next();
        Some(Happening {
            id,
            tenant_no,
            micros,
            event_type: ["chat_message", "api_call"][usize::from(template.model == 1)],
            endpoint: ["/v1/chat/completions", "/v1/responses"][usize::from(template.model == 1)],
            status: if noise % 1_000 < 15 { [500, 503, 429][(noise >> 20) as usize % 3] } else { 200 },
            response_ms: (template.output * 9 + (noise >> 32) % 200) as u32,
            model: MODELS[template.model],
            input: template.input,
            output: template.output,
            reasoning: template.reasoning,
        })
    }
}

/// The name of a tenant.
pub fn tenant(number: u32) -> TenantId {
    format!("tenant-{number}").parse().unwrap()
}

/// All tenants' names, so that an event's is cloned instead of made.
pub fn tenants(number: u32) -> Vec<TenantId> {
    (0..number).map(tenant).collect()
}

/// The event that a caller would record.
pub fn usage_event(happening: &Happening, tenants: &[TenantId]) -> UsageEvent {
    UsageEvent {
        event_id: Some(EventId::Uuid(uuid::Uuid::from_u128(happening.id))),
        event_timestamp: Some(Timestamp::from_micros(happening.micros)),
        api_method: Some("POST".into()),
        api_endpoint: Some(happening.endpoint.into()),
        api_status_code: Some(happening.status),
        api_response_time_ms: Some(happening.response_ms),
        model: Some(happening.model.into()),
        input_tokens: Some(happening.input),
        output_tokens: Some(happening.output),
        reasoning_tokens: (happening.reasoning > 0).then_some(happening.reasoning),
        ..UsageEvent::new(tenants[happening.tenant_no as usize].clone(), happening.event_type)
    }
}

/// The event as a caller writes it, without id and time: the server gives them.
pub fn event_json(happening: &Happening) -> serde_json::Value {
    let Happening { tenant_no, event_type, endpoint, status, response_ms, model, input, output, reasoning, .. } =
        happening;
    serde_json::json!({
        "tenant_id": format!("tenant-{tenant_no}"), "event_type": event_type, "api_method": "POST",
        "api_endpoint": endpoint, "api_status_code": status, "api_response_time_ms": response_ms, "model": model,
        "input_tokens": input, "output_tokens": output, "reasoning_tokens": reasoning,
    })
}
