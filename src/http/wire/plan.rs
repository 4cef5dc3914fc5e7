//! Plans on the wire.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Fault;
use super::object::{INVALID_REQUEST, Object, read_array};
use super::quota::read_amount;
use super::scalar::{Number, amount, text};
use crate::domain::quota::{Limit, Mode, Plan, QuotaType, Window};
use crate::domain::threshold::checked_thresholds;
use crate::tenants::PlanEffect;

/// The most limits of a plan: one of each type and window.
const MAX_LIMITS: usize = QuotaType::COUNT * Window::ALL.len();

/// A plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanJson {
    /// Its name.
    pub name: String,
    /// Its limits; what is not named is unlimited.
    pub limits: Vec<PlanLimitJson>,
    /// The percentages of a limit that are told when use reaches them.
    pub thresholds: Vec<u16>,
}

/// A limit of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanLimitJson {
    /// Of what.
    #[serde(with = "text")]
    pub quota_type: QuotaType,
    /// Over which time.
    #[serde(with = "text")]
    pub window: Window,
    /// How much.
    pub limit: Number,
    /// `enforce` or `observe`.
    pub mode: String,
}

impl From<&Plan> for PlanJson {
    fn from(plan: &Plan) -> Self {
        let limits = plan.limits.iter().map(|limit| PlanLimitJson {
            quota_type: limit.quota_type,
            window: limit.window,
            limit: amount(limit.quota_type, limit.limit),
            mode: if limit.observe { "observe" } else { "enforce" }.to_owned(),
        });
        Self { name: plan.name.clone(), limits: limits.collect(), thresholds: plan.thresholds.clone() }
    }
}

/// A plan that was changed, or would be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanChangedJson {
    /// As it is now, or would be.
    pub plan: PlanJson,
    /// Whether it was changed; false for a dry run.
    pub applied: bool,
    /// What it means for the tenants.
    pub effect: PlanEffectJson,
}

/// What a plan means for the tenants on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanEffectJson {
    /// How many there are.
    pub tenants: u64,
    /// How many had used up a limit before.
    pub exceeded_before: u64,
    /// How many have used one up by the new limits.
    pub exceeded_after: u64,
}

impl PlanChangedJson {
    /// The plan and its effect.
    pub fn new(plan: &Plan, effect: PlanEffect, applied: bool) -> Self {
        let PlanEffect { tenants, exceeded_before, exceeded_after } = effect;
        Self { plan: plan.into(), applied, effect: PlanEffectJson { tenants, exceeded_before, exceeded_after } }
    }
}

/// Reads percentages, and puts them in order.
pub fn read_thresholds(raw: &RawValue) -> Result<Vec<u16>, Fault> {
    let wrong = |reason: &dyn std::fmt::Display| Fault::field(INVALID_REQUEST, "thresholds", reason);
    let percents: Vec<u16> = serde_json::from_str(raw.get())
        .map_err(|_| wrong(&"must be an array of whole percentages, such as [80, 95, 100]"))?;
    checked_thresholds(&percents).map_err(|error| wrong(&error))
}

/// Reads what a PUT of a plan sets; `mode` is that of the limits that name none. It replaces the plan: without
/// `thresholds` they are the usual ones again.
pub fn read_plan(name: String, json: &[u8]) -> Result<Plan, Fault> {
    let mut object = Object::read(json)?;
    let mode: Mode = object.parsed("mode")?.unwrap_or_default();
    let raw = object.take("limits").ok_or_else(|| object.missing("limits"))?;
    let thresholds = object.take("thresholds").map(read_thresholds).transpose()?;
    object.finish("limits, mode and thresholds")?;
    let elements = read_array(raw.get().as_bytes(), MAX_LIMITS).map_err(|_| {
        Fault::field(INVALID_REQUEST, "limits", format_args!("must be an array of at most {MAX_LIMITS} limits"))
    })?;
    let mut limits = Vec::with_capacity(elements.len());
    for element in elements {
        let mut object = Object::read(element.get().as_bytes())?;
        let quota_type: Option<QuotaType> = object.parsed_as("quota_type", "unknown_quota_type")?;
        let quota_type = quota_type.ok_or_else(|| object.missing("quota_type"))?;
        let window: Option<Window> = object.parsed("window")?;
        let window = window.ok_or_else(|| object.missing("window"))?;
        let limit = object.take("limit").ok_or_else(|| object.missing("limit"))?;
        let limit = read_amount(quota_type, limit, "limit")?;
        let observe = object.parsed("mode")?.unwrap_or(mode) == Mode::Observe;
        object.finish("quota_type, window, limit and mode")?;
        limits.push(Limit { quota_type, window, limit, observe });
    }
    limits.sort_by_key(|limit| (limit.quota_type, limit.window));
    let plan = Plan::new(name, limits);
    Ok(match thresholds {
        Some(thresholds) => Plan { thresholds, ..plan },
        None => plan,
    })
}
