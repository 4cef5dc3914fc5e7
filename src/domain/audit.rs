//! Audit: who did what to which thing, as immutable records.

use super::tenant::TenantId;
use super::time::Timestamp;

/// What was done to the entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// It was made.
    Create,
    /// It was changed.
    Update,
    /// It was removed.
    Delete,
    /// It was read or used.
    Access,
    /// It failed.
    Error,
}

impl AuditAction {
    /// Its documented name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Access => "access",
            Self::Error => "error",
        }
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorType {
    /// metergate itself or the platform's machinery.
    System,
    /// An administrator.
    Admin,
    /// The tenant.
    Tenant,
    /// A visitor of the tenant.
    Visitor,
}

impl ActorType {
    /// Its documented name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Admin => "admin",
            Self::Tenant => "tenant",
            Self::Visitor => "visitor",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditResult {
    /// As wanted.
    Success,
    /// It failed.
    Failure,
    /// In part.
    Partial,
}

impl AuditResult {
    /// Its documented name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Partial => "partial",
        }
    }
}

/// What is to be written to the audit log. The engine adds event_id and timestamp when it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Whose trail it belongs to; `None` for the platform's own.
    pub tenant_id: Option<TenantId>,
    /// At most 100 characters, such as `quota_exceeded`.
    pub event_type: String,
    /// Such as `usage_quota`.
    pub entity_type: String,
    /// Which one.
    pub entity_id: Option<String>,
    /// What was done.
    pub action: AuditAction,
    /// Who did it.
    pub actor_type: ActorType,
    /// Which one.
    pub actor_id: Option<String>,
    /// A JSON value.
    pub old_values: Option<String>,
    /// A JSON value.
    pub new_values: Option<String>,
    /// A sentence.
    pub changes_summary: Option<String>,
    /// How it ended.
    pub result: AuditResult,
    /// What went wrong.
    pub error_message: Option<String>,
}

impl AuditEntry {
    /// A successful act of the system; the rest is filled in by struct update.
    pub fn system(tenant_id: Option<TenantId>, event_type: &str, entity_type: &str, action: AuditAction) -> Self {
        Self {
            tenant_id,
            event_type: event_type.to_owned(),
            entity_type: entity_type.to_owned(),
            entity_id: None,
            action,
            actor_type: ActorType::System,
            actor_id: None,
            old_values: None,
            new_values: None,
            changes_summary: None,
            result: AuditResult::Success,
            error_message: None,
        }
    }
}

/// An audit record that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place in the log, counted from 0 without gaps.
    pub index: u64,
    /// Its id.
    pub event_id: uuid::Uuid,
    /// When it was recorded.
    pub timestamp: Timestamp,
    /// What was written.
    pub entry: AuditEntry,
}
