//! `metergate audit`: what happened, who did it, and what became of it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::audit_proofs::{self, CheckpointArgs, ExportArgs, VerifyArgs};
use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::domain::audit::{ActorType, AuditAction, ResultFilter};

/// What `audit` can do.
#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// List audit events, newest first
    #[command(after_help = "Examples:\n  metergate audit list --tenant acme --limit 20\n  \
        metergate audit list --type quota_exceeded --result failure --from 2026-11-01 --json")]
    List(Box<ListArgs>),
    /// Mark an audit event as resolved, once; exit code 3 when it was before
    #[command(
        after_help = "Example:\n  metergate audit resolve 019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f --action \"key replaced\""
    )]
    Resolve(ResolveArgs),
    /// Count a tenant's audit events by type and action
    #[command(after_help = "Example:\n  metergate audit report acme --from 2026-11-01 --to 2026-11-30")]
    Report(ReportArgs),
    /// Hash the whole log anew and compare it with itself and with a checkpoint kept elsewhere; exit code 1 if it differs
    #[command(after_help = "Examples:\n  metergate audit verify\n  \
        metergate audit verify --checkpoint kept.txt --verifier-key metergate/...+...+...\n  \
        metergate audit verify --bundle audit.jsonl --checkpoint kept.txt --verifier-key metergate/...+...+...")]
    Verify(Box<VerifyArgs>),
    /// Print a signed checkpoint over the whole log, to be kept where the store's writers cannot write
    #[command(after_help = "Example:\n  metergate audit checkpoint >> /mnt/elsewhere/kept.txt")]
    Checkpoint(CheckpointArgs),
    /// Write the whole log for an auditor, as JSON Lines
    #[command(after_help = "Example:\n  metergate audit export --output audit.jsonl")]
    Export(ExportArgs),
}

/// Flags of `audit list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only this event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only on such an entity
    #[arg(long, value_name = "TYPE")]
    entity_type: Option<String>,
    /// Only on this entity
    #[arg(long, value_name = "ID")]
    entity: Option<String>,
    /// create, update, delete, access or error
    #[arg(long)]
    action: Option<AuditAction>,
    /// system, admin, tenant or visitor
    #[arg(long, value_name = "TYPE")]
    actor_type: Option<ActorType>,
    /// Only by this actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// success, failure or partial, as it was written; or resolved
    #[arg(long, value_parser = result)]
    result: Option<String>,
    /// Only of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Recorded from this day or RFC 3339 time (UTC)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Recorded up to this time; a day is included whole
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// At most so many, 1 to 1,000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Go on where an earlier list ended: its next_cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `audit resolve` and `resolve-audit-event`.
#[derive(Args, Debug)]
pub struct ResolveArgs {
    /// The event's id
    event_id: String,
    /// What was done about it
    #[arg(long, value_name = "TEXT")]
    action: String,
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `audit report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The tenant
    tenant: String,
    /// From this day or RFC 3339 time (UTC) [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time; a day is included whole
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    target: Target,
}

fn result(text: &str) -> Result<String, String> {
    text.parse::<ResultFilter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl AuditCommand {
    /// Whom to ask.
    pub fn target(&self) -> &Target {
        match self {
            Self::List(args) => &args.target,
            Self::Resolve(args) => &args.target,
            Self::Report(args) => &args.target,
            Self::Verify(args) => &args.target,
            Self::Checkpoint(args) => &args.target,
            Self::Export(args) => &args.target,
        }
    }

    /// Runs it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(args, backend),
            Self::Resolve(args) => resolve(args, backend),
            Self::Report(args) => report(args, backend),
            Self::Verify(args) => audit_proofs::verify(args, backend),
            Self::Checkpoint(args) => audit_proofs::checkpoint(args, backend),
            Self::Export(args) => audit_proofs::export(args, backend),
        }
    }
}

fn list(args: &ListArgs, backend: &Backend) -> Result<Exit, Failure> {
    let given = [
        ("tenant_id", args.tenant.clone()),
        ("event_type", args.event_type.clone()),
        ("entity_type", args.entity_type.clone()),
        ("entity_id", args.entity.clone()),
        ("action", args.action.map(|action| action.name().to_owned())),
        ("actor_type", args.actor_type.map(|actor| actor.name().to_owned())),
        ("actor_id", args.actor.clone()),
        ("result", args.result.clone()),
        ("request_id", args.request.clone()),
        ("startDate", args.from.clone()),
        ("endDate", args.to.clone()),
        ("limit", Some(args.limit.to_string())),
        ("cursor", args.after.clone()),
    ];
    let query: Vec<(&str, String)> =
        given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let answer = backend.get("/api/audit/events", &query)?;
    if args.target.json {
        show::print(answer.text);
        return Ok(Exit::Ok);
    }
    let columns = ["timestamp", "tenant_id", "event_type", "entity_id", "actor_id", "result", "changes_summary"];
    let mut table = show::table(&["time", "tenant", "type", "entity", "actor", "result", "summary", "id"]);
    for event in answer.json["events"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> = columns.iter().map(|name| show::field(event, name)).collect();
        cells.push(show::field(event, "event_id"));
        show::row(&mut table, cells);
    }
    show::print(show::draw(table));
    if let Some(next) = answer.json["next_cursor"].as_str() {
        show::print(format!("more: --after {next}"));
    }
    Ok(Exit::Ok)
}

/// Marks an audit event as resolved; prints `true` or `false`.
pub fn resolve(args: &ResolveArgs, backend: &Backend) -> Result<Exit, Failure> {
    let path = format!("/api/audit/events/{}/resolve", segment(&args.event_id));
    let answer = backend.send_json("POST", &path, &json!({ "resolution_action": args.action }))?;
    let resolved = answer.json["resolved"] == true;
    show::print(if args.target.json { answer.text } else { resolved.to_string() });
    Ok(if resolved { Exit::Ok } else { Exit::Denied })
}

fn report(args: &ReportArgs, backend: &Backend) -> Result<Exit, Failure> {
    let given =
        [("tenant_id", Some(args.tenant.clone())), ("startDate", args.from.clone()), ("endDate", args.to.clone())];
    let query: Vec<(&str, String)> =
        given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let answer = backend.get("/api/audit/report", &query)?;
    if args.target.json {
        show::print(answer.text);
        return Ok(Exit::Ok);
    }
    let report = &answer.json;
    show::print(format!(
        "{}: {} events, {} successes, {} failures",
        args.tenant,
        show::field(report, "total"),
        show::field(report, "successes"),
        show::field(report, "failures")
    ));
    for (heading, counts) in [("type", &report["by_type"]), ("action", &report["by_action"])] {
        let mut table = show::table(&[heading, "events"]);
        for (name, count) in counts.as_object().into_iter().flatten() {
            show::row(&mut table, vec![name.clone(), show::text(count)]);
        }
        show::print(show::draw(table));
    }
    if report["total"] == 0 {
        show::print("nothing in this range: see --from and --to");
    }
    Ok(Exit::Ok)
}
