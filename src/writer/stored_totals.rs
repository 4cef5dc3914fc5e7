//! What all tenants' stored rows of a range add up to, kept from one overview to the next.
//!
//! The parts of an overview ask for the same range one after the other, and stored rows change when an hour is folded, not
//! with each event. One range is kept: about 100 bytes a tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::domain::time::PeriodType;
use crate::store::{RowTotals, StoreError};

/// A range of periods, and the state of the rows in which it was added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TotalsKey {
    changes: u64,
    period_type: PeriodType,
    first: u32,
    end: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct StoredTotals {
    changes: AtomicU64,
    last: Mutex<Option<(TotalsKey, Arc<Vec<RowTotals>>)>>,
}

impl StoredTotals {
    /// Stored rows have changed. Called under the lock under which they do.
    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The key of periods `first..end` as they are stored now. Called under the lock that a snapshot is taken under.
    pub(crate) fn key(&self, period_type: PeriodType, first: u32, end: u32) -> TotalsKey {
        TotalsKey { changes: self.changes.load(Ordering::Acquire), period_type, first, end }
    }

    /// The totals at the places of the tenants' numbers: kept, or added up now.
    pub(crate) fn get(
        &self,
        key: TotalsKey,
        add_up: impl FnOnce() -> Result<Vec<RowTotals>, StoreError>,
    ) -> Result<Arc<Vec<RowTotals>>, StoreError> {
        let kept = self.last.lock().as_ref().filter(|(of, _)| *of == key).map(|(_, totals)| Arc::clone(totals));
        match kept {
            Some(totals) => Ok(totals),
            None => {
                let totals = Arc::new(add_up()?);
                *self.last.lock() = Some((key, Arc::clone(&totals)));
                Ok(totals)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_kept_until_a_row_changes_or_another_range_is_asked_for() {
        let totals = StoredTotals::default();
        let ask = |first: u32, calls: u64| {
            let row = RowTotals { api_calls: calls, ..RowTotals::default() };
            totals.get(totals.key(PeriodType::Daily, first, 9), || Ok(vec![row])).unwrap()[0].api_calls
        };
        assert_eq!((ask(1, 5), ask(1, 6)), (5, 5));
        assert_eq!((ask(2, 7), ask(2, 8)), (7, 7), "another range");
        totals.note_change();
        assert_eq!(ask(2, 9), 9, "the rows have changed");
        let failed = totals.get(totals.key(PeriodType::Hourly, 1, 9), || Err(StoreError::Damaged("x")));
        assert!(failed.is_err());
        assert_eq!(ask(2, 10), 9, "what failed took the place of nothing");
    }
}
