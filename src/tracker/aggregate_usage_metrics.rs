//! aggregate_usage_metrics: folds events into hourly, daily and monthly rows.
//!
//! Without a range it folds what has moved since the last time: a moving hour's delta is added to its stored rows, which
//! is exact because deltas and rows hold disjoint events (`fold`). With a range it recomputes whole hours from their events,
//! days from their hours and months from their days (`recompute`). Either way the same events give the same rows.
//!
//! Both go on slice by slice of the tenants ([`crate::domain::slice`]), so that what one transaction writes, and what memory
//! holds meanwhile, is bounded however many tenants there are.

use super::{Aggregation, MaintainError, ReadError, UsageTracker};
use crate::domain::time::Timestamp;

impl UsageTracker {
    /// Folds events into hourly, daily and monthly rows: what is not yet folded, or a range again from its events.
    ///
    /// A range is widened to whole hours; hours not wholly above the retention cut stand untouched and are counted as
    /// skipped. Rows that come out as they were are not written: running it twice changes nothing. Blocks its thread.
    pub fn aggregate_usage_metrics(&self, range: Option<(Timestamp, Timestamp)>) -> Result<Aggregation, MaintainError> {
        if let Some((from, to)) = range
            && to < from
        {
            let reason = "is before the start of the range".to_owned();
            return Err(MaintainError::Read(ReadError::InvalidRange { field: "to", reason }));
        }
        self.writer.file_everything()?;
        let _alone = self.writer.maintenance();
        match range {
            None => self.fold_moving_hours(),
            Some((from, to)) => {
                // First fold what moves, in all three periods at once: a stop between a day and its month then leaves
                // both as they were counted.
                let folded = self.fold_moving_hours()?;
                let again = self.recompute(from, to)?;
                Ok(Aggregation { rows_written: folded.rows_written + again.rows_written, ..again })
            }
        }
    }
}
