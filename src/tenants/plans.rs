//! Plans change while running: what a change would do to the tenants, and the change itself.

use super::{Actor, AdminError, Tenants};
use crate::domain::quota::Plan;
use crate::domain::tenant::TenantStatus;
use crate::rules::plan_changes::{PlanChange, PlanRefused, checked};
use crate::writer::PlanOutcome;

/// What a change of a plan means for the tenants on it, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanEffect {
    /// Tenants on the plan, deleted ones left out.
    pub tenants: u64,
    /// Those of them that have used up a limit already.
    pub exceeded_before: u64,
    /// Those of them that would have used one up.
    pub exceeded_after: u64,
}

impl Tenants {
    /// The plans in force, by name.
    pub fn plans(&self) -> Vec<Plan> {
        self.writer.shared().plans.load().all()
    }

    /// What it would mean if this were the plan of its name. Changes nothing; fails as [`Self::change_plan`] would.
    pub fn plan_effect(&self, plan: &Plan) -> Result<PlanEffect, AdminError> {
        let plan = checked(plan).map_err(|refused| self.refused(&plan.name, refused))?;
        let shared = self.writer.shared();
        let now = shared.clock.now();
        let mut effect = PlanEffect::default();
        for slot in shared.counters.all() {
            let mut state = slot.lock();
            if state.tenant().plan == plan.name && state.tenant().status != TenantStatus::Deleted {
                let before = std::sync::Arc::clone(state.plan_limits());
                effect.tenants += 1;
                effect.exceeded_before += u64::from(state.is_exceeded_under(now, &before));
                effect.exceeded_after += u64::from(state.is_exceeded_under(now, &plan.limits));
            }
        }
        Ok(effect)
    }

    /// Makes, changes or removes a plan, in one transaction with its audit record; binds the next decision of every
    /// tenant on it. A plan in use, and the default one, cannot be removed.
    pub async fn change_plan(&self, change: PlanChange, actor: &Actor) -> Result<(), AdminError> {
        let name = change.name().to_owned();
        let outcome = self.writer.change_plan(change, actor)?.await?;
        self.plan_changed(&name, outcome)
    }

    /// [`Self::change_plan`] for threads.
    pub fn change_plan_blocking(&self, change: PlanChange, actor: &Actor) -> Result<(), AdminError> {
        let name = change.name().to_owned();
        let outcome = self.writer.change_plan(change, actor)?.wait()?;
        self.plan_changed(&name, outcome)
    }

    fn plan_changed(&self, name: &str, outcome: PlanOutcome) -> Result<(), AdminError> {
        outcome.map_err(|refused| self.refused(name, refused))
    }

    fn refused(&self, name: &str, refused: PlanRefused) -> AdminError {
        let plan: String = name.chars().take(64).collect();
        match refused {
            PlanRefused::Unknown => {
                let known: Vec<String> = self.plans().into_iter().map(|plan| plan.name).collect();
                AdminError::UnknownPlan { plan, known: known.join(", ") }
            }
            PlanRefused::Invalid { field, reason } => AdminError::Invalid { field, reason },
            PlanRefused::InUse(_) | PlanRefused::IsDefault => {
                AdminError::PlanInUse { plan, reason: refused.to_string() }
            }
        }
    }
}
