//! list_tenants: a page of those that a filter leaves, in order of their ids.

use std::sync::Arc;

use super::Tenants;
use crate::domain::key::TenantScope;
use crate::domain::tenant::{Tenant, TenantId, TenantStatus};

/// Which tenants are wanted; the default is all but the deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantFilter {
    /// Of these: what a key may see.
    pub within: TenantScope,
    /// This text stands in the id or the name, in whichever case.
    pub search: Option<String>,
    /// On this plan.
    pub plan: Option<String>,
    /// In this state now; [`TenantStatus::Deleted`] finds the tombstones.
    pub status: Option<TenantStatus>,
    /// With this label, and this value of it if one is named.
    pub label: Option<(String, Option<String>)>,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPage {
    /// In order of their ids.
    pub tenants: Vec<Tenant>,
    /// Whether more follow.
    pub more: bool,
    /// How many the filter leaves in all.
    pub total: u64,
}

impl Tenants {
    /// The tenants that the filter leaves, after the id `after`, at most `limit`. Looks at each tenant once.
    pub fn list(&self, filter: &TenantFilter, after: Option<&TenantId>, limit: usize) -> TenantPage {
        let now = self.writer.shared().clock.now();
        let search = filter.search.as_ref().map(|text| text.to_lowercase());
        let wanted = |tenant: &Tenant| {
            let status = tenant.status_at(now);
            let contains = |text: &str, word: &str| text.to_lowercase().contains(word);
            filter.status.map_or(status != TenantStatus::Deleted, |wanted| wanted == status)
                && filter.plan.as_ref().is_none_or(|plan| tenant.plan == *plan)
                && filter.label.as_ref().is_none_or(|(name, value)| {
                    let found = tenant.labels.get(name);
                    found.is_some_and(|found| value.as_ref().is_none_or(|value| found == value))
                })
                && search.as_ref().is_none_or(|word| {
                    contains(tenant.tenant_id.as_str(), word)
                        || tenant.name.as_ref().is_some_and(|name| contains(name, word))
                })
        };
        let counters = &self.writer.shared().counters;
        let slots = match &filter.within {
            TenantScope::All => counters.all(),
            TenantScope::Only(some) => some.iter().filter_map(|tenant_id| counters.get(tenant_id)).collect(),
        };
        let all = slots.into_iter().map(|slot| Arc::clone(slot.lock().tenant()));
        let mut found: Vec<Arc<Tenant>> = all.filter(|tenant| wanted(tenant)).collect();
        let total = found.len() as u64;
        found.retain(|tenant| after.is_none_or(|after| tenant.tenant_id > *after));
        let more = found.len() > limit;
        if more {
            // The page is a small part of many: bring it to the front, and order only that.
            found.select_nth_unstable_by(limit, |a, b| a.tenant_id.cmp(&b.tenant_id));
            found.truncate(limit);
        }
        found.sort_unstable_by(|a, b| a.tenant_id.cmp(&b.tenant_id));
        TenantPage { tenants: found.iter().map(|tenant| (**tenant).clone()).collect(), more, total }
    }
}
