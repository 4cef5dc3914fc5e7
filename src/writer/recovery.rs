//! A store that failed is opened again, by the writer's thread, while everybody else goes on from memory.
//!
//! Memory changes only after a commit, so there are two cases: the commit that failed is on disk after all, then memory
//! takes it in now; or it is not, then it never was, and what had to be noted with it waits for the next one. Which of the
//! two the reopened store tells. Anything else means that the disk lost or gained what it should not have: then nothing
//! is written any more until metergate is restarted.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::answers::fail;
use super::command::{Command, Publication};
use super::health::Trouble;
use super::receipt::WriteError;
use super::stage::Stage;
use super::thread::{Prepared, WriterThread, chain};
use crate::domain::audit::AuditEntry;
use crate::domain::quota::{Denial, Hold};
use crate::domain::tenant::TenantId;
use crate::domain::threshold::Crossing;
use crate::domain::time::Timestamp;
use crate::store::{Operation, Reopened, StoreError};

/// The first wait before the store is opened again; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What a commit that did not happen leaves for the next one.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Grants that memory holds.
    pub(super) holds: Vec<(u32, Hold)>,
    /// Denials that were taken from their book.
    pub(super) denials: Vec<(u32, Denial)>,
    /// Audit records that stand for denials and for what was sampled out.
    pub(super) audit: Vec<AuditEntry>,
    /// Thresholds crossed.
    pub(super) crossings: Vec<(TenantId, Crossing)>,
}

impl Carried {
    /// What is lost with a stage that is not written: `noted` are its audit records of denials and sampling.
    pub(super) fn of(stage: &Stage<'_>, noted: std::ops::Range<usize>, crossings: Vec<(TenantId, Crossing)>) -> Self {
        let mut carried = Self { crossings, ..Self::default() };
        for placed in &stage.commit.operations {
            match &placed.operation {
                Operation::Hold { tenant_no, hold } => carried.holds.push((*tenant_no, hold.clone())),
                Operation::Denied { tenant_no, denial, .. } => carried.denials.push((*tenant_no, denial.clone())),
                _ => {}
            }
        }
        let noted = stage.audit.get(noted).unwrap_or_default();
        carried.audit = noted.iter().map(|(record, _)| record.entry.clone()).collect();
        carried
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.denials.is_empty() && self.audit.is_empty()
    }
}

/// A commit that failed.
pub(super) struct Attempt<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) publications: &'a [Publication],
    /// What the transaction held beside them; `None` when it failed before its commit began, and is surely not on disk.
    pub(super) prepared: Option<Prepared>,
}

impl WriterThread {
    /// What failed for a reader fails for everybody: the store is opened again, although nothing was to be written. False
    /// when told to stop.
    pub(super) fn recover_from_reading(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        if !shared.store.has_failed() || matches!(self.health.trouble().as_deref(), Some(Trouble::Broken(_))) {
            return true;
        }
        tracing::error!("the store failed when it was read: it is opened again");
        self.health.set(Trouble::Down("the store failed when it was read".to_owned()));
        let stage = Stage::new(&shared, self.numbers, self.commit_time());
        self.recover(Attempt { stage: &stage, publications: &[], prepared: None }, Carried::default())
    }

    /// Opens the store again and brings memory to what it holds. Commands that come meanwhile are answered at once.
    /// False when told to stop.
    pub(super) fn recover(&mut self, attempt: Attempt<'_>, lost: Carried) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut lost = Some(lost);
        let mut wait = FIRST_WAIT;
        shared.store.take_down();
        self.failures = self.failures.saturating_add(1);
        // One that fails whenever it is written to is not to be opened in a tight circle.
        if self.failures > 2 && !self.refuse_for(wait_before(self.failures)) {
            return false;
        }
        loop {
            let opened = shared.store.reopen().and_then(|reopened| {
                let has_it = self.attempt_is_on_disk(&reopened, &attempt)?;
                Ok((reopened, has_it))
            });
            match opened {
                Ok((reopened, has_it)) => {
                    // A reader that comes now finds store and memory in step.
                    let mut live = shared.live.write();
                    shared.store.install(reopened);
                    match (&attempt.prepared, has_it) {
                        (Some(prepared), true) => {
                            let stage = attempt.stage;
                            self.publish_to(&mut live, stage, attempt.publications);
                            drop(live);
                            drop(self.take_effect(stage, prepared));
                        }
                        _ => drop(live),
                    }
                    if !has_it && let Some(lost) = lost.take() {
                        self.carry(lost);
                    }
                    self.health.reopened.add(1);
                    tracing::warn!(commit_was_on_disk = has_it, "the store is open again");
                    if !self.health.is_full() {
                        self.health.clear();
                    }
                    return true;
                }
                Err(error @ StoreError::Damaged(_)) => {
                    let reason = chain(&error);
                    tracing::error!(error = %reason, "the store cannot go on: restart metergate");
                    self.health.set(Trouble::Broken(format!("{reason}: restart metergate")));
                    if let Some(lost) = lost.take() {
                        self.carry(lost);
                    }
                    return true;
                }
                Err(error) => {
                    let reason = chain(&error);
                    tracing::error!(error = %reason, retry_in = ?wait, "the store cannot be opened again yet");
                    self.health.set(Trouble::Down(reason));
                }
            }
            if !self.refuse_for(wait) {
                return false;
            }
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Whether the reopened store has the commit that failed. It must have everything before it, and nothing else.
    fn attempt_is_on_disk(&self, reopened: &Reopened, attempt: &Attempt<'_>) -> Result<bool, StoreError> {
        let snapshot = reopened.snapshot()?;
        let (last, seq) = (snapshot.last_seq()?, attempt.stage.commit.seq);
        if last + 1 < seq {
            return Err(StoreError::Damaged("what was acknowledged is not on the disk any more"));
        }
        let journaled = !attempt.stage.is_empty() && attempt.prepared.is_some();
        if last > seq || last == seq && !journaled {
            return Err(StoreError::Damaged("the store holds commits that are not ours"));
        }
        Ok(match (&attempt.prepared, journaled) {
            (None, _) => false,
            (Some(_), true) => last == seq,
            (Some(prepared), false) => snapshot.mark()? == prepared.mark,
        })
    }

    fn carry(&mut self, lost: Carried) {
        self.shared.alerts.note(lost.crossings);
        self.carried.holds.extend(lost.holds);
        self.carried.denials.extend(lost.denials);
        self.carried.audit.extend(lost.audit);
    }

    /// What waits for the next commit: what failed ones left, and what memory granted alone. Lapsed holds are forgotten.
    pub(super) fn take_carried(&mut self, now: Timestamp) -> Carried {
        let mut carried = std::mem::take(&mut self.carried);
        if self.health.has_unjournaled() {
            carried.holds.extend(self.health.take_unjournaled());
        }
        carried.holds.retain(|(_, hold)| hold.expires_at > now);
        carried
    }

    /// Answers every command of the next `time`: nothing of them is recorded. False when told to stop.
    fn refuse_for(&mut self, time: Duration) -> bool {
        while let Some(command) = self.waiting.pop_front() {
            match command {
                Command::Stop => return false,
                command => self.refuse(command),
            }
        }
        let end = std::time::Instant::now() + time;
        loop {
            match self.commands.recv_deadline(end) {
                Ok(Command::Stop) => return false,
                Ok(command) => self.refuse(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Answers a command that is not taken. A grant is held by memory already: it stays so, and is journaled later.
    pub(super) fn refuse(&mut self, command: Command) {
        let refusal = self.health.refusal();
        let error = &refusal.unwrap_or_else(|| WriteError::Unavailable("the storage has just failed".to_owned()));
        match command {
            Command::Record { events, promise, .. } => {
                self.forget_queued(events.len());
                fail(promise, error);
            }
            Command::Hold { slot, hold, promise } => {
                self.carried.holds.push((slot.no, hold));
                fail(promise, &WriteError::OutcomeUnknown);
            }
            Command::Release { promise, .. } => fail(promise, error),
            Command::Change { promise, .. } => fail(promise, error),
            Command::ChangePlan { promise, .. } => fail(promise, error),
            Command::ChangePrices { promise, .. } => fail(promise, error),
            Command::ChangeKey { promise, .. } => fail(promise, error),
            Command::NoteKeyUses { promise, .. } => fail(promise, error),
            Command::Audit { entries, promise } => {
                self.forget_queued(entries.len());
                fail(promise, error);
            }
            Command::ResolveAudit { promise, .. } => fail(promise, error),
            Command::Checkpoint { promise } => fail(promise, error),
            Command::Exclusively { promise, .. } => fail(promise, error),
            Command::CloseGeneration { promise } => fail(promise, error),
            Command::Publish { promise, .. } => fail(promise, error),
            Command::Stop => {}
        }
    }

    /// Looks whether a full disk has room again.
    pub(super) fn look_for_room(&self) {
        if !self.health.is_full() {
            return;
        }
        let store = &self.shared.store;
        if store.free_bytes().is_none_or(|free| free >= store.next_growth_bytes()) {
            tracing::warn!("the disk has room again: writes are taken");
            self.health.clear();
        }
    }
}

fn wait_before(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.min(9)).min(LAST_WAIT)
}
