//! Changes of plans: what may be changed, what differs between two, and the audit record of it.

use serde_json::{Value, json};

use super::plans::{MAX_PLANS, is_plan_name};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::quota::{Limit, Mode, Plan, QuotaType};
use crate::domain::threshold::checked_thresholds;

/// A change of the plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// Makes a plan, or replaces all its limits.
    Put(Plan),
    /// Removes a plan that nobody is on.
    Remove(String),
}

impl PlanChange {
    /// The plan's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Put(plan) => &plan.name,
            Self::Remove(name) => name,
        }
    }
}

/// Why a plan is not changed; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefused {
    /// There is no such plan to remove.
    #[error("the plan does not exist")]
    Unknown,
    /// Tenants are on it.
    #[error("{0} tenants are on the plan: put them on another first")]
    InUse(u64),
    /// New tenants would be on it.
    #[error("new tenants get this plan: name another as default_plan first")]
    IsDefault,
    /// A value is out of its bounds.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
}

/// The plan with its limits in order. Fails for a name that cannot be one, a limit that stands twice or is too high.
pub fn checked(plan: &Plan) -> Result<Plan, PlanRefused> {
    let invalid = |field, reason: String| Err(PlanRefused::Invalid { field, reason });
    if !is_plan_name(&plan.name) {
        return invalid("name", "must be 1 to 64 of the characters a-z 0-9 _ -".to_owned());
    }
    let mut plan = plan.clone();
    plan.thresholds = match checked_thresholds(&plan.thresholds) {
        Ok(thresholds) => thresholds,
        Err(error) => return invalid("thresholds", error.to_string()),
    };
    plan.limits.sort_by_key(|limit| (limit.quota_type, limit.window));
    for limit in &plan.limits {
        if limit.limit > limit.quota_type.max() {
            let most = limit.quota_type.show(limit.quota_type.max());
            return invalid("limit", format!("of {} per {} is above {most}", limit.quota_type, limit.window));
        }
    }
    let same = |pair: &&[Limit]| (pair[0].quota_type, pair[0].window) == (pair[1].quota_type, pair[1].window);
    match plan.limits.windows(2).find(same) {
        Some(pair) => invalid("limits", format!("name {} per {} twice", pair[0].quota_type, pair[0].window)),
        None => Ok(plan),
    }
}

/// Refuses one more plan than there may be.
pub fn one_more(plans: usize) -> Result<(), PlanRefused> {
    match plans < MAX_PLANS {
        true => Ok(()),
        false => {
            Err(PlanRefused::Invalid { field: "name", reason: format!("is new, and there are {MAX_PLANS} plans") })
        }
    }
}

/// What is different, a line for each limit, such as `tokens per day: 10000 -> 20000`, and one for the thresholds. A plan
/// that is new differs by all that it names.
pub fn differences(before: Option<&Plan>, after: &Plan) -> Vec<String> {
    let mut lines = limit_differences(before.map_or(&[][..], |plan| &plan.limits), &after.limits);
    let unnamed = Plan::new("", Vec::new()).thresholds;
    let told = before.map_or(&unnamed, |plan| &plan.thresholds);
    if *told != after.thresholds {
        lines.push(format!("thresholds: {} -> {}", show_thresholds(told), show_thresholds(&after.thresholds)));
    }
    lines
}

/// Percentages for people.
pub fn show_thresholds(percents: &[u16]) -> String {
    let shown: Vec<String> = percents.iter().map(|percent| format!("{percent} %")).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

fn limit_differences(before: &[Limit], after: &[Limit]) -> Vec<String> {
    let mut keys: Vec<_> = before.iter().chain(after).map(|limit| (limit.quota_type, limit.window)).collect();
    keys.sort_unstable();
    keys.dedup();
    let shown = |limits: &[Limit], key| {
        let found = limits.iter().find(|limit| (limit.quota_type, limit.window) == key);
        found.map_or_else(|| "unlimited".to_owned(), show)
    };
    let lines = keys.into_iter().map(|key| (key, shown(before, key), shown(after, key)));
    lines
        .filter(|(_, old, new)| old != new)
        .map(|((kind, window), old, new)| format!("{kind} per {window}: {old} -> {new}"))
        .collect()
}

fn show(limit: &Limit) -> String {
    let observes = if limit.observe { " (observed)" } else { "" };
    format!("{}{observes}", limit.quota_type.show(limit.limit))
}

/// What differs between a file of plans and the plans in force, a line for each limit or plan.
pub fn file_differences(file: &[Plan], in_force: &[Plan]) -> Vec<String> {
    let mut lines = Vec::new();
    for plan in file {
        match in_force.iter().find(|known| known.name == plan.name) {
            None => lines.push(format!("{}: only in the file", plan.name)),
            Some(known) => {
                let changed = differences(Some(known), plan);
                lines.extend(changed.into_iter().map(|line| format!("{}: {line}", plan.name)));
            }
        }
    }
    let alone = in_force.iter().filter(|known| file.iter().all(|plan| plan.name != known.name));
    lines.extend(alone.map(|known| format!("{}: not in the file", known.name)));
    lines
}

/// The audit record of a change; both `None` never happens.
pub fn audit_entry(name: &str, before: Option<&Plan>, after: Option<&Plan>, actor: &Actor) -> AuditEntry {
    let (event_type, action) = match (before, after) {
        (None, _) => ("plan_created", AuditAction::Create),
        (_, None) => ("plan_removed", AuditAction::Delete),
        _ => ("plan_updated", AuditAction::Update),
    };
    let summary = match (before, after) {
        (Some(before), Some(after)) => differences(Some(before), after).join("; "),
        (_, after) => format!("Plan {name} {}", if after.is_some() { "created" } else { "removed" }),
    };
    let mut entry = AuditEntry::system(None, event_type, "plan", action);
    entry.entity_id = Some(name.to_owned());
    entry.old_values = before.map(|plan| values(plan).to_string());
    entry.new_values = after.map(|plan| values(plan).to_string());
    entry.changes_summary = Some(summary);
    actor.sign(&mut entry);
    entry
}

fn values(plan: &Plan) -> Value {
    let limit = |limit: &Limit| {
        let mode = if limit.observe { Mode::Observe } else { Mode::Enforce };
        // Dollars stay a decimal text, since a JSON number is a float to many readers.
        let amount = match limit.quota_type {
            QuotaType::Cost => Value::String(limit.quota_type.show(limit.limit)),
            _ => json!(u64::try_from(limit.limit).unwrap_or(u64::MAX)),
        };
        json!({"quota_type": limit.quota_type.name(), "window": limit.window.name(), "limit": amount, "mode": mode.name()})
    };
    json!({ "limits": plan.limits.iter().map(limit).collect::<Vec<_>>(), "thresholds": plan.thresholds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::plans::parse_plans;

    fn plan(limits: &str) -> Plan {
        parse_plans(&format!("[plans.a]\n{limits}")).unwrap().remove(0)
    }

    #[test]
    fn differences_name_each_limit_that_is_not_the_same() {
        let (old, new) = (plan("tokens_per_day = 5\napi_calls_per_minute = 7"), plan("tokens_per_day = 9"));
        assert_eq!(differences(Some(&old), &new), ["tokens per day: 5 -> 9", "api_calls per minute: 7 -> unlimited"]);
        assert_eq!(differences(Some(&old), &old), Vec::<String>::new());
        let silent = Plan { thresholds: Vec::new(), ..old.clone() };
        assert_eq!(differences(Some(&old), &silent), ["thresholds: 80 %, 95 %, 100 % -> none"]);
        let other = Plan::new("b", Vec::new());
        let lines = file_differences(&[new, other.clone()], &[old, Plan { name: "c".to_owned(), ..other }]);
        assert_eq!(lines[0], "a: tokens per day: 5 -> 9");
        assert_eq!(lines[2..], ["b: only in the file", "c: not in the file"]);
    }

    #[test]
    fn a_plan_that_cannot_be_one_is_refused() {
        let good = plan("tokens_per_day = 5");
        assert_eq!(checked(&good), Ok(good.clone()));
        let twice = Plan { limits: vec![good.limits[0], good.limits[0]], ..good.clone() };
        let high = Plan { limits: vec![Limit { limit: u128::MAX, ..good.limits[0] }], ..good.clone() };
        let told_twice = Plan { thresholds: vec![80, 80], ..good.clone() };
        for (bad, told) in [
            (told_twice, "thresholds name 80 twice"),
            (Plan { name: "A b".to_owned(), ..good }, "name must be"),
            (twice, "limits name tokens per day twice"),
            (high, "limit of tokens per day is above"),
        ] {
            let refused = checked(&bad).unwrap_err().to_string();
            assert!(refused.starts_with(told), "{refused}");
        }
    }
}
