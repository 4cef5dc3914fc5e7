//! What an engine does by itself: folds hours that are over, and more when memory fills up; forgets lapsed holds; stores
//! plans that ran out as expired; writes down when keys were used, and signed checkpoints. No answer depends on it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, tick};
use parking_lot::Mutex;

use super::OpenError;
use crate::audit::AuditLogger;
use crate::domain::time::MICROS_PER_MINUTE;
use crate::keys::ApiKeys;
use crate::tenants::Tenants;
use crate::tracker::UsageTracker;
use crate::writer::Writer;

/// How often it looks whether memory fills up.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it looks whether anything else is to be folded or forgotten.
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// How often it tidies up.
const TIDY_EVERY: Duration = Duration::from_secs(300);
/// So long after its end an hour has most of what comes late.
const SETTLED_AFTER_MICROS: i64 = 10 * MICROS_PER_MINUTE;

/// The thread that does it, and what stops it.
#[derive(Default)]
pub(super) struct Housekeeping(Mutex<Option<(Sender<()>, JoinHandle<()>)>>);

impl Housekeeping {
    /// Starts the thread.
    pub(super) fn start(&self, writer: &Arc<Writer>, checkpoint_file: &Path) -> Result<(), OpenError> {
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let (writer, checkpoint_file) = (Arc::clone(writer), checkpoint_file.to_owned());
        let run = move || {
            let house = House::of(&writer);
            // By the clock: a long fold does not put off what comes after it.
            let (rounds, tidyings) = (tick(ROUND_EVERY), tick(TIDY_EVERY));
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let is_round = rounds.try_recv().is_ok();
                if is_round {
                    house.round(&checkpoint_file);
                }
                if tidyings.try_recv().is_ok() {
                    let shared = writer.shared();
                    shared.counters.tidy(shared.clock.now());
                }
                house.fold(is_round);
            }
        };
        let spawned = std::thread::Builder::new().name("housekeeping".to_owned()).spawn(run);
        let thread = spawned.map_err(|error| OpenError::Storage(format!("a thread cannot be started: {error}")))?;
        *self.0.lock() = Some((stop, thread));
        Ok(())
    }

    /// Ends the thread, if it runs.
    pub(super) fn end(&self) {
        if let Some((stop, thread)) = self.0.lock().take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the housekeeping had panicked");
            }
        }
    }
}

/// What it works with. While it lives, the writer may wait for folding: also when its thread ends by a panic, nobody does.
struct House<'a> {
    writer: &'a Arc<Writer>,
    tracker: UsageTracker,
    audit: AuditLogger,
    tenants: Tenants,
    keys: ApiKeys,
}

impl<'a> House<'a> {
    fn of(writer: &'a Arc<Writer>) -> Self {
        writer.shared().unfolded.set_folded(true);
        Self {
            writer,
            tracker: UsageTracker::new(Arc::clone(writer)),
            audit: AuditLogger::new(Arc::clone(writer)),
            tenants: Tenants::new(Arc::clone(writer)),
            keys: ApiKeys::new(Arc::clone(writer)),
        }
    }

    fn round(&self, checkpoint_file: &Path) {
        if self.writer.failure().is_none()
            && let Err(error) = self.tenants.expire_due()
        {
            tracing::error!(%error, "plans that ran out could not be stored as expired; it is tried again");
        }
        self.keys.keep_record(false);
        write_checkpoints(&self.audit, checkpoint_file);
    }

    /// Folds when memory fills up; in a round, also when an hour is over. What failed is tried again in a round.
    fn fold(&self, is_round: bool) {
        let shared = self.writer.shared();
        let settled = shared.clock.now().plus_micros(-SETTLED_AFTER_MICROS).hour();
        let has_settled = || shared.live.read().first_moving_hour().is_some_and(|hour| hour < settled);
        let may_fold = is_round || shared.unfolded.is_folded();
        let is_due = may_fold && shared.has_many_unfolded() || is_round && has_settled();
        if !is_due || self.writer.failure().is_some() {
            return;
        }
        let folded = self.tracker.aggregate_usage_metrics(None);
        // Nobody waits for what does not go on.
        shared.unfolded.set_folded(folded.is_ok());
        if let Err(error) = folded {
            tracing::error!(%error, "the aggregation failed; it is tried again");
        }
    }
}

impl Drop for House<'_> {
    fn drop(&mut self) {
        self.writer.shared().unfolded.set_folded(false);
    }
}

/// A file that cannot be written does not stop metergate: the notes are in the store, and are tried again.
pub(super) fn write_checkpoints(audit: &AuditLogger, file: &Path) {
    if let Err(error) = audit.write_checkpoints(file) {
        tracing::error!(%error, file = %file.display(), "checkpoints of the audit log could not be written to their file");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::clock::Clock;
    use crate::config::EngineSettings;
    use crate::domain::event::{EventOutcome, UsageEvent};
    use crate::domain::quota::{Item, QuotaType};
    use crate::domain::slice::Slice;
    use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, PeriodType, Timestamp};
    use crate::enforcer::ReserveRequest;
    use crate::engine::Metergate;
    use crate::store::MetricsRow;
    use crate::writer::{Publication, WAITING_PER_TENANT};

    /// An event of each of so many tenants in each of so many hours before now.
    fn old_events(now: Timestamp, tenants: u32, hours: i64) -> Vec<UsageEvent> {
        let event = |tenant: u32, hour: i64| {
            let mut event = UsageEvent::new(format!("t{tenant}").parse().unwrap(), "api_call");
            event.event_timestamp = Some(now.plus_micros(-hour * MICROS_PER_HOUR));
            event
        };
        (1..=hours).flat_map(|hour| (0..tenants).map(move |tenant| event(tenant, hour))).collect()
    }

    #[test]
    fn a_crash_between_two_slices_of_a_fold_counts_nothing_twice_and_forgets_nothing() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let tenants = *Slice(1).tenants().start() + 100;
        let open = |folder: &Path| {
            let engine = Metergate::open_at(EngineSettings::new(folder), |_| Clock::manual(now)).unwrap();
            engine.housekeeping.end();
            engine
        };
        let rows = |engine: &Metergate| {
            let rows_of = |tenant: u32| {
                let (id, tracker) = (format!("t{tenant}").parse().unwrap(), engine.usage_tracker());
                let rows_by =
                    |period| tracker.get_tenant_usage(&id, now.plus_micros(-40 * MICROS_PER_DAY), now, period);
                PeriodType::ALL.map(|period| rows_by(period).unwrap())
            };
            [0, 1, tenants - 101, tenants - 100, tenants - 1].map(rows_of)
        };
        let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let engine = open(folder.path());
        engine.usage_tracker().record_blocking(old_events(now, tenants, 2)).unwrap();
        engine.writer().file_everything().unwrap();
        let before = rows(&engine);
        let moving = |engine: &Metergate| engine.writer().shared().live.read().filed_deltas();
        assert_eq!(moving(&engine), 2 * tenants as usize);
        // Two hours, with their day or days and a month, of the first slice.
        let written = engine.usage_tracker().fold_next().unwrap().unwrap();
        assert!(written >= 4 * u64::from(tenants - 100), "{written} rows");
        assert_eq!((moving(&engine), rows(&engine) == before), (200, true));

        // It stands still: what a crash would leave is what its file is now.
        std::fs::copy(folder.path().join(crate::store::FILE_NAME), crashed.path().join(crate::store::FILE_NAME))
            .unwrap();
        let after = open(crashed.path());
        assert_eq!((moving(&after), rows(&after) == before), (200, true));
        // More of both slices, and what moves is folded whole.
        for engine in [&engine, &after] {
            engine.usage_tracker().record_blocking(old_events(now, tenants, 1)).unwrap();
            engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
            let verified = engine.usage_tracker().verify().unwrap();
            assert_eq!((verified.events, verified.differences.len()), (3 * u64::from(tenants), 0));
        }
        let again = after.usage_tracker().aggregate_usage_metrics(Some((now.plus_micros(-MICROS_PER_DAY), now)));
        assert_eq!(again.unwrap().rows_written, 0, "recomputing gives what folding gave");

        // Rows of a month on both sides of the slices' border stand in one block, and each slice writes it.
        let month = PeriodType::Monthly.containing(now.plus_micros(-MICROS_PER_HOUR));
        let (wrong, edge) = (MetricsRow::default(), tenants - 100);
        let rows: Vec<(u32, &MetricsRow)> = (edge - 9..edge + 9).map(|tenant| (tenant, &wrong)).collect();
        let blocks = after.writer().shared().store.snapshot().unwrap().metrics().unwrap().row_blocks(month, &rows);
        after.writer().publish(Publication { rows: vec![blocks.unwrap()], ..Publication::default() }).unwrap();
        let differences = || after.usage_tracker().verify().unwrap().differences.len();
        assert_eq!(differences(), rows.len());
        after.usage_tracker().aggregate_usage_metrics(Some((now.plus_micros(-MICROS_PER_DAY), now))).unwrap();
        assert_eq!(differences(), 0);
        engine.close();
        after.close();
    }

    #[test]
    fn recording_waits_for_the_fold_of_what_memory_is_not_to_hold_and_then_goes_on() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let folder = tempfile::tempdir().unwrap();
        let engine = Metergate::open_at(EngineSettings::new(folder.path()), |_| Clock::manual(now)).unwrap();
        engine.housekeeping.end();
        let writer = engine.writer();
        let (tracker, shared) = (engine.usage_tracker(), writer.shared());
        shared.unfolded.set_waiting_max(50);
        let record = |events: Vec<UsageEvent>| tracker.record_blocking(events).unwrap();
        let all = |outcomes: Vec<EventOutcome>| outcomes.iter().all(|outcome| *outcome == EventOutcome::Accepted);
        let too_many = || shared.live.read().waiting_deltas() > (50 + WAITING_PER_TENANT * 20) * 3 / 2;
        assert!(all(record(old_events(now, 20, 20))));
        writer.file_everything().unwrap();
        assert!(too_many(), "there is something to wait for");

        // Who does not wait is told.
        shared.unfolded.set_folded(true);
        assert!(tracker.record(old_events(now, 1, 1)).is_err());
        // A settlement is of now, and is not held up.
        let enforcer = engine.quota_enforcer();
        let held = enforcer.reserve_blocking(ReserveRequest {
            tenant_id: "t0".parse().unwrap(),
            items: vec![Item { quota_type: QuotaType::Tokens, amount: 10 }],
            ttl_seconds: None,
            reservation_id: Some("job-7".to_owned()),
            request_id: None,
        });
        assert!(held.unwrap().reservation.is_some());
        let settled = enforcer.settle_blocking(None, "job-7", vec![UsageEvent::new("t0".parse().unwrap(), "api_call")]);
        assert!(all(settled.unwrap().outcomes));
        assert!(too_many(), "and waited for nothing");
        let (done, tracker) = (AtomicBool::new(false), &tracker);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(all(record(old_events(now, 20, 1))));
                done.store(true, Ordering::Release);
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!done.load(Ordering::Acquire), "it waits");
            tracker.aggregate_usage_metrics(None).unwrap();
        });
        assert!(done.load(Ordering::Acquire));

        // Where nothing is folded any more, nothing is waited for.
        assert!(all(record(old_events(now, 20, 20))));
        writer.file_everything().unwrap();
        assert!(too_many());
        shared.unfolded.set_folded(false);
        assert!(all(record(old_events(now, 20, 1))));
        engine.close();
    }
}
