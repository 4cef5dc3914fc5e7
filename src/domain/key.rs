//! Keys: who may come in, with which role, and to which tenants.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::tenant::TenantId;
use super::time::Timestamp;

/// The most keys that are remembered, ended ones included.
pub const MAX_KEYS: usize = 10_000;
/// The most tenants that one key names.
pub const MAX_KEY_TENANTS: usize = 1_000;
/// The longest name of a key, in characters.
pub const MAX_KEY_NAME_CHARS: usize = 200;
/// How the key of the data folder, or of the environment, is called; it is none of the store's.
pub const BUILT_IN_KEY: &str = "admin-key";
/// The entity type of keys in the audit log.
pub const ENTITY_API_KEY: &str = "api_key";

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// Reads its tenants.
    Viewer,
    /// Records, reserves and writes audit events; reads its tenants.
    Service,
    /// Reads, explains, resolves, and sets overrides with a reason and an end.
    Support,
    /// Everything, of all tenants.
    Admin,
}

impl KeyRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Service, Self::Support, Self::Admin];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Service => "service",
            Self::Support => "support",
            Self::Admin => "admin",
        }
    }

    /// Whether it can do what `asked` can: every role what a viewer can, an admin everything. Support and service know
    /// nothing of each other.
    pub fn can(self, asked: Self) -> bool {
        self == asked || self == Self::Admin || asked == Self::Viewer
    }
}

impl FromStr for KeyRole {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(UnknownRole)
    }
}

/// A text that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, service, support or admin")]
pub struct UnknownRole;

/// Whose things a key may see and touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TenantScope {
    /// Every tenant, and what belongs to none.
    #[default]
    All,
    /// These, at most [`MAX_KEY_TENANTS`], registered or not.
    Only(BTreeSet<TenantId>),
}

impl TenantScope {
    /// Whether the tenant is among them.
    pub fn has(&self, tenant_id: &TenantId) -> bool {
        match self {
            Self::All => true,
            Self::Only(tenants) => tenants.contains(tenant_id),
        }
    }

    /// Whether something of this tenant, or of none, may be seen.
    pub fn shows(&self, tenant_id: Option<&TenantId>) -> bool {
        match (self, tenant_id) {
            (Self::All, _) => true,
            (Self::Only(_), None) => false,
            (Self::Only(tenants), Some(tenant_id)) => tenants.contains(tenant_id),
        }
    }
}

/// The SHA-256 of a key's secret, which is all that is kept of it. Compared in constant time.
#[derive(Clone, Copy)]
pub struct KeyDigest(pub [u8; 32]);

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl Hash for KeyDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A digest is as good as random in any part of it.
        state.write(&self.0[..8]);
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// What a caller shows: 256 random bits behind `mg_`. Seen once, by whoever makes the key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// Of 256 bits that nobody can guess.
    pub fn of(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().fold("mg_".to_owned(), |text, byte| text + &format!("{byte:02x}")))
    }

    /// Its text. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

/// Why a key opens nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEnd {
    /// Somebody revoked it.
    Revoked,
    /// Its time is over.
    Expired,
}

/// One key, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is no secret; in order of creation.
    pub key_id: Uuid,
    /// A person's or a service's name.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// To whom; an admin's is always all.
    pub tenants: TenantScope,
    /// What its secret is known by.
    pub digest: KeyDigest,
    /// The name of who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From this instant on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// From this instant on it opens nothing, for good.
    pub revoked_at: Option<Timestamp>,
    /// When it last opened something, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// The key whose place it took.
    pub replaces: Option<Uuid>,
    /// The key that took its place.
    pub replaced_by: Option<Uuid>,
}

impl ApiKey {
    /// Its id as the audit trail and lists show it; the built-in key has a name instead.
    pub fn shown_id(&self) -> String {
        if self.is_built_in() { BUILT_IN_KEY.to_owned() } else { self.key_id.to_string() }
    }

    /// Whether it is the key of the data folder or the environment.
    pub fn is_built_in(&self) -> bool {
        self.key_id.is_nil()
    }

    /// Whether it has ended by `now`, and how.
    pub fn ended(&self, now: Timestamp) -> Option<KeyEnd> {
        if self.revoked_at.is_some() {
            return Some(KeyEnd::Revoked);
        }
        self.expires_at.is_some_and(|end| end <= now).then_some(KeyEnd::Expired)
    }

    /// When it ended, if it has by `now`.
    pub fn ended_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = [self.revoked_at, self.expires_at.filter(|end| *end <= now)];
        ends.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn support_and_service_know_nothing_of_each_other() {
        let can = |role: KeyRole| KeyRole::ALL.map(|asked| role.can(asked));
        assert_eq!(can(KeyRole::Viewer), [true, false, false, false]);
        assert_eq!(can(KeyRole::Service), [true, true, false, false]);
        assert_eq!(can(KeyRole::Support), [true, false, true, false]);
        assert_eq!(can(KeyRole::Admin), [true; 4]);
    }

    #[test]
    fn a_secret_and_its_digest_are_never_shown() {
        let secret = KeySecret::of([7; 32]);
        assert_eq!((secret.expose().len(), &secret.expose()[..5]), (67, "mg_07"));
        assert_eq!(format!("{secret:?} {:?}", KeyDigest([7; 32])), "KeySecret(..) KeyDigest(..)");
    }

    #[test]
    fn a_scope_of_some_tenants_shows_nothing_of_the_platforms_own() {
        let acme: TenantId = "acme".parse().unwrap();
        let only = TenantScope::Only([acme.clone()].into());
        assert!(only.has(&acme) && only.shows(Some(&acme)) && !only.shows(None));
        assert!(!only.has(&"other".parse().unwrap()) && TenantScope::All.shows(None));
    }
}
