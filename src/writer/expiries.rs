//! The ends of plans that lie ahead, in order: what has run out is found without looking at every tenant.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::domain::tenant::Tenant;
use crate::domain::time::Timestamp;

/// See the module. One entry for each tenant that is stored as active and whose plan has an end.
#[derive(Default)]
pub struct Expiries(Mutex<BTreeSet<(Timestamp, u32)>>);

impl Expiries {
    /// Notes a tenant as it is from now on, and forgets how it was.
    pub(super) fn note(&self, tenant_no: u32, before: Option<&Tenant>, after: &Tenant) {
        let (before, after) = (before.and_then(Tenant::expiry_due), after.expiry_due());
        if before == after {
            return;
        }
        let mut ends = self.0.lock();
        before.map(|end| ends.remove(&(end, tenant_no)));
        after.map(|end| ends.insert((end, tenant_no)));
    }

    /// The numbers of tenants whose plans have run out by `now`, the earliest first, at most `limit`. They stay here until
    /// it is stored.
    pub(crate) fn due(&self, now: Timestamp, limit: usize) -> Vec<u32> {
        let ends = self.0.lock();
        ends.iter().take_while(|(end, _)| *end <= now).take(limit).map(|(_, tenant_no)| *tenant_no).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tenant::TenantStatus;

    #[test]
    fn only_what_is_active_and_has_run_out_is_due() {
        let at = Timestamp::from_seconds;
        let ending = |end: i64| {
            let mut tenant = Tenant::new("acme".parse().unwrap(), "trial", chrono_tz::UTC, at(1));
            tenant.plan_expires_at = Some(at(end));
            tenant
        };
        let expiries = Expiries::default();
        for (tenant_no, end) in [(0, 50), (1, 20), (2, 30)] {
            expiries.note(tenant_no, None, &ending(end));
        }
        assert_eq!((expiries.due(at(19), 9), expiries.due(at(30), 9)), (vec![], vec![1, 2]));
        assert_eq!(expiries.due(at(99), 2), [1, 2]);
        expiries.note(1, Some(&ending(20)), &ending(60));
        expiries.note(2, Some(&ending(30)), &Tenant { status: TenantStatus::Expired, ..ending(30) });
        assert_eq!(expiries.due(at(55), 9), [0], "one is extended, one is stored as expired");
    }
}
