//! What the engine must hold, told by a model that knows nothing of disks; and what an engine is seen to hold.

use std::collections::{BTreeMap, BTreeSet};

use metergate::Metergate;
use metergate::domain::audit::AuditFilter;
use metergate::domain::quota::{QuotaType, Window};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_SECOND, PeriodType, Timestamp};
use metergate::tracker::EventQuery;
use uuid::Uuid;

use super::steps::{EVENT_TYPE, Step};

/// Tokens a day of a tenant without an override.
pub const PLAN_LIMIT: u128 = 10_000;
/// Events younger than this are surely not taken by retention.
const SURELY_KEPT: i64 = 29 * MICROS_PER_DAY;

/// What is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub tenants: BTreeMap<String, SeenTenant>,
    /// Audit records of the steps, and whether they are resolved.
    pub audit: BTreeMap<Uuid, bool>,
    pub keys: BTreeSet<String>,
    pub plans: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenTenant {
    pub limit: Option<u128>,
    pub used: u128,
    pub held: u128,
    /// Tokens by event id, as far as retention surely keeps them.
    pub events: BTreeMap<String, u64>,
    /// Tokens of all daily rows: for good.
    pub ever: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    tenants: BTreeMap<String, Tenant>,
    audit: BTreeMap<Uuid, bool>,
    keys: BTreeSet<String>,
    plans: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
struct Tenant {
    limit: Option<u128>,
    events: BTreeMap<String, (u64, Timestamp)>,
    used_by_day: BTreeMap<u32, u128>,
    holds: BTreeMap<String, Hold>,
}

#[derive(Clone, Debug)]
struct Hold {
    amount: u128,
    day: u32,
    expires_at: Timestamp,
    ended: bool,
}

impl Tenant {
    fn limit(&self) -> u128 {
        self.limit.unwrap_or(PLAN_LIMIT)
    }

    fn used(&self, now: Timestamp) -> u128 {
        self.used_by_day.get(&now.day()).copied().unwrap_or_default()
    }

    fn held(&self, now: Timestamp) -> u128 {
        let open = self.holds.values().filter(|hold| !hold.ended && hold.expires_at > now && hold.day == now.day());
        open.map(|hold| hold.amount).sum()
    }

    fn record(&mut self, id: &str, tokens: u64, now: Timestamp, day: u32) {
        if !self.events.contains_key(id) {
            self.events.insert(id.to_owned(), (tokens, now));
            *self.used_by_day.entry(day).or_default() += u128::from(tokens);
        }
    }
}

impl Model {
    /// Whether a reservation fits.
    pub fn grants(&self, tenant: &str, id: &str, tokens: u64, now: Timestamp) -> bool {
        let Some(known) = self.tenants.get(tenant) else { return false };
        known.holds.contains_key(id) || known.used(now) + known.held(now) + u128::from(tokens) <= known.limit()
    }

    /// Reservations that are not ended and young enough to be known.
    pub fn open_reservations(&self, now: Timestamp) -> Vec<(String, String)> {
        let young = |hold: &&Hold| !hold.ended && now.micros_since(hold.expires_at) < 20 * MICROS_PER_HOUR;
        let of = |(tenant, known): (&String, &Tenant)| {
            let ids = known.holds.iter().filter(|(_, hold)| young(hold)).map(|(id, _)| id.clone());
            ids.map(|id| (tenant.clone(), id)).collect::<Vec<_>>()
        };
        self.tenants.iter().flat_map(of).collect()
    }

    pub fn tenants(&self) -> Vec<String> {
        self.tenants.keys().cloned().collect()
    }

    pub fn events(&self) -> Vec<(String, String, u64, Timestamp)> {
        let of = |(tenant, known): (&String, &Tenant)| {
            let events = known.events.iter();
            events.map(|(id, (tokens, at))| (tenant.clone(), id.clone(), *tokens, *at)).collect::<Vec<_>>()
        };
        self.tenants.iter().flat_map(of).collect()
    }

    pub fn unresolved(&self) -> Vec<Uuid> {
        self.audit.iter().filter(|(_, resolved)| !**resolved).map(|(id, _)| *id).collect()
    }

    /// The model after a step that was done at `now`.
    pub fn apply(&mut self, step: &Step, now: Timestamp) {
        match step {
            Step::Put { tenant } => {
                self.tenants.entry(tenant.clone()).or_default();
            }
            Step::Record { tenant, events } => {
                let known = self.tenants.entry(tenant.clone()).or_default();
                events.iter().for_each(|(id, tokens)| known.record(id, *tokens, now, now.day()));
            }
            Step::Reserve { tenant, id, tokens, ttl_seconds } => {
                if !self.grants(tenant, id, *tokens, now) {
                    return;
                }
                let known = self.tenants.entry(tenant.clone()).or_default();
                known.holds.entry(id.clone()).or_insert(Hold {
                    amount: u128::from(*tokens),
                    day: now.day(),
                    expires_at: now.plus_micros(i64::from(*ttl_seconds) * MICROS_PER_SECOND),
                    ended: false,
                });
            }
            Step::Settle { tenant, id, tokens } => {
                let known = self.tenants.entry(tenant.clone()).or_default();
                let day = known.holds.get_mut(id).map_or(now.day(), |hold| {
                    hold.ended = true;
                    hold.day
                });
                known.record(&format!("{id}:0"), *tokens, now, day);
            }
            Step::Release { tenant, id } => {
                if let Some(hold) = self.tenants.entry(tenant.clone()).or_default().holds.get_mut(id) {
                    hold.ended = true;
                }
            }
            Step::Audit { id, .. } => {
                self.audit.entry(*id).or_default();
            }
            Step::Resolve { id } => {
                self.audit.insert(*id, true);
            }
            Step::Override { tenant, limit } => {
                self.tenants.entry(tenant.clone()).or_default().limit = Some(u128::from(*limit));
            }
            Step::Plan { name } => {
                self.plans.insert(name.clone());
            }
            Step::Key { name } => {
                self.keys.insert(name.clone());
            }
            Step::Aggregate | Step::CleanUp | Step::CleanUpAudit | Step::Sign | Step::Wait { .. } => {}
        }
    }

    /// What an engine holds that holds this.
    pub fn seen(&self, now: Timestamp) -> Seen {
        let tenant = |known: &Tenant| SeenTenant {
            limit: Some(known.limit()),
            used: known.used(now),
            held: known.held(now),
            events: known
                .events
                .iter()
                .filter(|(_, (_, at))| now.micros_since(*at) < SURELY_KEPT)
                .map(|(id, (tokens, _))| (id.clone(), *tokens))
                .collect(),
            ever: known.events.values().map(|(tokens, _)| tokens).sum(),
        };
        Seen {
            tenants: self.tenants.iter().map(|(name, known)| (name.clone(), tenant(known))).collect(),
            audit: self.audit.clone(),
            keys: self.keys.clone(),
            plans: self.plans.clone(),
        }
    }
}

/// What an engine is seen to hold. Fails where it cannot be read.
pub fn look(engine: &Metergate, now: Timestamp) -> Result<Seen, String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let mut seen = Seen::default();
    let (tracker, enforcer) = (engine.usage_tracker(), engine.quota_enforcer());
    let everybody = engine.tenants().list(&metergate::tenants::TenantFilter::default(), None, 1_000);
    for tenant in everybody.tenants {
        let id = &tenant.tenant_id;
        let status = enforcer.get_quota_status(id).map_err(|error| say(&error))?;
        let of_day = |state: &&metergate::domain::quota::LimitState| {
            (state.quota_type, state.window) == (QuotaType::Tokens, Window::Day)
        };
        let state = status.limits.iter().find(of_day).ok_or("no limit of tokens a day")?;
        let mut query = EventQuery {
            from: now.plus_micros(-SURELY_KEPT + 1),
            to: now.plus_micros(MICROS_PER_HOUR),
            event_type: None,
            limit: 10_000,
            after: None,
        };
        let mut events = BTreeMap::new();
        loop {
            let page = tracker.get_tenant_events(id, &query).map_err(|error| say(&error))?;
            for recorded in page.events {
                let tokens = recorded.event.tokens_consumed.unwrap_or_default();
                if events.insert(recorded.event_id.to_string(), tokens).is_some() {
                    return Err(format!("{} stands twice", recorded.event_id));
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let end = now.plus_micros(2 * MICROS_PER_DAY);
        let rows = tracker.get_tenant_usage(id, Timestamp::default(), end, PeriodType::Daily);
        let ever = rows.map_err(|error| say(&error))?.iter().map(|row| row.total_tokens_used).sum();
        let SeenTenant { limit, used, held, .. } =
            SeenTenant { limit: state.limit, used: state.used, held: state.held, ..SeenTenant::default() };
        seen.tenants.insert(id.to_string(), SeenTenant { limit, used, held, events, ever });
    }
    let filter = AuditFilter { event_types: vec![EVENT_TYPE.to_owned()], ..AuditFilter::default() };
    let mut before = None;
    loop {
        let page = engine.audit_logger().get_audit_events(&filter, before, 1_000).map_err(|error| say(&error))?;
        for event in page.events {
            if seen.audit.insert(event.record.event_id, event.resolution.is_some()).is_some() {
                return Err(format!("the audit record {} stands twice", event.record.event_id));
            }
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    seen.keys = engine.api_keys().list(None, 1_000).into_iter().map(|key| key.name).collect();
    let plans = engine.tenants().plans().into_iter().map(|plan| plan.name);
    seen.plans = plans.filter(|name| name.starts_with("plan-")).collect();
    Ok(seen)
}
