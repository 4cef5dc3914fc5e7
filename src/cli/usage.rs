//! `metergate usage` and `metergate top`: who used what, and what it costs.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::backend::{Answer, Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;

/// Tenants over a limit that are shown to people.
const EXCEEDING_SHOWN: usize = 20;

/// A time range and its periods.
#[derive(Args, Debug)]
pub struct RangeArgs {
    /// The length of the periods
    #[arg(long, value_enum, default_value_t = Period::Daily)]
    period: Period,
    /// From this day or RFC 3339 time (UTC) [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time; a day is included whole [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// The period types.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Period {
    /// UTC hours
    Hourly,
    /// UTC days
    Daily,
    /// UTC months
    Monthly,
}

impl RangeArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let period = match self.period {
            Period::Hourly => "hourly",
            Period::Daily => "daily",
            Period::Monthly => "monthly",
        };
        let mut query = vec![("period", period.to_owned())];
        query.extend(self.from.iter().map(|from| ("startDate", from.clone())));
        query.extend(self.to.iter().map(|to| ("endDate", to.clone())));
        query
    }
}

/// Flags of `usage`.
#[derive(Args, Debug)]
pub struct UsageArgs {
    /// Whose usage; without it, the totals of all tenants
    pub tenant: Option<String>,
    #[command(flatten)]
    range: RangeArgs,
    /// Show what each model used
    #[arg(long)]
    by_model: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// What the tenants are ordered by
    #[arg(value_enum, default_value_t = Metric::Tokens)]
    metric: Metric,
    #[command(flatten)]
    range: RangeArgs,
    /// How many tenants
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    pub target: Target,
}

/// What top consumers are ordered by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Metric {
    /// total_tokens_used
    Tokens,
    /// estimated_cost_usd
    Cost,
    /// api_calls_total
    #[value(name = "api_calls", alias = "api-calls")]
    ApiCalls,
}

/// Rows of one tenant, or the overview.
pub fn usage(args: &UsageArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut query = args.range.query();
    if args.by_model {
        query.push(("group_by", "model".to_owned()));
    }
    let answer = match &args.tenant {
        Some(tenant) => backend.get(&format!("/api/usage/{}", segment(tenant)), &query)?,
        None if args.by_model => backend.get("/api/admin/usage", &query)?,
        None => {
            query.push(("metric", "all".to_owned()));
            backend.get("/api/admin/usage", &query)?
        }
    };
    if args.target.json {
        show::print(&answer.text);
    } else if args.by_model {
        show::print(by_model(&answer.json));
    } else if args.tenant.is_some() {
        show::print(rows(&answer));
    } else {
        overview(&answer);
    }
    Ok(Exit::Ok)
}

/// A line for each model of each row, or of all tenants together; events that name none are `-`.
fn by_model(answer: &Value) -> String {
    let mut table = show::table(&["period", "model", "requests", "input", "cached", "output", "cost usd", "unpriced"]);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines: Vec<(String, Value)> = Vec::new();
    for row in list(&answer["usage"]) {
        let period = show::field(&row, "period_start");
        lines.extend(list(&row["by_model"]).into_iter().map(|model| (period.clone(), model)));
    }
    lines.extend(list(&answer["byModel"]).into_iter().map(|model| ("all".to_owned(), model)));
    if lines.is_empty() {
        return "no usage in this range".to_owned();
    }
    for (period, model) in lines {
        let counts = ["model", "requests", "input_tokens", "cached_input_tokens", "output_tokens"];
        let mut cells = vec![period];
        cells.extend(counts.map(|name| show::field(&model, name)));
        cells.extend([show::cost(&model, "estimated_cost_usd"), show::field(&model, "unpriced_events")]);
        show::row(&mut table, cells);
    }
    show::draw(table)
}

fn rows(answer: &Answer) -> String {
    let mut table =
        show::table(&["period", "calls", "failed", "limited", "tokens", "cost usd", "avg ms", "p95 ms", "denied"]);
    let rows = answer.json["usage"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return "no usage in this range".to_owned();
    }
    for metrics in rows {
        let cells = vec![
            show::field(metrics, "period_start"),
            show::field(metrics, "api_calls_total"),
            show::field(metrics, "api_calls_failed"),
            show::field(metrics, "api_calls_rate_limited"),
            show::field(metrics, "total_tokens_used"),
            show::cost(metrics, "estimated_cost_usd"),
            show::field(metrics, "api_latency_avg_ms"),
            show::field(metrics, "api_latency_p95_ms"),
            show::field(metrics, "quota_exceeded_count"),
        ];
        show::row(&mut table, cells);
    }
    show::draw(table)
}

fn overview(answer: &Answer) {
    let summary = &answer.json["summary"];
    let mut table = show::table(&["tenants", "calls", "tokens", "cost usd", "avg ms"]);
    let cells = vec![
        show::field(summary, "total_tenants"),
        show::field(summary, "total_api_calls"),
        show::field(summary, "total_tokens"),
        show::cost(summary, "total_cost"),
        show::field(summary, "avg_latency_ms"),
    ];
    show::row(&mut table, cells);
    show::print(show::draw(table));
    show::print(format!("\ntop consumers\n{}", consumers(&answer.json, "total_tokens_used", "tokens")));
    let exceeding = answer.json["exceedingQuota"].as_array().map_or(&[][..], Vec::as_slice);
    if exceeding.is_empty() {
        return;
    }
    let mut table = show::table(&["tenant", "tokens a day", "remaining", "tokens used", "denied"]);
    for tenant in exceeding.iter().take(EXCEEDING_SHOWN) {
        let cells = vec![
            show::field(tenant, "tenant_id"),
            show::limit(tenant, "quota_limit"),
            show::limit(tenant, "quota_remaining"),
            show::field(tenant, "total_tokens_used"),
            show::field(tenant, "quota_exceeded_count"),
        ];
        show::row(&mut table, cells);
    }
    show::print(format!("\nat or over a limit, or denied\n{}", show::draw(table)));
    if exceeding.len() > EXCEEDING_SHOWN {
        show::print(format!(
            "and {} more; --json gives all",
            show::grouped((exceeding.len() - EXCEEDING_SHOWN) as u64)
        ));
    }
}

/// The top consumers.
pub fn top(args: &TopArgs, backend: &Backend) -> Result<Exit, Failure> {
    let (metric, column, heading) = match args.metric {
        Metric::Tokens => ("tokens", "total_tokens_used", "tokens"),
        Metric::Cost => ("cost", "estimated_cost_usd", "cost usd"),
        Metric::ApiCalls => ("api_calls", "api_calls_total", "calls"),
    };
    let mut query = args.range.query();
    query.push(("metric", metric.to_owned()));
    query.push(("limit", args.limit.to_string()));
    let answer = backend.get("/api/admin/usage", &query)?;
    if args.target.json {
        show::print(&answer.text);
    } else {
        show::print(consumers(&answer.json, column, heading));
    }
    Ok(Exit::Ok)
}

fn consumers(json: &Value, column: &str, heading: &str) -> String {
    let consumers = json["topConsumers"].as_array().map_or(&[][..], Vec::as_slice);
    if consumers.is_empty() {
        return "no usage in this range".to_owned();
    }
    let mut table = show::table(&["", "tenant", heading]);
    for (index, consumer) in consumers.iter().enumerate() {
        let amount = if column == "estimated_cost_usd" { show::cost } else { show::field }(consumer, column);
        show::row(&mut table, vec![(index + 1).to_string(), show::field(consumer, "tenant_id"), amount]);
    }
    show::draw(table)
}
