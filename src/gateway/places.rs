//! How many calls are open at once: over all, and for one tenant. A call has its place from before its body is read until it is
//! settled, so that neither memory nor connections upstream grow without bound.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::tenant::TenantId;

/// The most calls at once.
const CALLS_MAX: usize = 1_024;
/// The most calls of one tenant at once.
const TENANT_CALLS_MAX: usize = 256;

/// Why a call gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// All are taken.
    #[error("1,024 calls are open, which is all that are taken on at once: try again")]
    Door,
    /// The tenant has all that it may have.
    #[error("the tenant has 256 calls open, which is all that it may have at once: try again when some have ended")]
    Tenant,
}

#[derive(Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
}

/// The place of one call, free again when this is dropped.
pub struct Place {
    places: Arc<Places>,
    tenant_id: TenantId,
}

impl Places {
    /// A place for a call of this tenant.
    pub(super) fn take(self: &Arc<Self>, tenant_id: &TenantId) -> Result<Place, NoPlace> {
        let mut taken = self.0.lock();
        if taken.by_tenant.get(tenant_id).is_some_and(|calls| *calls >= TENANT_CALLS_MAX) {
            return Err(NoPlace::Tenant);
        }
        if taken.all >= CALLS_MAX {
            return Err(NoPlace::Door);
        }
        taken.all += 1;
        *taken.by_tenant.entry(tenant_id.clone()).or_default() += 1;
        Ok(Place { places: Arc::clone(self), tenant_id: tenant_id.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        taken.all -= 1;
        if let Some(calls) = taken.by_tenant.get_mut(&self.tenant_id) {
            *calls -= 1;
            if *calls == 0 {
                taken.by_tenant.remove(&self.tenant_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_and_the_door_have_so_many_places_and_no_more() {
        let places = Arc::<Places>::default();
        let take = |tenant: &str| places.take(&tenant.parse().unwrap());
        let mut taken = Vec::new();
        for tenant in ["a", "b", "c", "d"] {
            taken.extend((0..TENANT_CALLS_MAX).map(|_| take(tenant).unwrap()));
            assert_eq!(take(tenant).err(), Some(NoPlace::Tenant));
        }
        assert_eq!(take("e").err(), Some(NoPlace::Door));
        taken.pop();
        let last = take("e").unwrap();
        assert_eq!(take("d").err(), Some(NoPlace::Door));
        drop(last);
        drop(taken);
        assert!(places.0.lock().by_tenant.is_empty() && places.0.lock().all == 0);
    }
}
