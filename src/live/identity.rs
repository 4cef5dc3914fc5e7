//! Keyed hashes of event ids: the ids are the callers', the key is the store's, so nobody can aim for a collision.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::event::IdKey;
use crate::domain::tenant::TenantId;

/// A keyed 128-bit hash of a tenant and an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdHash(pub u128);

impl std::hash::Hash for IdHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Already a keyed hash: its own bits are as good as any.
        state.write_u64(self.0 as u64);
    }
}

impl IdHash {
    /// The half that the fingerprint table uses.
    pub const fn fingerprint(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// The key of one store.
#[derive(Clone, Copy)]
pub struct Identity {
    key: [u8; 16],
}

impl Identity {
    /// With the store's key for ids.
    pub const fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The hash of a tenant's event id.
    pub fn hash(&self, tenant: &TenantId, id: IdKey<'_>) -> IdHash {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(tenant.as_str().as_bytes());
        match id {
            IdKey::Text(text) => {
                hasher.write_u8(0);
                hasher.write(text.as_bytes());
            }
            IdKey::Bits(bits) => {
                hasher.write_u8(1);
                hasher.write(&bits.to_le_bytes());
            }
        }
        IdHash(hasher.finish128().into())
    }
}
