//! `metergate plans`: what plans there are, how a file differs from them, and changes with their effect shown first.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::plan_costs::{self, CostArgs};
use super::show;
use super::target::Target;
use super::thresholds;
use crate::domain::quota::{Limit, Mode, Plan, QuotaType, Window};
use crate::rules::plan_changes::{differences, file_differences};
use crate::rules::plans::parse_plans;

/// What `plans` can do.
#[derive(Subcommand, Debug)]
pub enum PlansCommand {
    /// List the plans in force and their limits, and what a full day of each costs at a model
    #[command(after_help = "Examples:\n  metergate plans list --json\n  metergate plans list --model gpt-4o-mini\n  \
        metergate plans list --model claude-sonnet-4-5 --output-share 30%\n\n\
        A full day is tokens_per_day at the base prices in force; what no plan limits is shown as unlimited.")]
    List(ListArgs),
    /// Change limits of a plan, or make one; shows the effect, and changes nothing without --yes
    #[command(
        after_help = "Examples:\n  metergate plans set pro tokens_per_day=600000             what it would mean\n  \
        metergate plans set pro tokens_per_day=600000 --yes       and do it\n  \
        metergate plans set pro cost_per_month=12.50 embeddings_per_day=unlimited --yes\n  \
        metergate plans set pro --thresholds 50,90,100 --yes      when its tenants are warned\n\nLimits that are not named stay."
    )]
    Set(SetArgs),
    /// Show how a plans file differs from the plans in force
    #[command(after_help = "Example:\n  metergate plans diff plans.toml")]
    Diff(DiffArgs),
    /// Put the plans of a file in force; shows the effect, and changes nothing without --yes
    #[command(
        after_help = "Example:\n  metergate plans apply plans.toml --yes\n\nPlans that are not in the file stay as they are."
    )]
    Apply(ApplyArgs),
    /// Remove a plan that no tenant is on
    #[command(after_help = "Example:\n  metergate plans remove old-pro")]
    Remove(RemoveArgs),
}

/// Flags of `plans list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    target: Target,
}

/// Flags of `plans set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// The plan
    plan: String,
    /// A limit, such as tokens_per_day=600000; `unlimited` takes it away
    #[arg(required_unless_present = "thresholds", value_name = "TYPE_per_WINDOW=LIMIT")]
    limits: Vec<String>,
    /// The mode of the limits that are named: enforce, or observe to grant and list
    #[arg(long, default_value = "enforce")]
    mode: Mode,
    /// Percentages of its limits that are told when use reaches them, such as 80,95,100; or none
    #[arg(long, value_name = "PERCENTS|none")]
    thresholds: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// Flags of `plans diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// A file like the shipped data/plans.toml
    file: std::path::PathBuf,
    #[command(flatten)]
    target: Target,
}

/// Flags of `plans apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// A file like the shipped data/plans.toml
    file: std::path::PathBuf,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// Flags of `plans remove`.
#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// The plan
    plan: String,
    #[command(flatten)]
    target: Target,
}

impl PlansCommand {
    /// Whom to ask.
    pub fn target(&self) -> &Target {
        match self {
            Self::List(args) => &args.target,
            Self::Set(args) => &args.target,
            Self::Diff(args) => &args.target,
            Self::Apply(args) => &args.target,
            Self::Remove(args) => &args.target,
        }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Set(SetArgs { yes: true, .. }) | Self::Apply(ApplyArgs { yes: true, .. }))
    }

    /// Runs it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(args, backend),
            Self::Set(args) => {
                let known = in_force(backend)?;
                let plan = changed(args, known.iter().find(|plan| plan.name == args.plan))?;
                change(backend, &known, vec![plan], args.yes, args.target.json)
            }
            Self::Diff(args) => {
                let lines = file_differences(&read(&args.file)?, &in_force(backend)?);
                match args.target.json {
                    true => show::print(json!({ "differences": lines })),
                    false if lines.is_empty() => show::print("the plans in force are those of the file"),
                    false => show::print(lines.join("\n")),
                }
                Ok(Exit::Ok)
            }
            Self::Apply(args) => {
                let known = in_force(backend)?;
                let mut plans = read(&args.file)?;
                plans.retain(|plan| !known.contains(plan));
                change(backend, &known, plans, args.yes, args.target.json)
            }
            Self::Remove(args) => {
                let answer = backend.call("DELETE", &path(&args.plan), &[], None)?.or_failure()?;
                show::print(if args.target.json { answer.text } else { format!("{}: removed", args.plan) });
                Ok(Exit::Ok)
            }
        }
    }
}

fn path(plan: &str) -> String {
    format!("/api/admin/plans/{}", segment(plan))
}

fn list(args: &ListArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = backend.get("/api/admin/plans", &[])?;
    let model = args.cost.model.as_deref();
    let days = match model {
        Some(model) => plan_costs::days(&args.cost, model, &plans_of(&answer.text)?, backend)?,
        None => Vec::new(),
    };
    if args.target.json {
        match model {
            Some(model) => show::print(plan_costs::json(&answer.text, model, &days)?),
            None => show::print(&answer.text),
        }
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["plan", "type", "window", "limit", "mode", "told at"]);
    for plan in answer.json["plans"].as_array().into_iter().flatten() {
        let limits = plan["limits"].as_array().map_or(&[][..], Vec::as_slice);
        for limit in limits {
            let mut cells = vec![show::field(plan, "name")];
            cells.extend(["quota_type", "window"].map(|name| show::field(limit, name)));
            cells.extend([show::limit(limit, "limit"), show::field(limit, "mode")]);
            // Minutes are never told.
            cells.push(if limit["window"] == "minute" {
                "-".to_owned()
            } else {
                thresholds::shown(&plan["thresholds"])
            });
            show::row(&mut table, cells);
        }
        if limits.is_empty() {
            let nothing = || "-".to_owned();
            show::row(
                &mut table,
                vec![show::field(plan, "name"), nothing(), nothing(), "unlimited".to_owned(), nothing(), nothing()],
            );
        }
    }
    show::print(show::draw(table));
    if let Some(model) = model {
        show::print(plan_costs::table(model, &days));
    }
    Ok(Exit::Ok)
}

/// Shows what each plan's change means; with `yes` changes it.
fn change(backend: &Backend, known: &[Plan], plans: Vec<Plan>, yes: bool, json: bool) -> Result<Exit, Failure> {
    let mut answers = Vec::new();
    for plan in &plans {
        let dry_run = [("dry_run", "true".to_owned())];
        let body = ("application/json", body(plan).to_string().into_bytes());
        let effect = backend.call("PUT", &path(&plan.name), &dry_run, Some(body))?.or_failure()?;
        answers.push(effect.json);
    }
    if !json {
        for (plan, answer) in plans.iter().zip(&answers) {
            let before = known.iter().find(|known| known.name == plan.name);
            show::print(told(plan, before, &answer["effect"]));
        }
    }
    if yes {
        for (plan, answer) in plans.iter().zip(&mut answers) {
            *answer = backend.send_json("PUT", &path(&plan.name), &body(plan))?.json;
        }
    }
    show::print(match (json, plans.is_empty(), yes) {
        (true, ..) => json!({ "plans": answers }).to_string(),
        (_, true, _) => "nothing differs".to_owned(),
        (_, _, true) => "done: it binds the next decision".to_owned(),
        (_, _, false) => "nothing was changed: add --yes to do it".to_owned(),
    });
    Ok(Exit::Ok)
}

fn told(plan: &Plan, before: Option<&Plan>, effect: &Value) -> String {
    let mut lines = vec![match before {
        None => format!("{}: a new plan", plan.name),
        Some(_) => format!(
            "{}: {} tenants; {} of them have used up a limit, {} would have",
            plan.name,
            show::field(effect, "tenants"),
            show::field(effect, "exceeded_before"),
            show::field(effect, "exceeded_after"),
        ),
    }];
    let changes = differences(before, plan);
    lines.extend(changes.into_iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

/// The body of a PUT; dollars as text, so that no digit passes through a float.
fn body(plan: &Plan) -> Value {
    let limit = |limit: &Limit| {
        let amount = match limit.quota_type {
            QuotaType::Cost => Value::from(limit.quota_type.show(limit.limit)),
            // At most 10^15.
            _ => Value::from(limit.limit as u64),
        };
        let mode = if limit.observe { Mode::Observe } else { Mode::Enforce };
        json!({"quota_type": limit.quota_type.name(), "window": limit.window.name(), "limit": amount, "mode": mode.name()})
    };
    json!({ "limits": plan.limits.iter().map(limit).collect::<Vec<_>>(), "thresholds": plan.thresholds })
}

fn read(file: &std::path::Path) -> Result<Vec<Plan>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::caused(Exit::Failed, format!("{} cannot be read", file.display()), &error))?;
    parse_plans(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

/// The plan with the named limits put in or taken away.
fn changed(args: &SetArgs, before: Option<&Plan>) -> Result<Plan, Failure> {
    let mut limits = before.map_or_else(Vec::new, |plan| plan.limits.clone());
    for text in &args.limits {
        let wrong = |reason: String| Failure::usage(format!("`{text}`: {reason}"));
        let parts = text.split_once('=').and_then(|(key, amount)| Some((key.split_once("_per_")?, amount)));
        let Some(((quota_type, window), amount)) = parts else {
            return Err(wrong("write it as TYPE_per_WINDOW=LIMIT, such as tokens_per_day=600000".to_owned()));
        };
        let quota_type: QuotaType = quota_type.parse().map_err(|error| wrong(format!("{error}")))?;
        let window: Window = window.parse().map_err(|error| wrong(format!("{error}")))?;
        limits.retain(|limit| (limit.quota_type, limit.window) != (quota_type, window));
        if amount != "unlimited" {
            let limit = quota_type.read(amount).map_err(|error| wrong(error.to_string()))?;
            limits.push(Limit { quota_type, window, limit, observe: args.mode == Mode::Observe });
        }
    }
    limits.sort_by_key(|limit| (limit.quota_type, limit.window));
    let mut plan = Plan { limits, ..before.cloned().unwrap_or_else(|| Plan::new(&args.plan, Vec::new())) };
    if let Some(told) = &args.thresholds {
        plan.thresholds = thresholds::read(told)?;
    }
    Ok(plan)
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    plans: Vec<ListedPlan<'a>>,
}

#[derive(Deserialize)]
struct ListedPlan<'a> {
    name: String,
    #[serde(borrow)]
    limits: Vec<ListedLimit<'a>>,
    thresholds: Vec<u16>,
}

#[derive(Deserialize)]
struct ListedLimit<'a> {
    quota_type: String,
    window: String,
    #[serde(borrow)]
    limit: &'a RawValue,
    mode: String,
}

/// The plans in force, each digit as the server wrote it.
fn in_force(backend: &Backend) -> Result<Vec<Plan>, Failure> {
    plans_of(&backend.get("/api/admin/plans", &[])?.text)
}

fn plans_of(text: &str) -> Result<Vec<Plan>, Failure> {
    let unread =
        |what: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("the answer is not understood: {what}"));
    let listed: Listed<'_> = serde_json::from_str(text).map_err(|error| unread(&error))?;
    let read_limit = |listed: ListedLimit<'_>| -> Result<Limit, Failure> {
        let quota_type: QuotaType = listed.quota_type.parse().map_err(|error| unread(&error))?;
        Ok(Limit {
            quota_type,
            window: listed.window.parse().map_err(|error| unread(&error))?,
            limit: quota_type.read(listed.limit.get()).map_err(|error| unread(&error))?,
            observe: listed.mode.parse::<Mode>().map_err(|error| unread(&error))? == Mode::Observe,
        })
    };
    let read_plan = |plan: ListedPlan<'_>| -> Result<Plan, Failure> {
        let limits = plan.limits.into_iter().map(read_limit).collect::<Result<Vec<_>, _>>()?;
        Ok(Plan { name: plan.name, limits, thresholds: plan.thresholds })
    };
    listed.plans.into_iter().map(read_plan).collect()
}
