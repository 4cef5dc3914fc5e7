//! `metergate quota`: what a tenant may still do, whether something fits, and its own limits.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::backend::{Answer, Backend, segment};
use super::explain::{self, ExplainArgs};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::domain::quota::{QuotaType, Window};

/// What `quota` can do.
#[derive(Subcommand, Debug)]
pub enum QuotaCommand {
    /// Show a tenant's limits: used, held by reservations, remaining
    #[command(after_help = "Example:\n  metergate quota status acme --server http://127.0.0.1:8080")]
    Status(StatusArgs),
    /// Ask whether an amount would fit now; changes nothing. Exit code 3 when it would not
    #[command(after_help = "Example:\n  metergate quota check acme tokens 2000 && echo go ahead")]
    Check(CheckArgs),
    /// Set a tenant's own limit, which beats its plan's, or remove it
    #[command(
        after_help = "Examples:\n  metergate quota set acme tokens 250000 --reason \"launch week\" --until 2026-12-01\n  \
        metergate quota set acme api_calls unlimited --window minute\n  metergate quota set acme cost 12.50 --window month\n  \
        metergate quota set acme tokens --remove        back to the plan's limit"
    )]
    Set(SetArgs),
    /// Say why a request was denied: which limit, what had used it, what was held, when it resets
    #[command(
        after_help = "Examples:\n  metergate quota explain acme                             the latest denial\n  \
        metergate quota explain acme --at 2026-11-24T14:03:00Z   the nearest within 5 minutes\n  \
        metergate quota explain acme --request req-7f3a          the x-request-id of the denied request"
    )]
    Explain(ExplainArgs),
}

/// Flags of `quota status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    target: Target,
}

/// Flags of `quota check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The tenant
    tenant: String,
    /// tokens, api_calls, chat_messages, embeddings or cost
    #[arg(value_name = "TYPE")]
    quota_type: QuotaType,
    /// How much; US dollars for cost
    #[arg(default_value = "1", allow_negative_numbers = true)]
    amount: String,
    #[command(flatten)]
    target: Target,
}

/// Flags of `quota set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// The tenant
    tenant: String,
    /// tokens, api_calls, chat_messages, embeddings or cost
    #[arg(value_name = "TYPE")]
    quota_type: QuotaType,
    /// How much, or `unlimited`; US dollars for cost
    #[arg(required_unless_present = "remove", conflicts_with = "remove", allow_negative_numbers = true)]
    limit: Option<String>,
    /// minute, day or month [default: the type's: minute for api_calls, month for cost, else day]
    #[arg(long)]
    window: Option<Window>,
    /// Why, for the audit trail
    #[arg(long, conflicts_with = "remove")]
    reason: Option<String>,
    /// When the plan's limit is back: a day or RFC 3339 time (UTC)
    #[arg(long, value_name = "TIME", value_parser = super::moment::read, conflicts_with = "remove")]
    until: Option<crate::domain::time::Timestamp>,
    /// Remove the tenant's own limit
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    target: Target,
}

impl QuotaCommand {
    /// Whom to ask.
    pub fn target(&self) -> &Target {
        match self {
            Self::Status(args) => &args.target,
            Self::Check(args) => &args.target,
            Self::Set(args) => &args.target,
            Self::Explain(args) => args.target(),
        }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Set(_))
    }

    /// Runs it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match self {
            Self::Status(args) => status(args, backend),
            Self::Check(args) => {
                let answer = check(backend, &args.tenant, args.quota_type, &args.amount)?;
                if args.target.json {
                    show::print(&answer.text);
                } else {
                    show::print(verdict(&answer.json, args.quota_type));
                }
                Ok(if answer.json["allowed"] == true { Exit::Ok } else { Exit::Denied })
            }
            Self::Set(args) => set(args, backend),
            Self::Explain(args) => explain::run(args, backend),
        }
    }
}

fn status(args: &StatusArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = backend.get(&format!("/api/quota/{}", segment(&args.tenant)), &[])?;
    if args.target.json {
        show::print(&answer.text);
        return Ok(Exit::Ok);
    }
    show::print(format!(
        "{}: plan {}, {}{}\n",
        args.tenant,
        show::field(&answer.json, "plan"),
        show::field(&answer.json, "status"),
        if answer.json["anyExceeded"] == true { ", a limit is used up" } else { "" }
    ));
    let mut table =
        show::table(&["type", "window", "limit", "used", "held", "remaining", "used %", "crossed", "resets at"]);
    let limits: Vec<(String, &Value)> = match (&answer.json["limits"], &answer.json["quotas"]) {
        (Value::Array(limits), _) => limits.iter().map(|limit| (show::field(limit, "quota_type"), limit)).collect(),
        (_, Value::Object(quotas)) => quotas.iter().map(|(name, state)| (name.clone(), state)).collect(),
        _ => Vec::new(),
    };
    for (quota_type, state) in limits {
        let percentage = state["percentage"].as_f64().map_or_else(|| "-".to_owned(), |share| format!("{share:.1}"));
        let cells = vec![
            quota_type,
            show::field(state, "window"),
            show::limit(state, "limit"),
            show::field(state, "used"),
            show::field(state, "held"),
            show::limit(state, "remaining"),
            percentage,
            super::thresholds::shown(&state["thresholds_crossed"]),
            show::field(state, "resets_at"),
        ];
        show::row(&mut table, cells);
    }
    show::print(show::draw(table));
    Ok(Exit::Ok)
}

/// Asks the gate; a denial is an answer, whatever its status.
pub fn check(backend: &Backend, tenant: &str, quota_type: QuotaType, amount: &str) -> Result<Answer, Failure> {
    let body = json!({"tenant_id": tenant, "quota_type": quota_type.name(), "amount": number(quota_type, amount)?});
    let answer =
        backend.call("POST", "/api/quota/check", &[], Some(("application/json", body.to_string().into_bytes())))?;
    if answer.json["allowed"].is_boolean() { Ok(answer) } else { Err(answer.failure()) }
}

fn verdict(json: &Value, quota_type: QuotaType) -> String {
    let remaining = match json["tokens_remaining"].as_i64() {
        Some(-1) => "unlimited".to_owned(),
        _ => format!("{} of {} left", show::field(json, "tokens_remaining"), show::limit(json, "quota_limit")),
    };
    match (&json["allowed"], &json["error"]) {
        (Value::Bool(true), _) => format!("allowed: {quota_type} {remaining}"),
        (_, Value::String(reason)) => format!("denied: {reason}"),
        _ => format!("denied: {quota_type} {remaining}"),
    }
}

/// An amount as JSON: a whole number, or for cost a decimal text that never becomes a float.
fn number(quota_type: QuotaType, text: &str) -> Result<Value, Failure> {
    let amount = quota_type.read(text).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(match quota_type {
        QuotaType::Cost => Value::from(quota_type.show(amount)),
        // At most 10^15.
        _ => Value::from(amount as u64),
    })
}

fn set(args: &SetArgs, backend: &Backend) -> Result<Exit, Failure> {
    let path = format!("/api/admin/tenants/{}/quotas/{}", segment(&args.tenant), args.quota_type);
    let answer = match args.limit.as_deref() {
        None => {
            let query: Vec<_> = args.window.iter().map(|window| ("window", window.name().to_owned())).collect();
            backend.call("DELETE", &path, &query, None)?.or_failure()?
        }
        Some(limit) => {
            let limit = if limit == "unlimited" { Value::Null } else { number(args.quota_type, limit)? };
            let mut body = Map::from_iter([("limit".to_owned(), limit)]);
            let texts = [
                ("window", args.window.map(|window| window.name().to_owned())),
                ("reason", args.reason.clone()),
                ("until", args.until.map(|until| until.to_string())),
            ];
            for (name, text) in texts {
                body.extend(text.map(|text| (name.to_owned(), Value::from(text))));
            }
            backend.send_json("PUT", &path, &Value::Object(body))?
        }
    };
    if args.target.json {
        show::print(&answer.text);
        return Ok(Exit::Ok);
    }
    let window = args.window.unwrap_or(args.quota_type.default_window());
    let what = format!("{}: {} a {window}", args.tenant, args.quota_type);
    show::print(match args.limit.as_deref() {
        Some(limit) => format!("{what}: {limit}, from the next decision on"),
        None => format!("{what}: back to the plan's limit"),
    });
    Ok(Exit::Ok)
}
