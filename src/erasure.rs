//! Erasure: takes out of the audit log and the raw events what names somebody, and the bytes out of the file.
//!
//! In this order, each step repeatable: audit records in pieces, each with the record that says so; events, run by run; the
//! journal; then the file is written anew. Broken off anywhere, it is finished by being asked for again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::stopwatch;
use crate::domain::actor::Actor;
use crate::domain::audit::ENTITY_AUDIT_EVENT;
use crate::domain::compact_event::CompactEvent;
use crate::domain::event::EventId;
use crate::domain::tenant::{TenantChange, TenantStatus};
use crate::domain::time::Timestamp;
use crate::live::session_hash;
use crate::rules::erasure::{Blankable, ID_CHARS_MAX, Subject, erasure_entry};
use crate::store::{BackupError, FiledDenial, Snapshot, StoreError, StoredEvent, prepare_runs};
use crate::writer::{Publication, WriteError, Writer, rewritten_run};

/// Records that one transaction erases: the record that says so has room for so many ranges.
const RECORDS_PER_COMMIT: usize = 400;
/// Records that are looked at in one snapshot.
const LOOKED_AT_ONCE: usize = 2_000;
/// How long an erasure waits for readers of the old file, and how often it looks.
const READERS_WAIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Erases. Cheap to clone.
#[derive(Clone)]
pub struct Erasure {
    writer: Arc<Writer>,
}

/// Why nothing, or not everything, was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The id cannot be one.
    #[error("the id {0}")]
    InvalidId(String),
    /// No such tenant was ever seen.
    #[error("there is no tenant `{0}`")]
    UnknownTenant(String),
    /// A tenant that goes on would write new records at once.
    #[error("the tenant `{0}` is not deleted: delete it first, then erase it")]
    TenantNotDeleted(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was erased so far is erased; ask again.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Erased, but its bytes may still be in the file's freed pages; ask again.
    #[error("everything is erased, but the file could not be written anew: {0}")]
    Rewrite(#[from] BackupError),
}

/// What was erased, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The id under which the audit log has it.
    pub erasure_id: Uuid,
    /// Audit records whose payload and salt are gone.
    pub audit_records: u64,
    /// Events whose personal fields are blank.
    pub events: u64,
    /// Denials whose request id is gone.
    pub denials: u64,
    /// When the oldest of it was recorded: backups from then on may hold it. `None` when nothing was found.
    pub first_at: Option<Timestamp>,
    /// When it was done.
    pub finished_at: Timestamp,
    /// Whether the file was written anew; not in a dry run and not in memory.
    pub rewritten: bool,
    /// How long writers were held up for it.
    pub paused: Duration,
    /// The file's size before and after, in bytes.
    pub file_bytes: (u64, u64),
    /// Old files that somebody still read at the end: their bytes are on the disk until they do not.
    pub still_read: u64,
}

impl Erased {
    fn found(&mut self, at: Timestamp) {
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
    }
}

impl Erasure {
    pub(crate) const fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }

    /// Erases what names the subject; with `dry_run` only counts. Blocks its thread for as long as reading the audit log and
    /// the raw events, and copying the store, take. What is recorded about the subject while it runs may stay.
    pub fn erase(&self, subject: &Subject, dry_run: bool, actor: &Actor) -> Result<Erased, EraseError> {
        self.check(subject)?;
        let shared = self.writer.shared();
        let _alone = shared.copying.lock();
        let mut erased = Erased {
            erasure_id: crate::ids::new_uuid_v7(shared.clock.now()),
            audit_records: 0,
            events: 0,
            denials: 0,
            first_at: None,
            finished_at: shared.clock.now(),
            rewritten: false,
            paused: Duration::ZERO,
            file_bytes: (shared.store.file_bytes(), shared.store.file_bytes()),
            still_read: 0,
        };
        self.writer.file_everything()?;
        self.erase_audit(subject, dry_run, actor, &mut erased)?;
        for day in shared.store.snapshot()?.days(0..=u32::MAX)? {
            self.blank_day(subject, dry_run, day, &mut erased)?;
        }
        if dry_run {
            return Ok(erased);
        }
        if erased.audit_records == 0 {
            // There is always a record of it, and a commit behind which the journal can go.
            self.publish_erased(subject, &[], actor, &erased)?;
        }
        if let Subject::Tenant(tenant_id) = subject {
            // Refused only where there is no tenant, and there is one.
            let _done = self.writer.change(tenant_id.clone(), Some(TenantChange::Erase), &Actor::SYSTEM)?.wait()?;
        }
        // The journal still has the events of before, until the counters are saved behind them.
        shared.save_counters.store(true, Ordering::Release);
        self.writer.file_everything()?;
        self.rewrite(&mut erased)?;
        erased.finished_at = shared.clock.now();
        Ok(erased)
    }

    fn check(&self, subject: &Subject) -> Result<(), EraseError> {
        if let Subject::Actor { id, .. } | Subject::Session { id, .. } = subject
            && !(1..=ID_CHARS_MAX).contains(&id.chars().count())
        {
            return Err(EraseError::InvalidId(format!("must have 1 to {ID_CHARS_MAX} characters")));
        }
        let Some(tenant_id) = subject.tenant_id() else { return Ok(()) };
        let slot = self.writer.shared().counters.get(tenant_id);
        let slot = slot.ok_or_else(|| EraseError::UnknownTenant(tenant_id.to_string()))?;
        let status = slot.lock().tenant().status;
        if matches!(subject, Subject::Tenant(_)) && status != TenantStatus::Deleted {
            return Err(EraseError::TenantNotDeleted(tenant_id.to_string()));
        }
        Ok(())
    }

    fn erase_audit(
        &self,
        subject: &Subject,
        dry_run: bool,
        actor: &Actor,
        erased: &mut Erased,
    ) -> Result<(), EraseError> {
        let store = &self.writer.shared().store;
        let end = store.snapshot()?.next_audit_index()?;
        let mut from = 0;
        // Ids of the events that are erased: what resolves one of them is about it.
        let mut resolved = std::collections::HashSet::new();
        while from < end {
            // Retention takes records of the same log.
            let _alone = self.writer.maintenance();
            let records = store.snapshot()?.audit_records(from, LOOKED_AT_ONCE)?;
            let Some(last) = records.last() else { break };
            from = last.index + 1;
            let mut found = Vec::new();
            for record in records.into_iter().filter(|record| record.index < end) {
                let of_erased = record.entry.entity_type == ENTITY_AUDIT_EVENT
                    && record.entry.entity_id.as_ref().is_some_and(|id| resolved.contains(id));
                if of_erased || subject.concerns(&record.entry) {
                    resolved.insert(record.event_id.to_string());
                    erased.found(record.timestamp);
                    found.push(record.index);
                }
            }
            erased.audit_records += found.len() as u64;
            if !dry_run {
                for piece in found.chunks(RECORDS_PER_COMMIT) {
                    self.publish_erased(subject, piece, actor, erased)?;
                }
            }
        }
        Ok(())
    }

    fn publish_erased(
        &self,
        subject: &Subject,
        indices: &[u64],
        actor: &Actor,
        erased: &Erased,
    ) -> Result<(), EraseError> {
        let mut entry = erasure_entry(erased.erasure_id, subject.kind(), indices, erased.events);
        // The key tells who asked; a name would have to be erased from here one day, and this record has to stay.
        let nameless = Actor { ip_address: None, user_agent: None, ..actor.clone() };
        nameless.sign(&mut entry);
        entry.actor_id = None;
        self.writer.publish(Publication {
            audit_erased: indices.to_vec(),
            erasure_open: true,
            audit: Some(entry),
            ..Publication::default()
        })?;
        Ok(())
    }

    fn blank_day(&self, subject: &Subject, dry_run: bool, day: u32, erased: &mut Erased) -> Result<(), EraseError> {
        // Runs stay what they are as long as this is held; between two days filing, and a stop, have their turn.
        let _alone = self.writer.maintenance();
        let shared = self.writer.shared();
        let session_key = shared.live.read().session_key();
        for (day, run, _) in shared.store.snapshot()?.runs(day..=day)? {
            let mut events: Vec<StoredEvent> = Vec::new();
            // A snapshot of each run's own: what the last one freed can be used again.
            let snapshot = shared.store.snapshot()?;
            snapshot.run_events(day, &[run], &(0..=u32::MAX), |stored| events.push(stored))?;
            let before = erased.events;
            for stored in &mut events {
                let text = stored.event_id.to_string();
                let mut id = Blankable { text: &text, given: stored.event_id_given, replaced: false };
                let mut event = stored.to_usage(snapshot.tenant_id(stored.tenant_no)?);
                if subject.blank(&mut event, &mut id, |session| session_hash(session, session_key)) {
                    erased.events += 1;
                    erased.found(stored.created_at);
                    stored.event = CompactEvent::from_usage(event);
                    if id.replaced {
                        stored.event_id = EventId::Uuid(Uuid::from_bytes(crate::ids::random_bytes()));
                        stored.event_id_given = false;
                    }
                }
            }
            drop(snapshot);
            if erased.events > before && !dry_run {
                // Like a merge: the same events under a name of its own.
                let merged = prepare_runs(&events)?.pop().ok_or(StoreError::Damaged("a run has no events"))?;
                self.writer.publish(Publication {
                    run: rewritten_run(run),
                    merged: Some((vec![run], merged)),
                    erasure_open: true,
                    ..Publication::default()
                })?;
            }
        }
        self.blank_denials(subject, dry_run, day, erased)
    }

    /// What a denial was about is kept 30 days; of a whole tenant its request id goes.
    fn blank_denials(&self, subject: &Subject, dry_run: bool, day: u32, erased: &mut Erased) -> Result<(), EraseError> {
        let Subject::Tenant(tenant_id) = subject else { return Ok(()) };
        let shared = self.writer.shared();
        let Some(slot) = shared.counters.get(tenant_id) else { return Ok(()) };
        let of_day: Vec<(u64, Vec<FiledDenial>)> = Snapshot::denial_runs(&shared.store.snapshot()?, day)?;
        for (run, mut denials) in of_day {
            let before = erased.denials;
            for filed in denials.iter_mut().filter(|filed| filed.tenant_no == slot.no) {
                if filed.denial.request_id.take().is_some() {
                    erased.denials += 1;
                    erased.found(filed.denial.at);
                }
            }
            if erased.denials > before && !dry_run {
                let denials = vec![(day, denials)];
                self.writer.publish(Publication { run, denials, erasure_open: true, ..Publication::default() })?;
            }
        }
        Ok(())
    }

    /// Writes the file anew: first while others write, then, shortly, while they wait.
    fn rewrite(&self, erased: &mut Erased) -> Result<(), EraseError> {
        let shared = self.writer.shared();
        erased.file_bytes.0 = shared.store.file_bytes();
        let Some(rewrite) = shared.store.begin_rewrite()? else { return Ok(()) };
        let paused = stopwatch();
        let (sender, receiver) = std::sync::mpsc::channel();
        let for_writer = Arc::clone(&self.writer);
        let work = Box::new(move || {
            let started = stopwatch();
            let outcome = for_writer.shared().store.finish_rewrite(rewrite);
            let _asker_may_be_gone = sender.send((outcome, started.elapsed()));
        });
        self.writer.exclusively(work)?;
        let lost = || WriteError::Unavailable("the writer has stopped".to_owned());
        let (outcome, took) = receiver.recv().map_err(|_| lost())?;
        outcome?;
        erased.paused = took.min(paused.elapsed());
        erased.rewritten = true;
        let started = stopwatch();
        while shared.store.retired_files() > 0 && started.elapsed() < READERS_WAIT {
            std::thread::sleep(LOOK_EVERY);
        }
        erased.still_read = shared.store.retired_files() as u64;
        erased.file_bytes.1 = shared.store.file_bytes();
        Ok(())
    }
}
