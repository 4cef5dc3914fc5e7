//! What wants a person's attention, each with what to do.

use std::sync::atomic::Ordering;

use super::{JobName, Jobs};
use crate::domain::job::JobResult;
use crate::writer::{Trouble, UnpricedModels};

/// One thing that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// A stable name.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Jobs {
    /// Everything that is wrong now.
    pub fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut raise = |code, message| alarms.push(Alarm { code, message });
        let shared = self.0.writer.shared();
        match self.0.writer.health().trouble().as_deref() {
            Some(Trouble::Full(cause)) => {
                raise("storage_full", format!("writes are refused, releases and reads go on: {cause}"))
            }
            Some(trouble) => raise("not_ready", format!("writes are refused: {}", trouble.reason())),
            None => {}
        }
        let (free, step) = (shared.store.free_bytes(), shared.store.next_growth_bytes());
        if let Some(free) = free.filter(|free| *free < 2 * step) {
            let (free, step) = (free >> 20, step >> 20);
            raise(
                "disk_low",
                format!("{free} MiB are free, and the store grows by {step} MiB when it next must: make room"),
            );
        }
        if let Some(alarm) = shared.clock.alarm() {
            let text = format!(
                "the wall clock says {}, the server's clock {}: set the wall clock right, or restart",
                alarm.wall, alarm.server
            );
            raise("clock_not_believed", text);
        }
        if shared.clock_unconfirmed.load(Ordering::Acquire) {
            let text = "retention waits after a pause of more than 48 hours: look at the clock, then run `metergate jobs \
                        confirm-clock`";
            raise("clock_unconfirmed", text.to_owned());
        }
        if shared.store.snapshot().and_then(|snapshot| snapshot.is_erasure_open()).unwrap_or(false) {
            let text = "an erasure is running, or was broken off: what it erased may still be in the file until `metergate \
                        erase` has run to its end";
            raise("erasure_unfinished", text.to_owned());
        }
        if let Some(text) = unpriced(&shared.unpriced) {
            raise("models_unpriced", text);
        }
        for job in self.silent() {
            raise("job_not_triggered", format!("the schedule has stopped triggering {job}: it is started again"));
        }
        match self.status() {
            Ok(jobs) => {
                for record in jobs.into_iter().filter_map(|status| status.last) {
                    if record.result == JobResult::Failure {
                        let cause = record.error.unwrap_or_default();
                        raise("job_failed", format!("{} failed at {}: {cause}", record.job, record.started));
                    }
                }
            }
            Err(error) => raise("storage_unavailable", format!("the jobs' runs cannot be read: {error}")),
        }
        alarms
    }

    /// Jobs whose trigger is more than a minute late, while a schedule should trigger them.
    pub fn silent(&self) -> Vec<JobName> {
        if !self.0.awaited.load(Ordering::Acquire) {
            return Vec::new();
        }
        let late = self.now().plus_micros(-super::scheduler::LATE_MICROS);
        let is_silent = |job: &JobName| {
            let slot = self.slot(*job);
            let triggered = super::Timestamp::from_micros(slot.triggered.load(Ordering::Acquire));
            !slot.running.is_locked() && slot.schedule.next_after(triggered).is_some_and(|next| next < late)
        };
        JobName::ALL.into_iter().filter(is_silent).collect()
    }

    /// How often the schedule was found silent and started again.
    pub fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }
}

/// Names the models without a price, the first few, and counts the rest.
fn unpriced(models: &UnpricedModels) -> Option<String> {
    const NAMED_MAX: usize = 8;
    let (listed, unlisted_events) = models.listed();
    let first = listed.first()?;
    let named: Vec<&str> = listed.iter().take(NAMED_MAX).map(|model| model.model.as_str()).collect();
    let more = match (listed.len() - named.len(), unlisted_events) {
        (0, 0) => String::new(),
        (more, 0) => format!(" and {more} more"),
        (more, _) => format!(" and more than {more} more"),
    };
    Some(format!("events have no cost for {}{more}: {}; see `metergate prices check`", named.join(", "), first.reason))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::time::{MICROS_PER_HOUR, Timestamp};
    use crate::store::{Medium, MemoryMedium, StorageBackend, Store};
    use crate::writer::{Policies, Writer, start};

    /// The jobs of a new engine over this store, and its writer.
    fn jobs_over(store: Store, clock: &Clock) -> (Jobs, Arc<Writer>) {
        let policies = Policies {
            audit_sampling: crate::domain::sampling::SamplingRules::default(),
            create_unknown_tenants: true,
            tenants_max: 1,
            default_plan: "trial".to_owned(),
            default_zone: chrono_tz::UTC,
            realtime_days: 30,
            audit_years: 2,
            grants_without_store: false,
            allow_unpriced_models: false,
            ceilings: Vec::new(),
        };
        let started = start(store, policies, crate::writer::Shipped::default(), [7; 32], |_| clock.clone()).unwrap();
        let writer = Writer::spawn(started).unwrap();
        let times = |job| if job == JobName::AggregateUsageMetrics { "5 * * * *" } else { "20 3 1 1 *" };
        (Jobs::new(writer.clone(), |job| times(job).parse().unwrap()), writer)
    }

    /// Memory beside which so much is free.
    struct Beside(MemoryMedium, Arc<AtomicU64>);

    impl Medium for Beside {
        fn backend(&self) -> std::io::Result<Box<dyn StorageBackend>> {
            self.0.backend()
        }

        fn free_bytes(&self) -> Option<u64> {
            Some(self.1.load(Ordering::Relaxed))
        }

        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
    }

    #[test]
    fn a_disk_that_has_no_room_for_two_more_steps_is_told_of_before_it_is_full() {
        let free = Arc::new(AtomicU64::new(1 << 40));
        let medium = Box::new(Beside(MemoryMedium::default(), Arc::clone(&free)));
        let store = Store::over(medium, 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap();
        let (jobs, writer) = jobs_over(store, &Clock::manual(Timestamp::from_seconds(1_800_000_000)));
        let step = jobs.0.writer.shared().store.next_growth_bytes();
        for (bytes, is_told) in
            [(1 << 40, false), (2 * step, false), (2 * step - 1, true), (0, true), (3 * step, false)]
        {
            free.store(bytes, Ordering::Relaxed);
            let alarms = jobs.alarms();
            let told: Vec<_> = alarms.iter().filter(|alarm| alarm.code == "disk_low").collect();
            assert_eq!(told.len(), usize::from(is_told), "{bytes} of {step}: {alarms:?}");
            assert!(told.iter().all(|alarm| alarm.message.contains("make room")), "{alarms:?}");
        }
        writer.stop();
    }

    #[test]
    fn a_schedule_that_no_longer_triggers_is_noticed() {
        let clock = Clock::manual(Timestamp::from_seconds(1_800_000_000));
        let (jobs, writer) = jobs_over(Store::in_memory([7; 32], uuid::Uuid::nil()).unwrap(), &clock);
        clock.advance(2 * MICROS_PER_HOUR);
        assert_eq!(jobs.silent(), [], "without a schedule nothing is owed");
        jobs.0.awaited.store(true, Ordering::Release);
        assert_eq!(jobs.silent(), [JobName::AggregateUsageMetrics]);
        assert!(jobs.alarms().iter().any(|alarm| alarm.code == "job_not_triggered"));
        jobs.run_due(JobName::AggregateUsageMetrics).unwrap();
        assert_eq!(jobs.silent(), []);
        assert_eq!(jobs.alarms(), []);
        let running = jobs.slot(JobName::AggregateUsageMetrics).running.lock();
        let refused = jobs.run_due(JobName::AggregateUsageMetrics).unwrap_err();
        assert_eq!(refused, super::super::JobError::Running(JobName::AggregateUsageMetrics));
        drop(running);
        assert_eq!(jobs.status().unwrap()[0].overlaps_refused, 1);
        writer.stop();
    }
}
