//! resolve_audit_event: a resolution is a record of its own; the original stands.

use serde_json::{Value, json};

use super::{AuditError, AuditLogger};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry, EVENT_RESOLVED};
use crate::domain::tenant::TenantId;
use crate::writer::{Receipt, ResolveOutcome};

/// The longest resolution action.
pub const MAX_RESOLUTION_ACTION_CHARS: usize = 500;

impl AuditLogger {
    /// Marks an audit event as resolved, once. False when it is resolved already, or unknown, or when several tenants have
    /// a record of this id (see [`Self::resolve`]). Blocks its thread.
    pub fn resolve_audit_event(
        &self,
        event_id: uuid::Uuid,
        resolution_action: &str,
        actor_id: Option<&str>,
    ) -> Result<bool, AuditError> {
        let actor = actor_id.map_or(Actor::SYSTEM, Actor::named);
        let outcome = self.begin_resolve(event_id, None, resolution_action, &actor)?.wait()?;
        Ok(outcome == ResolveOutcome::Resolved)
    }

    /// [`Self::resolve_audit_event`] for tasks, telling an unknown event from a resolved one. Ids are their tenants' own:
    /// with a tenant only its record is resolved, without one the only record there is of this id.
    pub async fn resolve(
        &self,
        event_id: uuid::Uuid,
        tenant_id: Option<&TenantId>,
        resolution_action: &str,
        actor: &Actor,
    ) -> Result<ResolveOutcome, AuditError> {
        Ok(self.begin_resolve(event_id, tenant_id, resolution_action, actor)?.await?)
    }

    fn begin_resolve(
        &self,
        event_id: uuid::Uuid,
        tenant_id: Option<&TenantId>,
        resolution_action: &str,
        actor: &Actor,
    ) -> Result<Receipt<ResolveOutcome>, AuditError> {
        let action = resolution_action.trim();
        if action.is_empty() || action.chars().count() > MAX_RESOLUTION_ACTION_CHARS {
            return Err(AuditError::invalid("resolution_action", "must be 1 to 500 characters"));
        }
        let mut entry = AuditEntry {
            new_values: Some(json!({ "resolution_action": action }).to_string()),
            changes_summary: Some(format!("Resolved: {action}")),
            // The writer fills in whose and which it is.
            ..AuditEntry::system(None, EVENT_RESOLVED, "", AuditAction::Update)
        };
        actor.sign(&mut entry);
        Ok(self.writer.resolve_audit(event_id, tenant_id.cloned(), entry)?)
    }
}

/// What the record of a resolution says was done.
pub(super) fn action_of(resolution: &AuditEntry) -> String {
    let values = resolution.new_values.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    values.and_then(|values| values["resolution_action"].as_str().map(str::to_owned)).unwrap_or_default()
}
