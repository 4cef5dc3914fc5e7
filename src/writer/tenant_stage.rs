//! Staging tenants: whom an event belongs to, who is registered by it, and changes with their audit records.

use std::sync::Arc;

use super::command::{ChangeFailed, ChangeOutcome};
use super::shared::{Incoming, Shared};
use super::stage::Stage;
use crate::domain::actor::Actor;
use crate::domain::event::Rejection;
use crate::domain::price_terms::PriceTerms;
use crate::domain::tenant::{Tenant, TenantChange, TenantId, TenantPut, TenantStatus};
use crate::rules::administration::{ACTOR_SYSTEM, ChangeRefused, TenantDefaults, apply_change, record_token_limits};
use crate::store::{Operation, StoredPrice};

impl Stage<'_> {
    /// The number of an event's tenant, registered by this commit if it is unknown and may be.
    pub(super) fn tenant_of(&mut self, incoming: &Incoming) -> Result<u32, Rejection> {
        let deleted = |tenant_id: &TenantId| Rejection {
            code: "tenant_deleted",
            message: format!("the tenant `{tenant_id}` is deleted: a PUT of the tenant revives it"),
        };
        let tenant_no = incoming.stored.tenant_no;
        // Nearly always it is known, and this commit changes no tenant.
        if incoming.new_tenant.is_none()
            && self.tenants.is_empty()
            && self.shared.counters.with_no(tenant_no, |slot| slot.is_deleted()) == Some(false)
        {
            return Ok(tenant_no);
        }
        let known = match &incoming.new_tenant {
            None => self.shared.counters.by_no(tenant_no),
            Some(tenant_id) => self.shared.counters.get(tenant_id),
        };
        // As this commit leaves it, then as it is.
        if !self.tenants.is_empty()
            && let Some(tenant_id) = known.as_ref().map(|slot| &slot.id).or(incoming.new_tenant.as_deref())
            && let Some((tenant_no, tenant)) = self.tenants.get(tenant_id)
        {
            return if tenant.status == TenantStatus::Deleted { Err(deleted(tenant_id)) } else { Ok(*tenant_no) };
        }
        if let Some(slot) = known {
            return if slot.is_deleted() { Err(deleted(&slot.id)) } else { Ok(slot.no) };
        }
        let Some(tenant_id) = incoming.new_tenant.as_deref() else {
            // Numbers are given once, and never taken back.
            return Err(Rejection { code: "tenant_unknown", message: "the tenant is unknown".to_owned() });
        };
        if !self.shared.policies.create_unknown_tenants {
            return Err(Rejection {
                code: "tenant_unknown",
                message: format!(
                    "the tenant `{}` is unknown and unknown_tenants is \"deny\": register it first",
                    tenant_id
                ),
            });
        }
        let change = TenantChange::Put(TenantPut::default());
        match self.change(tenant_id, &change, ACTOR_SYSTEM) {
            Ok((tenant_no, _)) => Ok(tenant_no),
            Err(ChangeFailed::TooManyTenants) => Err(Rejection {
                code: "too_many_tenants",
                message: format!(
                    "there are {} tenants already, as many as tenants_max allows",
                    self.numbers.next_tenant_no
                ),
            }),
            Err(ChangeFailed::Refused(refused)) => {
                Err(Rejection { code: "tenant_refused", message: refused.to_string() })
            }
        }
    }

    /// Stages a change of a tenant; for `None`, registers it if it is unknown.
    pub(super) fn change_tenant(
        &mut self,
        tenant_id: &TenantId,
        change: Option<&TenantChange>,
        actor: &Actor,
    ) -> Result<(u32, Tenant), ChangeFailed> {
        if let Some(change) = change {
            return self.change(tenant_id, change, actor);
        }
        match self.current(tenant_id) {
            Some((_, tenant)) if tenant.status == TenantStatus::Deleted => {
                Err(ChangeFailed::Refused(ChangeRefused::UnknownTenant))
            }
            Some(known) => Ok(known),
            None => self.change(tenant_id, &TenantChange::Put(TenantPut::default()), actor),
        }
    }

    fn current(&self, tenant_id: &TenantId) -> Option<(u32, Tenant)> {
        self.tenants
            .get(tenant_id)
            .cloned()
            .or_else(|| self.shared.counters.get(tenant_id).map(|slot| (slot.no, (**slot.lock().tenant()).clone())))
    }

    fn change(
        &mut self,
        tenant_id: &TenantId,
        change: &TenantChange,
        actor: &Actor,
    ) -> Result<(u32, Tenant), ChangeFailed> {
        let existing = self.current(tenant_id);
        let plans = Arc::clone(&self.plans);
        let policies = &self.shared.policies;
        let defaults = TenantDefaults { plan: &policies.default_plan, zone: policies.default_zone };
        let now = self.commit.committed_at;
        let before = existing.as_ref().map(|(_, tenant)| tenant);
        let (mut tenant, entries) =
            apply_change(before, tenant_id, change, |plan| plans.has(plan), defaults, actor, now)
                .map_err(ChangeFailed::Refused)?;
        let tenant_no = match &existing {
            // Extended meanwhile: nothing is to be written.
            Some((tenant_no, _)) if *change == TenantChange::Expire && entries.is_empty() => {
                return Ok((*tenant_no, tenant));
            }
            Some((tenant_no, _)) => *tenant_no,
            None if u64::from(self.numbers.next_tenant_no) >= policies.tenants_max => {
                return Err(ChangeFailed::TooManyTenants);
            }
            None => {
                self.numbers.next_tenant_no += 1;
                self.numbers.next_tenant_no - 1
            }
        };
        let limits = plans.limits(&tenant.plan).unwrap_or_default();
        record_token_limits(&mut tenant, &limits, now);
        self.number_rates(&mut tenant);
        self.operation(Operation::Tenant { tenant_no, tenant: Box::new(tenant.clone()) });
        entries.into_iter().for_each(|entry| self.audit(entry));
        self.tenants.insert(tenant_id.clone(), (tenant_no, tenant.clone()));
        Ok((tenant_no, tenant))
    }

    /// Gives rates of the tenant's own that are new their price rows.
    fn number_rates(&mut self, tenant: &mut Tenant) {
        let is_new = |terms: &Arc<PriceTerms>| terms.rates.iter().any(|rate| rate.price_no.is_none());
        for terms in tenant.price_terms.iter_mut().filter(|terms| is_new(terms)) {
            for rate in Arc::make_mut(terms).rates.iter_mut().filter(|rate| rate.price_no.is_none()) {
                let price_no = self.numbers.next_price_no;
                self.numbers.next_price_no += 1;
                rate.price_no = Some(price_no);
                let tenant_id = Some(tenant.tenant_id.clone());
                let price = StoredPrice { row: rate.row.clone(), source: None, checked: None, tenant_id };
                self.price_rows.push((price_no, price));
            }
        }
    }
}

/// The answer to a change once its commit is applied.
pub(super) fn changed(shared: &Shared, staged: Result<(u32, Tenant), ChangeFailed>) -> ChangeOutcome {
    let (tenant_no, tenant) = staged?;
    match shared.counters.by_no(tenant_no) {
        Some(slot) => Ok((slot, tenant)),
        // Applied just before by the same thread: it is there.
        None => Err(ChangeFailed::Refused(ChangeRefused::UnknownTenant)),
    }
}
