//! `metergate alerts`: which tenants have used how much of their limits.

use clap::Args;

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;

/// Flags of `alerts`.
#[derive(Args, Debug)]
pub struct AlertsArgs {
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Recorded from this day or RFC 3339 time (UTC)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Recorded up to this time; a day is included whole
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, 1 to 1,000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Go on where an earlier list ended: its next_cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

/// Lists alerts, newest first.
pub fn run(args: &AlertsArgs, backend: &Backend) -> Result<Exit, Failure> {
    let given = [
        ("tenant_id", args.tenant.clone()),
        ("startDate", args.since.clone()),
        ("endDate", args.until.clone()),
        ("limit", Some(args.limit.to_string())),
        ("cursor", args.after.clone()),
    ];
    let query: Vec<(&str, String)> =
        given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let answer = backend.get("/api/admin/alerts", &query)?;
    if args.target.json {
        show::print(answer.text);
        return Ok(Exit::Ok);
    }
    let columns = ["at", "tenant_id", "quota_type", "window", "window_start"];
    let mut table = show::table(&["at", "tenant", "type", "window", "since", "crossed", "used", "limit", "mode"]);
    let alerts = answer.json["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    for alert in alerts {
        let mut cells: Vec<String> = columns.iter().map(|name| show::field(alert, name)).collect();
        cells.push(format!("{} %", show::field(alert, "percent")));
        cells.extend(["used", "limit", "mode"].map(|name| show::field(alert, name)));
        show::row(&mut table, cells);
    }
    show::print(if alerts.is_empty() { "no alerts".to_owned() } else { show::draw(table) });
    if let Some(next) = answer.json["next_cursor"].as_str() {
        show::print(format!("more: --after {next}"));
    }
    Ok(Exit::Ok)
}
