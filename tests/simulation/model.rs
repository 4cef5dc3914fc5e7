//! The naive model: lists of what was acknowledged, and everything counted anew from them whenever it is asked for.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use metergate::domain::event::UsageEvent;
use metergate::domain::quota::{Item, Limit, Mode, QuotaType, Window};
use metergate::domain::tenant::TenantStatus;
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, Timestamp};

use super::calendar::{Span, day_of, month_of};
use super::log::Log;

/// Days that raw events are kept.
pub const KEPT_DAYS: u32 = 7;
/// How long an ended reservation is remembered.
const REMEMBERED: i64 = 24 * MICROS_PER_HOUR;
/// Ceilings over all tenants together, in days of UTC.
pub const CEILINGS: [(QuotaType, Window, u128); 2] =
    [(QuotaType::Tokens, Window::Minute, 12_000), (QuotaType::Tokens, Window::Day, 52_000)];

pub type Amounts = BTreeMap<QuotaType, u128>;

/// An event that was accepted, and what it counts as.
#[derive(Clone, Debug)]
pub struct Event {
    pub given: UsageEvent,
    pub at: Timestamp,
    /// When it counts in minutes, and when in days and months.
    pub minute_at: Timestamp,
    pub day_at: Timestamp,
    pub charges: Amounts,
    /// In femto-dollars.
    pub cost: Option<u128>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Open,
    Settled {
        overage: bool,
        lapsed: bool,
    },
    Released,
    /// Closed by a recorded event: an anonymous one.
    Closed,
}

#[derive(Clone, Debug)]
pub struct Hold {
    /// `None`: anonymous.
    pub id: Option<String>,
    pub items: Amounts,
    pub granted_at: Timestamp,
    pub expires_at: Timestamp,
    pub stage: Stage,
}

impl Hold {
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.stage == Stage::Open && now < self.expires_at
    }
}

/// From an instant on: basis points on list prices, or a rate of its own (femto-dollars an input and an output token).
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub from: Timestamp,
    pub points: i64,
    pub rate: Option<(u128, u128)>,
}

#[derive(Clone, Debug)]
pub struct Tenant {
    pub status: TenantStatus,
    pub plan: String,
    pub plan_expires_at: Option<Timestamp>,
    pub zone: Tz,
    pub mode: Mode,
    /// The limit (`None`: unlimited), and until when.
    pub overrides: BTreeMap<(QuotaType, Window), (Option<u128>, Option<Timestamp>)>,
    pub terms: Vec<Terms>,
    pub day: Span,
    pub month: Span,
    pub events: Vec<Event>,
    pub holds: Vec<Hold>,
    /// When it was denied.
    pub denials: Vec<Timestamp>,
}

/// A limit that said no, or would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub quota_type: QuotaType,
    pub window: Window,
    pub of_platform: bool,
    pub asked: u128,
    /// Limit, used and held; nothing is told of the platform's.
    pub state: Option<(u128, u128, u128)>,
}

/// What is known of a reservation by its id.
#[derive(Debug)]
pub enum Known {
    Open(usize),
    Ended(usize),
}

#[derive(Debug, Default)]
pub struct Model {
    pub now: Timestamp,
    pub tenants: BTreeMap<String, Tenant>,
    pub plans: BTreeMap<String, Vec<Limit>>,
    /// Events strictly before it are gone.
    pub cut: Timestamp,
    /// Whether retention waits for a word about the clock.
    pub clock_in_doubt: bool,
    pub log: Log,
}

/// The time of a commit: whole milliseconds.
pub fn commit_time(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.micros().div_euclid(1_000) * 1_000)
}

pub fn amounts_of(items: &[Item]) -> Amounts {
    let mut amounts = Amounts::new();
    for item in items {
        *amounts.entry(item.quota_type).or_default() += item.amount;
    }
    amounts
}

impl Tenant {
    pub fn new(plan: &str, zone: Tz, now: Timestamp) -> Self {
        Self {
            status: TenantStatus::Active,
            plan: plan.to_owned(),
            plan_expires_at: None,
            zone,
            mode: Mode::Enforce,
            overrides: BTreeMap::new(),
            terms: Vec::new(),
            day: day_of(zone, now),
            month: month_of(zone, now),
            events: Vec::new(),
            holds: Vec::new(),
            denials: Vec::new(),
        }
    }

    pub fn status_at(&self, now: Timestamp) -> TenantStatus {
        let over = self.plan_expires_at.is_some_and(|end| now >= end);
        if self.status == TenantStatus::Active && over { TenantStatus::Expired } else { self.status }
    }

    pub fn with_id(&self, id: &str) -> Option<&Event> {
        let same = |event: &&Event| event.given.event_id.as_ref().is_some_and(|own| own.to_string() == id);
        self.events.iter().find(same)
    }

    pub fn reservation(&self, id: &str, now: Timestamp) -> Option<Known> {
        let place = self.holds.iter().rposition(|hold| hold.id.as_deref() == Some(id))?;
        let hold = &self.holds[place];
        if hold.is_open(now) {
            return Some(Known::Open(place));
        }
        (now < hold.expires_at.plus_micros(REMEMBERED)).then_some(Known::Ended(place))
    }

    /// Used and held of a type in the current window.
    pub fn counted(&self, quota_type: QuotaType, window: Window, now: Timestamp) -> (u128, u128) {
        let counts = |minute_at: Timestamp, day_at: Timestamp| match window {
            Window::Minute => in_minute(minute_at, now),
            Window::Day => self.day.contains(day_at),
            Window::Month => self.month.contains(day_at),
        };
        let amount = |amounts: &Amounts| amounts.get(&quota_type).copied().unwrap_or(0);
        let used = self.events.iter().filter(|event| counts(event.minute_at, event.day_at));
        let held = self.holds.iter().filter(|hold| hold.is_open(now) && counts(hold.granted_at, hold.granted_at));
        (used.map(|event| amount(&event.charges)).sum(), held.map(|hold| amount(&hold.items)).sum())
    }
}

/// Any 60 seconds, by seconds: a second counts for 61.
fn in_minute(at: Timestamp, now: Timestamp) -> bool {
    at.seconds() + 61 > now.seconds()
}

impl Model {
    pub fn tenant(&self, name: &str) -> &Tenant {
        &self.tenants[name]
    }

    pub fn tenant_mut(&mut self, name: &str) -> &mut Tenant {
        self.tenants.get_mut(name).unwrap()
    }

    pub fn is_deleted(&self, name: &str) -> bool {
        self.tenants.get(name).is_some_and(|tenant| tenant.status == TenantStatus::Deleted)
    }

    /// The earliest time of an event that is taken.
    pub fn oldest_kept(&self, now: Timestamp) -> Timestamp {
        now.plus_micros(-i64::from(KEPT_DAYS) * MICROS_PER_DAY).max(self.cut)
    }

    /// Moves on: windows roll, and who has run out is expired.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = now;
        for (name, tenant) in &mut self.tenants {
            let zone = tenant.zone;
            tenant.day.roll(now, |at| day_of(zone, at));
            tenant.month.roll(now, |at| month_of(zone, at));
            if tenant.status == TenantStatus::Active && tenant.status_at(now) == TenantStatus::Expired {
                tenant.status = TenantStatus::Expired;
                self.log.expired(name);
            }
        }
    }

    /// The limits in force, by type and window.
    pub fn limits(&self, name: &str) -> Vec<Limit> {
        let tenant = self.tenant(name);
        let own = |limit: &Limit| {
            let found = tenant.overrides.get(&(limit.quota_type, limit.window));
            found.filter(|(_, until)| until.is_none_or(|until| self.now < until))
        };
        let mut limits = Vec::new();
        for quota_type in QuotaType::ALL {
            for window in Window::ALL {
                let of_plan = self.plans[&tenant.plan]
                    .iter()
                    .find(|limit| (limit.quota_type, limit.window) == (quota_type, window));
                let blank = Limit { quota_type, window, limit: 0, observe: false };
                let limit = match own(&blank) {
                    Some((limit, _)) => limit.map(|limit| Limit { limit, ..blank }),
                    None => of_plan.copied(),
                };
                limits.extend(
                    limit.map(|limit| Limit { observe: limit.observe || tenant.mode == Mode::Observe, ..limit }),
                );
            }
        }
        limits
    }

    /// What all tenants use and hold of a ceiling.
    pub fn platform(&self, quota_type: QuotaType, window: Window) -> (u128, u128) {
        let today = day_of(chrono_tz::UTC, self.now);
        let counts = |minute_at: Timestamp, day_at: Timestamp| match window {
            Window::Minute => in_minute(minute_at, self.now),
            _ => today.contains(day_at),
        };
        let amount = |amounts: &Amounts| amounts.get(&quota_type).copied().unwrap_or(0);
        let (mut used, mut held) = (0, 0);
        for tenant in self.tenants.values() {
            let counted = tenant.events.iter().filter(|event| counts(event.minute_at, event.day_at));
            used += counted.map(|event| amount(&event.charges)).sum::<u128>();
            let open = tenant.holds.iter().filter(|hold| hold.is_open(self.now));
            let open = open.filter(|hold| counts(hold.granted_at, hold.granted_at));
            held += open.map(|hold| amount(&hold.items)).sum::<u128>();
        }
        (used, held)
    }

    /// What says no to these amounts, and what only observes and would have.
    pub fn judge(&self, name: &str, items: &Amounts) -> (Vec<Denied>, Vec<Denied>) {
        let (mut denied, mut observed) = (Vec::new(), Vec::new());
        for limit in self.limits(name) {
            let Limit { quota_type, window, limit, observe } = limit;
            let Some(&asked) = items.get(&quota_type) else { continue };
            let (used, held) = self.tenant(name).counted(quota_type, window, self.now);
            if used + held + asked > limit {
                let state = Some((limit, used, held));
                let no = Denied { quota_type, window, of_platform: false, asked, state };
                if observe { observed.push(no) } else { denied.push(no) }
            }
        }
        for (quota_type, window, ceiling) in CEILINGS {
            let Some(&asked) = items.get(&quota_type) else { continue };
            let (used, held) = self.platform(quota_type, window);
            if used + held + asked > ceiling {
                denied.push(Denied { quota_type, window, of_platform: true, asked, state: None });
            }
        }
        (denied, observed)
    }

    /// Notes what `judge` said of a request that was decided.
    pub fn note_denial(&mut self, name: &str, denied: &[Denied]) {
        let Some(first) = denied.first() else { return };
        let now = self.now;
        self.tenant_mut(name).denials.push(now);
        self.log.denied(name, first);
    }

    /// Where a clean-up moves the cut: at most a day, up to the retention. Everything is aggregated before.
    pub fn next_cut(&self) -> Timestamp {
        let target = self.oldest_kept(self.now);
        let day_end = |at: Timestamp| at.micros().div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY + MICROS_PER_DAY;
        let stored = self.tenants.values().flat_map(|tenant| &tenant.events).map(|event| event.at);
        let oldest = stored.filter(|at| day_end(*at) > self.cut.micros()).min();
        match oldest.filter(|oldest| *oldest < target) {
            None => target.max(self.cut),
            Some(oldest) => oldest.max(self.cut).plus_micros(MICROS_PER_DAY).min(target).max(self.cut),
        }
    }

    /// Events between two cuts.
    pub fn events_between(&self, from: Timestamp, to: Timestamp) -> u64 {
        let events = self.tenants.values().flat_map(|tenant| &tenant.events);
        events.filter(|event| from <= event.at && event.at < to).count() as u64
    }

    /// Whether an id of this event is surely known, and its time surely taken.
    pub fn is_surely_kept(&self, event: &Event) -> bool {
        event.at.micros_since(self.oldest_kept(self.now)) > MICROS_PER_DAY + 10 * MICROS_PER_MINUTE
    }

    /// The thresholds that use has reached: what must be recorded after a charge, and may be at any time.
    pub fn reached(&self, name: &str) -> Vec<(QuotaType, Window, Timestamp, u16, u128)> {
        let tenant = self.tenant(name);
        let mut reached = Vec::new();
        for limit in self.limits(name).into_iter().filter(|limit| limit.window != Window::Minute && limit.limit > 0) {
            let Limit { quota_type, window, limit, .. } = limit;
            let start = if window == Window::Day { tenant.day.start } else { tenant.month.start };
            let (used, _) = tenant.counted(quota_type, window, self.now);
            for percent in [80, 95, 100] {
                if used * 100 >= limit * u128::from(percent) {
                    reached.push((quota_type, window, start, percent, limit));
                }
            }
        }
        reached
    }
}
