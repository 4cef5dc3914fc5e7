//! Changes of keys: what may be made, rotated and revoked, and the audit record of it.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::domain::audit::{ActorType, AuditAction, AuditEntry, AuditResult};
use crate::domain::key::{
    ApiKey, BUILT_IN_KEY, ENTITY_API_KEY, KeyDigest, KeyEnd, KeyRole, MAX_KEY_NAME_CHARS, MAX_KEY_TENANTS, MAX_KEYS,
    TenantScope,
};
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

/// How long a rotated key goes on working unless told otherwise, in seconds: a day.
pub const DEFAULT_OVERLAP_SECONDS: u64 = 86_400;
/// And at most: 30 days.
pub const MAX_OVERLAP_SECONDS: u64 = 30 * 86_400;
/// Tenants that an audit record lists; their number is always whole.
const TENANTS_LISTED_MAX: usize = 50;

/// A change of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// Makes a key.
    Create(NewKey),
    /// Puts a new key in a key's place, which goes on working for `overlap_seconds`.
    Rotate {
        /// The key to be replaced.
        key_id: Uuid,
        /// The id of the new one.
        new_key_id: Uuid,
        /// The digest of its secret.
        digest: KeyDigest,
        /// At most [`MAX_OVERLAP_SECONDS`].
        overlap_seconds: u64,
    },
    /// Ends a key at once.
    Revoke(Uuid),
}

/// A key that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Its id.
    pub key_id: Uuid,
    /// A person's or a service's name, 1 to 200 characters.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// To whom.
    pub tenants: TenantScope,
    /// The digest of its secret.
    pub digest: KeyDigest,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Why a key is not made or changed; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// There is no such key.
    #[error("there is no such key")]
    Unknown,
    /// It has ended, so that there is nothing to rotate.
    #[error("the key is {0}: make a new one")]
    Ended(&'static str),
    /// It was rotated already.
    #[error("the key was replaced by {0} already: rotate that one")]
    Replaced(Uuid),
    /// As many keys work as there may be.
    #[error("there are {MAX_KEYS} keys that work, as many as there may be: revoke some first")]
    TooMany,
    /// A value is out of its bounds.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
}

/// A request that a known key was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Method and pattern of the route, such as `GET /api/usage/{tenant}`.
    pub endpoint: String,
    /// Why.
    pub why: RefusedFor,
    /// Who asked, with which key and from where.
    pub actor: Actor,
}

/// What a known key lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedFor {
    /// Its role may not do that.
    Role,
    /// It named a tenant, or a thing of a tenant, that is not its own; `None` is what belongs to no tenant.
    Tenant(Option<TenantId>),
}

/// The audit record that stands for `count` refused requests of a key, of which this was the last.
pub fn unauthorized_access(key: &ApiKey, refused: &Refused, count: u64) -> AuditEntry {
    let mut entry = AuditEntry::system(None, "unauthorized_access", "api_endpoint", AuditAction::Access);
    refused.actor.sign(&mut entry);
    entry.actor_type = match (key.role, &key.tenants) {
        (KeyRole::Admin | KeyRole::Support, _) => ActorType::Admin,
        (_, TenantScope::Only(_)) => ActorType::Tenant,
        (_, TenantScope::All) => ActorType::System,
    };
    entry.entity_id = Some(refused.endpoint.clone());
    entry.result = AuditResult::Failure;
    let (reason, tenant_id) = match &refused.why {
        RefusedFor::Role => (format!("the role {} may not do that", key.role.name()), None),
        RefusedFor::Tenant(tenant_id) => ("it is of a tenant that is not the key's".to_owned(), tenant_id.as_ref()),
    };
    entry.changes_summary = Some(format!("{count} requests of the key of {} refused", key.name));
    entry.new_values = Some(json!({ "count": count, "tenant_id": tenant_id.map(|id| id.as_str()) }).to_string());
    entry.error_message = Some(reason);
    entry
}

/// What a secret is known by.
pub fn digest_of(secret: &[u8]) -> KeyDigest {
    KeyDigest(Sha256::digest(secret).into())
}

/// The key that is made, and its audit record.
pub fn create(new: NewKey, actor: &Actor, now: Timestamp) -> Result<(ApiKey, AuditEntry), KeyRefused> {
    check_name(&new.name)?;
    check_tenants(new.role, &new.tenants)?;
    if new.expires_at.is_some_and(|end| end <= now) {
        return invalid("expires_at", "is not in the future");
    }
    let key = ApiKey {
        key_id: new.key_id,
        name: new.name,
        role: new.role,
        tenants: new.tenants,
        digest: new.digest,
        created_by: actor.shown_name().to_owned(),
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
        replaces: None,
        replaced_by: None,
    };
    let mut entry = entry_of(&key, "key_created", AuditAction::Create, actor);
    entry.new_values = Some(values(&key).to_string());
    entry.changes_summary = Some(format!("Key of {} created, role {}", key.name, key.role.name()));
    Ok((key, entry))
}

/// The old key, which ends after the overlap, the new one in its place, and the audit record.
pub fn rotate(
    old: &ApiKey,
    (new_key_id, digest): (Uuid, KeyDigest),
    overlap_seconds: u64,
    actor: &Actor,
    now: Timestamp,
) -> Result<(ApiKey, ApiKey, AuditEntry), KeyRefused> {
    if overlap_seconds > MAX_OVERLAP_SECONDS {
        return invalid("overlap_seconds", format!("must be from 0 to {MAX_OVERLAP_SECONDS}, which is 30 days"));
    }
    match (old.ended(now), old.replaced_by) {
        (Some(KeyEnd::Revoked), _) => return Err(KeyRefused::Ended("revoked")),
        (_, Some(by)) => return Err(KeyRefused::Replaced(by)),
        (Some(KeyEnd::Expired), _) => return Err(KeyRefused::Ended("expired")),
        (None, None) => {}
    }
    // At most 30 days of seconds.
    let overlap_ends = now.plus_micros(overlap_seconds as i64 * MICROS_PER_SECOND);
    let ends = old.expires_at.map_or(overlap_ends, |end| end.min(overlap_ends));
    let new = ApiKey {
        key_id: new_key_id,
        digest,
        created_by: actor.shown_name().to_owned(),
        created_at: now,
        last_used_at: None,
        replaces: Some(old.key_id),
        ..old.clone()
    };
    let old = ApiKey { expires_at: Some(ends), replaced_by: Some(new_key_id), ..old.clone() };
    let mut entry = entry_of(&old, "key_rotated", AuditAction::Update, actor);
    entry.new_values =
        Some(json!({ "replaced_by": new_key_id.to_string(), "expires_at": ends.to_string() }).to_string());
    entry.changes_summary = Some(format!("Key of {} rotated, the old one works until {ends}", old.name));
    Ok((old, new, entry))
}

/// The key after it is revoked, and the audit record; `None` when it was before.
pub fn revoke(key: &ApiKey, actor: &Actor, now: Timestamp) -> Option<(ApiKey, AuditEntry)> {
    if key.revoked_at.is_some() {
        return None;
    }
    let key = ApiKey { revoked_at: Some(now), ..key.clone() };
    let mut entry = entry_of(&key, "key_revoked", AuditAction::Delete, actor);
    entry.old_values = Some(values(&key).to_string());
    entry.changes_summary = Some(format!("Key of {} revoked", key.name));
    Some((key, entry))
}

/// The key that ended first, to be forgotten for a new one. Its audit trail stays.
pub fn to_forget<'a>(keys: impl Iterator<Item = &'a ApiKey>, now: Timestamp) -> Option<Uuid> {
    let ended = keys.filter_map(|key| key.ended_at(now).map(|end| (end, key.key_id)));
    ended.min().map(|(_, key_id)| key_id)
}

/// The audit record of a new built-in key, made on a stopped data folder.
pub fn built_in_reset(actor: &Actor) -> AuditEntry {
    let mut entry = AuditEntry::system(None, "key_rotated", ENTITY_API_KEY, AuditAction::Update);
    entry.entity_id = Some(BUILT_IN_KEY.to_owned());
    entry.changes_summary = Some("The built-in admin key was made anew, the old one opens nothing any more".to_owned());
    actor.sign(&mut entry);
    entry
}

fn check_name(name: &str) -> Result<(), KeyRefused> {
    if name.trim().is_empty() || name.chars().count() > MAX_KEY_NAME_CHARS {
        return invalid("name", format!("must be 1 to {MAX_KEY_NAME_CHARS} characters"));
    }
    if name.chars().any(char::is_control) {
        return invalid("name", "contains a control character");
    }
    if [BUILT_IN_KEY, "system"].contains(&name) {
        return invalid("name", "is one that metergate itself has in the audit trail");
    }
    Ok(())
}

fn check_tenants(role: KeyRole, tenants: &TenantScope) -> Result<(), KeyRefused> {
    match tenants {
        TenantScope::All => Ok(()),
        TenantScope::Only(_) if role == KeyRole::Admin => {
            invalid("tenants", "of an admin are always all: leave them out")
        }
        TenantScope::Only(some) if some.is_empty() => invalid("tenants", "name nobody: leave them out for all tenants"),
        TenantScope::Only(some) if some.len() > MAX_KEY_TENANTS => {
            invalid("tenants", format!("are more than {MAX_KEY_TENANTS}"))
        }
        TenantScope::Only(_) => Ok(()),
    }
}

fn invalid<T>(field: &'static str, reason: impl Into<String>) -> Result<T, KeyRefused> {
    Err(KeyRefused::Invalid { field, reason: reason.into() })
}

fn entry_of(key: &ApiKey, event_type: &str, action: AuditAction, actor: &Actor) -> AuditEntry {
    let mut entry = AuditEntry::system(None, event_type, ENTITY_API_KEY, action);
    entry.entity_id = Some(key.shown_id());
    actor.sign(&mut entry);
    entry
}

/// What a key is, without anything of its secret.
fn values(key: &ApiKey) -> Value {
    let (tenants, total) = match &key.tenants {
        TenantScope::All => (None, None),
        TenantScope::Only(some) => {
            let listed: Vec<&str> = some.iter().take(TENANTS_LISTED_MAX).map(|id| id.as_str()).collect();
            (Some(listed), Some(some.len()))
        }
    };
    json!({
        "name": key.name,
        "role": key.role.name(),
        "tenants": tenants,
        "tenants_total": total,
        "expires_at": key.expires_at.map(|end| end.to_string()),
    })
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
