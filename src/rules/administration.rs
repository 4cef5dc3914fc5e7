//! Administration: what a change of a tenant makes of it, and the audit record of the change.

use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::price_terms::{TermsChanged, end_terms, set_terms};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::quota::{Limit, QuotaType, Window};
use crate::domain::tenant::{Override, Tenant, TenantChange, TenantId, TenantPut, TenantStatus, TokenLimits};
use crate::domain::threshold::checked_thresholds;
use crate::domain::time::{MICROS_PER_DAY, Timestamp};

/// The most labels of one tenant.
pub const MAX_LABELS: usize = 64;
/// How long past token limits are kept: as long as a month's row may still be open, and its raw events kept.
const TOKEN_LIMITS_KEPT_MICROS: i64 = 62 * MICROS_PER_DAY;

/// The actor that stands for metergate itself, such as when a tenant registers by its first event.
pub const ACTOR_SYSTEM: &Actor = &Actor::SYSTEM;

/// What a new tenant gets that names nothing else.
#[derive(Clone, Copy, Debug)]
pub struct TenantDefaults<'a> {
    /// `default_plan`.
    pub plan: &'a str,
    /// `default_zone`.
    pub zone: Tz,
}

/// Why a change is refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// The tenant was never seen, or is deleted and this is no PUT.
    #[error("the tenant is unknown")]
    UnknownTenant,
    /// No plan has this name.
    #[error("the plan `{0}` does not exist")]
    UnknownPlan(String),
    /// A value is out of its bounds.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
}

/// The tenant after `change`, and the audit records of it. A change that changes nothing has no record and leaves
/// `updated_at` alone. An override on an unknown tenant registers it; on a deleted one it is refused.
///
/// A plan that has run out is stored and recorded as expired by whichever change sees it first, before its own record:
/// an extension that overtakes the housekeeping leaves no expiry out of the trail.
pub fn apply_change(
    existing: Option<&Tenant>,
    tenant_id: &TenantId,
    change: &TenantChange,
    plan_exists: impl Fn(&str) -> bool,
    defaults: TenantDefaults<'_>,
    actor: &Actor,
    now: Timestamp,
) -> Result<(Tenant, Vec<AuditEntry>), ChangeRefused> {
    if *change == TenantChange::Erase {
        return Ok((existing.cloned().map(blanked).ok_or(ChangeRefused::UnknownTenant)?, Vec::new()));
    }
    let mut trail = Trail { tenant_id, actor, entries: Vec::new() };
    let mut expired = existing.cloned();
    if let Some(tenant) = &mut expired {
        trail.expire(tenant, now);
    }
    let existing = expired.as_ref();
    let living = existing.filter(|tenant| tenant.status != TenantStatus::Deleted);
    let known = || living.cloned().ok_or(ChangeRefused::UnknownTenant);
    let mut tenant = match change {
        TenantChange::Put(put) => {
            check_put(put, &plan_exists)?;
            let mut tenant = existing.cloned().unwrap_or_else(|| new_tenant(tenant_id, defaults, now));
            put_into(&mut tenant, put, now);
            trail.put(existing, &tenant);
            trail.expire(&mut tenant, now);
            tenant
        }
        TenantChange::SetOverride { quota_type, window, limit, reason, until } => {
            check_override(*quota_type, *limit, reason.as_deref(), *until, now)?;
            let mut tenant = match existing {
                None => new_tenant(tenant_id, defaults, now),
                Some(_) => known()?,
            };
            if existing.is_none() {
                trail.put(None, &tenant);
            }
            let own = Override { limit: *limit, reason: reason.clone(), until: *until, set_at: now };
            let old = tenant.overrides.insert((*quota_type, *window), own.clone());
            trail.override_change(*quota_type, *window, old.as_ref(), Some(&own));
            tenant
        }
        TenantChange::RemoveOverride { quota_type, window } => {
            let mut tenant = known()?;
            if let Some(old) = tenant.overrides.remove(&(*quota_type, *window)) {
                trail.override_change(*quota_type, *window, Some(&old), None);
            }
            tenant
        }
        TenantChange::SetPrices { from, markup, rates } => {
            let mut tenant = known()?;
            let changed = set_terms(&mut tenant, from.unwrap_or(now), *markup, rates, now)?;
            trail.prices(changed);
            tenant
        }
        TenantChange::EndPrices { from } => {
            let mut tenant = known()?;
            let changed = end_terms(&mut tenant, from.unwrap_or(now), now);
            trail.prices(changed);
            tenant
        }
        TenantChange::Delete => {
            let mut tenant = known()?;
            let old = tenant.status;
            tenant.status = TenantStatus::Deleted;
            trail.push("tenant_deleted", "tenant", tenant_id.as_str(), AuditAction::Delete, |entry| {
                entry.old_values = Some(json!({ "status": old.name() }).to_string());
                entry.new_values = Some(json!({ "status": TenantStatus::Deleted.name() }).to_string());
                entry.changes_summary = Some("Tenant deleted".to_owned());
            });
            tenant
        }
        TenantChange::Expire | TenantChange::Erase => known()?,
    };
    if !plan_exists(&tenant.plan) && living.is_none_or(|before| before.plan != tenant.plan) {
        return Err(ChangeRefused::UnknownPlan(tenant.plan));
    }
    if !trail.entries.is_empty() {
        tenant.updated_at = now;
    }
    Ok((tenant, trail.entries))
}

fn blanked(mut tenant: Tenant) -> Tenant {
    tenant.name = None;
    tenant.labels.clear();
    tenant.overrides.values_mut().for_each(|own| own.reason = None);
    tenant
}

/// Adds the tokens-per-day and -month limits in force from `now` on to the tenant's history, if they changed, and those
/// that come back when an override ends. Entries older than 62 days go, but for the newest of them.
pub fn record_token_limits(tenant: &mut Tenant, plan_limits: &[Limit], now: Timestamp) {
    tenant.token_limits.retain(|entry| entry.since <= now);
    let ends = tenant.overrides.iter().filter(|((quota_type, _), _)| *quota_type == QuotaType::Tokens);
    let mut instants: Vec<Timestamp> = ends.filter_map(|(_, own)| own.until).filter(|until| *until > now).collect();
    instants.push(now);
    instants.sort_unstable();
    for since in instants {
        let limits = tenant.limits_at(plan_limits, since);
        let tokens = |window| {
            let limit = limits.iter().find(|limit| (limit.quota_type, limit.window) == (QuotaType::Tokens, window));
            limit.map(|limit| u64::try_from(limit.limit).unwrap_or(u64::MAX))
        };
        let (day, month) = (tokens(Window::Day), tokens(Window::Month));
        if tenant.token_limits.last().is_none_or(|last| (last.day, last.month) != (day, month)) {
            tenant.token_limits.push(TokenLimits { since, day, month });
        }
    }
    let kept_from = now.plus_micros(-TOKEN_LIMITS_KEPT_MICROS);
    let old = tenant.token_limits.iter().filter(|entry| entry.since < kept_from).count();
    tenant.token_limits.drain(..old.saturating_sub(1));
}

fn new_tenant(tenant_id: &TenantId, defaults: TenantDefaults<'_>, now: Timestamp) -> Tenant {
    Tenant::new(tenant_id.clone(), defaults.plan, defaults.zone, now)
}

fn put_into(tenant: &mut Tenant, put: &TenantPut, now: Timestamp) {
    if let Some(name) = &put.name {
        tenant.name = Some(name.clone());
    }
    if let Some(labels) = &put.labels {
        tenant.labels = labels.clone();
    }
    if let Some(plan) = &put.plan {
        tenant.plan = plan.clone();
    }
    if let Some(zone) = put.zone {
        tenant.zone = zone;
    }
    if let Some(mode) = put.mode {
        tenant.mode = mode;
    }
    if let Some(own) = &put.thresholds {
        // Checked before: they can be put in order.
        tenant.thresholds = own.as_ref().map(|percents| checked_thresholds(percents).unwrap_or_default());
    }
    if let Some(end) = put.plan_expires_at {
        tenant.plan_expires_at = end;
    }
    let was_expired = tenant.status == TenantStatus::Expired;
    let extended = put.plan_expires_at.is_some_and(|end| end.is_none_or(|end| now < end));
    tenant.status = match (put.status, tenant.status) {
        (Some(status), _) => status,
        (None, TenantStatus::Deleted) => TenantStatus::Active,
        (None, TenantStatus::Expired) if extended => TenantStatus::Active,
        (None, status) => status,
    };
    // Called active again without a later end: it is as expired as before, and that is in the trail already.
    if was_expired && put.plan_expires_at.is_none() && tenant.status_at(now) == TenantStatus::Expired {
        tenant.status = TenantStatus::Expired;
    }
}

fn check_put(put: &TenantPut, plan_exists: impl Fn(&str) -> bool) -> Result<(), ChangeRefused> {
    if let Some(plan) = put.plan.as_ref().filter(|plan| !plan_exists(plan)) {
        return Err(ChangeRefused::UnknownPlan(plan.chars().take(64).collect()));
    }
    if put.status == Some(TenantStatus::Deleted) {
        return invalid("status", "cannot be set to deleted: delete the tenant");
    }
    if let Some(Some(percents)) = &put.thresholds
        && let Err(error) = checked_thresholds(percents)
    {
        return invalid("thresholds", error.to_string());
    }
    text_within("name", put.name.as_deref(), 200)?;
    let Some(labels) = &put.labels else { return Ok(()) };
    if labels.len() > MAX_LABELS {
        return invalid("labels", format!("are more than {MAX_LABELS}"));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return invalid("labels", "have an empty name");
        }
        text_within("labels", Some(key), 64)?;
        text_within("labels", Some(value), 256)?;
    }
    Ok(())
}

fn check_override(
    quota_type: QuotaType,
    limit: Option<u128>,
    reason: Option<&str>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), ChangeRefused> {
    if limit.is_some_and(|limit| limit > quota_type.max()) {
        return invalid("limit", format!("is above {}", quota_type.show(quota_type.max())));
    }
    if until.is_some_and(|until| until <= now) {
        return invalid("until", "is not in the future");
    }
    text_within("reason", reason, 500)
}

fn text_within(field: &'static str, text: Option<&str>, max: usize) -> Result<(), ChangeRefused> {
    match text {
        Some(text) if text.chars().count() > max => invalid(field, format!("is longer than {max} characters")),
        Some(text) if text.chars().any(char::is_control) => invalid(field, "contains a control character"),
        _ => Ok(()),
    }
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Result<(), ChangeRefused> {
    Err(ChangeRefused::Invalid { field, reason: reason.into() })
}

/// The audit records of one change.
struct Trail<'a> {
    tenant_id: &'a TenantId,
    actor: &'a Actor,
    entries: Vec<AuditEntry>,
}

impl Trail<'_> {
    fn push(
        &mut self,
        event_type: &str,
        entity_type: &str,
        entity_id: &str,
        action: AuditAction,
        fill: impl FnOnce(&mut AuditEntry),
    ) {
        let mut entry = AuditEntry::system(Some(self.tenant_id.clone()), event_type, entity_type, action);
        entry.entity_id = Some(entity_id.to_owned());
        self.actor.sign(&mut entry);
        fill(&mut entry);
        self.entries.push(entry);
    }

    /// Stores that the plan of an active tenant has run out: the system's own act, whoever made the change around it.
    fn expire(&mut self, tenant: &mut Tenant, now: Timestamp) {
        let Some(end) = tenant.expiry_due().filter(|end| *end <= now) else { return };
        tenant.status = TenantStatus::Expired;
        let id = Some(self.tenant_id.clone());
        self.entries.push(AuditEntry {
            entity_id: Some(tenant.tenant_id.to_string()),
            old_values: Some(json!({ "status": TenantStatus::Active.name() }).to_string()),
            new_values: Some(
                json!({
                    "status": TenantStatus::Expired.name(),
                    "plan": tenant.plan,
                    "plan_expires_at": end.to_string(),
                })
                .to_string(),
            ),
            changes_summary: Some(format!("Plan {} ran out at {end}", tenant.plan)),
            ..AuditEntry::system(id, "trial_expired", "trial", AuditAction::Update)
        });
    }

    fn put(&mut self, before: Option<&Tenant>, after: &Tenant) {
        let id = after.tenant_id.as_str();
        let new = values_of(after);
        let Some(before) = before else {
            let summary = format!("Tenant registered on plan {}", after.plan);
            return self.push("tenant_created", "tenant", id, AuditAction::Create, |entry| {
                entry.new_values = Some(Value::Object(new).to_string());
                entry.changes_summary = Some(summary);
            });
        };
        let old = values_of(before);
        let changed: Vec<&String> = new.keys().filter(|key| old[*key] != new[*key]).collect();
        if changed.is_empty() {
            return;
        }
        let only = |values: &Map<String, Value>| {
            let kept: Map<String, Value> = changed.iter().map(|key| ((*key).clone(), values[*key].clone())).collect();
            Value::Object(kept).to_string()
        };
        let plan = (before.plan != after.plan).then(|| format!("Plan changed from {} to {}", before.plan, after.plan));
        let names = changed.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
        self.push("tenant_updated", "tenant", id, AuditAction::Update, |entry| {
            entry.old_values = Some(only(&old));
            entry.new_values = Some(only(&new));
            entry.changes_summary = Some(plan.unwrap_or_else(|| format!("Changed {names}")));
        });
    }

    fn prices(&mut self, changed: Option<TermsChanged>) {
        let Some(TermsChanged { event_type, action, old, new, summary }) = changed else { return };
        self.push(event_type, "tenant_prices", self.tenant_id.as_str(), action, |entry| {
            entry.old_values = old.map(|old| old.to_string());
            entry.new_values = new.map(|new| new.to_string());
            entry.changes_summary = Some(summary);
        });
    }

    fn override_change(
        &mut self,
        quota_type: QuotaType,
        window: Window,
        old: Option<&Override>,
        new: Option<&Override>,
    ) {
        let shown = |own: Option<&Override>| own.map(|own| override_value(quota_type, window, own).to_string());
        let limit = |own: &Override| own.limit.map_or("unlimited".to_owned(), |limit| quota_type.show(limit));
        let (event_type, action, summary) = match new {
            Some(own) => (
                "quota_override_set",
                if old.is_some() { AuditAction::Update } else { AuditAction::Create },
                format!("{quota_type} per {window} set to {}", limit(own)),
            ),
            None => (
                "quota_override_removed",
                AuditAction::Delete,
                format!("{quota_type} per {window} is the plan's again"),
            ),
        };
        self.push(event_type, "usage_quota", &format!("{quota_type}-{window}"), action, |entry| {
            entry.old_values = shown(old);
            entry.new_values = shown(new);
            entry.changes_summary = Some(summary);
        });
    }
}

fn values_of(tenant: &Tenant) -> Map<String, Value> {
    [
        ("name", json!(tenant.name)),
        ("labels", json!(tenant.labels)),
        ("plan", json!(tenant.plan)),
        ("plan_expires_at", json!(tenant.plan_expires_at.map(|end| end.to_string()))),
        ("zone", json!(tenant.zone.name())),
        ("status", json!(tenant.status.name())),
        ("mode", json!(tenant.mode.name())),
        ("thresholds", json!(tenant.thresholds)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn override_value(quota_type: QuotaType, window: Window, own: &Override) -> Value {
    let limit = match (quota_type, own.limit) {
        (_, None) => Value::Null,
        // Dollars stay a decimal text, since a JSON number is a float to many readers.
        (QuotaType::Cost, Some(limit)) => Value::String(quota_type.show(limit)),
        // Limits of counts are at most 10^15.
        (_, Some(limit)) => json!(u64::try_from(limit).unwrap_or(u64::MAX)),
    };
    let until = own.until.map(|until| until.to_string());
    json!({
        "quota_type": quota_type.name(),
        "window": window.name(),
        "limit": limit,
        "reason": own.reason,
        "until": until,
    })
}

#[cfg(test)]
#[path = "administration_tests.rs"]
mod tests;
