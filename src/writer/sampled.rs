//! Audit entries that sampling left out: counted here, and told by a record of each type at most once a minute.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::json;

use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::sampling::SamplingRules;
use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};

/// The type of the record that says how many were left out.
pub const EVENT_SAMPLED_OUT: &str = "audit_sampled_out";

/// See the module. Its types are those that the rules name: few.
#[derive(Default)]
pub struct SampledBook(Mutex<BTreeMap<String, Sampled>>);

#[derive(Clone, Copy)]
struct Sampled {
    count: u64,
    since: Timestamp,
}

impl SampledBook {
    /// Notes that an entry of this type was left out.
    pub fn note(&self, event_type: &str, now: Timestamp) {
        let mut book = self.0.lock();
        match book.get_mut(event_type) {
            Some(sampled) => sampled.count += 1,
            None => {
                book.insert(event_type.to_owned(), Sampled { count: 1, since: now });
            }
        }
    }

    /// Whether a record is due; when `closing`, also what would wait for its minute.
    pub fn is_due(&self, now: Timestamp, closing: bool) -> bool {
        self.0.lock().values().any(|sampled| sampled.is_due(now, closing))
    }

    /// Takes the records that are due.
    pub fn take(&self, rules: &SamplingRules, now: Timestamp, closing: bool) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        self.0.lock().retain(|event_type, sampled| {
            let due = sampled.is_due(now, closing);
            if due {
                entries.push(sampled.entry(event_type, rules, now));
            }
            !due
        });
        entries
    }
}

impl Sampled {
    fn is_due(&self, now: Timestamp, closing: bool) -> bool {
        closing || now.micros_since(self.since) >= MICROS_PER_MINUTE
    }

    fn entry(&self, event_type: &str, rules: &SamplingRules, now: Timestamp) -> AuditEntry {
        let values = json!({
            "event_type": event_type,
            "share_kept": rules.share(event_type),
            "sampled_out": self.count,
            "from": self.since.to_string(),
            "to": now.to_string(),
        });
        AuditEntry {
            entity_id: Some(event_type.to_owned()),
            new_values: Some(values.to_string()),
            changes_summary: Some(format!("Sampling left out {} of {event_type}", self.count)),
            ..AuditEntry::system(None, EVENT_SAMPLED_OUT, "audit_event", AuditAction::Access)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_once_a_minute_and_at_a_stop() {
        let (book, rules) = (SampledBook::default(), "chat=0".parse().unwrap());
        let start = Timestamp::from_seconds(1_800_000_000);
        assert!(!book.is_due(start, true));
        (0..3).for_each(|_| book.note("chat", start));
        assert!(!book.is_due(start, false) && book.is_due(start, true));
        let later = start.plus_micros(MICROS_PER_MINUTE);
        let [entry] = &book.take(&rules, later, false)[..] else { panic!("one type") };
        assert!(entry.new_values.as_ref().unwrap().contains("\"sampled_out\":3"), "{entry:?}");
        assert!(book.take(&rules, later, true).is_empty());
    }
}
