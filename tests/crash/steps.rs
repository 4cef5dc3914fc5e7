//! Seeded steps through the whole engine: what callers, administrators and jobs do.

use metergate::Metergate;
use metergate::audit::AuditError;
use metergate::domain::audit::{AuditAction, AuditEntry, AuditSubmission};
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::key::{KeyRole, TenantScope};
use metergate::domain::quota::{Item, Limit, Plan, QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantId, TenantPut};
use metergate::domain::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, Timestamp};
use metergate::enforcer::{EnforceError, ReserveRequest};
use metergate::keys::{KeyError, KeyRequest};
use metergate::rules::plan_changes::PlanChange;
use metergate::tenants::{Actor, AdminError};
use metergate::tracker::MaintainError;
use metergate::writer::WriteError;
use uuid::Uuid;

use super::model::Model;
use super::random::Random;

/// The type of the steps' audit records.
pub const EVENT_TYPE: &str = "crash_step";

#[derive(Clone, Debug)]
pub enum Step {
    Put { tenant: String },
    Record { tenant: String, events: Vec<(String, u64)> },
    Reserve { tenant: String, id: String, tokens: u64, ttl_seconds: u32 },
    Settle { tenant: String, id: String, tokens: u64 },
    Release { tenant: String, id: String },
    Audit { tenant: String, id: Uuid },
    Resolve { id: Uuid },
    Override { tenant: String, limit: u64 },
    Plan { name: String },
    Key { name: String },
    Aggregate,
    CleanUp,
    CleanUpAudit,
    Sign,
    Wait { micros: i64 },
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Acknowledged.
    Done,
    /// A reservation that did not fit: nothing happened.
    Denied,
    /// It may have happened or not.
    Unknown,
    /// The disk is full: it has not happened.
    Full,
    /// The storage is not available: it has not happened.
    Unavailable,
    /// What must not be.
    Wrong(String),
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub fn event(name: &str, id: &str, tokens: u64) -> UsageEvent {
    UsageEvent {
        event_id: Some(id.parse().unwrap()),
        tokens_consumed: Some(tokens),
        ..UsageEvent::new(tenant(name), "api_call")
    }
}

impl Step {
    /// Whether it may be done twice under the same ids.
    pub const fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Key { .. } | Self::Wait { .. })
    }

    pub fn run(&self, engine: &Metergate) -> Ended {
        match self {
            Self::Put { tenant: name } => ended_change(engine, name, TenantChange::Put(TenantPut::default())),
            Self::Override { tenant: name, limit } => {
                let change = TenantChange::SetOverride {
                    quota_type: QuotaType::Tokens,
                    window: Window::Day,
                    limit: Some(u128::from(*limit)),
                    reason: Some("a step".to_owned()),
                    until: None,
                };
                ended_change(engine, name, change)
            }
            Self::Record { tenant: name, events } => {
                let events = events.iter().map(|(id, tokens)| event(name, id, *tokens)).collect();
                ended_recording(engine.usage_tracker().record_blocking(events))
            }
            Self::Reserve { tenant: name, id, tokens, ttl_seconds } => {
                let request = ReserveRequest {
                    tenant_id: tenant(name),
                    items: vec![Item { quota_type: QuotaType::Tokens, amount: u128::from(*tokens) }],
                    ttl_seconds: Some(*ttl_seconds),
                    reservation_id: Some(id.clone()),
                    request_id: None,
                };
                match engine.quota_enforcer().reserve_blocking(request) {
                    Ok(outcome) if !outcome.durable => Ended::Wrong("a grant that is not durable".to_owned()),
                    Ok(outcome) if outcome.decision.allowed => Ended::Done,
                    Ok(_) => Ended::Denied,
                    Err(error) => ended_enforcing(error),
                }
            }
            Self::Settle { tenant: name, id, tokens } => {
                let mut settled = event(name, "x", *tokens);
                settled.event_id = None;
                match engine.quota_enforcer().settle_blocking(Some(&tenant(name)), id, vec![settled]) {
                    Ok(outcome) => ended_recording(Ok(outcome.outcomes)),
                    Err(error) => ended_enforcing(error),
                }
            }
            Self::Release { tenant: name, id } => {
                let released = engine.quota_enforcer().release_blocking(Some(&tenant(name)), id);
                released.map_or_else(ended_enforcing, |_| Ended::Done)
            }
            Self::Audit { tenant: name, id } => {
                let entry = AuditEntry::system(Some(tenant(name)), EVENT_TYPE, "step", AuditAction::Create);
                let submission = AuditSubmission { event_id: Some(*id), entry };
                engine.audit_logger().record_blocking(vec![submission]).map_or_else(ended_writing, |_| Ended::Done)
            }
            Self::Resolve { id } => match engine.audit_logger().resolve_audit_event(*id, "seen to", None) {
                Ok(_) => Ended::Done,
                Err(AuditError::Write(error)) => ended_writing(error),
                Err(error) => unless_down(engine, &error),
            },
            Self::Plan { name } => {
                let limit = Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit: 5_000, observe: false };
                let change = PlanChange::Put(Plan::new(name.clone(), vec![limit]));
                match engine.tenants().change_plan_blocking(change, &Actor::named("a step")) {
                    Ok(()) => Ended::Done,
                    Err(AdminError::Write(error)) => ended_writing(error),
                    Err(error) => Ended::Wrong(error.to_string()),
                }
            }
            Self::Key { name } => {
                let request = KeyRequest {
                    name: name.clone(),
                    role: KeyRole::Viewer,
                    tenants: TenantScope::All,
                    expires_at: None,
                };
                match engine.api_keys().create_blocking(request, &Actor::named("a step")) {
                    Ok(_) => Ended::Done,
                    Err(KeyError::Write(error)) => ended_writing(error),
                    Err(error) => Ended::Wrong(error.to_string()),
                }
            }
            Self::Aggregate => ended_maintaining(engine, engine.usage_tracker().aggregate_usage_metrics(None)),
            Self::CleanUp => ended_maintaining(engine, engine.usage_tracker().cleanup_old_realtime_events()),
            Self::CleanUpAudit => match engine.audit_logger().cleanup_old_audit_events() {
                Ok(_) => Ended::Done,
                Err(AuditError::Write(error)) => ended_writing(error),
                Err(error) => unless_down(engine, &error),
            },
            Self::Sign => match engine.audit_logger().checkpoint_blocking() {
                Ok(_) => Ended::Done,
                Err(AuditError::Write(error)) => ended_writing(error),
                Err(error) => unless_down(engine, &error),
            },
            Self::Wait { .. } => Ended::Done,
        }
    }
}

fn ended_change(engine: &Metergate, name: &str, change: TenantChange) -> Ended {
    match engine.tenants().change_blocking(&tenant(name), change, &Actor::named("a step")) {
        Ok(_) => Ended::Done,
        Err(AdminError::Write(error)) => ended_writing(error),
        Err(error) => Ended::Wrong(error.to_string()),
    }
}

fn ended_writing(error: WriteError) -> Ended {
    match error {
        WriteError::OutcomeUnknown => Ended::Unknown,
        WriteError::Full(_) => Ended::Full,
        WriteError::Unavailable(_) => Ended::Unavailable,
        WriteError::QueueFull => Ended::Wrong("a full queue".to_owned()),
    }
}

fn ended_recording(outcomes: Result<Vec<EventOutcome>, WriteError>) -> Ended {
    match outcomes {
        Ok(outcomes) => {
            let fine = |outcome: &EventOutcome| matches!(outcome, EventOutcome::Accepted | EventOutcome::Duplicate);
            if outcomes.iter().all(fine) { Ended::Done } else { Ended::Wrong(format!("{outcomes:?}")) }
        }
        Err(error) => ended_writing(error),
    }
}

fn ended_enforcing(error: EnforceError) -> Ended {
    match error {
        EnforceError::GrantUnknown(_) => Ended::Unknown,
        EnforceError::Write(error) => ended_writing(error),
        error => Ended::Wrong(error.to_string()),
    }
}

fn ended_maintaining<T>(engine: &Metergate, done: Result<T, MaintainError>) -> Ended {
    match done {
        Ok(_) => Ended::Done,
        Err(MaintainError::Write(error)) => ended_writing(error),
        Err(error) => unless_down(engine, &error),
    }
}

/// A read that failed while the store is down, or was just now: nothing was written.
fn unless_down(engine: &Metergate, error: &dyn std::fmt::Display) -> Ended {
    match engine.is_ready().is_err() || engine.writer().health().reopened.get() > 0 {
        true => Ended::Unavailable,
        false => Ended::Wrong(error.to_string()),
    }
}

/// Makes steps that make sense after each other.
pub struct Steps {
    random: Random,
    made: u64,
}

impl Steps {
    pub const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), made: 0 }
    }

    /// The next step, for a model that was brought here by those before.
    pub fn next(&mut self, model: &Model, now: Timestamp) -> Step {
        self.made += 1;
        let (made, random) = (self.made, &mut self.random);
        let tenants = model.tenants();
        let Some(tenant) = random.pick(&tenants).cloned() else { return Step::Put { tenant: "t0".to_owned() } };
        let open = model.open_reservations(now);
        let id = |random: &mut Random| Uuid::from_u128((u128::from(random.next()) << 64) | u128::from(made));
        match random.below(100) {
            0..25 => {
                let count = 1 + random.below(4);
                let mut events: Vec<_> = (0..count).map(|n| (format!("e{made}-{n}"), 1 + random.below(400))).collect();
                let known: Vec<_> = model.events();
                let young = |at: &Timestamp| now.micros_since(*at) < 20 * 24 * MICROS_PER_HOUR;
                let own: Vec<_> =
                    known.iter().filter(|(of, id, _, at)| *of == tenant && !id.contains(':') && young(at)).collect();
                if let Some((_, id, tokens, _)) = random.pick(&own).filter(|_| made % 3 == 0) {
                    events.push((id.clone(), *tokens));
                }
                Step::Record { tenant, events }
            }
            25..43 => {
                let (tokens, ttl_seconds) = (1 + random.below(3_000), 30 + random.below(3_000) as u32);
                Step::Reserve { tenant, id: format!("r{made}"), tokens, ttl_seconds }
            }
            43..55 => match random.pick(&open) {
                Some((tenant, id)) => {
                    Step::Settle { tenant: tenant.clone(), id: id.clone(), tokens: 1 + random.below(2_000) }
                }
                None => Step::Aggregate,
            },
            55..60 => match random.pick(&open) {
                Some((tenant, id)) => Step::Release { tenant: tenant.clone(), id: id.clone() },
                None => Step::Sign,
            },
            60..67 => Step::Audit { tenant, id: id(random) },
            67..70 => match random.pick(&model.unresolved()) {
                Some(id) => Step::Resolve { id: *id },
                None => Step::Audit { tenant, id: id(random) },
            },
            70..75 => Step::Put { tenant: format!("t{made}") },
            75..79 => Step::Override { tenant, limit: 5_000 + random.below(30_000) },
            79..81 => Step::Plan { name: format!("plan-{made}") },
            81..83 => Step::Key { name: format!("key-{made}") },
            83..88 => Step::Aggregate,
            88..91 => Step::CleanUp,
            91 => Step::CleanUpAudit,
            92..94 => Step::Sign,
            94..98 => Step::Wait { micros: (1 + random.below(900) as i64) * MICROS_PER_SECOND },
            98 => Step::Wait { micros: (1 + random.below(3) as i64) * MICROS_PER_HOUR },
            _ => Step::Wait { micros: 26 * MICROS_PER_HOUR },
        }
    }
}
