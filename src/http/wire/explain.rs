//! The explanation of a denial on the wire.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::quota::{DeniedByJson, denial_sentence};
use super::scalar::{Number, amount, text, text_or_null};
use crate::domain::quota::{Denial, Hold, HoldId, QuotaType, Scope};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::enforcer::{Explanation, UsageShare};

/// Why a request was denied, and what had led to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplanationJson {
    /// Whose request.
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    /// The answer in a sentence.
    pub explanation: String,
    /// The denial.
    pub denial: DenialJson,
    /// What had used the window until then, by the raw events.
    pub usage: WindowUsageJson,
    /// Holds that were open then, the largest first, as far as they are still known.
    pub holds: Vec<HoldJson>,
    /// Further denials that fit the question; at most 20.
    pub others: Vec<DenialJson>,
}

/// A denial as it was noted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DenialJson {
    /// What the caller was answered; null where one record stands for many.
    #[serde(with = "text_or_null")]
    pub decision_id: Option<Uuid>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// When.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// Whether it was granted all the same, by a limit that only observes.
    pub observed: bool,
    /// How many denials the record stands for.
    pub denials: u64,
    /// The limit that said no, and its state then.
    pub denied_by: DeniedByJson,
}

/// What had used a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowUsageJson {
    /// Where the window began.
    #[serde(with = "text")]
    pub from: Timestamp,
    /// The instant of the denial.
    #[serde(with = "text")]
    pub to: Timestamp,
    /// Events that charged something.
    pub events: u64,
    /// What they charged.
    pub amount: Number,
    /// Whether every raw event was looked at.
    pub complete: bool,
    /// The largest by event type.
    pub event_types: Vec<ShareJson>,
    /// The largest by model.
    pub models: Vec<ShareJson>,
    /// The largest by chat session.
    pub sessions: Vec<ShareJson>,
}

/// What one of many had used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShareJson {
    /// Null for what names none.
    pub name: Option<String>,
    /// Its events.
    pub events: u64,
    /// What they charged.
    pub amount: Number,
    /// Percent of what all events charged.
    pub percentage: f64,
}

/// An open reservation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldJson {
    /// Null for one of `enforce`, which has none.
    pub reservation_id: Option<String>,
    /// What it held of the denied type.
    pub amount: Number,
    /// Since when.
    #[serde(with = "text")]
    pub granted_at: Timestamp,
    /// Until when at most.
    #[serde(with = "text")]
    pub expires_at: Timestamp,
}

impl ExplanationJson {
    /// From the enforcer's answer.
    pub fn new(tenant_id: &TenantId, explanation: &Explanation) -> Self {
        let Explanation { denial, others, usage, holds } = explanation;
        let kind = denial.denied_by.state.quota_type;
        let shares = |shares: &[UsageShare]| {
            let share = |share: &UsageShare| ShareJson {
                name: share.name.clone(),
                events: share.events,
                amount: amount(kind, share.amount),
                percentage: percentage(share.amount, usage.amount),
            };
            shares.iter().map(share).collect()
        };
        Self {
            tenant_id: tenant_id.clone(),
            explanation: sentence(denial),
            denial: denial.into(),
            usage: WindowUsageJson {
                from: usage.from,
                to: usage.to,
                events: usage.events,
                amount: amount(kind, usage.amount),
                complete: usage.complete,
                event_types: shares(&usage.event_types),
                models: shares(&usage.models),
                sessions: shares(&usage.sessions),
            },
            holds: holds.iter().map(|hold| hold_json(kind, hold)).collect(),
            others: others.iter().map(DenialJson::from).collect(),
        }
    }
}

fn percentage(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn sentence(denial: &Denial) -> String {
    let said = denial_sentence(&denial.denied_by);
    if denial.denied_by.scope == Scope::Platform {
        return format!("{said}, whatever is left to the tenant, at {}", denial.at);
    }
    let (state, kind) = (&denial.denied_by.state, denial.denied_by.state.quota_type);
    let taken = format!("{} used and {} held", kind.show(state.used), kind.show(state.held));
    match denial.observed {
        true => format!("Granted, because the limit only observes; otherwise: {said}; {taken} at {}", denial.at),
        false => format!("{said}; {taken} at {}", denial.at),
    }
}

fn hold_json(kind: QuotaType, hold: &Hold) -> HoldJson {
    let held = hold.items.iter().filter(|item| item.quota_type == kind).map(|item| item.amount).sum();
    let reservation_id = match &hold.id {
        HoldId::Named(id) => Some(id.clone()),
        HoldId::Anonymous(_) => None,
    };
    HoldJson { reservation_id, amount: amount(kind, held), granted_at: hold.granted_at, expires_at: hold.expires_at }
}

impl From<&Denial> for DenialJson {
    fn from(denial: &Denial) -> Self {
        Self {
            decision_id: denial.decision_id,
            request_id: denial.request_id.clone(),
            at: denial.at,
            observed: denial.observed,
            denials: denial.count,
            denied_by: (&denial.denied_by).into(),
        }
    }
}
