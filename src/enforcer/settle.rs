//! settle and release: the end of a reservation.

use std::sync::Arc;

use super::{EnforceError, QuotaEnforcer, SettleOutcome};
use crate::counters::{Found, Released, TenantSlot};
use crate::domain::event::UsageEvent;
use crate::domain::tenant::TenantId;
use crate::writer::{Receipt, Recorded, SettleTarget, WriteError};

/// The most events one settlement records.
const MAX_SETTLED_EVENTS: usize = 10_000;

impl QuotaEnforcer {
    /// Records what really happened and gives back the rest, in one commit; safe to repeat.
    ///
    /// `tenant_id` may be left out when the events name it or the id is unique. Events without an id get
    /// `reservation:index`. After a lapse, above what was reserved, or after a release it records all the same, flagged.
    pub async fn settle(
        &self,
        tenant_id: Option<&TenantId>,
        reservation_id: &str,
        events: Vec<UsageEvent>,
    ) -> Result<SettleOutcome, EnforceError> {
        Ok(settled(self.begin_settling(tenant_id, reservation_id, events)?.await?))
    }

    /// [`Self::settle`] for threads.
    pub fn settle_blocking(
        &self,
        tenant_id: Option<&TenantId>,
        reservation_id: &str,
        events: Vec<UsageEvent>,
    ) -> Result<SettleOutcome, EnforceError> {
        Ok(settled(self.begin_settling(tenant_id, reservation_id, events)?.wait()?))
    }

    /// Gives all of it back. True when something was held; false when it had ended already.
    pub async fn release(&self, tenant_id: Option<&TenantId>, reservation_id: &str) -> Result<bool, EnforceError> {
        let slot = self.holder(tenant_id, reservation_id)?;
        released(self.writer.release(slot, reservation_id.to_owned())?.await?, reservation_id)
    }

    /// [`Self::release`] for threads.
    pub fn release_blocking(&self, tenant_id: Option<&TenantId>, reservation_id: &str) -> Result<bool, EnforceError> {
        let slot = self.holder(tenant_id, reservation_id)?;
        released(self.writer.release(slot, reservation_id.to_owned())?.wait()?, reservation_id)
    }

    /// The tenants that have, or had within 24 hours, a reservation of this id.
    pub fn holders_of(&self, reservation_id: &str) -> Vec<TenantId> {
        let holders = self.writer.shared().counters.find_reservation(reservation_id);
        holders.into_iter().map(|slot| slot.id.clone()).collect()
    }

    /// Queues a settlement at once and gives its receipt; for callers that cannot wait, such as a connection that ends.
    pub(crate) fn begin_settling(
        &self,
        tenant_id: Option<&TenantId>,
        reservation_id: &str,
        mut events: Vec<UsageEvent>,
    ) -> Result<Receipt<Recorded>, EnforceError> {
        if events.len() > MAX_SETTLED_EVENTS {
            return Err(EnforceError::invalid("events", format!("holds more than {MAX_SETTLED_EVENTS} events")));
        }
        let slot = self.holder(tenant_id.or(events.first().map(|event| &event.tenant_id)), reservation_id)?;
        for (index, event) in events.iter_mut().enumerate() {
            if event.tenant_id != slot.id {
                return Err(EnforceError::invalid("tenant_id", format!("of event {index} is not the reservation's")));
            }
            if event.event_id.is_none() {
                // Long ids are cut from the front: the end and the index tell them apart.
                let id = format!("{reservation_id}:{index}");
                let excess = id.chars().count().saturating_sub(128);
                event.event_id = id.chars().skip(excess).collect::<String>().parse().ok();
            }
            event.validate()?;
        }
        let shared = self.writer.shared();
        let incoming = shared.prepare(events).map_err(WriteError::from)?;
        let target = SettleTarget { slot, reservation_id: reservation_id.to_owned() };
        Ok(self.writer.record(incoming, Some(target), false)?)
    }

    /// The tenant that has the reservation.
    fn holder(&self, tenant_id: Option<&TenantId>, reservation_id: &str) -> Result<Arc<TenantSlot>, EnforceError> {
        let unknown = || EnforceError::UnknownReservation(reservation_id.to_owned());
        let slot = match tenant_id {
            Some(tenant_id) => self.known(tenant_id)?.ok_or_else(unknown)?,
            None => {
                let mut holders = self.writer.shared().counters.find_reservation(reservation_id);
                let slot = holders.pop().ok_or_else(unknown)?;
                if !holders.is_empty() {
                    return Err(EnforceError::AmbiguousReservation(reservation_id.to_owned()));
                }
                slot
            }
        };
        let found = slot.lock().find(self.now(), reservation_id);
        match found {
            None | Some((Found::Unknown, _)) => Err(unknown()),
            Some(_) => Ok(slot),
        }
    }
}

fn settled(recorded: Recorded) -> SettleOutcome {
    let (overage, lapsed) = recorded.settled.map_or((false, false), |settled| (settled.overage, settled.lapsed));
    SettleOutcome { outcomes: recorded.outcomes, overage, lapsed }
}

fn released(released: Released, reservation_id: &str) -> Result<bool, EnforceError> {
    match released {
        Released::Held => Ok(true),
        Released::Nothing => Ok(false),
        Released::Unknown => Err(EnforceError::UnknownReservation(reservation_id.to_owned())),
    }
}
