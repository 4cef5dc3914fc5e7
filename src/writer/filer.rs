//! The filer's thread: moves closed generations from the journal into segments.
//!
//! It decodes, sorts and packs outside any write transaction and hands the writer one short publication. It also moves
//! the shadow: counters that only the journal drives, saved now and then so that a start replays little.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hashbrown::HashMap;

use super::apply::{Shadow, apply};
use super::command::{Command, Publication};
use super::health::Trouble;
use super::receipt::WriteError;
use super::shared::Shared;
use super::unfiled::UnfiledCommit;
use super::{Writer, thread};
use crate::counters::TenantSlot;
use crate::domain::slice::{Slice, SliceHour};
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};
use crate::store::{
    Checkpoint, Commit, FiledDenial, HourMark, Operation, RunInParts, Snapshot, StoreError, prepare_runs,
};

/// Commits never stay in the journal longer than this, however few they are.
const UNFILED_AT_MOST: Duration = Duration::from_secs(20);
/// The counters are saved after so many filed events and operations for each tenant whose counters moved, since each of them
/// is written whole; within bounds, since a start after a crash replays as many. Or after so much time.
const WEIGHT_PER_SAVED_TENANT: usize = 20;
const WEIGHT_PER_SAVE: (usize, usize) = (100_000, 500_000);
const MICROS_PER_SAVE: i64 = 60 * MICROS_PER_SECOND;
/// A day with more small runs than this has them merged into one.
const SMALL_RUNS_PER_DAY: usize = 8;
/// A run of more events stays as it is: the blocks of a merge are held in memory, and a busy day is not to be rewritten again and again.
const SMALL_RUN_EVENTS: u64 = 125_000;
/// A merge takes the oldest small runs up to so many events...
const MERGED_EVENTS_MAX: u64 = 250_000;
/// ...of which about so many are in memory at once, some 7 MB, unless a single tenant has more.
const MERGED_EVENTS_AT_ONCE: u64 = 25_000;
/// Marks the number of a run that was merged from others; a filing's run has the number of its last commit.
const MERGED_RUN: u64 = 1 << 63;
/// How often a run was written again with other estimates, in a run's number: again a name of its own. It starts over
/// after 32,768 times, when nobody remembers a block of then.
const REWRITTEN_RUN: u64 = 0x7fff << 48;

/// The number of a run that takes the place of `run`, with the same events.
pub(crate) const fn rewritten_run(run: u64) -> u64 {
    run & !REWRITTEN_RUN | (run & REWRITTEN_RUN).wrapping_add(1 << 48) & REWRITTEN_RUN
}

pub(super) struct Filer {
    writer: Weak<Writer>,
    closed: Receiver<()>,
    shadow: Shadow,
    checkpoint: Checkpoint,
    /// The last commit that the shadow has taken in; behind the checkpoint only while a filing is tried again.
    shadow_through: u64,
    /// When that commit was made; `None` while all that it has taken in is saved since an earlier start.
    shadow_at: Option<Timestamp>,
    weight_since_save: u64,
}

/// How often the filer looks whether a store that failed is open again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why a filing did not happen.
#[derive(Debug, thiserror::Error)]
enum FilingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl FilingError {
    /// Whether it is gone once the store is open again.
    const fn passes(&self) -> bool {
        !matches!(self, Self::Store(StoreError::Damaged(_)))
    }
}

impl Filer {
    pub(super) fn new(
        writer: Weak<Writer>,
        closed: Receiver<()>,
        (shadow, shadow_at): (Shadow, Option<Timestamp>),
        checkpoint: Checkpoint,
    ) -> Self {
        let shadow_through = checkpoint.filed_seq;
        Self { writer, closed, shadow, checkpoint, shadow_through, shadow_at, weight_since_save: 0 }
    }

    /// Runs until the writer's thread is gone.
    pub(super) fn run(mut self) {
        loop {
            match self.closed.recv_timeout(UNFILED_AT_MOST) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let Some(writer) = self.writer.upgrade() else { return };
                    // Its closing wakes us up again.
                    drop(writer.submit(true, |promise| Command::CloseGeneration { promise }));
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let Some(writer) = self.writer.upgrade() else { return };
            while let Err(error) = self.file_closed(&writer).and_then(|()| self.save_if_asked(&writer)) {
                let reason = thread::chain(&error);
                if !error.passes() {
                    // The journal still holds everything, but what is not filed would fill the memory: nothing goes on
                    // until the next start.
                    tracing::error!(error = %reason, "filing failed: writes are refused until metergate is restarted");
                    writer.fail(format!("filing failed: {reason}"));
                    return;
                }
                tracing::warn!(error = %reason, "filing failed: it goes on when the store is open again");
                if !self.catch_up(&writer) {
                    return;
                }
            }
            let _alone = writer.maintenance();
            if let Err(error) = self.merge_one_day(&writer) {
                tracing::error!(error = %thread::chain(&error), "runs could not be merged; they stay as they are");
            }
        }
    }

    /// Waits until the store is open again, and looks whether the filing that failed is in it. False when there is
    /// nothing to wait for.
    fn catch_up(&mut self, writer: &Writer) -> bool {
        // Whatever was to be saved may not have been.
        self.shadow.change_all();
        loop {
            std::thread::sleep(LOOK_AGAIN);
            match writer.health().trouble().as_deref() {
                Some(Trouble::Down(_) | Trouble::Full(_)) => {}
                Some(Trouble::Broken(_) | Trouble::Closed) => return false,
                None => {
                    let stored = writer.shared.store.snapshot().and_then(|snapshot| snapshot.checkpoint());
                    if let Ok(stored) = stored {
                        self.checkpoint = stored;
                        return true;
                    }
                }
            }
        }
    }

    fn file_closed(&mut self, writer: &Writer) -> Result<(), FilingError> {
        loop {
            let oldest = writer.shared.live.read().oldest_closed();
            let Some(last_seq) = oldest else { break };
            let _alone = writer.maintenance();
            self.file_through(writer, last_seq)?;
        }
        Ok(())
    }

    /// Saves the counters if somebody asks for it and no filing did.
    fn save_if_asked(&mut self, writer: &Writer) -> Result<(), FilingError> {
        let asked = &writer.shared.save_counters;
        if !asked.load(Ordering::Acquire) {
            return Ok(());
        }
        // Before the request is taken: whoever finds it taken waits for this lock.
        let _alone = writer.maintenance();
        if !asked.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let behind = self.shadow_at.filter(|_| self.checkpoint.state_seq < self.shadow_through);
        let saved = behind.map_or(Ok(()), |shadow_at| self.save(writer, shadow_at));
        if saved.is_err() {
            asked.store(true, Ordering::Release);
        }
        saved
    }

    /// Saves the counters as the shadow has them, which is as of `shadow_at`.
    fn save(&mut self, writer: &Writer, shadow_at: Timestamp) -> Result<(), FilingError> {
        let shared = &*writer.shared;
        let (state_seq, saved_at) = (self.shadow_through, shared.clock.now());
        let checkpoint = Checkpoint { state_seq, saved_at, ..self.checkpoint.clone() };
        writer.publish(Publication {
            quota_states: shared.store.snapshot()?.state_blocks(&self.shadow.take_changed(shadow_at))?,
            journal_through: Some(checkpoint.filed_seq.min(checkpoint.state_seq)),
            checkpoint: Some(checkpoint.clone()),
            ..Publication::default()
        })?;
        self.checkpoint = checkpoint;
        self.weight_since_save = 0;
        Ok(())
    }

    /// Files the commits up to `last_seq`, which end a generation.
    fn file_through(&mut self, writer: &Writer, last_seq: u64) -> Result<(), FilingError> {
        let shared = &*writer.shared;
        let snapshot = shared.store.snapshot()?;
        let commits = match shared.unfiled.take(self.checkpoint.filed_seq + 1, last_seq) {
            Some(commits) => commits,
            None => self.read_journal(&snapshot, last_seq)?,
        };
        // Into the table before the ids leave the generation: an id is always in at least one of the two.
        Self::note_ids(shared, &commits);
        let commits: Vec<Commit> = commits.into_iter().map(|unfiled| unfiled.commit).collect();

        let mut hours: HashMap<SliceHour, u64> = HashMap::new();
        let mut touch = |tenant_no: u32, at: Timestamp, entry_id: u64| {
            let through = hours.entry((Slice::of(tenant_no), at.hour())).or_default();
            *through = (*through).max(entry_id);
        };
        let mut denials: HashMap<u32, Vec<FiledDenial>> = HashMap::new();
        for commit in &commits {
            if commit.seq > self.shadow_through {
                apply(commit, &mut self.shadow);
                self.shadow_through = commit.seq;
                self.shadow_at = Some(commit.committed_at);
            }
            commit.events.iter().for_each(|stored| touch(stored.tenant_no, stored.event_timestamp, stored.entry_id));
            for placed in &commit.operations {
                if let Operation::Denied { tenant_no, entry_id, denial } = &placed.operation {
                    // What was only observed is in no row.
                    if denial.refused() > 0 {
                        touch(*tenant_no, denial.at, *entry_id);
                    }
                    denials.entry(denial.at.day()).or_default().push(FiledDenial {
                        tenant_no: *tenant_no,
                        entry_id: *entry_id,
                        denial: denial.clone(),
                    });
                }
            }
        }
        let now = shared.clock.now();
        let mut checkpoint = Checkpoint { filed_seq: last_seq, saved_at: now, ..self.checkpoint.clone() };
        // The shadow stays at the time of its last commit: a hold that ends in the next one has not lapsed before.
        let mut last_commit = Timestamp::default();
        if let Some(last) = commits.last() {
            checkpoint.filed_next_entry_id = last.first_entry_id + last.entries;
            last_commit = last.committed_at;
        }
        let events = || commits.iter().flat_map(|commit| &commit.events);
        let count = events().count() as u64;

        let operations: usize = commits.iter().map(|commit| commit.operations.len()).sum();
        self.weight_since_save += count + operations as u64;
        let asked = shared.save_counters.swap(false, Ordering::AcqRel);
        let save = asked
            || self.weight_since_save >= self.weight_per_save()
            || now.micros_since(self.checkpoint.saved_at) >= MICROS_PER_SAVE
            || self.checkpoint.state_seq == 0;
        let changed = if save { self.shadow.take_changed(last_commit) } else { Vec::new() };
        let quota_states = snapshot.state_blocks(&changed)?;
        if save {
            checkpoint.state_seq = last_seq;
            self.weight_since_save = 0;
        } else {
            checkpoint.saved_at = self.checkpoint.saved_at;
        }

        let marks: HashMap<SliceHour, HourMark> = snapshot.hour_marks_of(hours.keys().copied())?.into_iter().collect();
        let publication = Publication {
            runs: prepare_runs(events())?,
            run: last_seq,
            denials: denials.into_iter().collect(),
            hours: hours
                .into_iter()
                .map(|(hour, filed_through)| {
                    let mark = marks.get(&hour).copied().unwrap_or_default();
                    (hour, HourMark { filed_through: mark.filed_through.max(filed_through), ..mark })
                })
                .collect(),
            quota_states,
            journal_through: Some(checkpoint.filed_seq.min(checkpoint.state_seq)),
            checkpoint: Some(checkpoint.clone()),
            files_generation: true,
            ..Publication::default()
        };
        drop(snapshot);
        writer.publish(publication)?;
        self.checkpoint = checkpoint;
        Ok(())
    }

    fn weight_per_save(&self) -> u64 {
        let (least, most) = WEIGHT_PER_SAVE;
        (WEIGHT_PER_SAVED_TENANT * self.shadow.changed_count()).clamp(least, most) as u64
    }

    /// Notes the ids of what is to be filed.
    fn note_ids(shared: &Shared, commits: &[UnfiledCommit]) {
        let mut noted = Vec::with_capacity(commits.iter().map(|unfiled| unfiled.commit.events.len()).sum());
        commits.iter().for_each(|unfiled| Self::collect_ids(shared, unfiled, &mut noted));
        shared.fingerprints.insert_all(&noted);
    }

    fn collect_ids(shared: &Shared, UnfiledCommit { commit, ids }: &UnfiledCommit, noted: &mut Vec<(u64, u32)>) {
        for (place, stored) in commit.events.iter().enumerate().filter(|(_, stored)| stored.event_id_given) {
            let hash = match ids {
                Some(ids) => ids[place].map(|(hash, _)| hash),
                None => {
                    let hash = |slot: &Arc<TenantSlot>| shared.identity.hash(&slot.id, &stored.event_id);
                    shared.counters.with_no(stored.tenant_no, hash)
                }
            };
            if let Some(hash) = hash {
                noted.push((hash.fingerprint(), stored.event_timestamp.day()));
            }
        }
    }

    fn read_journal(&self, snapshot: &Snapshot, last_seq: u64) -> Result<Vec<UnfiledCommit>, StoreError> {
        let mut commits = Vec::new();
        snapshot.commits_after(self.checkpoint.filed_seq, |commit| {
            if commit.seq > last_seq {
                return ControlFlow::Break(());
            }
            commits.push(UnfiledCommit { commit, ids: None });
            ControlFlow::Continue(())
        })?;
        Ok(commits)
    }

    /// Merges the small runs of the day that has most of them, so that reads stay short.
    fn merge_one_day(&self, writer: &Writer) -> Result<(), FilingError> {
        let shared = &*writer.shared;
        let snapshot = shared.store.snapshot()?;
        let mut runs_of_day: HashMap<u32, Vec<(u64, u64)>> = HashMap::new();
        for (day, run, info) in snapshot.runs(0..=u32::MAX)? {
            if info.events <= SMALL_RUN_EVENTS {
                runs_of_day.entry(day).or_default().push((run, info.events));
            }
        }
        let Some((day, mut small)) = runs_of_day.into_iter().max_by_key(|(_, runs)| runs.len()) else { return Ok(()) };
        if small.len() <= SMALL_RUNS_PER_DAY {
            return Ok(());
        }
        small.sort_unstable_by_key(|(run, _)| run & !(MERGED_RUN | REWRITTEN_RUN));
        let (mut runs, mut events_in_all) = (Vec::new(), 0);
        for (run, events) in small {
            if events_in_all + events > MERGED_EVENTS_MAX {
                break;
            }
            runs.push(run);
            events_in_all += events;
        }
        // A number of its own: whoever remembers a block by its name must not find another one under it. The
        // oldest small runs are merged, so at most one of them was merged before, and it is the oldest: the newest filing
        // among them never named a run like this.
        let run =
            runs.iter().map(|run| run & !(MERGED_RUN | REWRITTEN_RUN)).max().map_or(0, |newest| newest | MERGED_RUN);
        let parts = u32::try_from(events_in_all / MERGED_EVENTS_AT_ONCE + 1).unwrap_or(u32::MAX);
        let mut merged = RunInParts::default();
        for tenants in Slice::ranges(shared.counters.len(), parts) {
            let mut events = Vec::new();
            snapshot.run_events(day, &runs, &tenants, |stored| events.push(stored))?;
            merged.add(events)?;
        }
        let Some(merged) = merged.finish(day)? else { return Ok(()) };
        if merged.info.events != events_in_all {
            return Err(StoreError::Damaged("a merge would leave events out").into());
        }
        drop(snapshot);
        writer.publish(Publication { run, merged: Some((runs, merged)), ..Publication::default() })?;
        Ok(())
    }
}
