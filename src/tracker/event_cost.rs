//! One event by its id, with its cost explained.

use std::ops::ControlFlow;

use super::events::recorded;
use super::{ReadError, UsageTracker};
use crate::domain::event::{EventId, MAX_AHEAD_MICROS, RecordedEvent, is_v7};
use crate::domain::money::Money;
use crate::domain::price_terms::Markup;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::rules::prices::Cost;
use crate::rules::pricing::{Unpriced, cost_of};
use crate::store::{Snapshot, StoreError, StoredEvent, StoredPrice};

/// An event and why it costs what it costs.
#[derive(Clone, Debug)]
pub struct ExplainedEvent {
    /// The event.
    pub event: RecordedEvent,
    /// Its cost.
    pub cost: ExplainedCost,
}

/// Where a cost comes from.
#[derive(Clone, Debug)]
pub enum ExplainedCost {
    /// The caller said so.
    Given,
    /// By a price row; boxed, since it is large.
    Estimated(Box<EstimatedCost>),
    /// Nobody knows, for this reason.
    Unpriced(String),
}

/// How an estimate adds up.
#[derive(Clone, Debug)]
pub struct EstimatedCost {
    /// The number of the price row in this store; the row says whether it is a rate of the tenant's own.
    pub price_no: u32,
    /// The row, as it was then and for ever.
    pub price: StoredPrice,
    /// The name by which the model is found in the book of now; `None` when it means another model by now.
    pub alias: Option<String>,
    /// What is put on the row's price.
    pub markup: Markup,
    /// What the event costs, as it is stored.
    pub amount: Money,
    /// Each class's count times its rate, before the markup; `None` where today's reckoning no longer comes to that amount.
    pub cost: Option<Cost>,
}

impl UsageTracker {
    /// A tenant's event by its id, with its cost explained; `None` when there is none, or retention has taken it.
    pub fn get_tenant_event(
        &self,
        tenant_id: &TenantId,
        event_id: &EventId,
    ) -> Result<Option<ExplainedEvent>, ReadError> {
        let tenant_no = self.known(tenant_id)?.no;
        let shared = self.writer.shared();
        // An id enters the fingerprints before its event is filed: whatever this snapshot has filed can be found by them.
        let snapshot = shared.store.snapshot()?;
        let oldest = shared.oldest_kept(shared.clock.now());
        let found = self.find(&snapshot, tenant_no, tenant_id, event_id, oldest)?;
        let Some(stored) = found.filter(|stored| stored.event_timestamp >= oldest) else { return Ok(None) };
        let event = recorded(stored, tenant_id);
        let cost = self.explain_cost(&snapshot, &event)?;
        Ok(Some(ExplainedEvent { event, cost }))
    }

    fn find(
        &self,
        snapshot: &Snapshot,
        tenant_no: u32,
        tenant_id: &TenantId,
        event_id: &EventId,
        oldest: Timestamp,
    ) -> Result<Option<StoredEvent>, StoreError> {
        let shared = self.writer.shared();
        let is_it = |stored: &StoredEvent| stored.tenant_no == tenant_no && stored.event_id == *event_id;
        let mut found = None;
        snapshot.commits_after(snapshot.checkpoint()?.filed_seq, |commit| {
            found = commit.events.into_iter().find(|stored| is_it(stored));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if found.is_some() {
            return Ok(found);
        }
        let hash = shared.identity.hash(tenant_id, event_id);
        let last = shared.clock.now().plus_micros(MAX_AHEAD_MICROS).day();
        let mut days = shared.fingerprints.days_of(hash.fingerprint(), oldest.day()..=last);
        if let EventId::Uuid(uuid) = event_id
            && is_v7(uuid)
        {
            // An id of the server's own says when it was made: mostly the event's own day.
            days.push((((uuid.as_u128() >> 80) / 86_400_000) as u32).min(last));
        }
        for day in days {
            for block in snapshot.blocks_with_tenant(day, tenant_no)? {
                if let Some(stored) = snapshot.block_events(block)?.into_iter().find(|stored| is_it(stored)) {
                    return Ok(Some(stored));
                }
            }
        }
        Ok(None)
    }

    fn explain_cost(&self, snapshot: &Snapshot, recorded: &RecordedEvent) -> Result<ExplainedCost, StoreError> {
        let event = &recorded.event;
        let prices = self.writer.shared().prices.load();
        let own = self.writer.shared().own_prices(&event.tenant_id);
        if event.cost_usd.is_some() {
            return Ok(ExplainedCost::Given);
        }
        let Some(estimate) = event.estimate else {
            let reason = match prices.estimate_for(own.as_deref(), event, recorded.event_timestamp) {
                _ if event.is_rate_limited() => Unpriced::RateLimited.to_string(),
                Err(reason) => reason.to_string(),
                Ok(_) => "when it was recorded the price book had no price for it; it has one now".to_owned(),
            };
            return Ok(ExplainedCost::Unpriced(reason));
        };
        let price = snapshot.price_row(estimate.price_no)?;
        let price = price.ok_or(StoreError::Damaged("an event names a price row that does not exist"))?;
        // The same counts by the same row are the same sum; lines of another would explain nothing.
        let cost = cost_of(event, &price.row).ok().filter(|cost| estimate.markup.on(cost.total) == estimate.cost);
        let (provider, model) = (event.provider.as_deref(), event.model.as_deref().unwrap_or_default());
        let alias = match price.tenant_id {
            Some(_) => own.and_then(|own| own.alias(&prices.book, provider, model, &price.row.id)),
            None => {
                let found = prices.book.find_model(provider, model);
                found.filter(|found| found.model.id == price.row.model).map(|found| found.alias)
            }
        };
        Ok(ExplainedCost::Estimated(Box::new(EstimatedCost {
            price_no: estimate.price_no,
            price,
            alias,
            markup: estimate.markup,
            amount: estimate.cost,
            cost,
        })))
    }
}
