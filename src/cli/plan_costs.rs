//! `metergate plans list --model`: what a full day of each plan costs by the prices in force.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::show;
use crate::clock::Clock;
use crate::domain::money::Money;
use crate::domain::price_terms::Markup;
use crate::domain::quota::{Plan, QuotaType, Window};
use crate::domain::time::Timestamp;
use crate::rules::plan_costs::{FullDay, OutputShare, full_day};

/// Flags about the cost of a full day.
#[derive(Args, Debug)]
pub struct CostArgs {
    /// Show what a full day of each plan's tokens costs at this model
    #[arg(long)]
    pub model: Option<String>,
    /// By what this tenant pays for it
    #[arg(long, value_name = "TENANT", requires = "model")]
    tenant: Option<String>,
    /// How many of those tokens are output
    #[arg(long, value_name = "PERCENT", default_value = "20%", requires = "model")]
    output_share: OutputShare,
}

/// A plan's day; `None` is unlimited.
pub struct PlanDay {
    plan: String,
    tokens: Option<u128>,
    day: Option<FullDay>,
}

#[derive(Deserialize)]
struct Book<'a> {
    markup_bp: i64,
    #[serde(borrow)]
    prices: Vec<Row<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    effective_from: Option<String>,
    daily: Option<String>,
    #[serde(borrow)]
    rates: BTreeMap<String, RateRow<'a>>,
}

#[derive(Deserialize)]
struct RateRow<'a> {
    #[serde(borrow)]
    base: &'a RawValue,
}

/// Prices the tokens a day of every plan. Tiers by context length and hours of the day are left aside: the base price.
pub fn days(args: &CostArgs, model: &str, plans: &[Plan], backend: &Backend) -> Result<Vec<PlanDay>, Failure> {
    let mut query = vec![("model", model.to_owned())];
    query.extend(args.tenant.iter().map(|tenant| ("tenant_id", tenant.clone())));
    let answer = backend.get("/api/admin/prices", &query)?;
    let unread =
        |what: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("the answer is not understood: {what}"));
    let book: Book<'_> = serde_json::from_str(&answer.text).map_err(|error| unread(&error))?;
    let markup = Markup::from_basis_points(book.markup_bp).map_err(|error| unread(&error))?;
    let now = Clock::system(Timestamp::default()).now();
    let began = |row: &&Row<'_>| {
        let from = row.effective_from.as_deref().map(str::parse::<Timestamp>);
        from.is_none_or(|from| from.is_ok_and(|from| from <= now))
    };
    // Of those in force the last one counts.
    let row = book.prices.iter().rev().filter(|row| row.daily.is_none()).find(began);
    let row = row.ok_or_else(|| Failure::new(Exit::Failed, format!("`{model}` has no price in force all day")))?;
    let rate = |class: &str| -> Result<Option<Money>, Failure> {
        let read = |rate: &RateRow<'_>| rate.base.get().parse().map_err(|error| unread(&error));
        row.rates.get(class).map(read).transpose()
    };
    let input = match rate("input")? {
        Some(input) => Some(input),
        None => rate("embedding")?,
    };
    let input = input.ok_or_else(|| Failure::new(Exit::Failed, format!("`{model}` has no price of input tokens")))?;
    let output = match rate("output")? {
        Some(output) => output,
        None if args.output_share.is_some() => {
            let message = format!("`{model}` has no price of output tokens: add --output-share 0%");
            return Err(Failure::new(Exit::Failed, message));
        }
        None => Money::ZERO,
    };
    let of = |plan: &Plan| {
        let limit =
            plan.limits.iter().find(|limit| (limit.quota_type, limit.window) == (QuotaType::Tokens, Window::Day));
        let tokens = limit.map(|limit| limit.limit);
        let day = tokens.and_then(|tokens| full_day(tokens, args.output_share, input, output));
        let day = day.map(|day| FullDay { cost: markup.on(day.cost), ..day });
        PlanDay { plan: plan.name.clone(), tokens, day }
    };
    Ok(plans.iter().map(of).collect())
}

/// For people.
pub fn table(model: &str, days: &[PlanDay]) -> String {
    let mut table = show::table(&["plan", "tokens a day", "input", "output", "full day usd"]);
    for PlanDay { plan, tokens, day } in days {
        let count = |count: u128| u64::try_from(count).map_or_else(|_| count.to_string(), show::grouped);
        let unlimited = || "unlimited".to_owned();
        let of_day = |shown: &dyn Fn(&FullDay) -> String| day.as_ref().map_or_else(|| "-".to_owned(), shown);
        let cells = vec![
            plan.clone(),
            tokens.map_or_else(unlimited, count),
            of_day(&|day| count(day.input_tokens)),
            of_day(&|day| count(day.output_tokens)),
            if tokens.is_none() { unlimited() } else { of_day(&|day| day.cost.to_string()) },
        ];
        show::row(&mut table, cells);
    }
    format!("\na full day at {model}\n{}", show::draw(table))
}

/// For programs: the server's answer with `full_day`, each number of it as it came and dollars as text.
pub fn json(answer: &str, model: &str, days: &[PlanDay]) -> Result<String, Failure> {
    let unread = |error| Failure::caused(Exit::Failed, "the answer is not understood", &error);
    let mut members: BTreeMap<&str, Box<RawValue>> = serde_json::from_str(answer).map_err(unread)?;
    let whole = |count: u128| u64::try_from(count).map_or(Value::Null, Value::from);
    let of = |PlanDay { plan, tokens, day }: &PlanDay| {
        json!({
            "plan": plan,
            "tokens_per_day": tokens.map(whole),
            "input_tokens": day.map(|day| whole(day.input_tokens)),
            "output_tokens": day.map(|day| whole(day.output_tokens)),
            "cost_usd": day.map(|day| day.cost.to_string()),
        })
    };
    let full_day = json!({"model": model, "plans": days.iter().map(of).collect::<Vec<_>>()});
    members.insert("full_day", serde_json::value::to_raw_value(&full_day).map_err(unread)?);
    serde_json::to_string(&members).map_err(unread)
}
