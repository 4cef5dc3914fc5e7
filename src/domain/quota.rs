//! Quotas: types, windows, limits, plans, and the answers of the gate.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::money::{MONEY_PLACES, Money};
use super::tenant::{TenantId, TenantStatus};
use super::threshold::{DEFAULT_THRESHOLDS, ThresholdState};
use super::time::Timestamp;

pub use super::hold::{FinishedHold, Hold, HoldId, HoldState, QuotaSnapshot, SecondSnapshot, WindowSnapshot};

/// The largest limit or amount: 10^15 of anything counted, [`Money::MAX`] of cost.
pub const MAX_COUNT: u128 = 1_000_000_000_000_000;
/// How long a reservation lives unless told otherwise, in seconds.
pub const DEFAULT_TTL_SECONDS: u32 = 60;
/// The longest a reservation may live, in seconds.
pub const MAX_TTL_SECONDS: u32 = 3_600;
/// The most items one request may name.
pub const MAX_ITEMS: usize = 16;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaType {
    /// Tokens consumed.
    Tokens,
    /// Calls; every event but a 429.
    ApiCalls,
    /// Chat messages sent, below status 400.
    ChatMessages,
    /// Embedding events below status 400.
    Embeddings,
    /// Cost in US dollars; amounts are femto-dollars.
    Cost,
}

impl QuotaType {
    /// Every type, in the order they are shown.
    pub const ALL: [Self; 5] = [Self::Tokens, Self::ApiCalls, Self::ChatMessages, Self::Embeddings, Self::Cost];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its documented name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::ApiCalls => "api_calls",
            Self::ChatMessages => "chat_messages",
            Self::Embeddings => "embeddings",
            Self::Cost => "cost",
        }
    }

    /// The window meant when none is named: the one of the documented plans; a month for cost.
    pub const fn default_window(self) -> Window {
        match self {
            Self::Tokens | Self::ChatMessages | Self::Embeddings => Window::Day,
            Self::ApiCalls => Window::Minute,
            Self::Cost => Window::Month,
        }
    }

    /// Its place in [`QuotaType::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The largest amount and limit of this type.
    pub const fn max(self) -> u128 {
        match self {
            Self::Cost => Money::MAX.femtos(),
            _ => MAX_COUNT,
        }
    }

    /// An amount of this type as a decimal text: dollars for cost, else a whole number.
    pub fn show(self, amount: u128) -> String {
        match self {
            Self::Cost => Money::from_femtos(amount).to_string(),
            _ => amount.to_string(),
        }
    }

    /// Reads an amount of this type: dollars for cost, else a whole number. Fails with what to change.
    pub fn read(self, text: &str) -> Result<u128, InvalidAmount> {
        let invalid = |reason: String| InvalidAmount { quota_type: self, reason };
        match self {
            Self::Cost => text.parse::<Money>().map(Money::femtos).map_err(|error| invalid(error.to_string())),
            _ => match text.parse::<u128>() {
                Ok(amount) if amount <= MAX_COUNT => Ok(amount),
                Ok(_) => Err(invalid("above 1,000,000,000,000,000".to_owned())),
                Err(_) if text.starts_with('-') => Err(invalid("it cannot be negative".to_owned())),
                Err(_) => {
                    Err(invalid(format!("`{}` is not a whole number", text.chars().take(32).collect::<String>())))
                }
            },
        }
    }

    /// Decimal places of its unit.
    pub const fn places(self) -> usize {
        match self {
            Self::Cost => MONEY_PLACES,
            _ => 0,
        }
    }
}

impl fmt::Display for QuotaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for QuotaType {
    type Err = UnknownQuotaType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownQuotaType(text.chars().take(64).collect()))
    }
}

/// A text that names no quota type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a quota type: use tokens, api_calls, chat_messages, embeddings or cost")]
pub struct UnknownQuotaType(String);

/// An amount or limit that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of {quota_type}: {reason}")]
pub struct InvalidAmount {
    /// Of what.
    pub quota_type: QuotaType,
    /// What is wrong with it.
    pub reason: String,
}

/// Over which time a limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Any 60 seconds, by acceptance.
    Minute,
    /// The calendar day in the tenant's zone, by event time.
    Day,
    /// The calendar month in the tenant's zone, by event time.
    Month,
}

impl Window {
    /// Every window, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Day, Self::Month];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Window {
    type Err = UnknownWindow;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|window| window.name() == text)
            .ok_or_else(|| UnknownWindow(text.chars().take(64).collect()))
    }
}

/// A text that names no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a window: use minute, day or month")]
pub struct UnknownWindow(String);

/// So much of a type in a window. Absence of a limit means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub quota_type: QuotaType,
    /// Over which time.
    pub window: Window,
    /// How much; whole units, femto-dollars for cost.
    pub limit: u128,
    /// Whether it only observes: counts and lists what it would have denied, and grants.
    pub observe: bool,
}

/// Whether limits deny, or only tell what they would have denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// What does not fit is denied.
    #[default]
    Enforce,
    /// What does not fit is granted, counted and listed.
    Observe,
}

impl Mode {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Enforce, Self::Observe].into_iter().find(|mode| mode.name() == text);
        known.ok_or_else(|| UnknownMode(text.chars().take(64).collect()))
    }
}

/// A text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mode: use enforce or observe")]
pub struct UnknownMode(String);

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its limits; what is not named is unlimited.
    pub limits: Vec<Limit>,
    /// The percentages of a limit that are told when use reaches them, in order; empty: none.
    pub thresholds: Vec<u16>,
}

impl Plan {
    /// A plan with the thresholds of one that names none: 80, 95 and 100 %.
    pub fn new(name: impl Into<String>, limits: Vec<Limit>) -> Self {
        Self { name: name.into(), limits, thresholds: DEFAULT_THRESHOLDS.to_vec() }
    }
}

/// An amount of one type that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Of what.
    pub quota_type: QuotaType,
    /// How much; whole units, femto-dollars for cost.
    pub amount: u128,
}

/// What one event charges: an amount for each type, by [`QuotaType::index`].
pub type Charges = [u128; QuotaType::COUNT];

/// One limit, looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Of what.
    pub quota_type: QuotaType,
    /// Over which time.
    pub window: Window,
    /// The limit; `None` is unlimited.
    pub limit: Option<u128>,
    /// Used in the current window.
    pub used: u128,
    /// Held by open reservations in the current window.
    pub held: u128,
    /// When the window ends; for a minute, when the oldest counted second leaves it.
    pub resets_at: Timestamp,
}

impl LimitState {
    /// What may still be granted: max(0, limit - used - held); `None` is unlimited.
    pub fn remaining(&self) -> Option<u128> {
        self.limit.map(|limit| limit.saturating_sub(self.used).saturating_sub(self.held))
    }

    /// `used` in percent of the limit; 0 when unlimited, 100 when the limit is 0.
    pub fn percentage(&self) -> f64 {
        match self.limit {
            None => 0.0,
            Some(0) => 100.0,
            Some(limit) => self.used as f64 * 100.0 / limit as f64,
        }
    }

    /// Whether used reached the limit.
    pub fn is_exceeded(&self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }
}

/// The documented answer for one quota type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaCheckResult {
    /// Whether it was granted (for a check: would be).
    pub allowed: bool,
    /// What is left after the grant in the tightest window; `None` is unlimited and shown as -1.
    pub tokens_remaining: Option<u128>,
    /// The limit of that window; `None` is unlimited.
    pub quota_limit: Option<u128>,
    /// Why not, when denied.
    pub error: Option<String>,
}

/// The gate's answer to check, enforce and reserve. A denial is an outcome, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether everything asked for was granted (for a check: would be).
    pub allowed: bool,
    /// The documented answer by type, for the types asked for.
    pub results: BTreeMap<QuotaType, QuotaCheckResult>,
    /// Every limit of the types asked for, after the grant.
    pub limits: Vec<LimitState>,
    /// The limits that denied, with the state they denied in; empty when allowed.
    pub denied_by: Vec<DeniedBy>,
    /// Limits in observe mode that would have denied.
    pub would_deny: Vec<DeniedBy>,
    /// How long to wait before it can fit, in whole seconds, at least 1; `None` when waiting cannot help or nothing was denied.
    pub retry_after_seconds: Option<u64>,
    /// The server's time of the decision.
    pub decided_at: Timestamp,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The tenant's, by its plan or its own.
    #[default]
    Tenant,
    /// A ceiling over all tenants together.
    Platform,
}

impl Scope {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Platform => "platform",
        }
    }
}

/// A limit that said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeniedBy {
    /// The limit and its state. Of the platform's ceilings there are no figures: the limit is `None`, used and held are 0,
    /// and `resets_at` is when the amount can fit (the time of the decision when it never can).
    pub state: LimitState,
    /// What was asked of it.
    pub asked: u128,
    /// Whose limit it is.
    pub scope: Scope,
}

/// Why a tenant may reserve nothing at all, whatever its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The status that blocks it: anything but active.
    pub status: TenantStatus,
}

/// What a caller holds after a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose.
    pub tenant_id: TenantId,
    /// The tenant's own idempotency key, or one the server made.
    pub reservation_id: String,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// Everything about a tenant's quotas at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaStatus {
    /// The name of the plan.
    pub plan: String,
    /// What the tenant may do.
    pub status: TenantStatus,
    /// Every limit in force, and each type's default window even when unlimited; by type, then window.
    pub limits: Vec<LimitState>,
    /// The thresholds of each day and month limit in force; by type, then window. Minutes come back too often to be told.
    pub thresholds: Vec<ThresholdState>,
}

impl QuotaStatus {
    /// The state of a type in the window of the documented interface.
    pub fn primary(&self, quota_type: QuotaType) -> Option<&LimitState> {
        let window = quota_type.default_window();
        self.limits.iter().find(|state| state.quota_type == quota_type && state.window == window)
    }

    /// Whether any limit is used up.
    pub fn any_exceeded(&self) -> bool {
        self.limits.iter().any(LimitState::is_exceeded)
    }
}

/// A denial by one limit, as it is kept for `quota explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The id the caller was given; `None` where one record stands for many.
    pub decision_id: Option<uuid::Uuid>,
    /// When.
    pub at: Timestamp,
    /// The request's id: the caller's own, or the one the server made and answered with.
    pub request_id: Option<String>,
    /// The limit that said no, and its state then.
    pub denied_by: DeniedBy,
    /// How many denials it stands for.
    pub count: u64,
    /// Whether it was only observed: the request was granted, and this limit would have said no.
    pub observed: bool,
}

impl Denial {
    /// How many refused requests it adds to the metrics: none when it was only observed.
    pub fn refused(&self) -> u64 {
        if self.observed { 0 } else { self.count }
    }
}
