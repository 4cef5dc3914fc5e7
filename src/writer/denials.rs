//! Denials on their way to the disk: the enforcer notes them here, the writer takes them along with its next commit.
//!
//! A flood of denials must not become a flood of writes: of each tenant at most 60 records a minute carry their details,
//! the rest are added to the count of the last one of their limit; and of each tenant, type and window the first is
//! audited, then at most one a minute with the number it stands for.

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::json;

use crate::domain::audit::{AuditAction, AuditEntry, AuditResult};
use crate::domain::quota::{Denial, DeniedBy, QuotaType, Scope, Window};
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};

/// Denials with details, per tenant and minute.
const DETAILED_PER_MINUTE: u32 = 60;

/// See the module.
#[derive(Default)]
pub struct DenialBook {
    state: Mutex<Book>,
}

/// Tenant number, type, window, and whose limit it is.
type LimitKey = (u32, QuotaType, Window, Scope);

struct Book {
    pending: Vec<(u32, Denial)>,
    /// What was taken last: not on disk yet, or just now.
    taken: Vec<(u32, Denial)>,
    /// Where in `pending` a limit's denials without details are counted.
    counted: HashMap<(LimitKey, bool), usize>,
    detailed: HashMap<u32, (Timestamp, u32)>,
    audited: HashMap<LimitKey, Audited>,
    /// When the next audit record is due.
    next_audit: Timestamp,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            taken: Vec::new(),
            counted: HashMap::new(),
            detailed: HashMap::new(),
            audited: HashMap::new(),
            next_audit: Timestamp::MAX,
        }
    }
}

struct Audited {
    tenant_id: TenantId,
    at: Timestamp,
    /// Denials since the last audit record.
    waiting: u64,
    last: Denial,
}

impl DenialBook {
    /// Notes that a request of the tenant was denied, by these limits.
    pub fn note(&self, tenant_no: u32, tenant_id: &TenantId, denials: Vec<Denial>) {
        let mut guard = self.state.lock();
        let book = &mut *guard;
        for denial in denials {
            let DeniedBy { state, scope, .. } = denial.denied_by;
            let key = (tenant_no, state.quota_type, state.window, scope);
            if !denial.observed {
                book.note_for_audit(key, tenant_id, &denial);
            }
            let (since, detailed) = book.detailed.entry(tenant_no).or_insert((denial.at, 0));
            if denial.at.micros_since(*since) >= MICROS_PER_MINUTE {
                (*since, *detailed) = (denial.at, 0);
            }
            if *detailed < DETAILED_PER_MINUTE {
                *detailed += 1;
                book.pending.push((tenant_no, denial));
                continue;
            }
            let key = (key, denial.observed);
            match book.counted.get(&key) {
                Some(&place) => book.pending[place].1.count += denial.count,
                None => {
                    book.counted.insert(key, book.pending.len());
                    book.pending.push((tenant_no, Denial { decision_id: None, request_id: None, ..denial }));
                }
            }
        }
    }

    /// Whether there is anything to write now; when `closing`, also what would wait for its minute.
    pub fn is_due(&self, now: Timestamp, closing: bool) -> bool {
        let book = self.state.lock();
        !book.pending.is_empty() || book.next_audit <= now || closing && book.next_audit < Timestamp::MAX
    }

    /// Takes what is to be written: denials by tenant number, and the audit records that are due.
    pub fn take(&self, now: Timestamp, closing: bool) -> (Vec<(u32, Denial)>, Vec<AuditEntry>) {
        let mut book = self.state.lock();
        book.counted.clear();
        let mut audit = Vec::new();
        let mut next_audit = Timestamp::MAX;
        book.audited.retain(|_, audited| {
            if audited.waiting > 0 && (closing || audited.due() <= now) {
                audit.push(audited.entry());
                (audited.at, audited.waiting) = (now, 0);
            }
            if audited.waiting > 0 {
                next_audit = next_audit.min(audited.due());
            }
            // An hour without a denial: the next is a first one again.
            audited.waiting > 0 || now.micros_since(audited.at) < 60 * MICROS_PER_MINUTE
        });
        book.next_audit = next_audit;
        if book.detailed.len() > 10_000 {
            book.detailed.retain(|_, (since, _)| now.micros_since(*since) < MICROS_PER_MINUTE);
        }
        // One thread takes: what it took before is on disk by now.
        book.taken = std::mem::take(&mut book.pending);
        (book.taken.clone(), audit)
    }

    /// A tenant's denials that may not be on disk yet. Look here first, then at the disk, and nothing is missed; what is
    /// seen twice is equal.
    pub fn unwritten(&self, tenant_no: u32) -> Vec<Denial> {
        let book = self.state.lock();
        let all = book.taken.iter().chain(&book.pending);
        all.filter(|(number, _)| *number == tenant_no).map(|(_, denial)| denial.clone()).collect()
    }
}

impl Book {
    fn note_for_audit(&mut self, key: LimitKey, tenant_id: &TenantId, denial: &Denial) {
        // A new limit was last audited at the epoch, long ago: its record is due at once.
        let audited = self.audited.entry(key).or_insert_with(|| Audited {
            tenant_id: tenant_id.clone(),
            at: Timestamp::default(),
            waiting: 0,
            last: denial.clone(),
        });
        audited.waiting += denial.count;
        audited.last = denial.clone();
        self.next_audit = self.next_audit.min(audited.due());
    }
}

impl Audited {
    /// When its next record may be written.
    fn due(&self) -> Timestamp {
        self.at.plus_micros(MICROS_PER_MINUTE)
    }

    fn entry(&self) -> AuditEntry {
        let denied = &self.last.denied_by;
        let quota_type = denied.state.quota_type.name();
        let (whose, error) = match denied.scope {
            Scope::Tenant => ("", "Quota exceeded"),
            Scope::Platform => ("platform-", "Platform ceiling reached"),
        };
        AuditEntry {
            entity_id: Some(format!("{whose}{quota_type}-{}", denied.state.window)),
            result: AuditResult::Failure,
            new_values: Some(self.values().to_string()),
            error_message: Some(format!("{error}: {quota_type} per {}", denied.state.window)),
            ..AuditEntry::system(Some(self.tenant_id.clone()), "quota_exceeded", "usage_quota", AuditAction::Error)
        }
    }

    fn values(&self) -> serde_json::Value {
        let denied = &self.last.denied_by;
        let show = |amount: u128| denied.state.quota_type.show(amount);
        let (quota_type, window) = (denied.state.quota_type.name(), denied.state.window.name());
        if denied.scope == Scope::Platform {
            // It is the tenant's trail: what others use is not told in it.
            return json!({
                "scope": denied.scope.name(),
                "quota_type": quota_type,
                "window": window,
                "asked": show(denied.asked),
                "denials": self.waiting,
            });
        }
        let wanted = denied.state.used + denied.state.held + denied.asked;
        let exceeded_by = wanted.saturating_sub(denied.state.limit.unwrap_or(wanted));
        json!({
            "quota_type": quota_type,
            "window": window,
            "limit": denied.state.limit.map(show),
            "used": show(denied.state.used),
            "held": show(denied.state.held),
            "asked": show(denied.asked),
            "exceeded_by": show(exceeded_by),
            "denials": self.waiting,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quota::LimitState;

    #[test]
    fn denials_that_wait_for_their_minute_are_audited_though_no_other_follows() {
        let book = DenialBook::default();
        let start = Timestamp::from_seconds(1_800_000_000);
        let state = LimitState {
            quota_type: QuotaType::Tokens,
            window: Window::Day,
            limit: Some(10),
            used: 10,
            held: 0,
            resets_at: start.plus_micros(MICROS_PER_MINUTE),
        };
        let deny = |at: Timestamp| {
            let denied_by = DeniedBy { state, asked: 1, scope: Scope::Tenant };
            let denial = Denial { decision_id: None, at, request_id: None, denied_by, count: 1, observed: false };
            book.note(3, &"acme".parse().unwrap(), vec![denial]);
        };
        let said = |entries: &[AuditEntry]| {
            let values = entries.iter().filter_map(|entry| entry.new_values.as_deref());
            let read = |text| serde_json::from_str::<serde_json::Value>(text).unwrap()["denials"].as_u64().unwrap();
            values.map(read).collect::<Vec<u64>>()
        };
        assert!(!book.is_due(start, true));
        deny(start);
        assert!(book.is_due(start, false));
        assert_eq!(said(&book.take(start, false).1), [1], "the first at once");

        let later = start.plus_micros(1_000_000);
        (0..5).for_each(|_| deny(later));
        let (denials, audit) = book.take(later, false);
        assert_eq!((denials.len(), said(&audit)), (5, vec![]));
        assert!(!book.is_due(later, false) && book.is_due(later, true));
        let minute = start.plus_micros(MICROS_PER_MINUTE);
        assert!(book.is_due(minute, false));
        assert_eq!(said(&book.take(minute, false).1), [5]);

        deny(minute);
        assert_eq!(said(&book.take(minute, true).1), [1], "a stop leaves nothing behind");
        assert!(!book.is_due(Timestamp::MAX.plus_micros(-1), true));
    }
}
