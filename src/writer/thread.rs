//! The writer's thread: takes what is waiting, commits it with one fsync, applies it, answers everybody.
//!
//! Memory is changed only after the commit, so a commit that fails has changed nothing there. (Grants are the exception:
//! memory decides them first, and one whose commit is unknown stays held until it lapses.) What follows a failed commit is
//! in `recovery`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::answers::{Answer, fail, keep, unavailable};
use super::apply::{Ended, LiveStates, apply};
use super::command::{Command, Publication};
use super::company::Crowd;
use super::health::{Health, Trouble};
use super::publication::put_publication;
use super::recovery::{Attempt, Carried};
use super::shared::Shared;
use super::stage::{Numbers, Stage};
use crate::domain::time::Timestamp;
use crate::store::{Operation, StoreError};

/// Events that one commit takes before it stops looking for more; a single submission may bring more.
pub(super) const EVENTS_PER_COMMIT: usize = 10_000;
/// Audit records that one commit takes before it stops looking for more: each costs about ten keys.
const AUDIT_RECORDS_PER_COMMIT: usize = 1_000;
/// Commands that one commit takes.
pub(super) const COMMANDS_PER_COMMIT: usize = 4_096;
/// How long noted denials may wait for a commit to ride on.
const DENIALS_WAIT: Duration = Duration::from_millis(200);
/// A generation is closed, and filed, at this many events and operations.
pub(super) const WEIGHT_PER_GENERATION: usize = 50_000;

pub(super) struct WriterThread {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Receiver<Command>,
    /// Received, and to be taken before what the channel holds.
    pub(super) waiting: VecDeque<Command>,
    pub(super) queued_events: Arc<AtomicUsize>,
    pub(super) health: Arc<Health>,
    pub(super) numbers: Numbers,
    /// The mark of the next transaction without a commit.
    pub(super) next_mark: u64,
    /// What failed commits left for the next one.
    pub(super) carried: Carried,
    /// Failures since the last commit.
    pub(super) failures: u32,
    pub(super) last_commit: Timestamp,
    /// Tells the filer that a generation is closed.
    pub(super) closed: crossbeam_channel::Sender<()>,
    pub(super) crowd: Crowd,
    /// A generation was closed by this commit: the filer is told once the commit is out of our hands.
    pub(super) has_closed: bool,
}

/// What a transaction holds beside stage and publications.
pub(super) struct Prepared {
    /// Its mark, if it has no commit.
    pub(super) mark: u64,
    audit_size: u64,
    /// Signed checkpoints, with their sizes.
    notes: Vec<(u64, String)>,
}

/// A transaction that failed.
pub(super) struct Failed {
    error: StoreError,
    /// `None` when it failed before its commit began.
    prepared: Option<Prepared>,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self { error, prepared: None }
    }
}

impl WriterThread {
    /// Runs until told to stop or until every sender is gone.
    pub(super) fn run(mut self) {
        loop {
            self.look_for_room();
            if !self.recover_from_reading() {
                return;
            }
            let first = match self.waiting.pop_front().map_or_else(|| self.commands.recv_timeout(DENIALS_WAIT), Ok) {
                Ok(command) => Some(self.in_company(command)),
                Err(RecvTimeoutError::Timeout) if !self.has_notes(self.shared.clock.now()) => continue,
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.commit_with(first) {
                // What the last commit crossed has to ride on one of its own.
                while self.health.is_well() && self.shared.alerts.is_due() {
                    self.commit_with(Some(Command::Stop));
                }
                return;
            }
        }
    }

    /// One commit with `first` and what else is waiting. False when told to stop.
    fn commit_with(&mut self, first: Option<Command>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut stage = Stage::new(&shared, self.numbers, self.commit_time());
        stage.reserve(self.queued_events.load(Ordering::Relaxed).min(EVENTS_PER_COMMIT));
        let mut answers = Vec::new();
        let mut publications = Vec::new();
        let mut close_generation = Vec::new();
        let mut go_on = true;
        let mut failure = None;
        let mut sign = false;
        let trouble = self.health.trouble();
        let (full, broken) = (self.health.is_full(), matches!(trouble.as_deref(), Some(Trouble::Broken(_))));
        // What is noted waits for better times.
        let carried = if full || broken { Carried::default() } else { self.take_carried(stage.commit.committed_at) };
        carried.holds.into_iter().for_each(|(tenant_no, hold)| stage.hold_of(tenant_no, hold));

        let (mut next, mut awaited) = (first, 0);
        while let Some(command) = next.take() {
            awaited += usize::from(command.is_awaited());
            match command {
                Command::Stop => go_on = false,
                command if broken || full && !command.goes_on_when_full() => self.refuse(command),
                Command::Record { events, settles, promise } => {
                    self.queued_events.fetch_sub(events.len(), Ordering::Relaxed);
                    match stage.record(events, settles.as_ref()) {
                        Ok(outcomes) => {
                            answers.push(Answer::Recorded { outcomes, settles: settles.is_some(), promise });
                        }
                        Err(error) => {
                            fail(promise, &unavailable(&error));
                            failure = Some(error);
                        }
                    }
                }
                Command::Hold { slot, hold, promise } => {
                    stage.hold(&slot, hold);
                    answers.push(Answer::Held(promise));
                }
                Command::Release { slot, reservation_id, promise } => {
                    stage.release(&slot, reservation_id);
                    answers.push(Answer::Released(promise));
                }
                Command::Change { tenant_id, change, actor, promise } => {
                    answers.push(Answer::Changed(stage.change_tenant(&tenant_id, change.as_ref(), &actor), promise));
                }
                Command::ChangePlan { change, actor, promise } => {
                    answers.push(Answer::PlanChanged(stage.change_plan(&change, &actor), promise));
                }
                Command::ChangePrices { change, actor, promise } => {
                    stage.change_prices(*change, &actor);
                    answers.push(Answer::Published(promise));
                }
                Command::ChangeKey { change, actor, promise } => {
                    answers.push(Answer::KeyChanged(stage.change_key(change, &actor), promise));
                }
                Command::NoteKeyUses { uses, promise } => {
                    stage.note_key_uses(uses);
                    answers.push(Answer::Published(promise));
                }
                Command::Audit { entries, promise } => {
                    self.queued_events.fetch_sub(entries.len(), Ordering::Relaxed);
                    match stage.record_audit(entries) {
                        Ok(outcomes) => answers.push(Answer::Audited(outcomes, promise)),
                        Err(error) => {
                            fail(promise, &unavailable(&error));
                            failure = Some(error);
                        }
                    }
                }
                Command::ResolveAudit { event_id, tenant_id, entry, promise } => {
                    match stage.resolve_audit(event_id, tenant_id.as_ref(), *entry) {
                        Ok(outcome) => answers.push(Answer::AuditResolved(outcome, promise)),
                        Err(error) => {
                            fail(promise, &unavailable(&error));
                            failure = Some(error);
                        }
                    }
                }
                Command::Checkpoint { promise } => {
                    sign = true;
                    answers.push(Answer::Signed(promise));
                }
                Command::Exclusively { work, promise } => {
                    work();
                    keep(promise, ());
                }
                Command::CloseGeneration { promise } => close_generation.push(promise),
                Command::Publish { mut publication, promise } => {
                    stage.denials(Vec::new(), publication.audit.take().into_iter().collect());
                    publications.push(*publication);
                    answers.push(Answer::Published(promise));
                }
            }
            let enough = stage.commit.events.len() >= EVENTS_PER_COMMIT
                || stage.audit.len() >= AUDIT_RECORDS_PER_COMMIT
                || answers.len() >= COMMANDS_PER_COMMIT;
            // A publication moves things under the readers' lock: one at a time.
            if go_on && !enough && failure.is_none() && publications.is_empty() {
                next = self.waiting.pop_front().or_else(|| self.commands.try_recv().ok());
            }
        }
        let noted_from = stage.audit.len();
        let mut noticed = Vec::new();
        stage.denials(carried.denials, carried.audit);
        if !full && !broken {
            if shared.denials.is_due(stage.commit.committed_at, !go_on) {
                let (denials, audit) = shared.denials.take(stage.commit.committed_at, !go_on);
                stage.denials(denials, audit);
            }
            if shared.sampled.is_due(stage.commit.committed_at, !go_on) {
                let told = shared.sampled.take(&shared.policies.audit_sampling, stage.commit.committed_at, !go_on);
                told.into_iter().for_each(|entry| stage.audit(entry));
            }
        }
        let noted = noted_from..stage.audit.len();
        if !full && !broken && shared.alerts.is_due() {
            noticed = shared.alerts.take();
            if let Err(error) = stage.crossings(noticed.clone()) {
                failure.get_or_insert(error);
            }
        }

        let started = Instant::now();
        let written = match failure {
            Some(error) => Err(error.into()),
            None if broken => Ok(Vec::new()),
            None => self.write(&stage, &publications, sign || !go_on),
        };
        match written {
            Ok(ended) => {
                self.crowd = Crowd::of(awaited, self.waiting.len() + self.commands.len(), started.elapsed());
                self.answer(answers, ended);
                if !stage.is_empty() {
                    shared.unfiled.keep(stage.commit, stage.ids);
                }
            }
            Err(Failed { error, prepared }) => {
                self.fail_all(answers, &error, prepared.is_none());
                let lost = Carried::of(&stage, noted, noticed);
                go_on = go_on && self.recover(Attempt { stage: &stage, publications: &publications, prepared }, lost);
            }
        }
        if !close_generation.is_empty() {
            shared.live.write().close_generation();
            self.has_closed = true;
            close_generation.into_iter().for_each(|promise| keep(promise, ()));
        }
        if std::mem::take(&mut self.has_closed) {
            let _filer_may_be_gone = self.closed.try_send(());
        }
        go_on
    }

    /// Whether anything was noted that is to be written now, although nobody waits for it.
    fn has_notes(&self, now: Timestamp) -> bool {
        if !self.health.is_well() {
            // What is noted waits for better times.
            return false;
        }
        let Shared { denials, sampled, alerts, checkpoints, .. } = &*self.shared;
        !checkpoints.due(self.numbers.next_audit_index, now, false).is_empty()
            || denials.is_due(now, false)
            || sampled.is_due(now, false)
            || alerts.is_due()
            || !self.carried.is_empty()
            || self.health.has_unjournaled()
    }

    /// Whole milliseconds of the server's time, never before the last commit.
    pub(super) fn commit_time(&mut self) -> Timestamp {
        let now = self.shared.clock.now();
        self.last_commit = self.last_commit.max(Timestamp::from_micros(now.micros() / 1_000 * 1_000));
        self.last_commit
    }

    /// Commits the stage and the publications in one transaction, then applies them to memory.
    fn write(&mut self, stage: &Stage<'_>, publications: &[Publication], sign: bool) -> Result<Vec<Ended>, Failed> {
        let shared = Arc::clone(&self.shared);
        let (now, audit_size) = (stage.commit.committed_at, stage.numbers_after().next_audit_index);
        let due = shared.checkpoints.due(audit_size, now, sign);
        if stage.is_empty() && publications.is_empty() && due.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let mut transaction = shared.store.begin()?;
        if !stage.is_empty() {
            for (tenant_no, tenant) in stage.changed_tenants() {
                transaction.put_tenant(*tenant_no, tenant)?;
            }
            for (name, plan) in &stage.plan_changes {
                match plan {
                    Some(plan) => transaction.put_plan(plan)?,
                    None => transaction.remove_plan(name)?,
                }
            }
            if !stage.price_rows.is_empty() {
                transaction.put_price_rows(&stage.price_rows)?;
            }
            if let Some(prices) = &stage.prices {
                transaction.put_price_book(&prices.file)?;
            }
            for (key_id, key) in &stage.keys {
                match key {
                    Some(key) => transaction.put_api_key(key)?,
                    None => transaction.remove_api_key(*key_id)?,
                }
            }
            transaction.put_audit(&stage.audit)?;
            for (original, resolution) in &stage.audit_resolutions {
                transaction.put_audit_resolution(*original, *resolution)?;
            }
            transaction.put_commit(&stage.commit)?;
        }
        for publication in publications {
            put_publication(&mut transaction, publication)?;
        }
        let mut notes = Vec::with_capacity(due.len());
        for size in due {
            notes.push((size, shared.checkpoints.sign(size, &transaction.audit_root(size)?)));
        }
        if let Some((_, last)) = notes.last() {
            transaction.put_audit_checkpoint(last)?;
        }
        let mark = self.next_mark;
        if stage.is_empty() {
            self.next_mark += 1;
            transaction.put_mark(mark)?;
        }
        let prepared = Prepared { mark, audit_size, notes };
        // Readers take this lock before their snapshot: they see what is published either here or there.
        let before = (!publications.is_empty()).then(|| shared.live.write());
        if let Err(error) = transaction.commit() {
            return Err(Failed { error, prepared: Some(prepared) });
        }
        self.failures = 0;
        self.publish_to(&mut before.unwrap_or_else(|| shared.live.write()), stage, publications);
        shared.meter.commits.note(started.elapsed());
        Ok(self.take_effect(stage, &prepared))
    }

    /// Brings the live state to what is committed.
    pub(super) fn publish_to(
        &mut self,
        live: &mut crate::live::LiveState,
        stage: &Stage<'_>,
        publications: &[Publication],
    ) {
        let shared = Arc::clone(&self.shared);
        for publication in publications {
            if publication.files_generation {
                live.publish_filing();
                shared.filings.fetch_add(1, Ordering::AcqRel);
            }
            live.publish_fold(&publication.folds_hours);
            if !publication.rows.is_empty() || !publication.rows_before.is_empty() {
                shared.stored_totals.note_change();
            }
            if let Some(cut) = &publication.cut {
                shared.cut.store(cut.cut.micros(), Ordering::Release);
            }
        }
        self.apply_live(stage, live);
    }

    /// Brings everything else in memory to what is committed.
    pub(super) fn take_effect(&mut self, stage: &Stage<'_>, prepared: &Prepared) -> Vec<Ended> {
        let shared = Arc::clone(&self.shared);
        let now = stage.commit.committed_at;
        shared.checkpoints.committed(prepared.audit_size, now, prepared.notes.clone());
        if !stage.keys.is_empty() {
            shared.keys.store(Arc::new(shared.keys.load().with(&stage.keys)));
        }
        if !stage.plan_changes.is_empty() {
            // Before tenants are applied: they take their limits from it.
            shared.plans.store(Arc::clone(&stage.plans));
        }
        if let Some(prices) = &stage.prices {
            shared.prices.store(Arc::clone(prices));
            shared.unpriced.clear();
        }
        let plan_terms = |plan: &str| shared.plans.load().terms(plan).unwrap_or_default();
        let mut states =
            LiveStates::new(&shared.counters, shared.platform.as_ref(), &shared.expiries, false, &plan_terms);
        let ended = apply(&stage.commit, &mut states);
        shared.alerts.note(states.crossings);
        shared.alerts.recorded(&stage.alerts);
        for (name, _) in &stage.plan_changes {
            // Those whose record stays as it is, too: the next decision is made by the new limits.
            for slot in shared.counters.all() {
                let tenant = Arc::clone(slot.lock().tenant());
                if tenant.plan == *name {
                    let terms = plan_terms(name);
                    slot.set_tenant(tenant, terms.limits, terms.thresholds, stage.commit.committed_at);
                }
            }
        }
        if !stage.is_empty() {
            self.numbers = stage.numbers_after();
        }
        ended
    }

    /// Takes as many events off the queue's count.
    pub(super) fn forget_queued(&self, count: usize) {
        self.queued_events.fetch_sub(count, Ordering::Relaxed);
    }

    fn apply_live(&mut self, stage: &Stage<'_>, live: &mut crate::live::LiveState) {
        if stage.is_empty() {
            return;
        }
        for (stored, id) in stage.commit.events.iter().zip(&stage.ids) {
            live.add_event(stored.tenant_no, &stored.event, stored.event_timestamp, stored.created_at, *id);
        }
        for placed in &stage.commit.operations {
            if let Operation::Denied { tenant_no, denial, .. } = &placed.operation {
                live.add_denials(*tenant_no, denial.at, denial.refused());
            }
        }
        live.end_commit(stage.commit.seq, stage.commit.operations.len());
        if live.open_weight() >= WEIGHT_PER_GENERATION {
            live.close_generation();
            self.has_closed = true;
        }
    }
}

/// The error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
