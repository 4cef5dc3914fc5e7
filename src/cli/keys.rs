//! `metergate keys`: who may come in, with which role and to which tenants.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::domain::key::KeyRole;
use crate::domain::time::Timestamp;

/// Keys asked for at a time.
const PAGE: u64 = 1_000;
const HOURS_PER_DAY: u64 = 24;

/// What `keys` can do.
#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// List keys in order of creation: names, roles, tenants, last use; never a secret
    #[command(after_help = "Example:\n  metergate keys list --server http://127.0.0.1:8080")]
    List(ListArgs),
    /// Make a key; standard output is its secret, which is shown this once
    #[command(after_help = "Examples:\n  metergate keys create ci-pipeline --role service\n  \
        metergate keys create \"Ada at Acme\" --role viewer --tenant acme --expires 2027-01-01\n\n\
        viewer reads; service also records, reserves and writes audit events; support also resolves, and sets limits with a\n\
        reason and an end; admin may do everything. Without --tenant a key is for all tenants.")]
    Create(CreateArgs),
    /// Put a new key in a key's place; standard output is its secret, and the old one works for the overlap
    #[command(after_help = "Examples:\n  metergate keys rotate 019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f\n  \
        metergate keys rotate 019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f --overlap-hours 0   the old one ends now")]
    Rotate(RotateArgs),
    /// End a key at once
    #[command(after_help = "Example:\n  metergate keys revoke 019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f")]
    Revoke(RevokeArgs),
    /// Make the built-in admin key anew, on the data folder of a stopped server
    #[command(after_help = "Example:\n  metergate keys reset-admin --data-dir /var/lib/metergate\n\n\
        For when the admin key is lost or known to others. It is written to admin.key in the data folder (mode 0600), and the\n\
        audit log tells of it. Keys made by `keys create` are untouched.")]
    ResetAdmin,
}

/// Flags of `keys list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    target: Target,
}

/// Flags of `keys create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The person or service that will hold it; the audit trail shows this name
    name: String,
    /// viewer, service, support or admin
    #[arg(long)]
    role: KeyRole,
    /// A tenant it is for; may be given several times [default: all tenants]
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// When it ends by itself: a day or RFC 3339 time (UTC) [default: never]
    #[arg(long, value_name = "TIME", value_parser = super::moment::read)]
    expires: Option<Timestamp>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `keys rotate`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// The key's id, as `keys list` shows it
    key_id: String,
    /// How long the old key goes on working, at most 720 hours
    #[arg(long, value_name = "HOURS", default_value_t = HOURS_PER_DAY, value_parser = clap::value_parser!(u64).range(..=720))]
    overlap_hours: u64,
    #[command(flatten)]
    target: Target,
}

/// Flags of `keys revoke`.
#[derive(Args, Debug)]
pub struct RevokeArgs {
    /// The key's id, as `keys list` shows it
    key_id: String,
    #[command(flatten)]
    target: Target,
}

impl KeysCommand {
    /// Whom to ask; `None` for what is done on the data folder itself.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::List(args) => Some(&args.target),
            Self::Create(args) => Some(&args.target),
            Self::Rotate(args) => Some(&args.target),
            Self::Revoke(args) => Some(&args.target),
            Self::ResetAdmin => None,
        }
    }

    /// Whether it may be the first to write to a data folder.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Create(_))
    }

    /// Runs what asks a server or its routes.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(args, backend),
            Self::Create(args) => {
                let made = backend.send_json("POST", "/api/admin/keys", &request(args))?;
                let told = |json: &Value| {
                    let tenants = tenants(json);
                    format!("key {} for {}: {}, {tenants}", field(json, "key_id"), args.name, args.role.name())
                };
                Ok(tell_secret(&args.target, &made.text, &made.json, told))
            }
            Self::Rotate(args) => {
                let path = format!("/api/admin/keys/{}/rotate", segment(&args.key_id));
                let made =
                    backend.send_json("POST", &path, &json!({ "overlap_seconds": args.overlap_hours * 3_600 }))?;
                let told = |json: &Value| {
                    let (new, end) = (field(json, "key_id"), field(json, "old_key_expires_at"));
                    format!("key {new} takes the place of {}, which works until {end}", args.key_id)
                };
                Ok(tell_secret(&args.target, &made.text, &made.json, told))
            }
            Self::Revoke(args) => {
                let path = format!("/api/admin/keys/{}", segment(&args.key_id));
                let answer = backend.call("DELETE", &path, &[], None)?.or_failure()?;
                let told = format!("{}: revoked at {}", args.key_id, field(&answer.json, "revoked_at"));
                show::print(if args.target.json { answer.text } else { told });
                Ok(Exit::Ok)
            }
            // Needs no routes: see `admin_key::reset`.
            Self::ResetAdmin => Err(Failure::usage("keys reset-admin works on a data folder, not on a server")),
        }
    }
}

fn field(json: &Value, name: &str) -> String {
    show::field(json, name)
}

fn tenants(key: &Value) -> String {
    match &key["tenants"] {
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => "all tenants".to_owned(),
    }
}

/// The secret alone on standard output, so that it can be piped; what it is for on standard error.
fn tell_secret(target: &Target, text: &str, json: &Value, told: impl Fn(&Value) -> String) -> Exit {
    if target.json {
        show::print(text);
    } else {
        show::note(format!("{}; keep this secret now, it is not shown again:", told(json)));
        show::print(field(json, "key"));
    }
    Exit::Ok
}

fn request(args: &CreateArgs) -> Value {
    let mut body = Map::new();
    body.insert("name".to_owned(), args.name.clone().into());
    body.insert("role".to_owned(), args.role.name().into());
    if !args.tenants.is_empty() {
        body.insert("tenants".to_owned(), args.tenants.clone().into());
    }
    body.extend(args.expires.map(|end| ("expires_at".to_owned(), Value::from(end.to_string()))));
    Value::Object(body)
}

fn list(args: &ListArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut keys = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let mut answer = backend.get("/api/admin/keys", &query)?;
        if let Value::Array(page) = answer.json["keys"].take() {
            keys.extend(page);
        }
        match answer.json["next_cursor"].take() {
            Value::String(next) => cursor = Some(next),
            _ => break,
        }
    }
    if args.target.json {
        show::print(json!({ "keys": keys }));
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["key", "name", "role", "tenants", "status", "expires", "last used", "made by"]);
    for key in &keys {
        let mut cells = vec![field(key, "key_id"), field(key, "name"), field(key, "role"), shortened(tenants(key))];
        cells.extend(["status", "expires_at", "last_used_at", "created_by"].map(|name| field(key, name)));
        show::row(&mut table, cells);
    }
    show::print(show::draw(table));
    Ok(Exit::Ok)
}

/// A list of a thousand tenants does not belong on a screen.
fn shortened(tenants: String) -> String {
    const CHARS_MAX: usize = 40;
    match tenants.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &tenants[..end]),
        None => tenants,
    }
}
