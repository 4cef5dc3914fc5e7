//! One tenant's quotas: the state machine that grants, holds and counts.

use std::sync::Arc;

use super::amounts::Amounts;
use super::calendar::Calendar;
use super::holds::{Holds, Key, OpenHold};
use super::minute::Minute;
use super::platform::Platform;
use crate::domain::quota::{Blocked, Charges, Decision, Hold, HoldId, HoldState, Item, Limit};
use crate::domain::tenant::{Tenant, TenantStatus};
use crate::domain::threshold::Crossing;
use crate::domain::time::Timestamp;
use crate::rules::window::CalendarWindow;

/// The hold that a grant is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRequest {
    /// Its name; a number of an anonymous one must not have been used before.
    pub id: HoldId,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// What became of a request to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Granted now: the hold is to be journaled.
    Granted {
        /// The decision, with the limits as they are after the grant.
        decision: Decision,
        /// What is held.
        hold: Hold,
    },
    /// A limit said no; nothing changed.
    Denied(Decision),
    /// The same id with the same items is open already: the same answer, with the limits as they are now.
    Again {
        /// Allowed, with nothing more taken.
        decision: Decision,
        /// What is held since the first time.
        hold: Hold,
    },
    /// The same id stands, or stood in the last 24 hours, for other items.
    Conflict,
    /// The same id with the same items has ended already: the same answer, although nothing is held any more.
    Finished {
        /// Allowed, with the limits as they are now.
        decision: Decision,
        /// How it ended.
        state: HoldState,
        /// When it lapsed or would have.
        expires_at: Timestamp,
    },
}

/// A deterministic state machine: the same calls give the same answers, and time is an argument.
///
/// A `now` before the latest one it has seen counts as that one, since callers read the clock before they get the lock.
#[derive(Clone, Debug)]
pub struct TenantState {
    pub(super) tenant: Arc<Tenant>,
    /// Until when the tenant is active, so that it need not be looked at; a time long gone when it is not.
    pub(super) active_until: Timestamp,
    pub(super) plan_limits: Arc<[Limit]>,
    pub(super) plan_thresholds: Arc<[u16]>,
    /// Noticed, and not taken yet.
    pub(super) crossings: Vec<Crossing>,
    /// The limits in force, in order of type and window, until an override ends.
    pub(super) limits: Arc<[Limit]>,
    /// When an override ends next.
    pub(super) limits_until: Timestamp,
    /// The latest time seen.
    pub(super) as_of: Timestamp,
    pub(super) minute: Minute,
    pub(super) day: Calendar,
    pub(super) month: Calendar,
    pub(super) holds: Holds,
}

impl TenantState {
    /// A tenant that has used nothing yet. `plan_limits` are those of its plan.
    pub fn new(tenant: Arc<Tenant>, plan_limits: Arc<[Limit]>) -> Self {
        Self {
            limits: Arc::clone(&plan_limits),
            limits_until: Timestamp::default(),
            active_until: active_until(&tenant),
            tenant,
            plan_limits,
            plan_thresholds: Arc::default(),
            crossings: Vec::new(),
            as_of: Timestamp::default(),
            minute: Minute::default(),
            day: Calendar::new(CalendarWindow::Day),
            month: Calendar::new(CalendarWindow::Month),
            holds: Holds::default(),
        }
    }

    /// The tenant, as administered.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// The limits of its plan.
    pub fn plan_limits(&self) -> &Arc<[Limit]> {
        &self.plan_limits
    }

    /// Changes the tenant or its plan's limits: binds the next decision; usage and holds stay.
    pub fn set_tenant(&mut self, tenant: Arc<Tenant>, plan_limits: Arc<[Limit]>, now: Timestamp) {
        // The window that is current now keeps its end: roll in the old zone first.
        self.advance(now);
        self.active_until = active_until(&tenant);
        self.tenant = tenant;
        self.plan_limits = plan_limits;
        self.refresh_limits(self.as_of);
    }

    /// Moves on to `now`: windows roll, seconds leave the minute, holds lapse, overrides end. Gives the time that counts.
    #[inline]
    pub(super) fn advance(&mut self, now: Timestamp) -> Timestamp {
        let now = now.max(self.as_of);
        self.as_of = now;
        let is_due = self.minute.slides_by(now)
            || now >= self.day.end()
            || now >= self.month.end()
            || self.holds.lapses_by(now)
            || now >= self.limits_until;
        if is_due {
            self.move_on(now);
        }
        now
    }

    /// What [`Self::advance`] does when anything is due: once a second and tenant at most, but for holds that lapse.
    #[inline(never)]
    fn move_on(&mut self, now: Timestamp) {
        self.minute.slide(now);
        let tenant = &self.tenant;
        let rolled = self.day.roll(|| tenant.zone, now) | self.month.roll(|| tenant.zone, now);
        if rolled {
            self.watch();
        }
        while let Some(hold) = self.holds.lapse_one(now) {
            self.give_back(&hold);
        }
        if now >= self.limits_until {
            self.refresh_limits(now);
        }
    }

    #[cold]
    pub(super) fn refresh_limits(&mut self, now: Timestamp) {
        self.limits = self.tenant.limits_at(&self.plan_limits, now).into();
        if *self.limits == *self.plan_limits {
            // One list for all tenants of a plan.
            self.limits = Arc::clone(&self.plan_limits);
        }
        let ends = self.tenant.overrides.values().filter_map(|own| own.until).filter(|until| *until > now);
        self.limits_until = ends.min().unwrap_or(Timestamp::MAX);
        self.watch();
    }

    /// Whether `items` would fit now. Changes nothing; the limits are shown as they are.
    pub fn check(&mut self, now: Timestamp, items: &[Item]) -> Result<Decision, Blocked> {
        self.check_under(now, items, None)
    }

    /// [`TenantState::check`] under the ceilings of the platform as well.
    pub fn check_under(
        &mut self,
        now: Timestamp,
        items: &[Item],
        platform: Option<&mut Platform>,
    ) -> Result<Decision, Blocked> {
        let now = self.advance(now);
        self.unblocked(now)?;
        let amounts = Amounts::sum(items);
        let mut verdict = self.judge(&amounts);
        if let Some(platform) = platform {
            verdict.ceilings = platform.judge(now, &amounts);
        }
        Ok(self.describe(now, &amounts, verdict))
    }

    /// Decides over all items and takes them in one step, all or nothing; a denial burns nothing.
    pub fn take(&mut self, now: Timestamp, items: &[Item], request: HoldRequest) -> Result<Taken, Blocked> {
        self.take_under(now, items, request, None)
    }

    /// [`TenantState::take`] under the ceilings of the platform as well, in the same step; the number is the tenant's.
    pub fn take_under(
        &mut self,
        now: Timestamp,
        items: &[Item],
        request: HoldRequest,
        mut platform: Option<(&mut Platform, u32)>,
    ) -> Result<Taken, Blocked> {
        let mut now = self.advance(now);
        if let Some((platform, _)) = &mut platform {
            // One time for both: what is granted belongs to the windows that it was judged in.
            now = self.advance(platform.advance(now));
        }
        let amounts = Amounts::sum(items);
        if let Some(taken) = self.known(now, &amounts, &request.id) {
            return Ok(taken);
        }
        self.unblocked(now)?;
        let mut verdict = self.judge(&amounts);
        if let Some((platform, _)) = &mut platform {
            verdict.ceilings = platform.judge(now, &amounts);
        }
        if !verdict.grants() {
            return Ok(Taken::Denied(self.describe(now, &amounts, verdict)));
        }
        let hold = self.hold(now, &amounts, &request).to_hold(request.id);
        if let Some((platform, tenant_no)) = platform {
            platform.hold(tenant_no, &hold);
        }
        let decision = self.describe(now, &amounts, verdict);
        Ok(Taken::Granted { decision, hold })
    }

    /// [`TenantState::take`] without the answer's details, for who only asks whether: an id that is known is refused.
    #[inline]
    pub fn try_take(&mut self, now: Timestamp, amounts: &Amounts, request: &HoldRequest) -> bool {
        let now = self.advance(now);
        let new = match Holds::key(&request.id) {
            key @ Key::Anonymous(_) => self.holds.open(key).is_none(),
            key @ Key::Named(hash) => self.holds.open(key).is_none() && self.holds.finished(hash, now).is_none(),
        };
        let granted = new && now < self.active_until && self.fits(amounts);
        if granted {
            self.hold(now, amounts, request);
        }
        granted
    }

    fn known(&self, now: Timestamp, amounts: &Amounts, id: &HoldId) -> Option<Taken> {
        let key = Holds::key(id);
        if let Some(open) = self.holds.open(key) {
            if open.amounts != *amounts {
                return Some(Taken::Conflict);
            }
            let decision = self.describe(now, amounts, super::decide::Verdict::default());
            return Some(Taken::Again { decision, hold: open.to_hold(id.clone()) });
        }
        let Key::Named(hash) = key else { return None };
        let finished = self.holds.finished(hash, now)?;
        if finished.items_digest != amounts.digest() {
            return Some(Taken::Conflict);
        }
        let decision = self.describe(now, amounts, super::decide::Verdict::default());
        Some(Taken::Finished { decision, state: finished.state, expires_at: finished.expires_at })
    }

    /// Holds without asking: what was granted before, replayed from the journal. A known id changes nothing.
    pub fn insert_hold(&mut self, hold: &Hold) {
        let now = self.advance(hold.granted_at);
        let key = Holds::key(&hold.id);
        let finished = matches!(key, Key::Named(hash) if self.holds.finished(hash, now).is_some());
        if finished || self.holds.open(key).is_some() {
            return;
        }
        let open = OpenHold::of(hold);
        self.count_hold(&open);
        self.holds.insert(&hold.id, open);
        // It may have lapsed before the latest time seen.
        self.advance(now);
    }

    /// Takes a hold back as though it had never been granted, when it could not be journaled: its id may be used again.
    /// True when it was open.
    pub fn undo_hold(&mut self, now: Timestamp, id: &HoldId) -> bool {
        self.advance(now);
        let Some(hold) = self.holds.remove(Holds::key(id)) else { return false };
        self.give_back(&hold);
        true
    }

    /// Counts a recorded event that has no handle: the minute by `accepted_at`, day and month by `event_time`. Unless it
    /// is a 429 it closes the oldest anonymous hold in the same step, and gives its number.
    #[inline]
    pub fn charge(
        &mut self,
        accepted_at: Timestamp,
        event_time: Timestamp,
        charges: &Charges,
        rate_limited: bool,
    ) -> Option<u64> {
        let now = self.advance(accepted_at);
        let mut closed = None;
        if !rate_limited && let Some((number, hold)) = self.holds.remove_oldest_anonymous() {
            self.give_back(&hold);
            closed = Some(number);
        }
        self.minute.charge(accepted_at, now, charges);
        self.day.charge(event_time, charges);
        self.month.charge(event_time, charges);
        self.notice(now);
        closed
    }

    /// Whether this hold is open.
    pub fn has_open(&self, id: &HoldId) -> bool {
        self.holds.open(Holds::key(id)).is_some()
    }

    /// How many holds are open.
    pub fn open_holds(&self) -> usize {
        self.holds.open_count()
    }

    /// Moves on to `now` and forgets what need not be remembered any more, so that an idle tenant costs little memory.
    pub fn tidy(&mut self, now: Timestamp) {
        let now = self.advance(now);
        self.holds.forget_expired(now);
    }

    fn unblocked(&self, now: Timestamp) -> Result<(), Blocked> {
        if now < self.active_until { Ok(()) } else { Err(Blocked { status: self.tenant.status_at(now) }) }
    }

    #[inline]
    fn hold(&mut self, now: Timestamp, amounts: &Amounts, request: &HoldRequest) -> OpenHold {
        let hold = OpenHold {
            amounts: *amounts,
            granted_at: now,
            expires_at: request.expires_at,
            day_start: self.day.start(),
            month_start: self.month.start(),
        };
        self.count_hold(&hold);
        self.holds.insert(&request.id, hold);
        hold
    }

    #[inline]
    fn count_hold(&mut self, hold: &OpenHold) {
        self.minute.hold(hold.granted_at, self.as_of, &hold.amounts.of);
        self.day.hold(hold.day_start, &hold.amounts.of);
        self.month.hold(hold.month_start, &hold.amounts.of);
    }

    #[inline]
    pub(super) fn give_back(&mut self, hold: &OpenHold) {
        self.minute.give_back(hold.granted_at, &hold.amounts.of);
        self.day.give_back(hold.day_start, &hold.amounts.of);
        self.month.give_back(hold.month_start, &hold.amounts.of);
    }
}

fn active_until(tenant: &Tenant) -> Timestamp {
    match tenant.status {
        TenantStatus::Active => tenant.plan_expires_at.unwrap_or(Timestamp::MAX),
        _ => Timestamp::default(),
    }
}
