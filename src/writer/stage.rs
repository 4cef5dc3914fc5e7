//! Staging: many commands become one commit. Everything is decided here; nothing has happened yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;

use super::command::{PlanOutcome, PricesChange, SettleTarget};
use super::prices::PriceTable;
use super::shared::{Incoming, PlanBook, Shared};
use crate::counters::TenantSlot;
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditEntry, AuditRecord};
use crate::domain::event::{EventOutcome, MAX_AHEAD_MICROS, Rejection};
use crate::domain::key::ApiKey;
use crate::domain::quota::{Denial, Hold, Plan};
use crate::domain::tenant::{Tenant, TenantId, TenantStatus};
use crate::domain::threshold::Alert;
use crate::domain::time::Timestamp;
use crate::live::{IdHash, LiveState};
use crate::rules::administration::record_token_limits;
use crate::rules::plan_changes::{PlanChange, PlanRefused, audit_entry, checked, one_more};
use crate::rules::price_changes::prices_audit_entry;
use crate::store::{Commit, Operation, PlacedOperation, Snapshot, StoreError, StoredBook, StoredEvent, StoredPrice};

/// The numbers that go on from commit to commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) next_seq: u64,
    pub(super) next_entry_id: u64,
    pub(super) next_audit_index: u64,
    pub(super) next_tenant_no: u32,
    pub(super) next_price_no: u32,
}

/// One commit in the making.
pub(super) struct Stage<'a> {
    pub(super) shared: &'a Shared,
    pub(super) commit: Commit,
    /// (hash, content) of each staged event that has one, by its place.
    pub(super) ids: Vec<Option<(IdHash, u64)>>,
    staged_ids: HashMap<IdHash, u64>,
    /// Tenants new or changed in this commit, by id.
    pub(super) tenants: HashMap<TenantId, (u32, Tenant)>,
    /// The plans as they are after this commit, and which of them it changes.
    pub(super) plans: Arc<PlanBook>,
    pub(super) plan_changes: Vec<(String, Option<Plan>)>,
    /// The price book after this commit, where it changes.
    pub(super) prices: Option<Arc<PriceTable>>,
    /// Price rows that are new with this commit, by number.
    pub(super) price_rows: Vec<(u32, StoredPrice)>,
    /// Keys new, changed or (`None`) forgotten in this commit, by id.
    pub(super) keys: HashMap<uuid::Uuid, Option<ApiKey>>,
    /// Audit records, each with the digest of what its caller gave.
    pub(super) audit: Vec<(AuditRecord, u64)>,
    /// (index of an audit record, index of the record of its resolution).
    pub(super) audit_resolutions: Vec<(u64, u64)>,
    /// Audit records of this commit that have an id of their caller's: their place in `audit`.
    pub(super) staged_audit_ids: HashMap<(uuid::Uuid, Option<TenantId>), usize>,
    /// Thresholds whose crossing this commit records.
    pub(super) alerts: Vec<Alert>,
    pub(super) numbers: Numbers,
    /// Opened for the first id that may have been filed.
    snapshot: Option<Snapshot>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(shared: &'a Shared, numbers: Numbers, committed_at: Timestamp) -> Self {
        let commit = Commit {
            seq: numbers.next_seq,
            committed_at,
            first_entry_id: numbers.next_entry_id,
            entries: 0,
            events: Vec::new(),
            operations: Vec::new(),
        };
        Self {
            shared,
            commit,
            ids: Vec::new(),
            staged_ids: HashMap::new(),
            tenants: HashMap::new(),
            audit: Vec::new(),
            plans: shared.plans.load_full(),
            plan_changes: Vec::new(),
            prices: None,
            price_rows: Vec::new(),
            keys: HashMap::new(),
            audit_resolutions: Vec::new(),
            staged_audit_ids: HashMap::new(),
            alerts: Vec::new(),
            numbers,
            snapshot: None,
        }
    }

    pub(super) const fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// Whether there is anything that has to reach the disk.
    pub(super) fn is_empty(&self) -> bool {
        self.commit.events.is_empty()
            && self.commit.operations.is_empty()
            && self.audit.is_empty()
            && self.keys.is_empty()
    }

    /// Changed tenants, for their table.
    pub(super) fn changed_tenants(&self) -> impl Iterator<Item = &(u32, Tenant)> {
        self.tenants.values()
    }

    /// The numbers after this commit.
    pub(super) fn numbers_after(&self) -> Numbers {
        Numbers {
            next_seq: self.commit.seq + 1,
            next_entry_id: self.commit.first_entry_id + self.commit.entries,
            ..self.numbers
        }
    }

    /// Makes room for so many events.
    pub(super) fn reserve(&mut self, events: usize) {
        self.commit.events.reserve(events);
        self.ids.reserve(events);
        self.staged_ids.reserve(events);
    }

    /// Stages events in order; gives what becomes of each.
    pub(super) fn record(
        &mut self,
        events: Vec<Incoming>,
        settles: Option<&SettleTarget>,
    ) -> Result<Vec<EventOutcome>, StoreError> {
        let settlement = settles.map(|target| {
            self.operation(Operation::Settle {
                tenant_no: target.slot.no,
                reservation_id: target.reservation_id.clone(),
                events: 0,
            });
            self.commit.operations.len() - 1
        });
        self.reserve(events.len());
        let mut outcomes = Vec::with_capacity(events.len());
        let before = self.commit.events.len();
        let shared = self.shared;
        let live = shared.live.read();
        for incoming in events {
            outcomes.push(self.record_one(incoming, &live)?);
        }
        drop(live);
        if let Some(place) = settlement {
            let accepted = (self.commit.events.len() - before) as u32;
            if let Operation::Settle { events, .. } = &mut self.commit.operations[place].operation {
                *events = accepted;
            }
        }
        Ok(outcomes)
    }

    fn record_one(&mut self, mut incoming: Incoming, live: &LiveState) -> Result<EventOutcome, StoreError> {
        let now = self.commit.committed_at;
        if !incoming.stored.event.time_given() {
            incoming.stored.event_timestamp = now;
        }
        let event_timestamp = incoming.stored.event_timestamp;
        // A repeat is a repeat however old it is by now: look for it before looking at the clock.
        if let Some(hash) = incoming.hash
            && let Some(known) = self.known_content(&incoming, hash, live)?
        {
            let same = known == incoming.content;
            return Ok(if same { EventOutcome::Duplicate } else { EventOutcome::Conflict });
        }
        // Before the tenant: an event that is not taken registers nobody.
        if let Some(rejection) = self.time_rejection(event_timestamp) {
            return Ok(EventOutcome::Rejected(rejection));
        }
        let tenant_no = match self.tenant_of(&incoming) {
            Ok(tenant_no) => tenant_no,
            Err(rejection) => return Ok(EventOutcome::Rejected(rejection)),
        };
        if let Some(hash) = incoming.hash {
            self.staged_ids.insert(hash, incoming.content);
        }
        self.ids.push(incoming.hash.map(|hash| (hash, incoming.content)));
        let entry_id = self.commit.first_entry_id + self.commit.entries;
        self.commit.events.push(StoredEvent { tenant_no, entry_id, created_at: now, ..incoming.stored });
        self.commit.entries += 1;
        Ok(EventOutcome::Accepted)
    }

    fn time_rejection(&self, event_timestamp: Timestamp) -> Option<Rejection> {
        let now = self.commit.committed_at;
        if event_timestamp.micros_since(now) > MAX_AHEAD_MICROS {
            return Some(Rejection {
                code: "timestamp_in_future",
                message: format!(
                    "event_timestamp {event_timestamp} is more than 5 minutes ahead of the server's clock ({now})"
                ),
            });
        }
        let oldest = self.shared.oldest_kept(now);
        (event_timestamp < oldest).then(|| Rejection {
            code: "timestamp_too_old",
            message: format!(
                "event_timestamp {event_timestamp} is older than the retention of {} days",
                self.shared.policies.realtime_days
            ),
        })
    }

    /// The content under which this id is known: in this commit, in memory, or on disk.
    fn known_content(
        &mut self,
        incoming: &Incoming,
        hash: IdHash,
        live: &LiveState,
    ) -> Result<Option<u64>, StoreError> {
        if incoming.filed_content.is_some() {
            return Ok(incoming.filed_content);
        }
        if let Some(content) = self.staged_ids.get(&hash) {
            return Ok(Some(*content));
        }
        if let Some(content) = live.content_of(&hash) {
            return Ok(Some(content));
        }
        // The caller has looked among the filed ids, if it knew the tenant; has any been filed since?
        let tenant_no = incoming.stored.tenant_no;
        let slot = match &incoming.new_tenant {
            None if incoming.looked_up_at == self.shared.filings.load(Ordering::Acquire) => return Ok(None),
            None => self.shared.counters.by_no(tenant_no),
            Some(tenant_id) => self.shared.counters.get(tenant_id),
        };
        let Some(slot) = slot else { return Ok(None) };
        let now = self.commit.committed_at;
        let id = (&incoming.stored.event_id, hash);
        self.shared.filed_content(&mut self.snapshot, (slot.no, &slot.id), id, now)
    }

    /// Stages a change of a plan, and the token limits of every tenant on it. The same plan again changes nothing.
    pub(super) fn change_plan(&mut self, change: &PlanChange, actor: &Actor) -> PlanOutcome {
        let (plans, name) = (Arc::clone(&self.plans), change.name());
        let before = plans.get(name);
        let after = match change {
            PlanChange::Put(plan) => Some(checked(plan)?),
            PlanChange::Remove(_) if before.is_none() => return Err(PlanRefused::Unknown),
            PlanChange::Remove(_) if *name == self.shared.policies.default_plan => return Err(PlanRefused::IsDefault),
            PlanChange::Remove(_) => None,
        };
        if before == after.as_ref() {
            return Ok(());
        }
        if before.is_none() {
            one_more(plans.len())?;
        }
        let tenants = self.on_plan(name);
        match &after {
            None if !tenants.is_empty() => return Err(PlanRefused::InUse(tenants.len() as u64)),
            None => {}
            Some(after) => tenants.into_iter().for_each(|known| self.new_limits(known, after)),
        }
        self.audit(audit_entry(name, before, after.as_ref(), actor));
        self.plans = Arc::new(plans.with(name, after.as_ref()));
        self.plan_changes.push((name.to_owned(), after));
        Ok(())
    }

    /// Stages a price book. The same file again changes nothing.
    pub(super) fn change_prices(&mut self, change: PricesChange, actor: &Actor) {
        let before = match &self.prices {
            Some(staged) => Arc::clone(staged),
            None => self.shared.prices.load_full(),
        };
        if before.file.format == change.format && before.file.text == change.text {
            return;
        }
        let file = StoredBook { format: change.format, text: change.text, applied_at: self.commit.committed_at };
        self.audit(prices_audit_entry(&before.book, &change.book, &file.format, actor));
        let (after, added) = before.with(change.book, file, &mut self.numbers.next_price_no);
        self.price_rows.extend(added);
        self.prices = Some(Arc::new(after));
    }

    /// The tenants on a plan as they are in this commit, deleted ones left out.
    fn on_plan(&self, name: &str) -> Vec<(u32, Tenant)> {
        let on_it = |tenant: &Tenant| tenant.plan == name && tenant.status != TenantStatus::Deleted;
        let mut tenants: Vec<_> = self.tenants.values().filter(|(_, tenant)| on_it(tenant)).cloned().collect();
        for slot in self.shared.counters.all() {
            let state = slot.lock();
            if on_it(state.tenant()) && !self.tenants.contains_key(&slot.id) {
                tenants.push((slot.no, (**state.tenant()).clone()));
            }
        }
        tenants
    }

    fn new_limits(&mut self, (tenant_no, mut tenant): (u32, Tenant), plan: &Plan) {
        let (before, now) = (tenant.token_limits.clone(), self.commit.committed_at);
        record_token_limits(&mut tenant, &plan.limits, now);
        if tenant.token_limits != before {
            self.operation(Operation::Tenant { tenant_no, tenant: Box::new(tenant.clone()) });
            self.tenants.insert(tenant.tenant_id.clone(), (tenant_no, tenant));
        }
    }

    pub(super) fn hold(&mut self, slot: &TenantSlot, hold: Hold) {
        self.operation(Operation::Hold { tenant_no: slot.no, hold });
    }

    /// Journals a grant that an earlier commit could not.
    pub(super) fn hold_of(&mut self, tenant_no: u32, hold: Hold) {
        self.operation(Operation::Hold { tenant_no, hold });
    }

    pub(super) fn release(&mut self, slot: &TenantSlot, reservation_id: String) {
        self.operation(Operation::Release { tenant_no: slot.no, reservation_id });
    }

    /// Stages noted denials and their audit records. Called last: their entry ids follow those of all events.
    pub(super) fn denials(&mut self, denials: Vec<(u32, Denial)>, audit: Vec<AuditEntry>) {
        for (tenant_no, denial) in denials {
            let entry_id = self.commit.first_entry_id + self.commit.entries;
            self.commit.entries += 1;
            self.operation(Operation::Denied { tenant_no, entry_id, denial });
        }
        audit.into_iter().for_each(|entry| self.audit(entry));
    }

    pub(super) fn operation(&mut self, operation: Operation) {
        let before_event = self.commit.events.len() as u32;
        self.commit.operations.push(PlacedOperation { before_event, operation });
    }

    pub(super) fn audit(&mut self, entry: AuditEntry) {
        let event_id = crate::ids::new_uuid_v7(self.commit.committed_at);
        self.push_audit(event_id, entry, 0);
    }

    /// Appends an audit record; gives its index.
    pub(super) fn push_audit(&mut self, event_id: uuid::Uuid, entry: AuditEntry, content: u64) -> u64 {
        let index = self.numbers.next_audit_index;
        self.audit.push((AuditRecord { index, event_id, timestamp: self.commit.committed_at, entry }, content));
        self.numbers.next_audit_index += 1;
        index
    }

    /// The disk as it was before this commit; opened once.
    pub(super) fn disk(&mut self) -> Result<&Snapshot, StoreError> {
        match &mut self.snapshot {
            Some(snapshot) => Ok(snapshot),
            none => Ok(none.insert(self.shared.store.snapshot()?)),
        }
    }
}
