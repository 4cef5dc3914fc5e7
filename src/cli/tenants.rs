//! `metergate tenants`: who is registered, on which plan, in which state.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use super::tenant_prices::TenantPricesCommand;
use crate::domain::quota::Mode;
use crate::domain::tenant::TenantStatus;

/// Tenants asked for at a time.
const PAGE: u64 = 1_000;

/// What `tenants` can do.
#[derive(Subcommand, Debug)]
pub enum TenantsCommand {
    /// List tenants in the order of their ids
    #[command(after_help = "Examples:\n  metergate tenants list --limit 50\n  \
        metergate tenants list --search acme --plan pro --status suspended --label region=eu")]
    List(ListArgs),
    /// Show one tenant
    #[command(after_help = "Example:\n  metergate tenants show acme --json")]
    Show(ShowArgs),
    /// Register or change a tenant; what is not named stays
    #[command(
        after_help = "Examples:\n  metergate tenants set acme --plan pro --name \"Acme Ltd\" --label region=eu\n  \
        metergate tenants set acme --expires 2026-12-31 --zone America/Santiago\n  \
        metergate tenants set acme --status suspended\n\nLabels given replace all labels the tenant has."
    )]
    Set(SetArgs),
    /// Write everything held of a tenant as JSON Lines: its settings, rows, raw events, denials and audit trail
    #[command(after_help = "Example:\n  metergate tenants export acme --output acme.jsonl\n\n\
        The last line has the kind `end` and counts the lines of each kind; without it the file is not whole.")]
    Export(ExportArgs),
    /// Show, set and remove a tenant's own prices and markup
    #[command(subcommand)]
    Prices(TenantPricesCommand),
    /// Leave a tombstone: nothing more is recorded for the tenant until it is set again
    #[command(after_help = "Example:\n  metergate tenants delete acme")]
    Delete(ShowArgs),
}

/// Flags of `tenants list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = PAGE, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Go on where an earlier list ended: its next_cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Those with this text in their id or name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Those on this plan
    #[arg(long)]
    plan: Option<String>,
    /// Those in this state; `deleted` lists the tombstones
    #[arg(long)]
    status: Option<TenantStatus>,
    /// Those with this label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `tenants show` and `tenants delete`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    target: Target,
}

/// Flags of `tenants export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The tenant; a deleted one too
    tenant: String,
    /// Write to this file, which must not exist yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `tenants set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// The tenant
    tenant: String,
    /// A plan that exists: see `metergate plans list`
    #[arg(long)]
    plan: Option<String>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// active, suspended or cancelled
    #[arg(long)]
    status: Option<TenantStatus>,
    /// enforce, or observe: grant everything, and list what would have been denied
    #[arg(long)]
    mode: Option<Mode>,
    /// When the plan runs out: a day or RFC 3339 time (UTC), or `never`
    #[arg(long, value_name = "TIME|never")]
    expires: Option<String>,
    /// The IANA time zone of its quota day, from the next window on
    #[arg(long)]
    zone: Option<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Percentages of its limits that are told when use reaches them, such as 80,95,100; none, or plan for the plan's
    #[arg(long, value_name = "PERCENTS|none|plan")]
    thresholds: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl TenantsCommand {
    /// Whom to ask.
    pub fn target(&self) -> &Target {
        match self {
            Self::List(args) => &args.target,
            Self::Show(args) | Self::Delete(args) => &args.target,
            Self::Set(args) => &args.target,
            Self::Export(args) => &args.target,
            Self::Prices(command) => command.target(),
        }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        match self {
            Self::Prices(command) => command.writes(),
            other => matches!(other, Self::Set(_) | Self::Delete(_)),
        }
    }

    /// Runs it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(args, backend),
            Self::Show(args) => {
                let answer = backend.get(&path(&args.tenant), &[])?;
                show::print(if args.target.json { answer.text } else { one(&answer.json) });
                Ok(Exit::Ok)
            }
            Self::Export(args) => export(args, backend),
            Self::Prices(command) => command.run(backend),
            Self::Set(args) => {
                let answer = backend.send_json("PUT", &path(&args.tenant), &change(args)?)?;
                show::print(if args.target.json { answer.text } else { one(&answer.json) });
                Ok(Exit::Ok)
            }
            Self::Delete(args) => {
                let answer = backend.call("DELETE", &path(&args.tenant), &[], None)?.or_failure()?;
                let told = format!("{}: deleted; its history stays, `metergate tenants set` revives it", args.tenant);
                show::print(if args.target.json { answer.text } else { told });
                Ok(Exit::Ok)
            }
        }
    }
}

fn path(tenant: &str) -> String {
    format!("/api/admin/tenants/{}", segment(tenant))
}

fn list(args: &ListArgs, backend: &Backend) -> Result<Exit, Failure> {
    let (mut after, mut left) = (args.after.clone(), args.limit);
    let (mut tenants, mut next) = (Vec::new(), Value::Null);
    while left > 0 {
        let mut query = vec![("limit", left.min(PAGE).to_string())];
        let filters = [
            ("search", args.search.clone()),
            ("plan", args.plan.clone()),
            ("status", args.status.map(|status| status.name().to_owned())),
            ("label", args.label.clone()),
        ];
        query.extend(filters.into_iter().filter_map(|(name, value)| Some((name, value?))));
        query.extend(after.take().map(|after| ("after", after)));
        let mut answer = backend.get("/api/admin/tenants", &query)?;
        let Value::Array(page) = answer.json["tenants"].take() else { break };
        left = left.saturating_sub(page.len() as u64);
        let empty = page.is_empty();
        tenants.extend(page);
        next = answer.json["next_cursor"].take();
        match &next {
            Value::String(cursor) if !empty => after = Some(cursor.clone()),
            _ => break,
        }
    }
    if args.target.json {
        show::print(json!({"tenants": tenants, "next_cursor": next}));
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["tenant", "name", "plan", "status", "expires", "zone", "created"]);
    for tenant in &tenants {
        let names = ["tenant_id", "name", "plan", "status", "plan_expires_at", "zone", "created_at"];
        show::row(&mut table, names.map(|name| show::field(tenant, name)).to_vec());
    }
    show::print(if tenants.is_empty() { "no tenants".to_owned() } else { show::draw(table) });
    if let Value::String(cursor) = next {
        show::print(format!("\nthere are more: --after {cursor}"));
    }
    Ok(Exit::Ok)
}

fn export(args: &ExportArgs, backend: &Backend) -> Result<Exit, Failure> {
    let path = format!("{}/export", path(&args.tenant));
    let Some(file) = &args.output else {
        backend.download(&path, &mut std::io::stdout().lock())?;
        return Ok(Exit::Ok);
    };
    let cannot = |error: std::io::Error| {
        Failure::caused(Exit::Failed, format!("{} cannot be made: name another", file.display()), &error)
    };
    let mut out = std::io::BufWriter::new(new_private_file(file).map_err(cannot)?);
    let written = backend.download(&path, &mut out).and_then(|()| out.flush().map_err(cannot));
    if written.is_err() {
        // A part of an export is none.
        let _may_be_gone = std::fs::remove_file(file);
    }
    written.map(|()| {
        if !args.target.json {
            show::print(format!("everything held of {} is in {}", args.tenant, file.display()));
        }
        Exit::Ok
    })
}

/// A file for an export: what is in it is for its owner's eyes, and one that stands there already may be an earlier one.
pub fn new_private_file(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// One tenant: a line for each field, nested values as JSON.
fn one(json: &Value) -> String {
    let tenant = if json["tenant"].is_object() { &json["tenant"] } else { json };
    let mut table = show::table(&["field", "value"]);
    for (name, value) in tenant.as_object().into_iter().flatten() {
        table.add_row([name.clone(), show::text(value)]);
    }
    show::draw(table)
}

fn change(args: &SetArgs) -> Result<Value, Failure> {
    let mut body = Map::new();
    let texts = [
        ("plan", args.plan.clone()),
        ("name", args.name.clone()),
        ("status", args.status.map(|status| status.name().to_owned())),
        ("mode", args.mode.map(|mode| mode.name().to_owned())),
        ("zone", args.zone.clone()),
    ];
    for (name, text) in texts {
        body.extend(text.map(|text| (name.to_owned(), Value::from(text))));
    }
    if let Some(expires) = args.expires.as_deref() {
        let end = match expires {
            "never" => Value::Null,
            text => {
                let time = super::moment::read(text);
                let time =
                    time.map_err(|reason| Failure::usage(format!("--expires `{text}`: {reason}, or `never`")))?;
                Value::from(time.to_string())
            }
        };
        body.insert("plan_expires_at".to_owned(), end);
    }
    if let Some(told) = args.thresholds.as_deref() {
        let percents = if told == "plan" { Value::Null } else { Value::from(super::thresholds::read(told)?) };
        body.insert("thresholds".to_owned(), percents);
    }
    if !args.labels.is_empty() {
        let mut labels = Map::new();
        for label in &args.labels {
            let (key, value) = label
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("--label `{label}`: write it as KEY=VALUE")))?;
            labels.insert(key.to_owned(), Value::from(value));
        }
        body.insert("labels".to_owned(), Value::Object(labels));
    }
    Ok(Value::Object(body))
}
