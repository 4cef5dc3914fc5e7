//! All tenants' states, found by id, by number, or by the id of a reservation.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::holds::hash_of;
use super::lock::{Mutex, MutexGuard, RwLock};
use super::own_prices::OwnPrices;
use super::tenant_state::TenantState;
use crate::domain::price_terms::PriceTerms;
use crate::domain::quota::Limit;
use crate::domain::tenant::{Tenant, TenantId, TenantStatus};
use crate::domain::time::Timestamp;

/// So many parts that threads on different tenants rarely meet at one.
const SHARDS: usize = 64;

/// One tenant and the lock its decisions are made under.
#[derive(Debug)]
pub struct TenantSlot {
    /// Its number in this store.
    pub no: u32,
    /// Its id.
    pub id: TenantId,
    state: Mutex<TenantState>,
    /// What the state says, to be asked without its lock.
    deleted: AtomicBool,
    /// Unset as long as the tenant never had any, so that those without pay one look for it.
    own_prices: OnceLock<ArcSwapOption<OwnPrices>>,
}

impl TenantSlot {
    /// The state. Hold it briefly, never across an await, and never two at once.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, TenantState> {
        self.state.lock()
    }

    /// Whether it is deleted. No lock is taken.
    #[inline]
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Changes the tenant, its plan's limits and percentages: binds the next decision; usage and holds stay.
    pub fn set_tenant(&self, tenant: Arc<Tenant>, limits: Arc<[Limit]>, thresholds: Arc<[u16]>, now: Timestamp) {
        self.set_price_terms(&tenant.price_terms);
        let mut state = self.lock();
        self.deleted.store(tenant.status == TenantStatus::Deleted, Ordering::Release);
        state.set_tenant(tenant, limits, now);
        state.set_thresholds(thresholds);
    }

    /// What it pays that differs from the price list. No lock is taken.
    #[inline]
    pub fn own_prices(&self) -> Option<Arc<OwnPrices>> {
        self.own_prices.get().and_then(ArcSwapOption::load_full)
    }

    /// What it pays from now on, by its terms.
    fn set_price_terms(&self, terms: &[Arc<PriceTerms>]) {
        if terms.is_empty() && self.own_prices.get().is_none() {
            return;
        }
        let place = self.own_prices.get_or_init(ArcSwapOption::empty);
        if place.load().as_ref().is_none_or(|own| !own.are_of(terms)) {
            place.store((!terms.is_empty()).then(|| Arc::new(OwnPrices::new(terms))));
        }
    }
}

/// Every tenant of a store.
#[derive(Debug)]
pub struct Counters {
    /// Seeded at random: tenant ids are the callers'.
    hasher: DefaultHashBuilder,
    by_id: [RwLock<HashTable<Arc<TenantSlot>>>; SHARDS],
    by_no: RwLock<Vec<Option<Arc<TenantSlot>>>>,
    /// The hash of a reservation's id, and the number of a tenant that has one.
    reservations: [Mutex<HashTable<(u128, u32)>>; SHARDS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            by_id: std::array::from_fn(|_| RwLock::default()),
            by_no: RwLock::default(),
            reservations: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Counters {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tenant with this id.
    #[inline]
    pub fn get(&self, id: &TenantId) -> Option<Arc<TenantSlot>> {
        let hash = self.hasher.hash_one(id);
        self.by_id[shard(hash)].read().find(hash, |slot| slot.id == *id).cloned()
    }

    /// Calls `act` on the tenant with this id. It must not add one.
    #[inline]
    pub fn with<R>(&self, id: &TenantId, act: impl FnOnce(&TenantSlot) -> R) -> Option<R> {
        let hash = self.hasher.hash_one(id);
        self.by_id[shard(hash)].read().find(hash, |slot| slot.id == *id).map(|slot| act(slot))
    }

    /// The tenant with this number.
    pub fn by_no(&self, no: u32) -> Option<Arc<TenantSlot>> {
        self.by_no.read().get(no as usize).cloned().flatten()
    }

    /// Calls `act` on the tenant with this number. It must not ask for a tenant by number itself.
    pub fn with_no<R>(&self, no: u32, act: impl FnOnce(&Arc<TenantSlot>) -> R) -> Option<R> {
        self.by_no.read().get(no as usize)?.as_ref().map(act)
    }

    /// Adds a tenant, with its reservations. One that is there already by its id stays, and is what is given back.
    /// Numbers are given without large gaps: the list by number is as long as the highest.
    pub fn insert(&self, no: u32, state: TenantState) -> Arc<TenantSlot> {
        let id = state.tenant().tenant_id.clone();
        let terms = state.tenant().price_terms.clone();
        let names: Vec<u128> = state.holds.names().collect();
        let hash = self.hasher.hash_one(&id);
        let mut table = self.by_id[shard(hash)].write();
        if let Some(slot) = table.find(hash, |slot| slot.id == id) {
            return Arc::clone(slot);
        }
        let deleted = AtomicBool::new(state.tenant().status == TenantStatus::Deleted);
        let slot = Arc::new(TenantSlot { no, id, state: Mutex::new(state), deleted, own_prices: OnceLock::new() });
        slot.set_price_terms(&terms);
        table.insert_unique(hash, Arc::clone(&slot), |slot| self.hasher.hash_one(&slot.id));
        drop(table);
        let place = no as usize;
        let mut by_no = self.by_no.write();
        if by_no.len() <= place {
            by_no.resize(place + 1, None);
        }
        by_no[place] = Some(Arc::clone(&slot));
        drop(by_no);
        for name in names {
            self.index_name(name, no);
        }
        slot
    }

    /// Every tenant, in order of their numbers, as they are at this moment.
    pub fn all(&self) -> Vec<Arc<TenantSlot>> {
        self.by_no.read().iter().flatten().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.iter().map(|table| table.read().len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers that the tenant has this reservation. To be called after the grant, or a tidying may miss it.
    pub fn index_reservation(&self, reservation_id: &str, slot: &TenantSlot) {
        self.index_name(hash_of(reservation_id), slot.no);
    }

    fn index_name(&self, name: u128, no: u32) {
        let hash = name as u64;
        let mut table = self.reservations[shard(hash)].lock();
        if table.find(hash, |entry| *entry == (name, no)).is_none() {
            table.insert_unique(hash, (name, no), |(name, _)| *name as u64);
        }
    }

    /// The tenants that have, or had within 24 hours, a reservation of this id.
    pub fn find_reservation(&self, reservation_id: &str) -> Vec<Arc<TenantSlot>> {
        let name = hash_of(reservation_id);
        let hash = name as u64;
        let mut owners: Vec<u32> = self.reservations[shard(hash)]
            .lock()
            .iter_hash(hash)
            .filter(|(other, _)| *other == name)
            .map(|(_, no)| *no)
            .collect();
        owners.sort_unstable();
        let slots = owners.into_iter().filter_map(|no| self.by_no(no));
        slots.filter(|slot| slot.lock().holds.knows(name)).collect()
    }

    /// Forgets what need not be remembered any more, of every tenant. Nothing depends on it but memory: call it every
    /// few minutes.
    pub fn tidy(&self, now: Timestamp) {
        for slot in self.all() {
            slot.lock().tidy(now);
        }
        for table in &self.reservations {
            let entries: Vec<(u128, u32)> = table.lock().iter().copied().collect();
            for (name, no) in entries {
                let known = || self.by_no(no).is_some_and(|slot| slot.lock().holds.knows(name));
                if known() {
                    continue;
                }
                if let Ok(entry) = table.lock().find_entry(name as u64, |entry| *entry == (name, no)) {
                    entry.remove();
                }
                // The id may have been taken anew meanwhile; the two locks are never held at once.
                if known() {
                    self.index_name(name, no);
                }
            }
            let mut table = table.lock();
            if table.capacity() > 64 && table.capacity() > 4 * table.len() {
                table.shrink_to_fit(|(name, _)| *name as u64);
            }
        }
    }
}

/// The table's own places come from the low bits and its tags from the top ones.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}
