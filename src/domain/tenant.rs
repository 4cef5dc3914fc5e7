//! Tenants: who is metered, under which plan, in which zone and in which state.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use compact_str::CompactString;

use super::price::PriceRow;
use super::price_terms::{Markup, PriceTerms};
use super::quota::{Limit, Mode, QuotaType, Window};
use super::time::Timestamp;

/// A tenant's id: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(CompactString);

/// A text that cannot be a tenant id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant id is 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -")]
pub struct InvalidTenantId;

impl TenantId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTenantId)
        }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a tenant may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TenantStatus {
    /// Everything its plan allows.
    #[default]
    Active,
    /// Its plan has run out: usage is recorded, reserve is refused.
    Expired,
    /// Halted by an admin: usage is recorded, reserve is refused.
    Suspended,
    /// Has left: usage is recorded, reserve is refused.
    Cancelled,
    /// A tombstone: nothing is recorded, only a PUT revives it; its audit trail stays.
    Deleted,
}

impl TenantStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Active, Self::Expired, Self::Suspended, Self::Cancelled, Self::Deleted];

    /// Its name in JSON and SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for TenantStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// A text that names no tenant status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tenant status: use active, expired, suspended, cancelled or deleted")]
pub struct UnknownStatus(String);

/// A tenant's own limit, which beats its plan's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The limit; `None` is unlimited.
    pub limit: Option<u128>,
    /// Why it was given, for the audit trail.
    pub reason: Option<String>,
    /// The instant at which the plan's limit is back.
    pub until: Option<Timestamp>,
    /// When it was set.
    pub set_at: Timestamp,
}

/// One tenant, as administered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub tenant_id: TenantId,
    /// A name for people.
    pub name: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The name of its plan.
    pub plan: String,
    /// When the plan runs out.
    pub plan_expires_at: Option<Timestamp>,
    /// The zone of its quota day and month.
    pub zone: chrono_tz::Tz,
    /// What it may do.
    pub status: TenantStatus,
    /// Whether its limits deny; `Observe` makes every one of them only tell.
    pub mode: Mode,
    /// Its own percentages of a limit that are told when use reaches them, in order; `None`: its plan's.
    pub thresholds: Option<Vec<u16>>,
    /// Its own limits.
    pub overrides: BTreeMap<(QuotaType, Window), Override>,
    /// Its tokens-per-day and tokens-per-month limits over time, oldest first, for rows of closed periods.
    pub token_limits: Vec<TokenLimits>,
    /// Its own prices over time, in order of their beginnings; before the first the list's hold.
    pub price_terms: Vec<Arc<PriceTerms>>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The token limits in force from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// From when.
    pub since: Timestamp,
    /// Tokens a day; `None` is unlimited.
    pub day: Option<u64>,
    /// Tokens a month; `None` is unlimited.
    pub month: Option<u64>,
}

impl Tenant {
    /// A new tenant on `plan`, active, in `zone`, without limits of its own.
    pub fn new(tenant_id: TenantId, plan: &str, zone: chrono_tz::Tz, now: Timestamp) -> Self {
        Self {
            tenant_id,
            name: None,
            labels: BTreeMap::new(),
            plan: plan.to_owned(),
            plan_expires_at: None,
            zone,
            status: TenantStatus::Active,
            mode: Mode::Enforce,
            thresholds: None,
            overrides: BTreeMap::new(),
            token_limits: Vec::new(),
            price_terms: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// The status at `now`: an active tenant whose plan has run out is expired, at once and without a job.
    pub fn status_at(&self, now: Timestamp) -> TenantStatus {
        match (self.status, self.plan_expires_at) {
            (TenantStatus::Active, Some(end)) if now >= end => TenantStatus::Expired,
            (status, _) => status,
        }
    }

    /// When it has to be stored as expired: the end of its plan, while it is stored as active.
    pub fn expiry_due(&self) -> Option<Timestamp> {
        self.plan_expires_at.filter(|_| self.status == TenantStatus::Active)
    }

    /// Its own limit for this type and window at `now`, if one is in force.
    pub fn override_at(&self, quota_type: QuotaType, window: Window, now: Timestamp) -> Option<&Override> {
        self.overrides.get(&(quota_type, window)).filter(|own| own.until.is_none_or(|until| now < until))
    }

    /// Every limit in force at `now` given its plan's: the tenant's own, else the plan's.
    pub fn limits_at(&self, plan_limits: &[Limit], now: Timestamp) -> Vec<Limit> {
        let mut limits: Vec<Limit> = plan_limits
            .iter()
            .filter(|limit| self.override_at(limit.quota_type, limit.window, now).is_none())
            .copied()
            .collect();
        for (&(quota_type, window), own) in &self.overrides {
            if let (Some(limit), true) = (own.limit, own.until.is_none_or(|until| now < until)) {
                limits.push(Limit { quota_type, window, limit, observe: false });
            }
        }
        if self.mode == Mode::Observe {
            limits.iter_mut().for_each(|limit| limit.observe = true);
        }
        limits.sort_by_key(|limit| (limit.quota_type, limit.window));
        limits
    }
}

/// A change of one tenant, decided by [`crate::rules::administration`] and written with its audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantChange {
    /// Sets what is `Some`; registers the tenant when it is new; revives a deleted one.
    Put(TenantPut),
    /// Sets the tenant's own limit for a type and window.
    SetOverride {
        /// Of what.
        quota_type: QuotaType,
        /// Over which time.
        window: Window,
        /// The limit; `None` is unlimited.
        limit: Option<u128>,
        /// Why.
        reason: Option<String>,
        /// Until when; then the plan's limit is back.
        until: Option<Timestamp>,
    },
    /// Removes the tenant's own limit: the plan's is back.
    RemoveOverride {
        /// Of what.
        quota_type: QuotaType,
        /// Over which time.
        window: Window,
    },
    /// Sets the tenant's own prices from an instant on, until its next terms.
    SetPrices {
        /// From when; `None` is now. Terms of the same instant are replaced.
        from: Option<Timestamp>,
        /// On list prices.
        markup: Markup,
        /// Its own rates, not yet named and dated.
        rates: Vec<PriceRow>,
    },
    /// List prices hold from an instant on; terms that begin later go.
    EndPrices {
        /// From when; `None` is now.
        from: Option<Timestamp>,
    },
    /// Leaves a tombstone.
    Delete,
    /// Blanks what a tombstone still tells: name, labels and the reasons of limits. Recorded by the erasure that asks for it.
    Erase,
    /// Stores that the plan has run out, with its audit record; does nothing when that is not true (any more).
    Expire,
}

/// What a PUT of a tenant sets; `None` keeps what is there (for a new tenant: the default).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPut {
    /// A name for people.
    pub name: Option<String>,
    /// Free labels; replaces all.
    pub labels: Option<BTreeMap<String, String>>,
    /// The name of a plan that exists.
    pub plan: Option<String>,
    /// When the plan runs out; `Some(None)` for never.
    pub plan_expires_at: Option<Option<Timestamp>>,
    /// The zone of its quota day, from the next window on.
    pub zone: Option<chrono_tz::Tz>,
    /// What it may do; not [`TenantStatus::Deleted`].
    pub status: Option<TenantStatus>,
    /// Whether its limits deny.
    pub mode: Option<Mode>,
    /// The percentages of a limit that are told; `Some(None)` for those of its plan.
    pub thresholds: Option<Option<Vec<u16>>>,
}
