//! cleanup_old_realtime_events: retention of raw events, a bounded step at a time.

use std::sync::atomic::Ordering;

use super::{Cleanup, MaintainError, UsageTracker};
use crate::domain::time::{MICROS_PER_DAY, Period, Timestamp};
use crate::rules::retention::{DENIALS_DAYS, HOURLY_ROWS_DAYS, next_cut};
use crate::store::RealtimeCut;
use crate::writer::Publication;

impl UsageTracker {
    /// Removes events strictly older than the retention, never one that is not aggregated.
    ///
    /// One run moves the cut by at most a day, however far the clock has come. Reads stop showing what is older at once;
    /// a day's storage is freed when the whole day lies below the cut. Blocks its thread.
    pub fn cleanup_old_realtime_events(&self) -> Result<Cleanup, MaintainError> {
        if self.writer.shared().clock_unconfirmed.load(Ordering::Acquire) {
            return Err(MaintainError::ClockUnconfirmed);
        }
        self.writer.file_everything()?;
        let _alone = self.writer.maintenance();
        let shared = self.writer.shared();
        let snapshot = shared.store.snapshot()?;
        let before = snapshot.cut()?;
        let runs = snapshot.runs(0..=u32::MAX)?;
        let oldest = runs.iter().map(|(_, _, info)| Timestamp::from_micros(info.first_time)).min();
        let unfolded = shared.live.read().first_moving_hour().map(|hour| Period::hour(hour).start());
        let target = shared.oldest_kept(shared.clock.now());
        let cut = next_cut(before.cut, target, oldest, unfolded);
        if cut <= before.cut {
            return Ok(Cleanup { rows_removed: 0, cut: before.cut });
        }

        let days = snapshot.days(0..=u32::MAX)?;
        let mut rows_removed = 0;
        for day in days.range(before.cut.day()..=cut.day()) {
            rows_removed += snapshot.count_day_events(*day, before.cut, cut)?;
        }
        let (dropped_days, kept_days): (Vec<u32>, Vec<u32>) =
            days.into_iter().partition(|day| Period::day(*day).end() <= cut);
        // Denials outlive their day: what was dropped before is not dropped again.
        let still_there = |day: &u32| Period::day(*day).end() > before.cut || runs.iter().any(|(of, ..)| of == day);
        let dropped_days: Vec<u32> = dropped_days.into_iter().filter(still_there).collect();
        let hourly_rows_days = i64::from(HOURLY_ROWS_DAYS - shared.policies.realtime_days.min(HOURLY_ROWS_DAYS));
        let hourly_from = Period::hour(cut.plus_micros(-hourly_rows_days * MICROS_PER_DAY).hour());
        let denials_days = i64::from(DENIALS_DAYS - shared.policies.realtime_days.min(DENIALS_DAYS));
        drop(snapshot);
        self.writer.publish(Publication {
            dropped_days: dropped_days.clone(),
            cut: Some(RealtimeCut { cut, removed: before.removed + rows_removed }),
            rows_before: vec![hourly_from],
            denials_before: Some(cut.plus_micros(-denials_days * MICROS_PER_DAY).day()),
            ..Publication::default()
        })?;
        // After a long pause more days may be kept than the table tells apart.
        dropped_days.into_iter().for_each(|day| shared.fingerprints.forget(day, kept_days.iter().copied()));
        Ok(Cleanup { rows_removed, cut })
    }
}
