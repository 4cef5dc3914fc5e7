//! Plans: read from the text of `plans.toml`, with errors that name the plan and the key.

use toml::{Table, Value};

use crate::domain::quota::{Limit, Plan, QuotaType, Window};
use crate::domain::threshold::{DEFAULT_THRESHOLDS, checked_thresholds};

/// The shipped plans, which fill an empty store.
pub const SHIPPED_PLANS: &str = include_str!("../../data/plans.toml");
/// The most plans one file may name.
pub const MAX_PLANS: usize = 1_000;

/// What is wrong with a plans file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlansError {
    /// Not TOML at all.
    #[error("not a TOML file: {0}")]
    Syntax(String),
    /// Not a file of plans.
    #[error("{0}")]
    Shape(String),
    /// A plan's name cannot be one.
    #[error("plan `{0}`: a name is 1 to 64 of the characters a-z 0-9 _ -")]
    Name(String),
    /// A key of a plan is wrong.
    #[error("plan `{plan}`, key `{key}`: {reason}")]
    Key {
        /// In which plan.
        plan: String,
        /// Which key.
        key: String,
        /// What to change.
        reason: String,
    },
}

/// Reads every plan of the file, by name. Limits are in order of type and window.
pub fn parse_plans(text: &str) -> Result<Vec<Plan>, PlansError> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| PlansError::Syntax(error.to_string()))?;
    if let Some(key) = file.keys().find(|key| *key != "plans") {
        return Err(PlansError::Shape(format!("`{key}` is not known here: write plans as [plans.NAME]")));
    }
    let Some(Value::Table(plans)) = file.get("plans") else {
        return Err(PlansError::Shape("there are no plans: write them as [plans.NAME]".to_owned()));
    };
    if plans.len() > MAX_PLANS {
        return Err(PlansError::Shape(format!("more than {MAX_PLANS} plans")));
    }
    let mut parsed = plans.iter().map(|(name, value)| parse_plan(name, value)).collect::<Result<Vec<_>, _>>()?;
    parsed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parsed)
}

fn parse_plan(name: &str, value: &Value) -> Result<Plan, PlansError> {
    if !is_plan_name(name) {
        return Err(PlansError::Name(name.chars().take(64).collect()));
    }
    let wrong = |key: &str, reason: String| PlansError::Key { plan: name.to_owned(), key: key.to_owned(), reason };
    let Value::Table(keys) = value else {
        return Err(wrong(name, "a plan is a table of limits".to_owned()));
    };
    let plan_observes = match keys.get("mode") {
        None => false,
        Some(mode) => observes(mode).map_err(|reason| wrong("mode", reason))?,
    };
    let mut limits = Vec::with_capacity(keys.len());
    let thresholds = match keys.get("thresholds") {
        None => DEFAULT_THRESHOLDS.to_vec(),
        Some(value) => parse_thresholds(value).map_err(|reason| wrong("thresholds", reason))?,
    };
    for (key, value) in keys.iter().filter(|(key, _)| !["mode", "thresholds"].contains(&key.as_str())) {
        limits.push(parse_limit(key, value, plan_observes).map_err(|reason| wrong(key, reason))?);
    }
    limits.sort_by_key(|limit| (limit.quota_type, limit.window));
    Ok(Plan { name: name.to_owned(), limits, thresholds })
}

fn parse_thresholds(value: &Value) -> Result<Vec<u16>, String> {
    let percent = |value: &Value| value.as_integer().and_then(|percent| u16::try_from(percent).ok());
    let percents: Option<Vec<u16>> = value.as_array().and_then(|values| values.iter().map(percent).collect());
    let percents = percents.ok_or("write whole percentages, such as [80, 95, 100]; [] for none")?;
    checked_thresholds(&percents).map_err(|error| error.to_string())
}

/// Whether a text can name a plan.
pub fn is_plan_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn parse_limit(key: &str, value: &Value, plan_observes: bool) -> Result<Limit, String> {
    let (quota_type, window) =
        key.split_once("_per_").ok_or("not a limit: write TYPE_per_WINDOW, such as tokens_per_day")?;
    let quota_type: QuotaType = quota_type.parse().map_err(|error| format!("{error}"))?;
    let window: Window = window.parse().map_err(|error| format!("{error}"))?;
    let Value::Table(detailed) = value else {
        return Ok(Limit { quota_type, window, limit: parse_amount(quota_type, value)?, observe: plan_observes });
    };
    if let Some(unknown) = detailed.keys().find(|key| !["limit", "mode"].contains(&key.as_str())) {
        return Err(format!("`{unknown}` is not known here: use limit and mode"));
    }
    let limit = detailed.get("limit").ok_or("`limit` is missing")?;
    let observe = detailed.get("mode").map_or(Ok(plan_observes), observes)?;
    Ok(Limit { quota_type, window, limit: parse_amount(quota_type, limit)?, observe })
}

fn parse_amount(quota_type: QuotaType, value: &Value) -> Result<u128, String> {
    let text = match (quota_type, value) {
        (QuotaType::Cost, Value::String(text)) => text.clone(),
        // A float would lose digits before we see it.
        (QuotaType::Cost, Value::Float(_)) => return Err("write dollars in quotes, such as \"25.00\"".to_owned()),
        (_, Value::Integer(amount)) => amount.to_string(),
        _ => return Err("a limit is a whole number, or dollars in quotes for cost; leave it out for unlimited".into()),
    };
    quota_type.read(&text).map_err(|error| error.to_string())
}

fn observes(mode: &Value) -> Result<bool, String> {
    match mode.as_str() {
        Some("observe") => Ok(true),
        Some("enforce") => Ok(false),
        _ => Err("a mode is \"observe\" or \"enforce\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_plans_are_the_documented_ones() {
        let plans = parse_plans(SHIPPED_PLANS).unwrap();
        let shown: Vec<(&str, Vec<(String, u128)>)> = plans
            .iter()
            .map(|plan| {
                let limits = plan.limits.iter().map(|limit| {
                    assert!(!limit.observe);
                    (format!("{}/{}", limit.quota_type, limit.window), limit.limit)
                });
                (plan.name.as_str(), limits.collect())
            })
            .collect();
        let four = |tokens, calls, chats, embeddings| {
            [("tokens/day", tokens), ("api_calls/minute", calls), ("chat_messages/day", chats)]
                .into_iter()
                .chain([("embeddings/day", embeddings)])
                .map(|(name, limit)| (name.to_owned(), limit))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown,
            [
                ("enterprise", vec![]),
                ("pro", four(500_000, 120, 5_000, 2_000)),
                ("starter", four(100_000, 60, 1_000, 500)),
                ("trial", four(10_000, 30, 100, 50)),
            ]
        );
    }

    #[test]
    fn dollars_and_modes_are_read_as_written() {
        let plans = parse_plans(
            "[plans.a]\nmode = \"observe\"\ncost_per_month = \"0.5\"\n\
             tokens_per_minute = { limit = 7, mode = \"enforce\" }",
        )
        .unwrap();
        assert_eq!(plans[0].thresholds, [80, 95, 100]);
        let told = |text: &str| parse_plans(&format!("[plans.a]\nthresholds = {text}")).unwrap().remove(0).thresholds;
        assert_eq!((told("[150, 50]"), told("[]")), (vec![50, 150], vec![]));
        let limits: Vec<_> = plans[0].limits.iter().map(|limit| (limit.limit, limit.observe)).collect();
        assert_eq!(limits, [(7, false), (500_000_000_000_000, true)]);
    }

    #[test]
    fn errors_name_the_plan_and_the_key() {
        for (text, error) in [
            ("[plans.a]\ntokens_per_week = 1", "plan `a`, key `tokens_per_week`: `week` is not a window"),
            ("[plans.a]\nwords_per_day = 1", "plan `a`, key `words_per_day`: `words` is not a quota type"),
            ("[plans.a]\ntokens = 1", "plan `a`, key `tokens`: not a limit"),
            ("[plans.a]\ntokens_per_day = -1", "plan `a`, key `tokens_per_day`: not an amount of tokens: it cannot be"),
            ("[plans.a]\ntokens_per_day = 1000000000000001", "plan `a`, key `tokens_per_day`: not an amount"),
            ("[plans.a]\ntokens_per_day = 1.5", "plan `a`, key `tokens_per_day`: a limit is a whole number"),
            ("[plans.a]\ncost_per_day = 1.5", "plan `a`, key `cost_per_day`: write dollars in quotes"),
            ("[plans.a]\nmode = \"maybe\"", "plan `a`, key `mode`: a mode is"),
            ("[plans.a]\nthresholds = [0]", "plan `a`, key `thresholds`: are percentages from 1 to 1000"),
            ("[plans.a]\nthresholds = \"80\"", "plan `a`, key `thresholds`: write whole percentages"),
            ("[plans.\"A b\"]", "plan `A b`: a name is"),
            ("[plan.a]", "`plan` is not known here"),
            ("", "there are no plans"),
            ("[plans.a", "not a TOML file"),
        ] {
            let message = parse_plans(text).unwrap_err().to_string();
            assert!(message.starts_with(error), "{text:?} gave {message:?}");
        }
    }
}
