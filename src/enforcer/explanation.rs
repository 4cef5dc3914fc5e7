//! What is asked about a denial, and the answer.

use uuid::Uuid;

use crate::domain::quota::{Denial, Hold};
use crate::domain::time::Timestamp;

/// Which denial of a tenant is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainQuery {
    /// The latest one.
    Latest,
    /// Those within five minutes of this time, the nearest first.
    At(Timestamp),
    /// The one that was answered with this decision id.
    Decision(Uuid),
    /// The latest that carries this request id.
    Request(String),
}

/// Why a request was denied, and what had led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The denial: the limit, its window and its state then.
    pub denial: Denial,
    /// Further denials that fit the question, in the order it asks for; at most 20.
    pub others: Vec<Denial>,
    /// What had been used of the window until then.
    pub usage: WindowUsage,
    /// Holds that were open then, the largest first, as far as they are still known: those that are open now, and named
    /// ones whose grant is still in the journal.
    pub holds: Vec<Hold>,
}

/// The raw events that had used a window of a limit up to an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowUsage {
    /// Where the window began.
    pub from: Timestamp,
    /// Until when it is looked at: the instant of the denial.
    pub to: Timestamp,
    /// Events that charged something to it.
    pub events: u64,
    /// What they charged; whole units, femto-dollars for cost.
    pub amount: u128,
    /// Whether every raw event of the window was looked at: none was too many, none is removed by now.
    pub complete: bool,
    /// The event types that used most, at most five.
    pub event_types: Vec<UsageShare>,
    /// The models that used most, at most five; `None` is for events that name none.
    pub models: Vec<UsageShare>,
    /// The chat sessions that used most, at most five.
    pub sessions: Vec<UsageShare>,
}

/// What one of many had used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageShare {
    /// Its name; `None` for what has none.
    pub name: Option<String>,
    /// Its events.
    pub events: u64,
    /// What they charged.
    pub amount: u128,
}
