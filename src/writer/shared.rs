//! What every part of the engine shares: the disk, the memory, the clock and the policies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use chrono_tz::Tz;
use parking_lot::Mutex;

use super::alerts::AlertBook;
use super::checkpoints::Checkpoints;
use super::denials::DenialBook;
use super::expiries::Expiries;
use super::filed_ids::{Digests, FiledIds};
use super::key_book::KeyBook;
use super::meter::Meter;
use super::prices::{PriceTable, RecentModels, UnpricedModels};
use super::sampled::SampledBook;
use super::stored_totals::StoredTotals;
use super::unfiled::Unfiled;
use super::unfolded::Unfolded;
use crate::clock::Clock;
use crate::counters::{Counters, OwnPrices, Platform, StateMutex};
use crate::domain::compact_event::CompactEvent;
use crate::domain::event::{EventId, MAX_AHEAD_MICROS, UsageEvent};
use crate::domain::quota::{Limit, LimitState, Plan};
use crate::domain::sampling::SamplingRules;
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, Timestamp};
use crate::live::{Fingerprints, IdHash, Identity, Live};
use crate::rules::content::content_digest;
use crate::store::{Snapshot, Store, StoreError, StoredEvent};

/// What the engine does with tenants and old events.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Whether unknown tenants register themselves.
    pub create_unknown_tenants: bool,
    /// The most tenants that are registered.
    pub tenants_max: u64,
    /// The plan of a tenant that registers itself.
    pub default_plan: String,
    /// Its zone.
    pub default_zone: Tz,
    /// Days that realtime events are kept.
    pub realtime_days: u32,
    /// Years that audit records are kept.
    pub audit_years: u32,
    /// Ceilings over all tenants together.
    pub ceilings: Vec<Limit>,
    /// The share of audit event types that is kept.
    pub audit_sampling: SamplingRules,
    /// Whether memory decides alone while the store fails.
    pub grants_without_store: bool,
    /// Whether a tenant with a cost limit may reserve for a model that has no price.
    pub allow_unpriced_models: bool,
}

/// The plans in force.
#[derive(Debug, Default)]
pub struct PlanBook {
    plans: BTreeMap<String, (Plan, PlanTerms)>,
}

/// What the tenants on a plan take from it; one for all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlanTerms {
    pub(crate) limits: Arc<[Limit]>,
    pub(crate) thresholds: Arc<[u16]>,
}

impl PlanBook {
    /// Of these plans.
    pub fn new(plans: Vec<Plan>) -> Self {
        let terms = |plan: &Plan| PlanTerms {
            limits: plan.limits.as_slice().into(),
            thresholds: plan.thresholds.as_slice().into(),
        };
        let entry = |plan: Plan| (plan.name.clone(), (plan.clone(), terms(&plan)));
        Self { plans: plans.into_iter().map(entry).collect() }
    }

    /// The same with one plan replaced, added, or for `None` removed.
    pub fn with(&self, name: &str, plan: Option<&Plan>) -> Self {
        let mut plans = self.all();
        plans.retain(|known| known.name != name);
        plans.extend(plan.cloned());
        Self::new(plans)
    }

    /// The plan of this name.
    pub fn get(&self, name: &str) -> Option<&Plan> {
        self.plans.get(name).map(|(plan, _)| plan)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Whether there is a plan of this name.
    pub fn has(&self, name: &str) -> bool {
        self.plans.contains_key(name)
    }

    /// The limits of a plan; `None` for an unknown one.
    pub fn limits(&self, name: &str) -> Option<Arc<[Limit]>> {
        self.plans.get(name).map(|(_, terms)| Arc::clone(&terms.limits))
    }

    /// What tenants on a plan take from it; `None` for an unknown one.
    pub(crate) fn terms(&self, name: &str) -> Option<PlanTerms> {
        self.plans.get(name).map(|(_, terms)| terms.clone())
    }

    /// Every plan, by name.
    pub fn all(&self) -> Vec<Plan> {
        self.plans.values().map(|(plan, _)| plan.clone()).collect()
    }
}

/// See the module. Readers use it as it is; only the writer's thread changes store and live state.
pub struct Shared {
    /// The disk.
    pub store: Store,
    /// The quotas.
    pub counters: Counters,
    /// What all tenants together use and hold; only when there are ceilings. Its lock is taken after a tenant's.
    pub platform: Option<StateMutex<Platform>>,
    /// The hours still moving.
    pub live: Live,
    /// The filed ids.
    pub fingerprints: Fingerprints,
    /// The plans.
    pub plans: ArcSwap<PlanBook>,
    /// The prices.
    pub prices: ArcSwap<PriceTable>,
    /// Models that were used and have no price.
    pub unpriced: UnpricedModels,
    /// The keys.
    pub keys: ArcSwap<KeyBook>,
    /// The server's time.
    pub clock: Clock,
    /// What to do with tenants and old events.
    pub policies: Policies,
    /// Denials on their way to the disk.
    pub denials: DenialBook,
    /// Crossed thresholds on their way to the disk.
    pub alerts: AlertBook,
    /// The ends of plans.
    pub expiries: Expiries,
    /// Signed checkpoints of the audit log.
    pub checkpoints: Checkpoints,
    /// Audit entries that sampling left out.
    pub sampled: SampledBook,
    /// Hashes ids.
    pub identity: Identity,
    /// Keys content digests.
    pub content_key: u64,
    /// Looks ids up among the filed events.
    pub filed_ids: FiledIds,
    /// Commits that the filer has not taken yet.
    pub unfiled: Unfiled,
    /// Whether what waits for its fold is folded.
    pub unfolded: Unfolded,
    /// Filings published. An id that was not among the filed ones is still not, or is in a generation, as long as this
    /// has not moved: only a publication, on the writer's own thread, takes ids out of the generations.
    pub filings: AtomicU64,
    /// Calls whose tracker could not record them.
    pub recording_errors: AtomicU64,
    /// What the engine counts of itself.
    pub meter: Meter,
    /// Retention waits: the last start came so long after the last commit that the clock wants a word of confirmation.
    pub clock_unconfirmed: AtomicBool,
    /// Whether the next filing saves the counters, so that the journal behind it can go.
    pub save_counters: AtomicBool,
    /// Totals for overviews.
    pub stored_totals: StoredTotals,
    /// Held by whoever copies the store: a backup or an erasure, one at a time.
    pub copying: Mutex<()>,
    /// The retention cut on disk, in microseconds.
    pub cut: AtomicI64,
}

impl Shared {
    /// The limits of a plan. Every tenant's plan exists: it is checked when it is set.
    pub fn plan_limits(&self, plan: &str) -> Arc<[Limit]> {
        self.plans.load().limits(plan).unwrap_or_default()
    }

    /// What a tenant pays that differs from the price list; `None` for most, and for an unknown one.
    pub fn own_prices(&self, tenant_id: &TenantId) -> Option<Arc<OwnPrices>> {
        self.counters.get(tenant_id).and_then(|slot| slot.own_prices())
    }

    /// The ceilings and what all tenants together use and hold of them: for the operator, never for a tenant.
    pub fn platform_status(&self) -> Vec<LimitState> {
        self.platform.as_ref().map_or_else(Vec::new, |platform| platform.lock().status(self.clock.now()))
    }

    /// The earliest event time that is still accepted and shown. Never before the cut, also after the retention was
    /// made longer: the ids of what was taken are forgotten.
    pub fn oldest_kept(&self, now: Timestamp) -> Timestamp {
        let kept = now.plus_micros(-i64::from(self.policies.realtime_days) * MICROS_PER_DAY);
        kept.max(Timestamp::from_micros(self.cut.load(Ordering::Acquire)))
    }

    /// Makes events ready for the writer: what can be done on the caller's thread is done here.
    ///
    /// What is looked up in large tables is looked up in passes of their own: while one look-up waits for its memory, the
    /// next ones have begun.
    pub fn prepare(&self, mut events: Vec<UsageEvent>) -> Result<Vec<Incoming>, StoreError> {
        let now = self.clock.now();
        let looked_up_at = self.filings.load(Ordering::Acquire);
        let known = |event: &UsageEvent| self.counters.with(&event.tenant_id, |slot| (slot.no, slot.own_prices()));
        let tenants: Vec<Option<(u32, Option<Arc<OwnPrices>>)>> = events.iter().map(known).collect();
        let hash = |event: &UsageEvent| event.event_id.as_ref().map(|id| self.identity.hash(&event.tenant_id, id));
        let hashes: Vec<Option<IdHash>> = events.iter().map(hash).collect();
        // Nothing of a tenant is filed before the tenant is known.
        let may_be_filed: Vec<Option<IdHash>> = (hashes.iter().zip(&tenants))
            .map(|(hash, tenant)| hash.filter(|hash| tenant.is_some() && self.fingerprints.has(hash.fingerprint())))
            .collect();

        let (prices, mut recent) = (self.prices.load(), RecentModels::default());
        let mut snapshot = None;
        let mut incoming = Vec::with_capacity(events.len());
        for (place, (event, tenant)) in events.iter_mut().zip(tenants).enumerate() {
            let own = tenant.as_ref().and_then(|(_, own)| own.as_deref());
            self.price(&prices, &mut recent, own, event, now);
            let content = content_digest(event, self.content_key);
            let tenant_no = tenant.map(|(tenant_no, _)| tenant_no);
            let filed_content = match (may_be_filed[place], tenant_no, &event.event_id) {
                (Some(hash), Some(tenant_no), Some(id)) => {
                    self.filed_content(&mut snapshot, (tenant_no, &event.tenant_id), (id, hash), now)?
                }
                _ => None,
            };
            let event_id_given = event.event_id.is_some();
            let event_id = event.event_id.take().unwrap_or_else(|| EventId::Uuid(crate::ids::new_uuid_v7(now)));
            incoming.push(Incoming {
                stored: StoredEvent {
                    tenant_no: tenant_no.unwrap_or(u32::MAX),
                    entry_id: 0,
                    created_at: now,
                    event_timestamp: event.event_timestamp.unwrap_or_default(),
                    event_id,
                    event_id_given,
                    event: CompactEvent::take_from(event),
                },
                new_tenant: tenant_no.is_none().then(|| Box::new(event.tenant_id.clone())),
                hash: hashes[place],
                content,
                filed_content,
                looked_up_at,
            });
        }
        Ok(incoming)
    }

    /// Estimates the cost of an event that names a model and no cost of its own; what cannot be priced is named.
    fn price(
        &self,
        prices: &PriceTable,
        recent: &mut RecentModels,
        own: Option<&OwnPrices>,
        event: &mut UsageEvent,
        now: Timestamp,
    ) {
        event.estimate = None;
        if event.model.is_none() || event.cost_usd.is_some() || event.is_rate_limited() {
            return;
        }
        match prices.estimate_among(recent, own, event, event.event_timestamp.unwrap_or(now)) {
            Ok(estimate) => event.estimate = Some(estimate),
            Err(reason) => self.unpriced.note(event, &reason),
        }
    }

    /// The content under which the tenant's id was filed, if it was. `snapshot` is opened for the first that may be.
    pub(super) fn filed_content(
        &self,
        snapshot: &mut Option<Snapshot>,
        tenant: (u32, &TenantId),
        (id, hash): (&EventId, IdHash),
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let days = self.oldest_kept(now).day()..=now.plus_micros(MAX_AHEAD_MICROS).day();
        let days = self.fingerprints.days_of(hash.fingerprint(), days);
        if days.is_empty() {
            return Ok(None);
        }
        let snapshot = match snapshot {
            Some(snapshot) => snapshot,
            None => snapshot.insert(self.store.snapshot()?),
        };
        let digests = Digests { identity: &self.identity, content_key: self.content_key };
        self.filed_ids.content_of(snapshot, tenant, (id, hash), days, digests)
    }
}

/// An event on its way to the writer.
pub struct Incoming {
    /// The event as it will be stored, but for its place and the time of its commit; its tenant's number, if it is known,
    /// and its time, if its caller gave one.
    pub stored: StoredEvent,
    /// The tenant, if it was not known when this was made.
    pub new_tenant: Option<Box<TenantId>>,
    /// The hash of the caller's id; `None` for one just made, which nobody can repeat.
    pub hash: Option<IdHash>,
    /// The digest of the caller's fields.
    pub content: u64,
    /// The content under which the id is filed already.
    pub filed_content: Option<u64>,
    /// [`Shared::filings`] when that was looked up.
    pub looked_up_at: u64,
}
