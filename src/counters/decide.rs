//! Decisions: which limits say no, and the answer that explains it.

use std::collections::BTreeMap;

use super::amounts::Amounts;
use super::platform::CeilingDenial;
use super::tenant_state::TenantState;
use crate::domain::quota::{
    Decision, DeniedBy, Limit, LimitState, QuotaCheckResult, QuotaStatus, QuotaType, Scope, Window,
};
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

/// The limits that do not fit, before anything is taken. Both lists are empty in the usual case, and cost nothing then.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) denied: Vec<DeniedBy>,
    pub(super) observed: Vec<DeniedBy>,
    /// The platform's ceilings that do not fit.
    pub(super) ceilings: Vec<CeilingDenial>,
}

impl Verdict {
    pub(super) const fn grants(&self) -> bool {
        self.denied.is_empty() && self.ceilings.is_empty()
    }
}

impl TenantState {
    /// The invariant: used + held + granted <= limit, for every limit of the types asked for.
    #[inline]
    pub(super) fn fits(&self, amounts: &Amounts) -> bool {
        self.limits.iter().all(|limit| limit.observe || self.fits_limit(amounts, limit))
    }

    #[inline]
    fn fits_limit(&self, amounts: &Amounts, limit: &Limit) -> bool {
        if !amounts.asks(limit.quota_type) {
            return true;
        }
        let (used, held) = self.counted(limit.quota_type, limit.window);
        used + held + amounts.amount(limit.quota_type) <= limit.limit
    }

    #[inline]
    fn counted(&self, quota_type: QuotaType, window: Window) -> (u128, u128) {
        let place = quota_type.index();
        match window {
            Window::Minute => (self.minute.used[place], self.minute.held[place]),
            Window::Day => (self.day.used[place], self.day.held[place]),
            Window::Month => (self.month.used[place], self.month.held[place]),
        }
    }

    pub(super) fn judge(&self, amounts: &Amounts) -> Verdict {
        let mut verdict = Verdict::default();
        for limit in self.limits.iter().filter(|limit| !self.fits_limit(amounts, limit)) {
            let state = self.look_at(limit.quota_type, limit.window, Some(limit.limit));
            let denial = DeniedBy { state, asked: amounts.amount(limit.quota_type), scope: Scope::Tenant };
            if limit.observe { verdict.observed.push(denial) } else { verdict.denied.push(denial) }
        }
        verdict
    }

    fn look_at(&self, quota_type: QuotaType, window: Window, limit: Option<u128>) -> LimitState {
        let (used, held) = self.counted(quota_type, window);
        let resets_at = match window {
            Window::Minute => self.minute.resets_at(quota_type, self.as_of),
            Window::Day => self.day.end(),
            Window::Month => self.month.end(),
        };
        LimitState { quota_type, window, limit, used, held, resets_at }
    }

    /// The answer, with the limits as they are now.
    pub(super) fn describe(&self, now: Timestamp, amounts: &Amounts, verdict: Verdict) -> Decision {
        let asked = || self.limits.iter().filter(|limit| amounts.asks(limit.quota_type));
        let limits: Vec<LimitState> =
            asked().map(|limit| self.look_at(limit.quota_type, limit.window, Some(limit.limit))).collect();
        let mut results = BTreeMap::new();
        for quota_type in amounts.types() {
            // What only observes never denies, so it is not what the caller has left.
            let binding = asked().zip(&limits).filter(|(limit, _)| !limit.observe && limit.quota_type == quota_type);
            let tightest = binding.map(|(_, state)| state).min_by_key(|state| state.remaining());
            let ceilings = verdict.ceilings.iter().map(|ceiling| &ceiling.denied);
            let mut denials = verdict.denied.iter().chain(ceilings);
            let denial = denials.find(|denial| denial.state.quota_type == quota_type);
            let result = QuotaCheckResult {
                allowed: denial.is_none(),
                tokens_remaining: tightest.and_then(LimitState::remaining),
                quota_limit: tightest.and_then(|state| state.limit),
                error: denial.map(explain),
            };
            results.insert(quota_type, result);
        }
        let allowed = verdict.grants();
        let retry_after_seconds = if allowed { None } else { self.retry_after(now, &verdict) };
        let Verdict { denied: mut denied_by, observed: would_deny, ceilings } = verdict;
        denied_by.extend(ceilings.into_iter().map(|ceiling| ceiling.denied));
        Decision { allowed, results, limits, denied_by, would_deny, retry_after_seconds, decided_at: now }
    }

    /// Seconds until every denying limit has room, if nothing else is taken; `None` when an amount is above its limit.
    fn retry_after(&self, now: Timestamp, verdict: &Verdict) -> Option<u64> {
        let mut longest = 1;
        let seconds_until = |time: Timestamp| {
            let micros = time.micros_since(now).max(0) as u64;
            micros.div_ceil(MICROS_PER_SECOND as u64)
        };
        for ceiling in &verdict.ceilings {
            longest = longest.max(seconds_until(ceiling.fits_at?));
        }
        for DeniedBy { state, asked, .. } in &verdict.denied {
            let limit = state.limit?;
            if *asked > limit {
                return None;
            }
            let excess = state.used + state.held + asked - limit;
            let fits_at = match state.window {
                Window::Minute => self.minute.frees_at(state.quota_type, excess, now),
                Window::Day | Window::Month => state.resets_at,
            };
            longest = longest.max(seconds_until(fits_at));
        }
        Some(longest)
    }

    /// Whether any limit is used up now, were `plan_limits` those of the plan. Limits that only observe count as well.
    pub fn is_exceeded_under(&mut self, now: Timestamp, plan_limits: &[Limit]) -> bool {
        let now = self.advance(now);
        let limits = self.tenant().limits_at(plan_limits, now);
        limits.iter().any(|limit| self.counted(limit.quota_type, limit.window).0 >= limit.limit)
    }

    /// Everything about the quotas now: each limit in force, and each type's default window even when unlimited.
    pub fn status(&mut self, now: Timestamp) -> QuotaStatus {
        let now = self.advance(now);
        let mut limits: Vec<LimitState> =
            self.limits.iter().map(|limit| self.look_at(limit.quota_type, limit.window, Some(limit.limit))).collect();
        for quota_type in QuotaType::ALL {
            let window = quota_type.default_window();
            if !limits.iter().any(|state| state.quota_type == quota_type && state.window == window) {
                limits.push(self.look_at(quota_type, window, None));
            }
        }
        limits.sort_by_key(|state| (state.quota_type, state.window));
        QuotaStatus {
            plan: self.tenant().plan.clone(),
            status: self.tenant().status_at(now),
            limits,
            thresholds: self.threshold_states(),
        }
    }
}

fn explain(denial: &DeniedBy) -> String {
    let DeniedBy { state, asked, scope } = denial;
    let kind = state.quota_type;
    if *scope == Scope::Platform {
        return format!("Quota exceeded: the platform's ceiling of {kind} per {} is reached", state.window);
    }
    let (left, limit) = (state.remaining().unwrap_or(0), state.limit.unwrap_or(0));
    format!(
        "Quota exceeded: {} of {} {kind} per {} left, {} asked for",
        kind.show(left),
        kind.show(limit),
        state.window,
        kind.show(*asked)
    )
}
