//! The operations by their documented names, and `verify`.

use clap::Args;
use serde_json::{Map, Value, json};

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::target::Target;
use super::{quota, show};
use crate::domain::quota::QuotaType;

/// Differences shown to people; `--json` has them all.
const DIFFERENCES_SHOWN: usize = 20;

/// Flags of `aggregate-usage-metrics`.
#[derive(Args, Debug)]
pub struct AggregateArgs {
    /// From this day or RFC 3339 time (UTC); widened to whole hours
    #[arg(long, value_name = "TIME", requires = "to")]
    from: Option<String>,
    /// Up to this time; a day is included whole
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `check-tenant-quota`.
#[derive(Args, Debug)]
pub struct CheckTenantQuotaArgs {
    /// The tenant
    tenant: String,
    /// How many more tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    tokens: u64,
    #[command(flatten)]
    pub target: Target,
}

/// Flags of operations that take no more than whom to ask.
#[derive(Args, Debug)]
pub struct PlainArgs {
    #[command(flatten)]
    pub target: Target,
}

/// Folds events into hourly, daily and monthly rows.
pub fn aggregate_usage_metrics(args: &AggregateArgs, backend: &Backend) -> Result<Exit, Failure> {
    let range = [("from", &args.from), ("to", &args.to)];
    let range = range.into_iter().filter_map(|(name, time)| time.clone().map(|time| (name, time)));
    job(backend, &args.target, "aggregate_usage_metrics", range.collect())
}

/// Removes events older than the retention.
pub fn cleanup_old_realtime_events(args: &PlainArgs, backend: &Backend) -> Result<Exit, Failure> {
    job(backend, &args.target, "cleanup_old_realtime_events", Vec::new())
}

/// Removes audit events older than the retention.
pub fn cleanup_old_audit_events(args: &PlainArgs, backend: &Backend) -> Result<Exit, Failure> {
    job(backend, &args.target, "cleanup_old_audit_events", Vec::new())
}

/// Runs a job and shows what it did.
pub fn job(backend: &Backend, target: &Target, name: &str, range: Vec<(&str, String)>) -> Result<Exit, Failure> {
    let mut body = Map::from_iter([("job".to_owned(), Value::from(name))]);
    body.extend(range.into_iter().map(|(key, time)| (key.to_owned(), Value::from(time))));
    let answer = backend.send_json("POST", "/api/admin/jobs", &Value::Object(body))?;
    if target.json {
        show::print(&answer.text);
        return Ok(Exit::Ok);
    }
    let result = if answer.json["result"].is_object() { &answer.json["result"] } else { &answer.json };
    let facts: Vec<String> = result
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !matches!(key.as_str(), "job" | "success" | "timestamp") && !value.is_null())
        .map(|(key, value)| format!("{} {}", key.replace('_', " "), show::text(value)))
        .collect();
    show::print(if facts.is_empty() { "done".to_owned() } else { facts.join(", ") });
    Ok(Exit::Ok)
}

/// Prints `true` or `false`.
pub fn check_tenant_quota(args: &CheckTenantQuotaArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = quota::check(backend, &args.tenant, QuotaType::Tokens, &args.tokens.to_string())?;
    // Today's quota alone: a month's limit is looked at by `quota check`.
    let denied_by = answer.json["denied_by"].as_array().map_or(&[][..], Vec::as_slice);
    let denied_today = denied_by.iter().any(|denied| denied["window"] == "day");
    let allowed = answer.json["allowed"] == true || (!denied_by.is_empty() && !denied_today);
    if args.target.json {
        show::print(json!({ "tenant_id": args.tenant, "tokens": args.tokens, "allowed": allowed }));
    } else {
        show::print(allowed);
    }
    Ok(if allowed { Exit::Ok } else { Exit::Denied })
}

/// Recomputes what can be recomputed, and shows what differs.
pub fn verify(args: &PlainArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = backend.call("POST", "/api/admin/verify", &[], None)?.or_failure()?;
    let differences = answer.json["differences"].as_array().map_or(&[][..], Vec::as_slice);
    // The server lists a bounded number of them.
    let total = answer.json["differences_total"].as_u64().unwrap_or(differences.len() as u64);
    if args.target.json {
        show::print(&answer.text);
    } else {
        let (events, rows) = (show::field(&answer.json, "events"), show::field(&answer.json, "rows"));
        show::print(format!("{events} events read, {rows} rows recomputed, {total} differences"));
        let mut table = show::table(&["what", "stored", "recomputed"]);
        for difference in differences.iter().take(DIFFERENCES_SHOWN) {
            show::row(&mut table, ["what", "stored", "recomputed"].map(|name| show::field(difference, name)).to_vec());
        }
        if !differences.is_empty() {
            show::print(show::draw(table));
        }
        if differences.len() > DIFFERENCES_SHOWN {
            show::print(format!("the first {DIFFERENCES_SHOWN} are shown; --json gives more"));
        }
    }
    Ok(if total == 0 { Exit::Ok } else { Exit::Differences })
}
