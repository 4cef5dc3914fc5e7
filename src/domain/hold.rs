//! Holds and the saved state of a tenant's quotas: plain values, as they are journaled, saved and read back.

use super::quota::{Charges, Item};
use super::time::Timestamp;

/// How a hold is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldId {
    /// A reservation, by the tenant's own idempotency key or one the server made.
    Named(String),
    /// A hold of `enforce`, which has no handle: a number that grows with every such grant of the tenant.
    Anonymous(u64),
}

/// What a grant holds until it is settled, released, or lapses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name, unique in its tenant.
    pub id: HoldId,
    /// What is held: each type once, in the order of the types.
    pub items: Vec<Item>,
    /// When it was granted: it counts in this second of the minute.
    pub granted_at: Timestamp,
    /// The first instant at which it holds nothing any more.
    pub expires_at: Timestamp,
    /// The start of the day window it counts in.
    pub day_start: Timestamp,
    /// The start of the month window it counts in.
    pub month_start: Timestamp,
}

/// How a named hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Its time to live ran out.
    Lapsed,
    /// It was given back.
    Released,
    /// Its events were recorded.
    Settled {
        /// Whether more was recorded than was reserved, or after a release.
        overage: bool,
        /// Whether it had lapsed before.
        lapsed: bool,
    },
}

/// What is remembered of a named hold that ended, until 24 hours past its `expires_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedHold {
    /// A 128-bit hash of its name.
    pub id_hash: u128,
    /// A hash of its items, to know a repeat from a conflict.
    pub items_digest: u64,
    /// How it ended.
    pub state: HoldState,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When it lapsed or would have.
    pub expires_at: Timestamp,
    /// The start of its day window.
    pub day_start: Timestamp,
    /// The start of its month window.
    pub month_start: Timestamp,
    /// What it held, kept while a late settle has to be compared with it.
    pub reserved: Option<Charges>,
}

/// A day or month window, saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowSnapshot {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// Used in it.
    pub used: Charges,
    /// Held in it.
    pub held: Charges,
    /// Used in the window after it, by events up to five minutes ahead.
    pub next_used: Charges,
}

/// One second of the sliding minute, saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondSnapshot {
    /// Seconds since the epoch.
    pub second: u64,
    /// Used in it.
    pub used: Charges,
    /// Held by grants of this second.
    pub held: Charges,
}

/// A tenant's counters, saved: restoring it gives a state that behaves the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaSnapshot {
    /// The latest time the state has seen.
    pub as_of: Timestamp,
    /// The tenant's zone then, by which its windows end: it may have another by now. `None` where that was not saved, and
    /// of the platform.
    pub zone: Option<chrono_tz::Tz>,
    /// The current day.
    pub day: WindowSnapshot,
    /// The current month.
    pub month: WindowSnapshot,
    /// The seconds of the minute with anything in them, oldest first.
    pub minute: Vec<SecondSnapshot>,
    /// Open holds, by id.
    pub open: Vec<Hold>,
    /// Named holds that ended, by hash.
    pub finished: Vec<FinishedHold>,
}
