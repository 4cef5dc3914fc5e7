//! Denials on their way to the disk: the enforcer notes them here, the writer takes them along with its next commit.
//!
//! A flood of denials must not become a flood of writes: of each tenant at most 60 records a minute carry their details,
//! the rest are added to the count of the last one of their limit; and of each tenant, type and window the first is
//! audited, then at most one a minute with the number it stands for.

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::json;

use crate::domain::audit::{AuditAction, AuditEntry, AuditResult};
use crate::domain::quota::{Denial, QuotaType, Window};
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};

/// Denials with details, per tenant and minute.
const DETAILED_PER_MINUTE: u32 = 60;

/// See the module.
#[derive(Default)]
pub struct DenialBook {
    state: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    pending: Vec<(u32, Denial)>,
    /// Where in `pending` a limit's denials without details are counted.
    counted: HashMap<(u32, QuotaType, Window), usize>,
    detailed: HashMap<u32, (Timestamp, u32)>,
    audited: HashMap<(u32, QuotaType, Window), Audited>,
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
            let key = (tenant_no, denial.denied_by.state.quota_type, denial.denied_by.state.window);
            book.note_for_audit(key, tenant_id, &denial);
            let (since, detailed) = book.detailed.entry(tenant_no).or_insert((denial.at, 0));
            if denial.at.micros_since(*since) >= MICROS_PER_MINUTE {
                (*since, *detailed) = (denial.at, 0);
            }
            if *detailed < DETAILED_PER_MINUTE {
                *detailed += 1;
                book.pending.push((tenant_no, denial));
                continue;
            }
            match book.counted.get(&key) {
                Some(&place) => book.pending[place].1.count += denial.count,
                None => {
                    book.counted.insert(key, book.pending.len());
                    book.pending.push((tenant_no, Denial { decision_id: None, request_id: None, ..denial }));
                }
            }
        }
    }

    /// Whether there is anything to write.
    pub fn is_empty(&self) -> bool {
        self.state.lock().pending.is_empty()
    }

    /// Takes what is to be written: denials by tenant number, and the audit records that are due.
    pub fn take(&self, now: Timestamp) -> (Vec<(u32, Denial)>, Vec<AuditEntry>) {
        let mut book = self.state.lock();
        book.counted.clear();
        let mut audit = Vec::new();
        book.audited.retain(|_, audited| {
            if audited.waiting > 0 && now.micros_since(audited.at) >= MICROS_PER_MINUTE {
                audit.push(audited.entry());
                (audited.at, audited.waiting) = (now, 0);
            }
            // An hour without a denial: the next is a first one again.
            audited.waiting > 0 || now.micros_since(audited.at) < 60 * MICROS_PER_MINUTE
        });
        if book.detailed.len() > 10_000 {
            book.detailed.retain(|_, (since, _)| now.micros_since(*since) < MICROS_PER_MINUTE);
        }
        (std::mem::take(&mut book.pending), audit)
    }
}

impl Book {
    fn note_for_audit(&mut self, key: (u32, QuotaType, Window), tenant_id: &TenantId, denial: &Denial) {
        // A new limit was last audited at the epoch, long ago: its record is due at once.
        let audited = self.audited.entry(key).or_insert_with(|| Audited {
            tenant_id: tenant_id.clone(),
            at: Timestamp::default(),
            waiting: 0,
            last: denial.clone(),
        });
        audited.waiting += denial.count;
        audited.last = denial.clone();
    }
}

impl Audited {
    fn entry(&self) -> AuditEntry {
        let denied = &self.last.denied_by;
        let show = |amount: u128| denied.state.quota_type.show(amount);
        let wanted = denied.state.used + denied.state.held + denied.asked;
        let exceeded_by = wanted.saturating_sub(denied.state.limit.unwrap_or(wanted));
        let quota_type = denied.state.quota_type.name();
        AuditEntry {
            entity_id: Some(format!("{quota_type}-{}", denied.state.window)),
            result: AuditResult::Failure,
            new_values: Some(
                json!({
                    "quota_type": quota_type,
                    "window": denied.state.window.name(),
                    "limit": denied.state.limit.map(show),
                    "used": show(denied.state.used),
                    "held": show(denied.state.held),
                    "asked": show(denied.asked),
                    "exceeded_by": show(exceeded_by),
                    "denials": self.waiting,
                })
                .to_string(),
            ),
            error_message: Some(format!("Quota exceeded: {quota_type} per {}", denied.state.window)),
            ..AuditEntry::system(Some(self.tenant_id.clone()), "quota_exceeded", "usage_quota", AuditAction::Error)
        }
    }
}
