//! explain: why a request was denied, which limit said no, and what had used it up by then.

use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{EnforceError, ExplainQuery, Explanation, QuotaEnforcer, UsageShare, WindowUsage};
use crate::counters::TenantSlot;
use crate::domain::event::MAX_AHEAD_MICROS;
use crate::domain::quota::{Denial, Hold, HoldId, QuotaType, Window};
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp};
use crate::rules::charges::charges_of;
use crate::rules::retention::DENIALS_DAYS;
use crate::rules::window::{CalendarWindow, window_at};
use crate::store::{Operation, Snapshot, StoreError, StoredEvent};

/// How far from the time asked for a denial may lie.
const NEAR_MICROS: i64 = 5 * MICROS_PER_MINUTE;
/// Further denials that are told.
const OTHERS_MAX: usize = 20;
/// Raw events that are looked at for one answer.
const EVENTS_MAX: u64 = 500_000;
/// Names told of each kind.
const SHARES_MAX: usize = 5;
/// Holds that are told.
const HOLDS_MAX: usize = 20;

impl QuotaEnforcer {
    /// Why a request of the tenant was denied, or would have been by a limit that only observes.
    ///
    /// Reads the disk: blocks its thread, for at most half a million events. Fails for a tenant that was never seen, and
    /// when no denial of the last 30 days fits.
    pub fn explain(&self, tenant_id: &TenantId, query: &ExplainQuery) -> Result<Explanation, EnforceError> {
        let slot = self.known(tenant_id)?.ok_or_else(|| EnforceError::UnknownTenant(tenant_id.clone()))?;
        let storage = |error: StoreError| EnforceError::Storage(error.to_string());
        // Before the snapshot: what is written in between is seen twice, not missed.
        let unwritten = self.writer.shared().denials.unwritten(slot.no);
        let snapshot = self.writer.shared().store.snapshot().map_err(storage)?;
        let mut found = self.find(&snapshot, slot.no, unwritten, query).map_err(storage)?.into_iter();
        let denial = found.next().ok_or_else(|| EnforceError::UnknownDenial(tenant_id.clone(), told(query)))?;
        let (usage, holds) = self.led_to(&snapshot, &slot, &denial).map_err(storage)?;
        Ok(Explanation { denial, others: found.take(OTHERS_MAX).collect(), usage, holds })
    }

    /// The denials that fit the question, best first.
    fn find(
        &self,
        snapshot: &Snapshot,
        tenant_no: u32,
        unwritten: Vec<Denial>,
        query: &ExplainQuery,
    ) -> Result<Vec<Denial>, StoreError> {
        let now = self.now();
        let oldest = now.plus_micros(-i64::from(DENIALS_DAYS) * MICROS_PER_DAY);
        let wanted = |denial: &Denial| {
            denial.at >= oldest
                && match query {
                    ExplainQuery::Latest => true,
                    ExplainQuery::At(time) => denial.at.micros_since(*time).abs() <= NEAR_MICROS,
                    ExplainQuery::Decision(id) => denial.decision_id == Some(*id),
                    ExplainQuery::Request(id) => denial.request_id.as_ref() == Some(id),
                }
        };
        let around = if let ExplainQuery::At(time) = query { *time } else { Timestamp::MAX };
        let mut best = Best { around, found: unwritten.into_iter().filter(&wanted).collect() };
        snapshot.commits_after(snapshot.checkpoint()?.filed_seq, |commit| {
            for placed in commit.operations {
                match placed.operation {
                    Operation::Denied { tenant_no: number, denial, .. } if number == tenant_no && wanted(&denial) => {
                        best.add(denial);
                    }
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        })?;
        let (first, last) = match query {
            ExplainQuery::At(time) => {
                (time.plus_micros(-NEAR_MICROS).max(oldest), time.plus_micros(NEAR_MICROS).min(now))
            }
            _ => (oldest, now),
        };
        let mut days: Vec<u32> = if first <= last { (first.day()..=last.day()).rev().collect() } else { Vec::new() };
        if let ExplainQuery::Decision(id) = query
            && let Some(made) = crate::ids::time_of(id)
        {
            // An id carries its time, or one shortly after it.
            days.sort_by_key(|day| day.abs_diff(made.day()));
        }
        for day in days {
            snapshot.tenant_denials(day, tenant_no, |denial| {
                if wanted(&denial) {
                    best.add(denial);
                }
            })?;
            // Earlier days have nothing that is nearer.
            if !matches!(query, ExplainQuery::At(_)) && !best.found.is_empty() {
                break;
            }
        }
        Ok(best.finish())
    }

    /// What had used the window up to the denial, and what was held.
    fn led_to(
        &self,
        snapshot: &Snapshot,
        slot: &Arc<TenantSlot>,
        denial: &Denial,
    ) -> Result<(WindowUsage, Vec<Hold>), StoreError> {
        let (zone, open) = {
            let state = slot.lock();
            (state.tenant().zone, state.snapshot().open)
        };
        let span = Span::of(denial, zone);
        let mut tally = Tally { quota_type: denial.denied_by.state.quota_type, ..Tally::default() };
        let mut holds: Vec<Hold> = open;
        let filed_seq = snapshot.checkpoint()?.filed_seq;
        snapshot.commits_after(0, |commit| {
            for placed in commit.operations.into_iter().filter(|_| commit.committed_at <= denial.at) {
                match placed.operation {
                    // An anonymous one may have been closed by any event since.
                    Operation::Hold { tenant_no, hold }
                        if tenant_no == slot.no && matches!(hold.id, HoldId::Named(_)) && !holds.contains(&hold) =>
                    {
                        holds.push(hold);
                    }
                    Operation::Settle { tenant_no, reservation_id, .. }
                    | Operation::Release { tenant_no, reservation_id }
                        if tenant_no == slot.no =>
                    {
                        let ended = HoldId::Named(reservation_id);
                        holds.retain(|hold| hold.id != ended);
                    }
                    _ => {}
                }
            }
            if commit.seq > filed_seq {
                for stored in commit.events.iter().filter(|stored| stored.tenant_no == slot.no && span.has(stored)) {
                    tally.add(stored);
                }
            }
            ControlFlow::Continue(())
        })?;
        let kept_from = snapshot.cut()?.cut;
        for day in (span.scan_from.max(kept_from).day()..=span.scan_to.day()).rev() {
            let from = span.scan_from.max(kept_from);
            let flow = snapshot.see_tenant_events(day, slot.no, from, span.scan_to, &mut |stored| {
                if span.has(&stored) {
                    tally.add(&stored);
                }
                tally.look()
            })?;
            if flow.is_break() {
                break;
            }
        }
        holds.retain(|hold| span.holds(hold));
        holds.sort_by_key(|hold| std::cmp::Reverse(amount_of(hold, tally.quota_type)));
        holds.truncate(HOLDS_MAX);
        let complete = tally.looked_at < EVENTS_MAX && kept_from <= span.from;
        Ok((tally.finish(&span, complete), holds))
    }
}

fn told(query: &ExplainQuery) -> String {
    match query {
        ExplainQuery::Latest => "at all".to_owned(),
        ExplainQuery::At(time) => format!("within 5 minutes of {time}"),
        ExplainQuery::Decision(id) => format!("with the decision id {id}"),
        ExplainQuery::Request(id) => {
            format!("with the request id `{}`", id.chars().take(128).collect::<String>())
        }
    }
}

fn amount_of(hold: &Hold, quota_type: QuotaType) -> u128 {
    hold.items.iter().filter(|item| item.quota_type == quota_type).map(|item| item.amount).sum()
}

/// The denials nearest to a time; not many more of them are kept than are told.
struct Best {
    around: Timestamp,
    found: Vec<Denial>,
}

impl Best {
    fn add(&mut self, denial: Denial) {
        self.found.push(denial);
        if self.found.len() >= 64 * OTHERS_MAX {
            self.order();
        }
    }

    fn order(&mut self) {
        let around = self.around;
        self.found.sort_by_key(|denial| {
            (around.micros().abs_diff(denial.at.micros()), std::cmp::Reverse(denial.decision_id), denial.count)
        });
        self.found.dedup();
        self.found.truncate(OTHERS_MAX + 1);
    }

    fn finish(mut self) -> Vec<Denial> {
        self.order();
        self.found
    }
}

/// The window of a denial up to its instant, and where its events are to be looked for.
struct Span {
    window: Window,
    quota_type: QuotaType,
    from: Timestamp,
    at: Timestamp,
    scan_from: Timestamp,
    scan_to: Timestamp,
}

impl Span {
    fn of(denial: &Denial, zone: chrono_tz::Tz) -> Self {
        let (state, at) = (denial.denied_by.state, denial.at);
        // The window that ends where the denial says; the zone may have changed since.
        let calendar = |window| window_at(window, zone, state.resets_at.plus_micros(-1).min(at)).start;
        let ahead = at.plus_micros(MAX_AHEAD_MICROS + 1);
        let (from, scan_from, scan_to) = match state.window {
            Window::Minute => {
                let second = at.micros().div_euclid(MICROS_PER_SECOND);
                let from = Timestamp::from_micros((second - 60) * MICROS_PER_SECOND);
                // By acceptance: an event may be older than that.
                (from, from.plus_micros(-MICROS_PER_HOUR), ahead)
            }
            Window::Day => {
                let from = calendar(CalendarWindow::Day);
                (from, from, ahead.min(state.resets_at))
            }
            Window::Month => {
                let from = calendar(CalendarWindow::Month);
                (from, from, ahead.min(state.resets_at))
            }
        };
        Self { window: state.window, quota_type: state.quota_type, from, at, scan_from, scan_to }
    }

    /// Whether the event had been counted in the window by then.
    fn has(&self, stored: &StoredEvent) -> bool {
        let counted_at = if self.window == Window::Minute { stored.created_at } else { stored.event_timestamp };
        stored.created_at <= self.at && counted_at >= self.from && stored.event_timestamp < self.scan_to
    }

    /// Whether the hold was counted in the window by then.
    fn holds(&self, hold: &Hold) -> bool {
        let counted_in = match self.window {
            Window::Minute => hold.granted_at,
            Window::Day => hold.day_start,
            Window::Month => hold.month_start,
        };
        counted_in >= self.from
            && hold.granted_at <= self.at
            && self.at < hold.expires_at
            && amount_of(hold, self.quota_type) > 0
    }
}

#[derive(Default)]
struct Shares(HashMap<Option<String>, (u64, u128)>);

impl Shares {
    fn add(&mut self, name: Option<&str>, amount: u128) {
        // Named once per event that is looked at: bounded by their number.
        let (events, sum) = self.0.entry(name.map(str::to_owned)).or_default();
        (*events, *sum) = (*events + 1, *sum + amount);
    }

    fn top(self) -> Vec<UsageShare> {
        let share = |(name, (events, amount))| UsageShare { name, events, amount };
        let mut shares: Vec<UsageShare> = self.0.into_iter().map(share).collect();
        shares.sort_by(|a, b| (b.amount, b.events, &a.name).cmp(&(a.amount, a.events, &b.name)));
        shares.truncate(SHARES_MAX);
        shares
    }
}

struct Tally {
    quota_type: QuotaType,
    looked_at: u64,
    events: u64,
    amount: u128,
    event_types: Shares,
    models: Shares,
    sessions: Shares,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            quota_type: QuotaType::Tokens,
            looked_at: 0,
            events: 0,
            amount: 0,
            event_types: Shares::default(),
            models: Shares::default(),
            sessions: Shares::default(),
        }
    }
}

impl Tally {
    fn look(&mut self) -> ControlFlow<()> {
        self.looked_at += 1;
        if self.looked_at >= EVENTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn add(&mut self, stored: &StoredEvent) {
        let amount = charges_of(&stored.event)[self.quota_type.index()];
        if amount == 0 {
            return;
        }
        self.events += 1;
        self.amount += amount;
        self.event_types.add(Some(stored.event.event_type()), amount);
        self.models.add(stored.event.model(), amount);
        if let Some(session) = stored.event.chat_session_id() {
            self.sessions.add(Some(session), amount);
        }
    }

    fn finish(self, span: &Span, complete: bool) -> WindowUsage {
        WindowUsage {
            from: span.from,
            to: span.at,
            events: self.events,
            amount: self.amount,
            complete,
            event_types: self.event_types.top(),
            models: self.models.top(),
            sessions: self.sessions.top(),
        }
    }
}
