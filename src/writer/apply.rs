//! What a commit does to the counters: the same code for the live ones, for the shadow, and for the replay at start.

use std::sync::Arc;

use super::expiries::Expiries;
use super::shared::PlanTerms;
use crate::counters::{
    Counters, Platform, Released, Settled, StateMutex, TenantState, charge, insert_hold, release, settle,
};
use crate::domain::quota::{Charges, Hold, HoldId};
use crate::domain::tenant::{Tenant, TenantId};
use crate::domain::threshold::Crossing;
use crate::rules::charges::charges_of;
use crate::store::{Commit, Operation};

/// The number under which the platform's use is saved among the tenants' states. No tenant has it: they are numbered from
/// 0, and there are at most 100 million.
pub(super) const PLATFORM_NO: u32 = u32::MAX;

/// Where the states live that a commit is applied to.
pub(super) trait States {
    /// Calls `act` on a tenant's state, if it has one, and on the platform's, if that is kept.
    fn with<R>(&mut self, tenant_no: u32, act: impl FnOnce(&mut TenantState, Option<&mut Platform>) -> R) -> Option<R>;
    /// Holds what was granted, if it is not held yet.
    fn hold(&mut self, tenant_no: u32, hold: &Hold) {
        self.with(tenant_no, |state, platform| insert_hold(tenant_no, state, platform, hold));
    }
    /// A tenant as it is from now on; new if it has no state.
    fn put(&mut self, tenant_no: u32, tenant: Arc<Tenant>, commit: &Commit);
}

/// How a settlement or a release in the commit ended, in order.
#[derive(Debug)]
pub(super) enum Ended {
    Settled(Settled),
    Released(Released),
}

/// Applies `commit` in its order. Gives how settlements and releases ended.
pub(super) fn apply(commit: &Commit, states: &mut impl States) -> Vec<Ended> {
    let mut ended = Vec::new();
    let mut operations = commit.operations.iter().peekable();
    let mut place = 0;
    loop {
        while let Some(placed) = operations.next_if(|placed| placed.before_event as usize <= place) {
            match &placed.operation {
                Operation::Hold { tenant_no, hold } => {
                    states.hold(*tenant_no, hold);
                }
                Operation::Settle { tenant_no, reservation_id, events } => {
                    let settled_events = &commit.events[place..(place + *events as usize).min(commit.events.len())];
                    let sum = settled_events.iter().fold(Charges::default(), |mut sum, stored| {
                        for (sum, charge) in sum.iter_mut().zip(charges_of(&stored.event)) {
                            *sum += charge;
                        }
                        sum
                    });
                    let now = commit.committed_at;
                    let settled = states.with(*tenant_no, |state, platform| {
                        settle(*tenant_no, state, platform, now, reservation_id, &sum)
                    });
                    ended.extend(settled.map(Ended::Settled));
                    place += settled_events.len();
                }
                Operation::Release { tenant_no, reservation_id } => {
                    let released = states.with(*tenant_no, |state, platform| {
                        release(*tenant_no, state, platform, commit.committed_at, reservation_id)
                    });
                    ended.extend(released.map(Ended::Released));
                }
                Operation::Tenant { tenant_no, tenant } => {
                    states.put(*tenant_no, Arc::new((**tenant).clone()), commit);
                }
                Operation::Denied { .. } => {}
            }
        }
        let Some(stored) = commit.events.get(place) else { break };
        let charges = charges_of(&stored.event);
        let (now, event_time) = (commit.committed_at, stored.event_timestamp);
        states.with(stored.tenant_no, |state, platform| {
            let rate_limited = stored.event.is_rate_limited();
            charge(stored.tenant_no, state, platform, (now, event_time), &charges, rate_limited);
        });
        place += 1;
    }
    ended
}

/// The live counters.
pub(super) struct LiveStates<'a> {
    counters: &'a Counters,
    platform: Option<&'a StateMutex<Platform>>,
    expiries: &'a Expiries,
    /// Grants enter the live counters when they are decided. Only a replay has to put them there again; doing so while
    /// running could bring back a hold that has been closed meanwhile.
    replaying: bool,
    plan_terms: &'a dyn Fn(&str) -> PlanTerms,
    /// Thresholds that were crossed.
    pub(super) crossings: Vec<(TenantId, Crossing)>,
}

impl<'a> LiveStates<'a> {
    pub(super) const fn new(
        counters: &'a Counters,
        platform: Option<&'a StateMutex<Platform>>,
        expiries: &'a Expiries,
        replaying: bool,
        plan_terms: &'a dyn Fn(&str) -> PlanTerms,
    ) -> Self {
        Self { counters, platform, expiries, replaying, plan_terms, crossings: Vec::new() }
    }
}

impl States for LiveStates<'_> {
    fn with<R>(&mut self, tenant_no: u32, act: impl FnOnce(&mut TenantState, Option<&mut Platform>) -> R) -> Option<R> {
        let crossings = &mut self.crossings;
        let platform = self.platform;
        self.counters.with_no(tenant_no, |slot| {
            slot.with(platform, |state, platform| {
                let done = act(state, platform);
                for crossing in state.take_crossings() {
                    crossings.push((slot.id.clone(), crossing));
                }
                done
            })
        })
    }

    fn hold(&mut self, tenant_no: u32, hold: &Hold) {
        let Some(slot) = self.counters.by_no(tenant_no) else { return };
        if self.replaying {
            self.with(tenant_no, |state, platform| insert_hold(tenant_no, state, platform, hold));
        }
        if let HoldId::Named(id) = &hold.id {
            self.counters.index_reservation(id, &slot);
        }
    }

    fn put(&mut self, tenant_no: u32, tenant: Arc<Tenant>, commit: &Commit) {
        let PlanTerms { limits, thresholds } = (self.plan_terms)(&tenant.plan);
        match self.counters.by_no(tenant_no) {
            Some(slot) => {
                let before = Arc::clone(slot.lock().tenant());
                self.expiries.note(tenant_no, Some(&before), &tenant);
                slot.set_tenant(tenant, limits, thresholds, commit.committed_at);
            }
            None => {
                self.expiries.note(tenant_no, None, &tenant);
                self.counters.insert(tenant_no, TenantState::new(tenant, limits).with_thresholds(thresholds));
            }
        }
    }
}

/// States that only the journal moves: what is saved at the checkpoint.
pub(super) struct Shadow {
    /// Always kept, so that a ceiling that is set later knows what was used before.
    platform: Platform,
    states: Vec<Option<TenantState>>,
    /// A bit for each tenant whose state moved since it was last saved, and how many those are.
    changed: Vec<bool>,
    changed_count: usize,
}

impl Shadow {
    pub(super) const fn new(platform: Platform) -> Self {
        Self { platform, states: Vec::new(), changed: Vec::new(), changed_count: 0 }
    }

    /// Makes room for so many tenants.
    pub(super) fn reserve(&mut self, tenants: usize) {
        self.states.reserve(tenants);
        self.changed.reserve(tenants);
    }

    pub(super) fn insert(&mut self, tenant_no: u32, state: TenantState) {
        let place = tenant_no as usize;
        if self.states.len() <= place {
            self.states.resize(place + 1, None);
            self.changed.resize(place + 1, false);
        }
        self.states[place] = Some(state);
    }

    /// Every state counts as moved: what was taken to be saved may not have been.
    pub(super) fn change_all(&mut self) {
        self.changed.iter_mut().for_each(|changed| *changed = true);
        self.changed_count = self.changed.len();
    }

    /// How many states moved since they were last saved.
    pub(super) const fn changed_count(&self) -> usize {
        self.changed_count
    }

    fn change(&mut self, place: usize) {
        self.changed_count += usize::from(!std::mem::replace(&mut self.changed[place], true));
    }

    /// The states that moved since the last call, tidied, by tenant number.
    pub(super) fn take_changed(
        &mut self,
        now: crate::domain::time::Timestamp,
    ) -> Vec<(u32, crate::domain::quota::QuotaSnapshot)> {
        let mut snapshots = Vec::with_capacity(self.changed_count + 1);
        self.changed_count = 0;
        for (place, (state, changed)) in self.states.iter_mut().zip(&mut self.changed).enumerate() {
            if let (Some(state), true) = (state, std::mem::take(changed)) {
                state.tidy(now);
                snapshots.push((place as u32, state.snapshot()));
            }
        }
        if !snapshots.is_empty() {
            snapshots.push((PLATFORM_NO, self.platform.snapshot()));
        }
        snapshots
    }
}

impl States for Shadow {
    fn with<R>(&mut self, tenant_no: u32, act: impl FnOnce(&mut TenantState, Option<&mut Platform>) -> R) -> Option<R> {
        self.states.get(tenant_no as usize)?.as_ref()?;
        self.change(tenant_no as usize);
        let state = self.states[tenant_no as usize].as_mut()?;
        Some(act(state, Some(&mut self.platform)))
    }

    fn put(&mut self, tenant_no: u32, tenant: Arc<Tenant>, commit: &Commit) {
        // Limits decide grants, and the shadow grants nothing.
        let set = |state: &mut TenantState| {
            state.set_tenant(Arc::clone(&tenant), Arc::default(), commit.committed_at);
        };
        match self.with(tenant_no, |state, _| set(state)) {
            Some(()) => {}
            None => {
                self.insert(tenant_no, TenantState::new(tenant, Arc::default()));
                self.change(tenant_no as usize);
            }
        }
    }
}
