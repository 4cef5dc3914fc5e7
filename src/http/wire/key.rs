//! Keys on the wire. A secret travels once, in the answer that made it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Fault;
use super::object::{INVALID_REQUEST, Object};
use super::scalar::text_or_null;
use crate::domain::key::{ApiKey, KeyEnd, MAX_KEY_TENANTS, TenantScope};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::keys::{DEFAULT_OVERLAP_SECONDS, KeyRequest, MadeKey};

/// One key, without its secret.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields of ApiKey")]
pub struct KeyJson {
    /// `admin-key` for the built-in one.
    pub key_id: String,
    pub name: String,
    pub role: &'static str,
    /// Null is all.
    pub tenants: Option<Vec<String>>,
    /// `active`, `expired` or `revoked`.
    pub status: &'static str,
    /// Whether it is the key of the data folder or the environment.
    pub built_in: bool,
    pub created_by: String,
    #[serde(with = "text_or_null")]
    pub created_at: Option<Timestamp>,
    #[serde(with = "text_or_null")]
    pub expires_at: Option<Timestamp>,
    #[serde(with = "text_or_null")]
    pub revoked_at: Option<Timestamp>,
    #[serde(with = "text_or_null")]
    pub last_used_at: Option<Timestamp>,
    pub replaces: Option<String>,
    pub replaced_by: Option<String>,
}

impl KeyJson {
    /// The key as it stands at `now`.
    pub fn at(key: &ApiKey, now: Timestamp) -> Self {
        Self {
            key_id: key.shown_id(),
            name: key.name.clone(),
            role: key.role.name(),
            tenants: match &key.tenants {
                TenantScope::All => None,
                TenantScope::Only(some) => Some(some.iter().map(ToString::to_string).collect()),
            },
            status: match key.ended(now) {
                None => "active",
                Some(KeyEnd::Expired) => "expired",
                Some(KeyEnd::Revoked) => "revoked",
            },
            built_in: key.is_built_in(),
            created_by: key.created_by.clone(),
            created_at: (!key.is_built_in()).then_some(key.created_at),
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            replaces: key.replaces.map(|id| id.to_string()),
            replaced_by: key.replaced_by.map(|id| id.to_string()),
        }
    }
}

/// A page of keys, in order of creation.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "they say what they are")]
pub struct KeysJson {
    pub keys: Vec<KeyJson>,
    pub next_cursor: Option<String>,
}

/// A key just made.
#[derive(Serialize)]
pub struct MadeKeyJson {
    /// What its holder shows. Not kept: this is the only time it is seen.
    key: String,
    #[serde(flatten)]
    made: KeyJson,
    /// Of a rotation: when the old key ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_key_expires_at: Option<String>,
}

impl MadeKeyJson {
    /// The key and its secret; `old` is the key it replaces.
    pub fn new(made: &MadeKey, old: Option<&ApiKey>, now: Timestamp) -> Self {
        Self {
            key: made.secret.expose().to_owned(),
            made: KeyJson::at(&made.key, now),
            old_key_expires_at: old.and_then(|old| old.expires_at).map(|end| end.to_string()),
        }
    }
}

/// Reads `{name, role, tenants?, expires_at?}`; without tenants, all.
pub fn read_key_request(json: &[u8]) -> Result<KeyRequest, Fault> {
    let mut object = Object::read(json)?;
    let name: String = object.value("name")?.ok_or_else(|| object.missing("name"))?;
    let role = object.parsed("role")?.ok_or_else(|| object.missing("role"))?;
    let tenants = match object.value::<Vec<String>>("tenants")? {
        None => TenantScope::All,
        Some(some) if some.len() > MAX_KEY_TENANTS => {
            return Err(Fault::field(INVALID_REQUEST, "tenants", format_args!("are more than {MAX_KEY_TENANTS}")));
        }
        Some(some) => {
            let read: Result<BTreeSet<TenantId>, _> = some.iter().map(|id| id.parse()).collect();
            TenantScope::Only(
                read.map_err(|error| Fault::field(INVALID_REQUEST, "tenants", format_args!("are wrong: {error}")))?,
            )
        }
    };
    let expires_at = object.parsed("expires_at")?;
    object.finish("name, role, tenants and expires_at")?;
    Ok(KeyRequest { name, role, tenants, expires_at })
}

/// Reads `{overlap_seconds?}`: a day unless told otherwise.
pub fn read_rotation(json: &[u8]) -> Result<u64, Fault> {
    let mut object = Object::read(json)?;
    let overlap_seconds = object.value("overlap_seconds")?.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    object.finish("overlap_seconds")?;
    Ok(overlap_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeyRole;

    #[test]
    fn a_request_for_a_key_names_what_is_wrong_with_it() {
        let read = |json: &str| read_key_request(json.as_bytes());
        let request = read(r#"{"name":"ci","role":"service","tenants":["a","b"],"expires_at":"2027-01-01T00:00:00Z"}"#);
        let request = request.unwrap();
        let some = TenantScope::Only(["a", "b"].map(|id| id.parse().unwrap()).into());
        assert_eq!((request.role, request.tenants), (KeyRole::Service, some));
        assert_eq!(read(r#"{"name":"x","role":"admin"}"#).unwrap().tenants, TenantScope::All);
        for (json, field) in [
            (r#"{"role":"admin"}"#, "name"),
            (r#"{"name":"x"}"#, "role"),
            (r#"{"name":"x","role":"root"}"#, "role"),
            (r#"{"name":"x","role":"viewer","tenants":["a/b"]}"#, "tenants"),
            (r#"{"name":"x","role":"viewer","tenants":"a"}"#, "tenants"),
            (r#"{"name":"x","role":"viewer","expires_at":"soon"}"#, "expires_at"),
            (r#"{"name":"x","role":"viewer","key":"mg_own"}"#, "key"),
        ] {
            assert_eq!(read(json).unwrap_err().field.as_deref(), Some(field), "{json}");
        }
        assert_eq!(read_rotation(b"{}"), Ok(86_400));
        assert_eq!(read_rotation(br#"{"overlap_seconds":0}"#), Ok(0));
        assert!(read_rotation(br#"{"overlap_seconds":-1}"#).is_err());
    }
}
