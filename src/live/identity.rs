//! Keyed hashes of event ids: the ids are the callers', the key is the store's, so nobody can aim for a collision.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::event::{EventId, IdKey, is_v7};
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
    pub fn hash(&self, tenant: &TenantId, id: &EventId) -> IdHash {
        // The clock of a UUIDv7 is no part of its key: it goes into the half that the fingerprint does not use.
        let clock = match id {
            EventId::Uuid(uuid) if is_v7(uuid) => uuid.as_u128() >> 80,
            _ => 0,
        };
        IdHash(self.hash_key(tenant, id.key()) ^ clock)
    }

    /// Hashes the ids of one tenant, one after the other.
    pub fn of_tenant(&self, tenant: &TenantId) -> TenantIdentity {
        let mut begun = SipHasher13::new_with_key(&self.key);
        begun.write(tenant.as_str().as_bytes());
        TenantIdentity { begun }
    }

    fn hash_key(&self, tenant: &TenantId, key: IdKey<'_>) -> u128 {
        self.of_tenant(tenant).hash_key(key)
    }
}

/// The hashes of one tenant's ids: the tenant is hashed once for all of them.
pub struct TenantIdentity {
    begun: SipHasher13,
}

impl TenantIdentity {
    /// The fingerprint of an id of which only the key is known.
    pub fn fingerprint(&self, key: IdKey<'_>) -> u64 {
        IdHash(self.hash_key(key)).fingerprint()
    }

    fn hash_key(&self, key: IdKey<'_>) -> u128 {
        let mut hasher = self.begun;
        match key {
            IdKey::Text(text) => {
                hasher.write_u8(0);
                hasher.write(text.as_bytes());
            }
            IdKey::Bits(bits) => {
                // The same bytes as by `write`, which does not know how many they are.
                hasher.write_u8(1);
                hasher.write_u64((bits as u64).to_le());
                hasher.write_u64(((bits >> 64) as u64).to_le());
            }
        }
        hasher.finish128().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_in_their_clock_alone_differ_and_share_a_fingerprint() {
        let identity = Identity::new([7; 16]);
        let tenant: TenantId = "acme".parse().unwrap();
        let [one, other]: [EventId; 2] =
            ["0192f3c4-5a6b-7000-8000-000000000000", "0192f3c4-5a6c-7000-8000-000000000000"]
                .map(|text| text.parse().unwrap());
        let (first, second) = (identity.hash(&tenant, &one), identity.hash(&tenant, &other));
        assert_ne!(first, second);
        assert_eq!(first.fingerprint(), second.fingerprint());
        // As they were hashed in every store so far.
        assert_eq!(first.0, 152_207_188_606_781_226_553_552_795_038_581_153_542);
        assert_eq!(first.fingerprint(), identity.of_tenant(&tenant).fingerprint(one.key()));
    }
}
