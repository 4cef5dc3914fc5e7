//! `metergate erase`: takes out what names somebody.

use clap::Args;
use serde_json::{Map, Value};

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::target::Target;
use super::{backup, show};

/// Examples.
pub const AFTER_HELP: &str = "Examples:\n  metergate erase --actor visitor-4711 --of acme\n  \
    metergate erase --session 6f1e0c9b2a --of acme --yes --server http://127.0.0.1:8080\n  metergate erase --tenant acme --yes\n\n\
    Without --yes it only counts. Audit payloads and salts go, the leaves stay, so every proof still holds; sessions,\n\
    endpoints, metadata and ids of events are blanked, totals stay. Then the file is written anew. Backups that may still\n\
    hold it are listed: delete them, and copies made elsewhere.";

/// Flags of `erase`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub struct EraseArgs {
    /// Whatever names this actor: a user, a visitor, an administrator
    #[arg(long, value_name = "ID", group = "subject")]
    actor: Option<String>,
    /// Whatever names this chat session
    #[arg(long, value_name = "ID", group = "subject")]
    session: Option<String>,
    /// Everything of this tenant, which must be deleted before
    #[arg(long, value_name = "TENANT", group = "subject", conflicts_with = "of")]
    tenant: Option<String>,
    /// Only within this tenant
    #[arg(long, value_name = "TENANT")]
    of: Option<String>,
    /// Erase; without it only count
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Counts, or erases.
pub fn run(args: &EraseArgs, backend: &Backend) -> Result<Exit, Failure> {
    let subjects = [("actor", &args.actor), ("session", &args.session), ("tenant", &args.tenant)];
    let named = subjects.into_iter().find_map(|(kind, id)| id.as_ref().map(|id| (kind, id)));
    let (kind, id) = named.ok_or_else(|| Failure::usage("name an --actor, a --session or a --tenant".to_owned()))?;
    let mut body = Map::new();
    body.insert("subject".to_owned(), kind.into());
    body.insert("id".to_owned(), id.as_str().into());
    body.extend(args.of.as_ref().map(|tenant| ("tenant_id".to_owned(), tenant.as_str().into())));
    body.insert("dry_run".to_owned(), (!args.yes).into());
    let answer = backend.send_json("POST", "/api/admin/erase", &Value::Object(body))?;
    if args.target.json {
        show::print(&answer.text);
        return Ok(Exit::Ok);
    }
    let told = |name| show::field(&answer.json, name);
    let found =
        format!("{} audit records, {} events, {} denials", told("audit_records"), told("events"), told("denials"));
    if !args.yes {
        show::print(format!("{found} would be erased: add --yes"));
        return Ok(Exit::Ok);
    }
    show::print(format!("erased: {found} (erasure {})", told("erasure_id")));
    if answer.json["old_files_still_read"] != 0 {
        show::note("somebody still reads the old file: its bytes are on the disk until they have ended");
    }
    let backups = &answer.json["backups"];
    if backups.as_array().is_some_and(|backups| !backups.is_empty()) {
        show::print("these backups may still hold it: delete them, and copies made elsewhere");
        show::print(backup::table(backups));
    }
    Ok(Exit::Ok)
}
