//! What the audit log must hold, as far as the model knows: own records and their resolutions, denials, expiries, and
//! crossed thresholds.

use std::collections::{BTreeMap, BTreeSet};

use metergate::domain::quota::{QuotaType, Window};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_MINUTE, Timestamp};
use uuid::Uuid;

use super::model::Denied;

/// An own record.
#[derive(Clone, Debug)]
pub struct Own {
    pub id: Uuid,
    pub tenant: String,
    pub summary: String,
    pub at: Timestamp,
    pub resolved: bool,
}

/// Denials of one limit: when they were last told, and how many wait.
#[derive(Clone, Debug, Default)]
struct Waiting {
    told: Option<Timestamp>,
    count: u64,
}

type LimitKey = (String, QuotaType, Window, bool);
/// Tenant, type, window, its begin, percentage, limit.
pub type Crossed = (String, QuotaType, Window, Timestamp, u16, u128);

#[derive(Debug, Default)]
pub struct Log {
    pub own: Vec<Own>,
    waiting: BTreeMap<LimitKey, Waiting>,
    /// Records of denials, each with the number it stands for.
    pub denials: Vec<(String, String, u64)>,
    pub expiries: Vec<String>,
    /// Crossings that must be in the log, and those that may be.
    pub must: BTreeSet<Crossed>,
    pub may: BTreeSet<Crossed>,
    pub cut: Timestamp,
    /// The times of all records of before the days that are simulated.
    pub old: Vec<Timestamp>,
}

impl Log {
    pub fn expired(&mut self, name: &str) {
        self.expiries.push(name.to_owned());
    }

    pub fn denied(&mut self, name: &str, by: &Denied) {
        self.waiting.entry((name.to_owned(), by.quota_type, by.window, by.of_platform)).or_default().count += 1;
    }

    /// A commit at this time takes what is due: the first at once, then one a minute. All, when the engine `closes`.
    pub fn commit(&mut self, at: Timestamp, closes: bool) {
        for ((name, quota_type, window, of_platform), waiting) in &mut self.waiting {
            let due = waiting.told.is_none_or(|told| at.micros_since(told) >= MICROS_PER_MINUTE);
            if waiting.count > 0 && (due || closes) {
                let whose = if *of_platform { "platform-" } else { "" };
                let entity = format!("{whose}{quota_type}-{window}");
                self.denials.push((name.clone(), entity, waiting.count));
                *waiting = Waiting { told: Some(at), count: 0 };
            }
        }
    }

    /// What waits in memory is gone.
    pub fn restart(&mut self) {
        self.waiting.clear();
    }

    /// Where a clean-up moves the cut: at most seven days.
    pub fn next_cut(&self, now: Timestamp) -> Timestamp {
        let year_ago = now.to_datetime().checked_sub_months(chrono::Months::new(12)).unwrap();
        let target = Timestamp::from_micros(year_ago.timestamp_micros());
        let oldest = self.old.iter().find(|at| **at >= self.cut && **at < target);
        match oldest {
            None => target.max(self.cut),
            Some(oldest) => oldest.max(&self.cut).plus_micros(7 * MICROS_PER_DAY).min(target).max(self.cut),
        }
    }
}
