//! What callers are told, once their commit is on disk and applied, or has failed.

use super::apply::Ended;
use super::bell;
use super::command::{ChangeFailed, ChangeOutcome, KeyOutcome, PlanOutcome, Recorded, ResolveOutcome};
use super::health::Trouble;
use super::meter::Meter;
use super::receipt::{Promise, WriteError};
use super::tenant_stage::changed;
use super::thread::{WriterThread, chain};
use crate::counters::{Released, Settled};
use crate::domain::audit::AuditOutcome;
use crate::domain::event::EventOutcome;
use crate::domain::tenant::Tenant;
use crate::store::StoreError;

/// What is answered once the commit is on disk and applied.
pub(super) enum Answer {
    Recorded { outcomes: Vec<EventOutcome>, settles: bool, promise: Promise<Recorded> },
    Held(Promise<()>),
    Released(Promise<Released>),
    Changed(Result<(u32, Tenant), ChangeFailed>, Promise<ChangeOutcome>),
    PlanChanged(PlanOutcome, Promise<PlanOutcome>),
    KeyChanged(KeyOutcome, Promise<KeyOutcome>),
    Audited(Vec<AuditOutcome>, Promise<Vec<AuditOutcome>>),
    AuditResolved(ResolveOutcome, Promise<ResolveOutcome>),
    Published(Promise<()>),
    Signed(Promise<Option<String>>),
}

impl WriterThread {
    pub(super) fn answer(&self, answers: Vec<Answer>, ended: Vec<Ended>) {
        let mut ended = ended.into_iter();
        for answer in answers {
            match answer {
                Answer::Recorded { outcomes, settles, promise } => {
                    count(&self.shared.meter, &outcomes);
                    let settled = if settles { ended.next().and_then(as_settled) } else { None };
                    told(promise, Recorded { outcomes, settled });
                }
                Answer::Held(promise) | Answer::Published(promise) => told(promise, ()),
                Answer::Released(promise) => {
                    let released = match ended.next() {
                        Some(Ended::Released(released)) => released,
                        _ => Released::Unknown,
                    };
                    told(promise, released);
                }
                Answer::PlanChanged(outcome, promise) => told(promise, outcome),
                Answer::KeyChanged(outcome, promise) => told(promise, outcome),
                Answer::Audited(outcomes, promise) => told(promise, outcomes),
                Answer::AuditResolved(outcome, promise) => told(promise, outcome),
                Answer::Signed(promise) => {
                    let stored = self.shared.store.snapshot().and_then(|snapshot| snapshot.audit_checkpoint());
                    match stored {
                        Ok((note, _)) => told(promise, note),
                        Err(error) => fail(promise, &unavailable(&error)),
                    }
                }
                Answer::Changed(staged, promise) => told(promise, changed(&self.shared, staged)),
            }
        }
        bell::ring();
    }

    /// The store has failed, `before_commit` or in it: then, unless it was the room that lacked, it is not known whether
    /// this is on disk. A grant is held by memory in any case, so its outcome is open.
    pub(super) fn fail_all(&self, answers: Vec<Answer>, error: &StoreError, before_commit: bool) {
        let reason = chain(error);
        tracing::error!(error = %reason, "the store failed: it is opened again");
        let nothing_is_there = before_commit || self.shared.store.refused_to_grow();
        let (trouble, certain) = match error {
            StoreError::Full(_) => (Trouble::Full(reason.clone()), WriteError::Full(reason)),
            _ => (Trouble::Down(reason.clone()), WriteError::Unavailable(reason)),
        };
        self.health.set(trouble);
        for answer in answers {
            let unknown = if nothing_is_there { certain.clone() } else { WriteError::OutcomeUnknown };
            match answer {
                Answer::Recorded { promise, .. } => failed(promise, &unknown),
                Answer::Held(promise) => failed(promise, &WriteError::OutcomeUnknown),
                Answer::Published(promise) => failed(promise, &unknown),
                Answer::Released(promise) => failed(promise, &unknown),
                Answer::PlanChanged(_, promise) => failed(promise, &unknown),
                Answer::KeyChanged(_, promise) => failed(promise, &unknown),
                Answer::Audited(_, promise) => failed(promise, &unknown),
                Answer::AuditResolved(_, promise) => failed(promise, &unknown),
                Answer::Signed(promise) => failed(promise, &unknown),
                Answer::Changed(_, promise) => failed(promise, &unknown),
            }
        }
        bell::ring();
    }
}

fn count(meter: &Meter, outcomes: &[EventOutcome]) {
    // One addition a commit and kind, not one an event.
    let mut counts = [0; 4];
    for outcome in outcomes {
        counts[match outcome {
            EventOutcome::Accepted => 0,
            EventOutcome::Duplicate => 1,
            EventOutcome::Conflict => 2,
            EventOutcome::Rejected(_) => 3,
        }] += 1;
    }
    let counters = [&meter.recorded, &meter.duplicates, &meter.conflicts, &meter.rejected];
    counters.into_iter().zip(counts).for_each(|(counter, count)| counter.add(count));
}

fn as_settled(ended: Ended) -> Option<Settled> {
    match ended {
        Ended::Settled(settled) => Some(settled),
        Ended::Released(_) => None,
    }
}

/// Keeps one of many promises: whoever waits is woken with the others.
fn told<T>(promise: Promise<T>, value: T) {
    promise.tell_quietly(Ok(value));
}

/// Breaks one of many promises.
fn failed<T>(promise: Promise<T>, error: &WriteError) {
    promise.tell_quietly(Err(error.clone()));
}

pub(super) fn keep<T>(promise: Promise<T>, value: T) {
    promise.tell(Ok(value));
}

pub(super) fn fail<T>(promise: Promise<T>, error: &WriteError) {
    promise.tell(Err(error.clone()));
}

pub(super) fn unavailable(error: &StoreError) -> WriteError {
    WriteError::Unavailable(chain(error))
}
