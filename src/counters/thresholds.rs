//! Thresholds: a charge that brings use to a percentage of a limit is noticed, at the cost of a comparison a type.

use std::sync::Arc;

use super::calendar::Calendar;
use super::tenant_state::TenantState;
use crate::domain::quota::{Charges, Limit, QuotaType, Window};
use crate::domain::threshold::{Crossing, ThresholdState, threshold_amount};
use crate::domain::time::Timestamp;

impl TenantState {
    /// The same with the percentages that its plan tells of. Without them, or when they are empty, nothing is noticed
    /// unless the tenant has some of its own.
    pub fn with_thresholds(mut self, plan_thresholds: Arc<[u16]>) -> Self {
        self.set_thresholds(plan_thresholds);
        self
    }

    /// Changes the percentages that its plan tells of.
    pub fn set_thresholds(&mut self, plan_thresholds: Arc<[u16]>) {
        self.plan_thresholds = plan_thresholds;
        self.watch();
    }

    /// The percentages in force, in order.
    pub fn thresholds(&self) -> &[u16] {
        self.tenant.thresholds.as_deref().unwrap_or(&self.plan_thresholds)
    }

    /// Looks out for the first threshold of each limit again: the window, a limit or the percentages have changed.
    ///
    /// What was noticed before is noticed once more by the next charge. That is how it becomes known whatever happened in
    /// between; its record has the same id and is written once.
    #[cold]
    pub(super) fn watch(&mut self) {
        let first = self.thresholds().first().copied();
        for window in [Window::Day, Window::Month] {
            let mut watched: Option<Box<Charges>> = None;
            for limit in self.limits.iter().filter(|limit| limit.window == window && limit.limit > 0) {
                let Some(percent) = first else { continue };
                let amounts = watched.get_or_insert_with(|| Box::new([u128::MAX; QuotaType::COUNT]));
                amounts[limit.quota_type.index()] = threshold_amount(percent, limit.limit);
            }
            self.calendar_mut(window).watched = watched;
        }
    }

    /// Called by every charge; nearly always nothing is reached.
    #[inline]
    pub(super) fn notice(&mut self, now: Timestamp) {
        if self.day.has_reached() || self.month.has_reached() {
            self.notice_reached(now);
        }
    }

    /// Notices what is reached at the time of the last commit, after this state was restored: its record may not have been
    /// written. What was reached in windows that were over by then has its record, and other limits held then.
    pub fn notice_restored(&mut self, last_commit: Timestamp) {
        let now = self.advance(last_commit);
        // Limits are known from the first call on.
        self.refresh_limits(now);
        self.notice(now);
    }

    #[cold]
    fn notice_reached(&mut self, now: Timestamp) {
        let percents: Vec<u16> = self.thresholds().to_vec();
        let limits = Arc::clone(&self.limits);
        for limit in limits.iter().filter(|limit| limit.window != Window::Minute && limit.limit > 0) {
            let place = limit.quota_type.index();
            let calendar = self.calendar_mut(limit.window);
            let used = calendar.used[place];
            let Some(watched) = calendar.watched.as_deref_mut().map(|watched| &mut watched[place]) else { continue };
            let from = std::mem::replace(watched, u128::MAX);
            let window_start = calendar.start();
            for percent in &percents {
                let amount = threshold_amount(*percent, limit.limit);
                if amount > used {
                    if let Some(watched) = self.calendar_mut(limit.window).watched.as_deref_mut() {
                        watched[place] = amount;
                    }
                    break;
                }
                if amount >= from {
                    let &Limit { quota_type, window, limit, observe: observed } = limit;
                    let percent = *percent;
                    let crossing =
                        Crossing { quota_type, window, window_start, percent, limit, used, observed, at: now };
                    self.crossings.push(crossing);
                }
            }
        }
    }

    /// What was noticed since the last call.
    #[inline]
    pub fn take_crossings(&mut self) -> Vec<Crossing> {
        std::mem::take(&mut self.crossings)
    }

    /// Each limit's thresholds, and those that use has reached in the current window.
    pub(super) fn threshold_states(&self) -> Vec<ThresholdState> {
        let told = self.limits.iter().filter(|limit| limit.window != Window::Minute && limit.limit > 0);
        let look = |limit: &Limit| {
            let used = self.calendar(limit.window).used[limit.quota_type.index()];
            let percents = self.thresholds().to_vec();
            let reached = |percent: &&u16| threshold_amount(**percent, limit.limit) <= used;
            let crossed = percents.iter().filter(reached).copied().collect();
            ThresholdState { quota_type: limit.quota_type, window: limit.window, percents, crossed }
        };
        told.map(look).collect()
    }

    fn calendar(&self, window: Window) -> &Calendar {
        if window == Window::Month { &self.month } else { &self.day }
    }

    fn calendar_mut(&mut self, window: Window) -> &mut Calendar {
        if window == Window::Month { &mut self.month } else { &mut self.day }
    }
}
