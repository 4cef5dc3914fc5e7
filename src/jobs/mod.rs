//! The jobs: aggregation and clean-ups, run by the schedule or by hand, each run remembered in the store.
//!
//! The schedule only triggers. What is due is told by the stored last run and the cron text alone, so a run that was
//! missed, by a stopped server or a scheduler that died, is caught up.

mod alarms;
mod name;
mod scheduler;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use alarms::Alarm;
pub use name::JobName;
pub use scheduler::{ScheduleFailed, Scheduled};

use crate::audit::{AuditError, AuditLogger};
use crate::domain::job::{CONFIRM_CLOCK, JobRecord, JobResult};
use crate::domain::schedule::Schedule;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::tracker::{MaintainError, ReadError, UsageTracker};
use crate::writer::{Publication, WriteError, Writer};

/// Runs that one trigger catches up at most: as many days as raw events may be kept.
const MISSED_RUNS_MAX: usize = 60;

/// The same where a clock was moved: as many days as it is moved at once, and more.
const MOVED_RUNS_MAX: usize = 400;

/// How long a run by hand waits for one in progress.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a job did not do its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The same job is running already.
    #[error("{0} is running already: look at it with `metergate jobs`")]
    Running(JobName),
    /// It failed.
    #[error(transparent)]
    Failed(#[from] MaintainError),
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows written, or removed.
    pub rows: u64,
    /// Of an aggregation with a range: hours below the retention cut, which stand untouched.
    pub hours_skipped: u64,
    /// Of a clean-up: what is strictly older is gone.
    pub cut: Option<Timestamp>,
}

/// One job as it stands.
#[derive(Clone, Debug)]
pub struct JobStatus {
    /// Which.
    pub job: JobName,
    /// Its cron text, in UTC.
    pub schedule: String,
    /// Its last run; `None` before the first.
    pub last: Option<JobRecord>,
    /// Whether it runs now.
    pub running: bool,
    /// When the schedule triggers it next; `None` where no schedule runs.
    pub next: Option<Timestamp>,
    /// Triggers that found it still running.
    pub overlaps_refused: u64,
}

/// Runs the jobs and knows about them. Clones are the same.
#[derive(Clone)]
pub struct Jobs(Arc<Parts>);

struct Parts {
    writer: Arc<Writer>,
    tracker: UsageTracker,
    audit: AuditLogger,
    slots: [Slot; JobName::ALL.len()],
    /// Whether a schedule triggers them in this process.
    scheduled: AtomicBool,
    /// Whether that schedule is the scheduler's, whose triggers are awaited.
    awaited: AtomicBool,
    /// How often the schedule was found dead and started again.
    restarts: AtomicU64,
    stopping: AtomicBool,
}

struct Slot {
    schedule: Schedule,
    running: Mutex<()>,
    /// The last trigger, or the start of the schedule, in microseconds.
    triggered: AtomicI64,
    overlaps: AtomicU64,
}

impl Jobs {
    /// The jobs of an engine, not scheduled yet. `schedule_of` gives each its times.
    pub fn new(writer: Arc<Writer>, schedule_of: impl Fn(JobName) -> Schedule) -> Self {
        let now = writer.shared().clock.now();
        let slot = |job| Slot {
            schedule: schedule_of(job),
            running: Mutex::default(),
            triggered: now.micros().into(),
            overlaps: AtomicU64::default(),
        };
        Self(Arc::new(Parts {
            tracker: UsageTracker::new(Arc::clone(&writer)),
            audit: AuditLogger::new(Arc::clone(&writer)),
            writer,
            slots: JobName::ALL.map(slot),
            scheduled: AtomicBool::default(),
            awaited: AtomicBool::default(),
            restarts: AtomicU64::default(),
            stopping: AtomicBool::default(),
        }))
    }

    fn slot(&self, job: JobName) -> &Slot {
        &self.0.slots[job as usize]
    }

    fn now(&self) -> Timestamp {
        self.0.writer.shared().clock.now()
    }

    /// Runs a job now and remembers the run; a range is for the aggregation only. Waits half a minute for the same job to
    /// end, as who asks now wants it done after now. Blocks its thread.
    pub fn run(&self, job: JobName, range: Option<(Timestamp, Timestamp)>) -> Result<Done, JobError> {
        let Some(_running) = self.slot(job).running.try_lock_for(WAIT_MAX) else { return Err(JobError::Running(job)) };
        self.remembered(job, || self.work(job, range))
    }

    /// Runs a job as the schedule does: once for each time that was missed since its last success, at most 60 times. A
    /// clean-up moves a day at a time, so after a stop of days it catches up day by day. Blocks its thread.
    pub fn run_due(&self, job: JobName) -> Result<Done, JobError> {
        let slot = self.slot(job);
        slot.triggered.fetch_max(self.now().micros(), Ordering::AcqRel);
        let Some(_running) = slot.running.try_lock() else {
            slot.overlaps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(job = job.name(), "it is still running: this trigger is refused");
            return Err(JobError::Running(job));
        };
        self.work_off(job, MISSED_RUNS_MAX)
    }

    /// Does what was missed, in so many runs at most; the caller holds the job's lock.
    fn work_off(&self, job: JobName, runs_max: usize) -> Result<Done, JobError> {
        let slot = self.slot(job);
        let last_success = self.record(job.name()).map_err(MaintainError::from)?.and_then(|record| record.last_success);
        let missed = last_success.map_or(1, |last| slot.schedule.times_between(last, self.now(), runs_max).max(1));
        self.remembered(job, || {
            let mut done = self.work(job, None)?;
            // Folding takes everything at once: there is nothing left for a second run.
            let steps = if job == JobName::AggregateUsageMetrics { 1 } else { missed };
            for _ in 1..steps {
                if self.0.stopping.load(Ordering::Acquire) {
                    break;
                }
                let more = self.work(job, None)?;
                if more.cut == done.cut {
                    break;
                }
                done = Done { rows: done.rows + more.rows, ..more };
            }
            Ok(done)
        })
    }

    fn work(&self, job: JobName, range: Option<(Timestamp, Timestamp)>) -> Result<Done, MaintainError> {
        match job {
            JobName::AggregateUsageMetrics => {
                let done = self.0.tracker.aggregate_usage_metrics(range)?;
                Ok(Done { rows: done.rows_written, hours_skipped: done.hours_skipped, cut: None })
            }
            JobName::CleanupOldRealtimeEvents => {
                let done = self.0.tracker.cleanup_old_realtime_events()?;
                Ok(Done { rows: done.rows_removed, hours_skipped: 0, cut: Some(done.cut) })
            }
            JobName::CleanupOldAuditEvents => {
                let done = self.0.audit.cleanup_old_audit_events().map_err(maintain_error)?;
                Ok(Done { rows: done.rows_removed, hours_skipped: 0, cut: Some(done.cut) })
            }
        }
    }

    fn remembered(&self, job: JobName, work: impl FnOnce() -> Result<Done, MaintainError>) -> Result<Done, JobError> {
        let started = self.now();
        let outcome = work();
        let before = self.record(job.name()).ok().flatten();
        let failed = outcome.is_err();
        let record = JobRecord {
            job: job.name().to_owned(),
            started,
            finished: self.now(),
            result: if failed { JobResult::Failure } else { JobResult::Success },
            rows: outcome.as_ref().map_or(0, |done| done.rows),
            error: outcome.as_ref().err().map(ToString::to_string),
            last_success: if failed { before.as_ref().and_then(|record| record.last_success) } else { Some(started) },
            failures: before.map_or(0, |record| record.failures) + u64::from(failed),
        };
        match &outcome {
            Ok(done) => tracing::info!(job = job.name(), rows = done.rows, "the job ran"),
            Err(error) => tracing::error!(job = job.name(), %error, "the job failed"),
        }
        if let Err(error) = self.remember(record) {
            tracing::error!(job = job.name(), %error, "the job's run could not be written down");
        }
        Ok(outcome?)
    }

    fn remember(&self, record: JobRecord) -> Result<(), WriteError> {
        self.0.writer.publish(Publication { jobs: vec![record], ..Publication::default() })
    }

    fn record(&self, name: &str) -> Result<Option<JobRecord>, StoreError> {
        let records = self.0.writer.shared().store.snapshot()?.jobs()?;
        Ok(records.into_iter().find(|record| record.job == name))
    }

    /// Says that the clock is right, so that retention goes on. False when nothing waited for it.
    pub fn confirm_clock(&self) -> Result<bool, WriteError> {
        let shared = self.0.writer.shared();
        if !shared.clock_unconfirmed.load(Ordering::Acquire) {
            return Ok(false);
        }
        let now = self.now();
        self.remember(JobRecord {
            job: CONFIRM_CLOCK.to_owned(),
            started: now,
            finished: now,
            result: JobResult::Success,
            rows: 0,
            error: None,
            last_success: Some(now),
            failures: 0,
        })?;
        shared.clock_unconfirmed.store(false, Ordering::Release);
        tracing::info!(%now, "the clock is confirmed: retention goes on");
        Ok(true)
    }

    /// Every job as it stands.
    pub fn status(&self) -> Result<Vec<JobStatus>, StoreError> {
        let records = self.0.writer.shared().store.snapshot()?.jobs()?;
        let scheduled = self.0.scheduled.load(Ordering::Acquire);
        let status = |job: JobName| {
            let slot = self.slot(job);
            JobStatus {
                job,
                schedule: slot.schedule.text().to_owned(),
                last: records.iter().find(|record| record.job == job.name()).cloned(),
                running: slot.running.is_locked(),
                next: if scheduled { slot.schedule.next_after(self.now()) } else { None },
                overlaps_refused: slot.overlaps.load(Ordering::Relaxed),
            }
        };
        Ok(JobName::ALL.map(status).into())
    }

    /// [`Jobs::catch_up`] for a clock that was moved: waits for what is running, so that afterwards nothing is due.
    pub fn catch_up_waiting(&self) -> Result<Vec<JobName>, StoreError> {
        let mut ran = Vec::new();
        for job in JobName::ALL {
            let _running = self.slot(job).running.lock();
            if self.is_due(job, self.record(job.name())?.as_ref()) {
                // Logged and remembered where it ran.
                let _ = self.work_off(job, MOVED_RUNS_MAX);
                ran.push(job);
            }
        }
        Ok(ran)
    }

    /// Whether its time came since its last run, or it never ran.
    fn is_due(&self, job: JobName, last: Option<&JobRecord>) -> bool {
        let next = last.map(|last| self.slot(job).schedule.next_after(last.started));
        next.is_none_or(|next| next.is_some_and(|next| next <= self.now()))
    }

    /// The jobs whose time came since their last run, or that never ran.
    pub fn due(&self) -> Result<Vec<JobName>, StoreError> {
        let is_due = |status: &JobStatus| !status.running && self.is_due(status.job, status.last.as_ref());
        Ok(self.status()?.iter().filter(|status| is_due(status)).map(|status| status.job).collect())
    }

    /// Runs what is due, one after the other; gives what ran. A failure is remembered and waits for its next time.
    pub fn catch_up(&self) -> Result<Vec<JobName>, StoreError> {
        let due = self.due()?;
        for job in &due {
            if !self.0.stopping.load(Ordering::Acquire) {
                // Logged and remembered where it ran.
                let _ = self.run_due(*job);
            }
        }
        Ok(due)
    }
}
/// The audit log's errors among those of maintenance.
fn maintain_error(error: AuditError) -> MaintainError {
    match error {
        AuditError::Write(error) => error.into(),
        AuditError::Invalid { field, reason } => ReadError::InvalidRange { field, reason }.into(),
        AuditError::Storage(cause) => ReadError::Storage(cause).into(),
        AuditError::ClockUnconfirmed => MaintainError::ClockUnconfirmed,
    }
}
