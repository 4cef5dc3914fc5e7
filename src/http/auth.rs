//! Who may come in: the key that a request shows, and what a route asks for.

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use super::caller::Caller;
use super::error::ApiError;
use crate::domain::key::{ApiKey, BUILT_IN_KEY, KeyEnd, KeyRole, TenantScope};
use crate::domain::time::Timestamp;
use crate::keys::{ApiKeys, KeyEntry, Refused, RefusedFor, Shut, digest};
use crate::writer::Counter;

/// The header of the cron job's door.
pub const CRON_SECRET_HEADER: &str = "x-cron-secret";

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Open,
    /// A key that reads its tenants.
    Viewer,
    /// A key that records and reserves.
    Service,
    /// A key that resolves and sets overrides.
    Support,
    /// A key that may do everything.
    Admin,
    /// The cron job's own secret.
    CronSecret,
}

impl Role {
    /// The role a key needs, where a key is asked for.
    pub const fn of_key(self) -> Option<KeyRole> {
        match self {
            Self::Viewer => Some(KeyRole::Viewer),
            Self::Service => Some(KeyRole::Service),
            Self::Support => Some(KeyRole::Support),
            Self::Admin => Some(KeyRole::Admin),
            Self::Open | Self::CronSecret => None,
        }
    }
}

/// Where it is checked that what a route is asked for is of a tenant of the key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantCheck {
    /// By the lock: the path names the tenant.
    Path,
    /// By the handler: the body, the query or an id says whose it is, or a list is cut to the key's tenants.
    Handler,
    /// The route is about all tenants at once: a key of some is refused.
    All,
    /// The route is about none.
    Nobody,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Viewer => "viewer",
            Self::Service => "service",
            Self::Support => "support",
            Self::Admin => "admin",
            Self::CronSecret => "cron secret",
        })
    }
}

/// A secret that is never shown; an empty one matches nothing.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Keeps the secret's bytes.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, given: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.ct_eq(given))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why requests were refused at the door, as labels of `/metrics`.
pub const REFUSALS: [&str; 6] = ["no_key", "unknown_key", "expired_key", "revoked_key", "role", "tenant"];

/// The keys that open the routes. Clones are the same.
#[derive(Clone)]
pub struct Keys(Arc<Parties>);

struct Parties {
    /// Opens everything but the cron door; `None` when it is empty.
    built_in: Option<Arc<KeyEntry>>,
    /// Opens the cron door; unset or empty closes it.
    cron: Option<Secret>,
    api_keys: ApiKeys,
    /// By [`REFUSALS`].
    refused: [Counter; REFUSALS.len()],
}

impl Keys {
    /// The built-in key, the cron secret, and the keys of the store.
    pub fn new(admin_key: &str, cron_secret: Option<&str>, api_keys: ApiKeys) -> Self {
        let built_in = digest(admin_key.as_bytes()).map(|digest| {
            Arc::new(KeyEntry::of(ApiKey {
                key_id: uuid::Uuid::nil(),
                name: BUILT_IN_KEY.to_owned(),
                role: KeyRole::Admin,
                tenants: TenantScope::All,
                digest,
                created_by: "system".to_owned(),
                created_at: Timestamp::default(),
                expires_at: None,
                revoked_at: None,
                last_used_at: None,
                replaces: None,
                replaced_by: None,
            }))
        });
        let cron = cron_secret.map(Secret::new);
        Self(Arc::new(Parties { built_in, cron, api_keys, refused: Default::default() }))
    }

    /// The built-in key, with its last use.
    pub fn built_in(&self) -> Option<ApiKey> {
        let entry = self.0.built_in.as_ref()?;
        Some(ApiKey { last_used_at: entry.last_used_at(), ..(*entry.key).clone() })
    }

    /// Requests refused since the start, by [`REFUSALS`].
    pub fn refused(&self) -> &[Counter; REFUSALS.len()] {
        &self.0.refused
    }

    /// The caller that these headers show a key of. Fails with 401.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let refuse = |reason: usize| {
            self.0.refused[reason].add(1);
            Err(ApiError::unauthorized())
        };
        let Some(given) = bearer(headers).filter(|key| !key.is_empty()) else { return refuse(0) };
        let Some(digest) = digest(given) else { return refuse(1) };
        if let Some(built_in) = self.0.built_in.as_ref().filter(|built_in| built_in.key.digest == digest) {
            built_in.note_use(self.0.api_keys.now());
            return Ok(Caller::new(Arc::clone(built_in)));
        }
        match self.0.api_keys.known(&digest) {
            Ok(entry) => Ok(Caller::new(entry)),
            Err(Shut::Unknown) => refuse(1),
            Err(Shut::Ended(KeyEnd::Expired)) => refuse(2),
            Err(Shut::Ended(KeyEnd::Revoked)) => refuse(3),
        }
    }

    /// Counts a request that a key was not enough for, and has the audit log told.
    pub(super) fn note_refusal(&self, entry: &Arc<KeyEntry>, refused: Refused) {
        self.0.refused[if refused.why == RefusedFor::Role { 4 } else { 5 }].add(1);
        self.0.api_keys.note_refusal(entry, refused);
    }

    /// Whether these headers show the cron job's secret. Fails with 401.
    pub(super) fn admit_cron(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let given = headers.get(CRON_SECRET_HEADER).map_or(&b""[..], |value| value.as_bytes());
        match &self.0.cron {
            Some(secret) if secret.matches(given) => Ok(()),
            _ => Err(ApiError::wrong_cron_secret()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::EngineSettings;
    use crate::domain::actor::Actor;
    use crate::engine::Metergate;
    use crate::keys::KeyRequest;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_exact_key_opens() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Metergate::open(folder.path()).unwrap();
        for (admin, given, opens) in [
            ("k3y", "Bearer k3y", true),
            ("k3y", "bearer k3y", true),
            ("k3y", "Bearer k3", false),
            ("k3y", "Bearer k3yy", false),
            ("k3y", "Bearer K3Y", false),
            ("k3y", "Basic k3y", false),
            ("k3y", "k3y", false),
            ("k3y", "Bearer ", false),
            ("", "Bearer ", false),
            ("", "Bearer", false),
        ] {
            let keys = Keys::new(admin, None, engine.api_keys());
            assert_eq!(keys.authenticate(&with("authorization", given)).is_ok(), opens, "{admin:?} {given:?}");
        }
        assert!(Keys::new("k3y", None, engine.api_keys()).authenticate(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_key_of_the_store_opens_until_it_ends_and_each_refusal_is_counted_by_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        // A fixed time: ids of this process never go back to an earlier one.
        let clock = |_| Clock::manual(Timestamp::from_seconds(1_790_000_000));
        let engine = Metergate::open_at(EngineSettings::new(folder.path()), clock).unwrap();
        let keys = Keys::new("k3y", None, engine.api_keys());
        let ada = Actor::named("ada");
        let name = "ci".to_owned();
        let request = KeyRequest { name, role: KeyRole::Viewer, tenants: TenantScope::All, expires_at: None };
        let made = engine.api_keys().create_blocking(request, &ada).unwrap();
        let shown = with("authorization", &format!("Bearer {}", made.secret.expose()));
        assert_eq!(keys.authenticate(&shown).unwrap().key_id(), made.key.key_id.to_string());
        let new = engine.api_keys().rotate_blocking(made.key.key_id, 0, &ada).unwrap();
        assert_eq!(keys.authenticate(&shown).err().map(|error| error.status().as_u16()), Some(401));
        let shown = with("authorization", &format!("Bearer {}", new.secret.expose()));
        assert!(keys.authenticate(&shown).is_ok());
        engine.api_keys().revoke_blocking(new.key.key_id, &ada).unwrap();
        assert!(keys.authenticate(&shown).is_err());
        for headers in [HeaderMap::new(), with("authorization", "Bearer x"), with("authorization", &"x".repeat(9_000))]
        {
            assert!(keys.authenticate(&headers).is_err());
        }
        let counted: Vec<u64> = keys.refused().iter().map(Counter::get).collect();
        assert_eq!(counted, [2, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_wrong_an_empty_and_an_unset_cron_secret_keep_the_door_closed() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Metergate::open(folder.path()).unwrap();
        let keys = |cron| Keys::new("k3y", cron, engine.api_keys());
        for (cron, given, opens) in [
            (Some("s3cret"), "s3cret", true),
            (Some("s3cret"), "s3cre", false),
            (Some("s3cret"), "", false),
            (Some(""), "", false),
            (None, "", false),
            (None, "s3cret", false),
        ] {
            let admitted = keys(cron).admit_cron(&with(CRON_SECRET_HEADER, given)).is_ok();
            assert_eq!(admitted, opens, "{cron:?} {given:?}");
        }
        let refused = keys(Some("s3cret")).admit_cron(&with("authorization", "Bearer k3y")).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.message()), (401, "Unauthorized"));
        assert!(!format!("{:?}", Secret::new("s3cret")).contains("s3"), "a secret is never shown");
    }
}
