//! reserve: several amounts in one step, all or nothing, held until settled, released or lapsed.

use std::sync::Arc;

use super::{EnforceError, QuotaEnforcer, ReserveOutcome, ReserveRequest, check_items};
use crate::counters::{HoldRequest, Taken, TenantSlot};
use crate::domain::quota::{DEFAULT_TTL_SECONDS, Decision, Hold, HoldId, MAX_TTL_SECONDS, Reservation};
use crate::domain::time::MICROS_PER_SECOND;
use crate::writer::{Receipt, WriteError, Writer};

/// The longest reservation id.
const MAX_ID_CHARS: usize = 128;

/// A decision that memory has made; a grant waits for its place on the disk.
pub(super) struct Decided {
    pub(super) outcome: ReserveOutcome,
    journaled: Option<(Receipt<()>, String)>,
    writer: Arc<Writer>,
}

impl Decided {
    pub(super) async fn durable(self) -> Result<ReserveOutcome, EnforceError> {
        match self.journaled {
            Some((receipt, id)) => finish(self.outcome, receipt.await, id, &self.writer),
            None => Ok(self.outcome),
        }
    }

    pub(super) fn durable_blocking(self) -> Result<ReserveOutcome, EnforceError> {
        match self.journaled {
            Some((receipt, id)) => finish(self.outcome, receipt.wait(), id, &self.writer),
            None => Ok(self.outcome),
        }
    }
}

/// A grant whose commit is unknown stays held: it may be on disk, and would be there after a restart.
fn finish(
    outcome: ReserveOutcome,
    journaled: Result<(), WriteError>,
    id: String,
    writer: &Writer,
) -> Result<ReserveOutcome, EnforceError> {
    match journaled {
        Ok(()) => Ok(outcome),
        Err(error) if writer.grants_despite(&error) => Ok(ReserveOutcome { durable: false, ..outcome }),
        Err(WriteError::OutcomeUnknown) => Err(EnforceError::GrantUnknown(id)),
        Err(error) => Err(error.into()),
    }
}

impl QuotaEnforcer {
    /// Reserves several types in one step, all or nothing; durable when it returns.
    ///
    /// The same type twice is summed. The same id with the same items gives the same answer, with other items
    /// [`EnforceError::ReservationConflict`]. A denial is an outcome and burns nothing.
    pub async fn reserve(&self, request: ReserveRequest) -> Result<ReserveOutcome, EnforceError> {
        check_request(&request)?;
        let slot = match self.known_or_registering(&request.tenant_id)? {
            Ok(slot) => slot,
            Err(registering) => self.registered(&request.tenant_id, registering.await?)?,
        };
        self.decide(&slot, request)?.durable().await
    }

    /// [`Self::reserve`] for threads.
    pub fn reserve_blocking(&self, request: ReserveRequest) -> Result<ReserveOutcome, EnforceError> {
        check_request(&request)?;
        let slot = match self.known_or_registering(&request.tenant_id)? {
            Ok(slot) => slot,
            Err(registering) => self.registered(&request.tenant_id, registering.wait()?)?,
        };
        self.decide(&slot, request)?.durable_blocking()
    }

    fn decided(&self, outcome: ReserveOutcome, journaled: Option<(Receipt<()>, String)>) -> Decided {
        Decided { outcome, journaled, writer: Arc::clone(&self.writer) }
    }

    fn decide(&self, slot: &Arc<TenantSlot>, request: ReserveRequest) -> Result<Decided, EnforceError> {
        let now = self.now();
        let id = request.reservation_id.unwrap_or_else(|| crate::ids::new_uuid_v7(now).to_string());
        let ttl = i64::from(request.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS)) * MICROS_PER_SECOND;
        let hold = HoldRequest { id: HoldId::Named(id.clone()), expires_at: now.plus_micros(ttl) };
        self.take(slot, &request.items, hold, id, request.request_id.as_deref())
    }

    /// Decides and takes in one step under the tenant's lock, then sends the grant to the journal.
    pub(super) fn take(
        &self,
        slot: &Arc<TenantSlot>,
        items: &[crate::domain::quota::Item],
        request: HoldRequest,
        id: String,
        request_id: Option<&str>,
    ) -> Result<Decided, EnforceError> {
        let now = self.now();
        // Until the grant is queued nobody else sees it: a repeat of its id must not be granted over one that is undone.
        let platform = self.writer.shared().platform.as_ref();
        let (mut state, taken) = slot.take(platform, now, items, request);
        let taken =
            taken.map_err(|blocked| EnforceError::Blocked { tenant_id: slot.id.clone(), status: blocked.status })?;
        match taken {
            Taken::Granted { decision, hold } => {
                self.writer.shared().meter.granted.add(1);
                let mut outcome = granted(slot, decision, &hold);
                let journaled = match self.writer.hold(Arc::clone(slot), hold.clone()) {
                    Ok(receipt) => Some((receipt, id)),
                    Err(error) if self.writer.keeps(&error, slot.no, &hold) => None,
                    Err(error) => {
                        // It never got to the queue: as though it had not been granted.
                        slot.undo(&mut state, platform, now, &hold.id);
                        return Err(error.into());
                    }
                };
                drop(state);
                outcome.durable = journaled.is_some();
                outcome.decision_id = self.note_denial(slot, &outcome.decision, request_id);
                Ok(self.decided(outcome, journaled))
            }
            // The first grant may still be on its way to the disk; journaling it once more waits for it.
            Taken::Again { decision, hold } => {
                let outcome = granted(slot, decision, &hold);
                match self.writer.hold(Arc::clone(slot), hold) {
                    Ok(receipt) => Ok(self.decided(outcome, Some((receipt, id)))),
                    // It is kept already, or was journaled before.
                    Err(error) if self.writer.grants_despite(&error) => {
                        Ok(self.decided(ReserveOutcome { durable: false, ..outcome }, None))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Taken::Denied(decision) => {
                drop(state);
                let decision_id = self.note_denial(slot, &decision, request_id);
                let outcome = ReserveOutcome { decision, reservation: None, durable: true, decision_id };
                Ok(self.decided(outcome, None))
            }
            // Settled, released or lapsed since: the same request has the same answer, and nothing is held again. It is
            // on disk: it ended by a commit, or by its own clock after one.
            Taken::Finished { decision, expires_at, .. } => {
                let reservation = Reservation { tenant_id: slot.id.clone(), reservation_id: id, expires_at };
                let outcome =
                    ReserveOutcome { decision, reservation: Some(reservation), durable: true, decision_id: None };
                Ok(self.decided(outcome, None))
            }
            Taken::Conflict => Err(EnforceError::ReservationConflict(id)),
        }
    }
}

fn granted(slot: &TenantSlot, decision: Decision, hold: &Hold) -> ReserveOutcome {
    let reservation = match &hold.id {
        HoldId::Named(id) => {
            Some(Reservation { tenant_id: slot.id.clone(), reservation_id: id.clone(), expires_at: hold.expires_at })
        }
        HoldId::Anonymous(_) => None,
    };
    ReserveOutcome { decision, reservation, durable: true, decision_id: None }
}

fn check_request(request: &ReserveRequest) -> Result<(), EnforceError> {
    check_items(&request.items)?;
    if request.ttl_seconds.is_some_and(|ttl| !(1..=MAX_TTL_SECONDS).contains(&ttl)) {
        return Err(EnforceError::invalid("ttl_seconds", format!("must be from 1 to {MAX_TTL_SECONDS}")));
    }
    if let Some(id) = &request.reservation_id {
        let chars = id.chars().count();
        if !(1..=MAX_ID_CHARS).contains(&chars) || id.chars().any(char::is_control) {
            return Err(EnforceError::invalid("reservation_id", "must be 1 to 128 printable characters"));
        }
    }
    Ok(())
}
