//! The schedule: triggers the jobs by cron text in UTC, and is watched.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::{JobName, Jobs};
use crate::domain::time::MICROS_PER_MINUTE;

/// How late a trigger may be.
pub(super) const LATE_MICROS: i64 = MICROS_PER_MINUTE;
/// How often it is looked whether the schedule still triggers.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// How often it is looked whether a job is due, where the clock can be moved.
const DUE_EVERY: Duration = Duration::from_millis(500);

/// The schedule could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of the jobs cannot be started")]
pub struct ScheduleFailed(#[from] JobSchedulerError);

/// A running schedule; ended by [`Scheduled::stop`].
pub struct Scheduled {
    jobs: Jobs,
    stop: oneshot::Sender<()>,
    watch: JoinHandle<()>,
}

impl Jobs {
    /// Starts the schedule; what is due already is caught up at once, in the background.
    pub async fn schedule(&self) -> Result<Scheduled, ScheduleFailed> {
        for job in JobName::ALL {
            self.slot(job).triggered.store(self.now().micros(), Ordering::Release);
        }
        let (stop, stopped) = oneshot::channel();
        let watch = if self.0.writer.shared().clock.can_be_moved() {
            tokio::spawn(follow(self.clone(), stopped))
        } else {
            let scheduler = self.start_scheduler().await?;
            self.0.awaited.store(true, Ordering::Release);
            tokio::spawn(watch(self.clone(), scheduler, stopped))
        };
        self.0.scheduled.store(true, Ordering::Release);
        Ok(Scheduled { jobs: self.clone(), stop, watch })
    }

    async fn start_scheduler(&self) -> Result<JobScheduler, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        for job in JobName::ALL {
            let jobs = self.clone();
            let trigger = move |_, _| {
                let jobs = jobs.clone();
                let triggered: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                    // Logged and remembered where it ran.
                    blocking(move || drop(jobs.run_due(job))).await;
                });
                triggered
            };
            scheduler.add(Job::new_async(self.slot(job).schedule.text(), trigger)?).await?;
        }
        scheduler.start().await?;
        Ok(scheduler)
    }
}

impl Scheduled {
    /// Triggers nothing more, and waits for the runs in progress.
    pub async fn stop(self) {
        self.jobs.0.stopping.store(true, Ordering::Release);
        self.jobs.0.scheduled.store(false, Ordering::Release);
        self.jobs.0.awaited.store(false, Ordering::Release);
        // The watch may be gone: that was logged.
        let _ = self.stop.send(());
        if let Err(error) = self.watch.await {
            tracing::error!(%error, "the watch over the schedule failed");
        }
        let jobs = self.jobs;
        blocking(move || JobName::ALL.into_iter().for_each(|job| drop(jobs.slot(job).running.lock()))).await;
    }
}

/// Catches up at the start; then looks after the schedule until told to stop.
async fn watch(jobs: Jobs, mut scheduler: JobScheduler, mut stopped: oneshot::Receiver<()>) {
    catch_up(&jobs).await;
    while tokio::time::timeout(WATCH_EVERY, &mut stopped).await.is_err() {
        let silent = jobs.silent();
        if silent.is_empty() {
            continue;
        }
        let names: Vec<&str> = silent.iter().map(|job| job.name()).collect();
        tracing::error!(jobs = names.join(", "), "the schedule has stopped triggering: it is started again");
        jobs.0.restarts.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = scheduler.shutdown().await {
            tracing::warn!(%error, "the silent schedule did not end by itself");
        }
        match jobs.start_scheduler().await {
            Ok(started) => scheduler = started,
            Err(error) => tracing::error!(%error, "the schedule cannot be started; it is tried again"),
        }
        for job in silent {
            jobs.slot(job).triggered.store(jobs.now().micros(), Ordering::Release);
        }
        catch_up(&jobs).await;
    }
    if let Err(error) = scheduler.shutdown().await {
        tracing::warn!(%error, "the schedule did not end by itself");
    }
}

/// Runs what is due by a clock that can be moved: the scheduler waits by the machine's.
async fn follow(jobs: Jobs, mut stopped: oneshot::Receiver<()>) {
    catch_up(&jobs).await;
    while tokio::time::timeout(DUE_EVERY, &mut stopped).await.is_err() {
        catch_up(&jobs).await;
    }
}

async fn catch_up(jobs: &Jobs) {
    let jobs = jobs.clone();
    blocking(move || {
        if let Err(error) = jobs.catch_up() {
            tracing::error!(%error, "what is due cannot be read");
        }
    })
    .await;
}

/// Runs what waits for the disk on a thread made for it.
async fn blocking(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "a job's thread failed");
    }
}
