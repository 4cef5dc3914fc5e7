//! Audit: who did what to which thing, as immutable records.

// Addresses as words: `core` has no sockets.
use core::net::IpAddr;
use std::str::FromStr;

use super::event::{InvalidEvent, Rejection};
use super::key::TenantScope;
use super::tenant::TenantId;
use super::time::Timestamp;

/// The longest old or new values of one record, in bytes of JSON.
pub const MAX_VALUES_BYTES: usize = 16 * 1024;
/// The most records of one submission, which is one commit.
pub const MAX_ENTRIES_PER_SUBMISSION: usize = 1_000;
/// Records of one id that are looked at, of different tenants.
pub const MAX_RECORDS_OF_ONE_ID: usize = 100;
/// The event type of a resolution, which is a record of its own; its entity is the event that it resolves.
pub const EVENT_RESOLVED: &str = "audit_event_resolved";
/// The entity type of a resolution.
pub const ENTITY_AUDIT_EVENT: &str = "audit_event";
/// The event type of the record that says which records were erased. Nobody but metergate may write it: what it names is not
/// missed by a verification.
pub const EVENT_DATA_ERASED: &str = "data_erased";
/// The entity type of what is about the audit log itself.
pub const ENTITY_AUDIT_LOG: &str = "audit_log";

/// A word that is none of the documented ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {known}")]
pub struct UnknownWord {
    found: String,
    known: String,
}

fn word_of<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, UnknownWord> {
    all.iter().copied().find(|word| name(*word) == text).ok_or_else(|| UnknownWord {
        found: text.chars().take(64).collect(),
        known: all.iter().map(|word| name(*word)).collect::<Vec<_>>().join(", "),
    })
}

/// What was done to the entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditAction {
    /// It was made.
    Create,
    /// It was changed.
    Update,
    /// It was removed.
    Delete,
    /// It was read or used.
    #[default]
    Access,
    /// It failed.
    Error,
}

impl AuditAction {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Create, Self::Update, Self::Delete, Self::Access, Self::Error];

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

impl FromStr for AuditAction {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        word_of(text, &Self::ALL, Self::name)
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActorType {
    /// metergate itself or the platform's machinery.
    #[default]
    System,
    /// An administrator.
    Admin,
    /// The tenant.
    Tenant,
    /// A visitor of the tenant.
    Visitor,
}

impl ActorType {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::System, Self::Admin, Self::Tenant, Self::Visitor];

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

impl FromStr for ActorType {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        word_of(text, &Self::ALL, Self::name)
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditResult {
    /// As wanted.
    #[default]
    Success,
    /// It failed.
    Failure,
    /// In part.
    Partial,
}

impl AuditResult {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Partial];

    /// Its documented name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Partial => "partial",
        }
    }
}

impl FromStr for AuditResult {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        word_of(text, &Self::ALL, Self::name)
    }
}

/// What is to be written to the audit log. The engine adds event_id and timestamp when it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Where the actor came from: an IPv4 or IPv6 address.
    pub ip_address: Option<String>,
    /// What the actor used.
    pub user_agent: Option<String>,
    /// The request it belongs to.
    pub request_id: Option<String>,
    /// When it happened, by the caller's clock; `None`: when it was recorded.
    pub occurred_at: Option<Timestamp>,
    /// The key that wrote it. Set by the server, never by a caller.
    pub key_id: Option<String>,
}

impl AuditEntry {
    /// A successful act of the system; the rest is filled in by struct update.
    pub fn system(tenant_id: Option<TenantId>, event_type: &str, entity_type: &str, action: AuditAction) -> Self {
        Self {
            tenant_id,
            event_type: event_type.to_owned(),
            entity_type: entity_type.to_owned(),
            action,
            ..Self::default()
        }
    }
}

/// An entry on its way to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSubmission {
    /// The caller's own id, under which it may be sent again; else one is made.
    pub event_id: Option<uuid::Uuid>,
    /// What is written.
    pub entry: AuditEntry,
}

impl From<AuditEntry> for AuditSubmission {
    fn from(entry: AuditEntry) -> Self {
        Self { event_id: None, entry }
    }
}

/// What became of one entry of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// Recorded now, under this id.
    Recorded(uuid::Uuid),
    /// Recorded before under this id, with the same content.
    Duplicate(uuid::Uuid),
    /// The id is known with other content: nothing changed.
    Conflict,
    /// Left out by the sampling of its type, and counted.
    SampledOut,
    /// Not recorded, for this reason.
    Rejected(Rejection),
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

/// What became of a record that something was the matter with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// When it was resolved.
    pub resolved_at: Timestamp,
    /// What was done about it.
    pub resolution_action: String,
}

/// A record as it reads now: the original stands, its resolution beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// As it was written.
    pub record: AuditRecord,
    /// Whether and how it was resolved.
    pub resolution: Option<Resolution>,
}

impl AuditEvent {
    /// `resolved` once it is, else its result.
    pub fn result_name(&self) -> &'static str {
        if self.resolution.is_some() { "resolved" } else { self.record.entry.result.name() }
    }
}

/// A result as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFilter {
    /// The original result, resolved or not.
    Original(AuditResult),
    /// Whatever was resolved.
    Resolved,
}

impl FromStr for ResultFilter {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        if text == "resolved" {
            return Ok(Self::Resolved);
        }
        text.parse().map(Self::Original).map_err(|UnknownWord { found, known }: UnknownWord| UnknownWord {
            found,
            known: format!("{known}, resolved"),
        })
    }
}

/// Which records are wanted: those that agree with everything given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this tenant.
    pub tenant_id: Option<TenantId>,
    /// Of these tenants: what a key may see.
    pub within: TenantScope,
    /// Of any of these types; none given: of every type.
    pub event_types: Vec<String>,
    /// On such an entity.
    pub entity_type: Option<String>,
    /// On this entity.
    pub entity_id: Option<String>,
    /// Such an act.
    pub action: Option<AuditAction>,
    /// By such an actor.
    pub actor_type: Option<ActorType>,
    /// By this actor.
    pub actor_id: Option<String>,
    /// With this result.
    pub result: Option<ResultFilter>,
    /// From this address.
    pub ip_address: Option<String>,
    /// With this agent.
    pub user_agent: Option<String>,
    /// Of this request.
    pub request_id: Option<String>,
    /// Recorded at or after this instant.
    pub from: Option<Timestamp>,
    /// Recorded before this instant.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether an entry agrees with all of it but the times and whether it is resolved.
    pub fn agrees(&self, entry: &AuditEntry) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        (self.tenant_id.is_none() || self.tenant_id == entry.tenant_id)
            && self.within.shows(entry.tenant_id.as_ref())
            && (self.event_types.is_empty() || self.event_types.contains(&entry.event_type))
            && same(&self.entity_type, Some(&entry.entity_type))
            && same(&self.entity_id, entry.entity_id.as_deref())
            && self.action.is_none_or(|wanted| wanted == entry.action)
            && self.actor_type.is_none_or(|wanted| wanted == entry.actor_type)
            && same(&self.actor_id, entry.actor_id.as_deref())
            && !matches!(self.result, Some(ResultFilter::Original(wanted)) if wanted != entry.result)
            && same(&self.ip_address, entry.ip_address.as_deref())
            && same(&self.user_agent, entry.user_agent.as_deref())
            && same(&self.request_id, entry.request_id.as_deref())
    }
}

impl AuditEntry {
    /// Checks every bound that does not depend on the time. Fails with the first field that breaks one. The values must
    /// be JSON already: whoever hands them in has read or made them.
    pub fn validate(&self) -> Result<(), InvalidEvent> {
        name_within("event_type", Some(&self.event_type), 100)?;
        name_within("entity_type", Some(&self.entity_type), 100)?;
        name_within("entity_id", self.entity_id.as_ref(), 255)?;
        name_within("actor_id", self.actor_id.as_ref(), 255)?;
        name_within("user_agent", self.user_agent.as_ref(), 512)?;
        name_within("request_id", self.request_id.as_ref(), 128)?;
        if self.ip_address.as_ref().is_some_and(|address| address.parse::<IpAddr>().is_err()) {
            return Err(InvalidEvent::new("ip_address", "is neither an IPv4 nor an IPv6 address"));
        }
        for (field, json) in [("old_values", &self.old_values), ("new_values", &self.new_values)] {
            if json.as_ref().is_some_and(|json| json.len() > MAX_VALUES_BYTES) {
                return Err(InvalidEvent::new(field, "are larger than 16 KiB of JSON"));
            }
        }
        for (field, text, max) in
            [("changes_summary", &self.changes_summary, 1_000), ("error_message", &self.error_message, 4_000)]
        {
            if text.as_ref().is_some_and(|text| text.len() > max && text.chars().count() > max) {
                return Err(InvalidEvent::new(field, format!("is longer than {max} characters")));
            }
        }
        Ok(())
    }
}

fn name_within(field: &'static str, text: Option<&String>, max: usize) -> Result<(), InvalidEvent> {
    let Some(text) = text else { return Ok(()) };
    if text.is_empty() {
        return Err(InvalidEvent::new(field, "must not be empty"));
    }
    if text.len() > max && text.chars().count() > max {
        return Err(InvalidEvent::new(field, format!("is longer than {max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidEvent::new(field, "contains a control character"));
    }
    Ok(())
}
