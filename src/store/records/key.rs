//! Keys on disk: everything but their secrets.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StoreError, decode, encode, instant, micros};
use crate::domain::key::{ApiKey, KeyDigest, TenantScope};

#[derive(Serialize, Deserialize)]
struct KeyV1 {
    key_id: u128,
    name: String,
    role: String,
    /// `None` is all.
    tenants: Option<Vec<String>>,
    digest: [u8; 32],
    created_by: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
    replaces: Option<u128>,
    replaced_by: Option<u128>,
}

pub(in crate::store) fn encode_api_key(key: &ApiKey) -> Result<Vec<u8>, StoreError> {
    encode(&KeyV1 {
        key_id: key.key_id.as_u128(),
        name: key.name.clone(),
        role: key.role.name().to_owned(),
        tenants: match &key.tenants {
            TenantScope::All => None,
            TenantScope::Only(some) => Some(some.iter().map(ToString::to_string).collect()),
        },
        digest: key.digest.0,
        created_by: key.created_by.clone(),
        created_at: micros(key.created_at),
        expires_at: key.expires_at.map(micros),
        revoked_at: key.revoked_at.map(micros),
        last_used_at: key.last_used_at.map(micros),
        replaces: key.replaces.map(|id| id.as_u128()),
        replaced_by: key.replaced_by.map(|id| id.as_u128()),
    })
}

pub(in crate::store) fn decode_api_key(bytes: &[u8]) -> Result<ApiKey, StoreError> {
    let read: KeyV1 = decode(bytes)?;
    let tenants = match read.tenants {
        None => TenantScope::All,
        Some(some) => {
            let some = some.iter().map(|id| id.parse()).collect::<Result<_, _>>();
            TenantScope::Only(some.map_err(|_| StoreError::Damaged("a key names no valid tenant"))?)
        }
    };
    Ok(ApiKey {
        key_id: Uuid::from_u128(read.key_id),
        name: read.name,
        role: read.role.parse().map_err(|_| StoreError::Damaged("a key has an unknown role"))?,
        tenants,
        digest: KeyDigest(read.digest),
        created_by: read.created_by,
        created_at: instant(read.created_at),
        expires_at: read.expires_at.map(instant),
        revoked_at: read.revoked_at.map(instant),
        last_used_at: read.last_used_at.map(instant),
        replaces: read.replaces.map(Uuid::from_u128),
        replaced_by: read.replaced_by.map(Uuid::from_u128),
    })
}
