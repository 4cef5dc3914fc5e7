//! The start: memory is rebuilt from the disk, so that it is as it was after the last commit.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::alerts::AlertBook;
use super::apply::{LiveStates, PLATFORM_NO, Shadow, apply};
use super::checkpoints::Checkpoints;
use super::denials::DenialBook;
use super::expiries::Expiries;
use super::filed_ids::FiledIds;
use super::key_book::KeyBook;
use super::meter::Meter;
use super::prices::{PriceTable, read_book};
use super::shared::{PlanBook, PlanTerms, Policies, Shared};
use super::stage::Numbers;
use super::unfiled::Unfiled;
use super::unfolded::Unfolded;
use crate::clock::Clock;
use crate::counters::{Counters, Platform, StateMutex, TenantState};
use crate::domain::job::{CONFIRM_CLOCK, JobRecord, JobResult};
use crate::domain::quota::{Limit, Plan};
use crate::domain::slice::{Slice, SliceHour};
use crate::domain::tenant::{TenantId, TenantStatus};
use crate::domain::threshold::Crossing;
use crate::domain::time::{MICROS_PER_HOUR, Period, Timestamp};
use crate::live::{Fingerprints, HourDelta, Identity, LiveState, TenantIdentity};
use crate::rules::checkpoint::CheckpointSigner;
use crate::rules::content::content_digest;
use crate::store::{Checkpoint, EventsWanted, FiledDenial, Operation, Snapshot, Store, StoreError, StoredBook};

/// A start later than this after the last commit is not believed by retention until the clock is confirmed.
const PAUSE_DOUBTED_MICROS: i64 = 48 * MICROS_PER_HOUR;
/// Ids that a thread hashes before it notes them: 1 MB of them, which stays in its cache.
const IDS_AT_ONCE: usize = 1 << 16;
/// Threads that hash ids at the start.
const LOADING_THREADS_MAX: usize = 8;

/// A rebuilt engine, ready for its threads.
pub(crate) struct Started {
    pub(super) shared: Shared,
    pub(super) shadow: Shadow,
    /// When the last commit was made that the shadow has and the saved counters lack.
    pub(super) shadow_at: Option<Timestamp>,
    pub(super) checkpoint: Checkpoint,
    pub(super) numbers: Numbers,
    pub(super) next_mark: u64,
    pub(super) last_commit: Timestamp,
}

/// Rebuilds everything. `shipped` fills a store that has no plans, or no prices, yet; `make_clock` gets the last time the store saw.
pub(crate) fn start(
    store: Store,
    policies: Policies,
    shipped: Shipped,
    signing_key: [u8; 32],
    make_clock: impl FnOnce(Timestamp) -> Clock,
) -> Result<Started, StoreError> {
    if store.snapshot()?.plans()?.is_empty() {
        let mut transaction = store.begin()?;
        for plan in &shipped.plans {
            transaction.put_plan(plan)?;
        }
        transaction.commit()?;
    }
    fill_prices(&store, shipped.prices)?;
    let keys = Keys::of(store.secret());
    let snapshot = store.snapshot()?;
    let (prices, next_price_no) = PriceTable::load(&snapshot)?;
    let plans = PlanBook::new(snapshot.plans()?);
    let checkpoint = snapshot.checkpoint()?;
    let identity = Identity::new(keys.identity);

    let (counters, platform, mut shadow) = restore_counters(&snapshot, &plans, &policies)?;
    let mut live = LiveState::new(keys.session);
    let expiries = Expiries::default();
    for slot in counters.all() {
        expiries.note(slot.no, None, slot.lock().tenant());
    }
    let tail = Tail {
        platform: platform.as_ref(),
        expiries: &expiries,
        checkpoint: &checkpoint,
        identity,
        content_key: keys.content,
    };
    let (fingerprints, replayed) = load_fingerprints(&snapshot, &store, &identity, || {
        load_dirty_hours(&snapshot, &mut live)?;
        tail.replay(&snapshot, &plans, &counters, &mut shadow, &mut live)
    })?;
    if counters.len() != store.names().read().len() {
        return Err(StoreError::Damaged("a tenant has neither saved counters nor a registration in the journal"));
    }
    let numbers = Numbers {
        next_seq: replayed.last_seq.max(checkpoint.filed_seq) + 1,
        next_entry_id: replayed.next_entry_id.max(checkpoint.filed_next_entry_id).max(1),
        next_audit_index: snapshot.next_audit_index()?,
        next_tenant_no: counters.len() as u32,
        next_price_no,
    };
    let jobs = snapshot.jobs()?;
    // An idle server commits nothing but its jobs' runs.
    let last_run = jobs.iter().map(|job| job.finished).max().unwrap_or_default();
    // The audit log is searched by time: what comes next is never recorded before its last.
    let last_audit = snapshot.audit_recorded_at(numbers.next_audit_index.saturating_sub(1))?.unwrap_or_default();
    let last_commit = replayed.last_commit.max(checkpoint.saved_at).max(last_run).max(last_audit);
    let noticed = reached_crossings(&counters, last_commit);
    let next_mark = snapshot.mark()? + 1;
    let api_keys = KeyBook::new(snapshot.api_keys()?);
    let cut = snapshot.cut()?.cut.micros().into();
    let note = snapshot.audit_checkpoint()?.0;
    drop(snapshot);
    let clock = make_clock(last_commit);
    let signer = CheckpointSigner::new(&format!("metergate/{}", store.store_id()), &signing_key);
    let checkpoints = Checkpoints::new(signer, note, numbers.next_audit_index, clock.now());
    let clock_unconfirmed = doubt_clock(&store, &jobs, last_commit, clock.now())?;
    let shared = Shared {
        store,
        counters,
        platform,
        live: parking_lot::RwLock::new(live),
        fingerprints,
        plans: ArcSwap::from_pointee(plans),
        prices: ArcSwap::from_pointee(prices),
        unpriced: super::prices::UnpricedModels::default(),
        keys: ArcSwap::from_pointee(api_keys),
        clock,
        policies,
        denials: DenialBook::default(),
        alerts: AlertBook::new(keys.alerts, noticed),
        expiries,
        checkpoints,
        sampled: super::sampled::SampledBook::default(),
        identity,
        content_key: keys.content,
        filed_ids: FiledIds::default(),
        unfiled: Unfiled::default(),
        filings: AtomicU64::new(0),
        recording_errors: AtomicU64::new(0),
        meter: Meter::default(),
        clock_unconfirmed: clock_unconfirmed.into(),
        unfolded: Unfolded::default(),
        save_counters: false.into(),
        stored_totals: super::stored_totals::StoredTotals::default(),
        copying: Mutex::default(),
        cut,
    };
    Ok(Started { shared, shadow, shadow_at: replayed.shadow_at, checkpoint, numbers, next_mark, last_commit })
}

/// What fills an empty store.
#[derive(Debug, Default)]
pub(crate) struct Shipped {
    pub(crate) plans: Vec<Plan>,
    /// Without one, nothing has a price.
    pub(crate) prices: Option<StoredBook>,
}

/// The shipped prices fill a store that never had any; afterwards the store rules.
fn fill_prices(store: &Store, shipped: Option<StoredBook>) -> Result<(), StoreError> {
    let snapshot = store.snapshot()?;
    let (None, Some(file)) = (snapshot.price_book()?, shipped) else { return Ok(()) };
    let book = read_book(&file).map_err(|_| StoreError::Damaged("the shipped prices cannot be read"))?;
    let (empty, mut next_no) = PriceTable::load(&snapshot)?;
    let (table, rows) = empty.with(book, file, &mut next_no);
    let mut transaction = store.begin()?;
    transaction.put_price_book(&table.file)?;
    transaction.put_price_rows(&rows)?;
    transaction.commit()
}

/// Whether retention has to wait for somebody to confirm the clock. Once in doubt, the doubt outlives further starts:
/// what is committed under a wrong clock must not make it look right.
fn doubt_clock(store: &Store, jobs: &[JobRecord], last_seen: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
    let known = jobs.iter().find(|job| job.job == CONFIRM_CLOCK);
    if known.is_some_and(|record| record.result == JobResult::Waiting) {
        return Ok(true);
    }
    // A new store has seen nothing yet.
    if last_seen == Timestamp::default() || now.micros_since(last_seen) <= PAUSE_DOUBTED_MICROS {
        return Ok(false);
    }
    tracing::warn!(%last_seen, %now, "48 hours past the last commit: retention waits for `metergate jobs confirm-clock`");
    let mut transaction = store.begin()?;
    transaction.put_job(&JobRecord {
        job: CONFIRM_CLOCK.to_owned(),
        started: now,
        finished: last_seen,
        result: JobResult::Waiting,
        rows: 0,
        error: None,
        last_success: known.and_then(|record| record.last_success),
        failures: 0,
    })?;
    transaction.commit()?;
    Ok(true)
}

/// Keys for hashes, derived from the store's secret; its first half keys the journal's nonces.
struct Keys {
    identity: [u8; 16],
    content: u64,
    session: u64,
    alerts: u128,
}

impl Keys {
    fn of(secret: &[u8; 32]) -> Self {
        let derive = |purpose: u64| xxhash_rust::xxh3::xxh3_128_with_seed(secret, purpose);
        Self {
            identity: derive(1).to_le_bytes(),
            content: derive(2) as u64,
            session: derive(3) as u64,
            alerts: derive(4),
        }
    }
}

/// Counters as saved: the shadow. The live ones start as the same and are then moved by the journal's tail.
fn restore_counters(
    snapshot: &Snapshot,
    plans: &PlanBook,
    policies: &Policies,
) -> Result<(Counters, Option<StateMutex<Platform>>, Shadow), StoreError> {
    let mut saved = snapshot.quota_states()?;
    // It has the last of all numbers.
    let together = saved.pop_if(|(tenant_no, _)| *tenant_no == PLATFORM_NO).map(|(_, together)| together);
    let platform_with = |ceilings: Arc<[Limit]>| match &together {
        Some(together) => Platform::restore(policies.default_zone, ceilings, together, &saved),
        None => Platform::of_tenants(policies.default_zone, ceilings, &saved),
    };
    let limited = !policies.ceilings.is_empty();
    let platform = limited.then(|| StateMutex::new(platform_with(policies.ceilings.as_slice().into())));
    let counters = Counters::new();
    let mut shadow = Shadow::new(platform_with(Arc::default()));
    let tenants = snapshot.tenants()?;
    shadow.reserve(tenants.len());
    let mut saved = saved.iter().peekable();
    for (tenant_no, tenant) in tenants {
        let PlanTerms { limits, thresholds } = match plans.terms(&tenant.plan) {
            Some(terms) => terms,
            // A plan may go when only tombstones are left on it; a PUT that revives one has to name another.
            None if tenant.status == TenantStatus::Deleted => PlanTerms::default(),
            None => return Err(StoreError::Damaged("a tenant's plan does not exist")),
        };
        // Without a saved state its registration is still in the journal: it begins there, as it was then, since the zone
        // it has by now would give its first windows other borders.
        while saved.next_if(|(of, _)| *of < tenant_no).is_some() {}
        let Some((_, state)) = saved.next_if(|(of, _)| *of == tenant_no) else { continue };
        let tenant = Arc::new(tenant);
        let live = TenantState::restore(Arc::clone(&tenant), limits, state);
        counters.insert(tenant_no, live.with_thresholds(thresholds));
        shadow.insert(tenant_no, TenantState::restore(tenant, Arc::default(), state));
    }
    Ok((counters, platform, shadow))
}

/// Thresholds that are reached in the windows of the last commit: their records may not have made it to the disk, since
/// they ride on the next one. What the replay itself notices on its way is not told: earlier commits brought their records
/// along, and the limits of now were not in force then.
fn reached_crossings(counters: &Counters, last_commit: Timestamp) -> Vec<(TenantId, Crossing)> {
    let mut noticed = Vec::new();
    for slot in counters.all() {
        let mut state = slot.lock();
        state.notice_restored(last_commit);
        noticed.extend(state.take_crossings().into_iter().map(|crossing| (slot.id.clone(), crossing)));
    }
    noticed
}

/// Ids are hashed on a few threads, a run at a time: at ten million it is most of the start. This thread does something
/// else meanwhile.
fn load_fingerprints<T>(
    snapshot: &Snapshot,
    store: &Store,
    identity: &Identity,
    meanwhile: impl FnOnce() -> Result<T, StoreError>,
) -> Result<(Fingerprints, T), StoreError> {
    let runs = snapshot.runs(0..=u32::MAX)?;
    let ids: u64 = runs.iter().map(|(_, _, info)| info.events).sum();
    let fingerprints = Fingerprints::with_room_for(usize::try_from(ids).unwrap_or(usize::MAX / 200));
    let mut runs: Vec<(u32, u64)> = runs.into_iter().map(|(day, run, _)| (day, run)).collect();
    runs.sort_unstable();
    let next = AtomicUsize::new(0);
    let load = || -> Result<(), StoreError> {
        let snapshot = store.snapshot()?;
        let names = store.names().read();
        let mut hashed = Vec::with_capacity(IDS_AT_ONCE);
        let mut tenant: Option<(u32, TenantIdentity)> = None;
        while let Some(&(day, run)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            snapshot.run_ids(day, run, |tenant_no, key| {
                if hashed.len() == IDS_AT_ONCE {
                    fingerprints.insert_all(&hashed);
                    hashed.clear();
                }
                // They come by tenant.
                if tenant.as_ref().is_none_or(|(no, _)| *no != tenant_no) {
                    tenant = names.get(tenant_no as usize).map(|id| (tenant_no, identity.of_tenant(id)));
                }
                hashed.extend(tenant.as_ref().map(|(_, ids)| (ids.fingerprint(key), day)));
            })?;
        }
        fingerprints.insert_all(&hashed);
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cores.min(LOADING_THREADS_MAX).min(runs.len());
    let (loaded, done) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(load)).collect();
        let done = meanwhile();
        let panicked = |_| Err(StoreError::Damaged("a thread that loads ids has panicked"));
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(panicked);
        (threads.into_iter().map(join).collect::<Vec<_>>(), done)
    });
    loaded.into_iter().collect::<Result<(), _>>()?;
    Ok((fingerprints, done?))
}

/// Filed events that no row holds yet go into the filed layer.
fn load_dirty_hours(snapshot: &Snapshot, live: &mut LiveState) -> Result<(), StoreError> {
    let mut dirty: HashMap<u32, Vec<(SliceHour, u64)>> = HashMap::new();
    for ((slice, hour), mark) in snapshot.hour_marks()? {
        if mark.filed_through > mark.folded_through {
            dirty.entry(hour / 24).or_default().push(((slice, hour), mark.folded_through));
        }
    }
    for (day, hours) in dirty {
        let folded: HashMap<SliceHour, u64> = hours.iter().copied().collect();
        let unfolded = |tenant_no: u32, at: Timestamp, entry_id: u64| {
            folded.get(&(Slice::of(tenant_no), at.hour())).is_some_and(|&folded| entry_id > folded)
        };
        let wanted = EventsWanted {
            tenants: 0..=u32::MAX,
            first_entry: hours.iter().map(|(_, folded)| folded + 1).min().unwrap_or(0),
            from: hours.iter().map(|((_, hour), _)| Period::hour(*hour).start()).min().unwrap_or_default(),
            to: hours.iter().map(|((_, hour), _)| Period::hour(*hour).end()).max().unwrap_or_default(),
        };
        snapshot.day_events(day, &wanted, |stored| {
            if unfolded(stored.tenant_no, stored.event_timestamp, stored.entry_id) {
                live.add_filed_event(stored.tenant_no, &stored.event, stored.event_timestamp, stored.created_at);
            }
        })?;
        for FiledDenial { tenant_no, entry_id, denial } in snapshot.day_denials(day)? {
            if denial.refused() > 0 && unfolded(tenant_no, denial.at, entry_id) {
                let mut delta = HourDelta::default();
                delta.add_denials(denial.refused(), denial.at);
                live.add_filed(denial.at.hour(), tenant_no, Box::new(delta));
            }
        }
    }
    Ok(())
}

/// The commits that are not filed, or not in the saved counters.
struct Tail<'a> {
    checkpoint: &'a Checkpoint,
    platform: Option<&'a StateMutex<Platform>>,
    expiries: &'a Expiries,
    identity: Identity,
    content_key: u64,
}

#[derive(Default)]
struct Replayed {
    last_seq: u64,
    next_entry_id: u64,
    last_commit: Timestamp,
    shadow_at: Option<Timestamp>,
}

impl Tail<'_> {
    fn replay(
        &self,
        snapshot: &Snapshot,
        plans: &PlanBook,
        counters: &Counters,
        shadow: &mut Shadow,
        live: &mut LiveState,
    ) -> Result<Replayed, StoreError> {
        let plan_terms = |plan: &str| plans.terms(plan).unwrap_or_default();
        let mut states = LiveStates::new(counters, self.platform, self.expiries, true, &plan_terms);
        let mut replayed = Replayed::default();
        snapshot.commits_after(self.checkpoint.state_seq.min(self.checkpoint.filed_seq), |commit| {
            if commit.seq > self.checkpoint.state_seq {
                apply(&commit, &mut states);
                // The filer goes on from the filed commits: the shadow has to be there by then.
                if commit.seq <= self.checkpoint.filed_seq {
                    apply(&commit, shadow);
                    replayed.shadow_at = Some(commit.committed_at);
                }
            }
            replayed.last_seq = commit.seq;
            replayed.next_entry_id = commit.first_entry_id + commit.entries;
            replayed.last_commit = commit.committed_at;
            if commit.seq > self.checkpoint.filed_seq {
                for stored in &commit.events {
                    let slot = counters.by_no(stored.tenant_no).filter(|_| stored.event_id_given);
                    let id = slot.map(|slot| {
                        let hash = self.identity.hash(&slot.id, &stored.event_id);
                        (hash, content_digest(&stored.to_usage(slot.id.clone()), self.content_key))
                    });
                    live.add_event(stored.tenant_no, &stored.event, stored.event_timestamp, stored.created_at, id);
                }
                for placed in &commit.operations {
                    if let Operation::Denied { tenant_no, denial, .. } = &placed.operation {
                        live.add_denials(*tenant_no, denial.at, denial.refused());
                    }
                }
                live.end_commit(commit.seq, commit.operations.len());
            }
            ControlFlow::Continue(())
        })?;
        Ok(replayed)
    }
}
