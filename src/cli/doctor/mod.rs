//! `metergate doctor`: looks at everything a metergate stands on, and says what to do.

mod folder;
mod service;
mod trial;

use std::fmt;

use clap::Args;
use serde_json::json;

use super::backend::Backend;
use super::development::Scratch;
use super::failure::{Exit, Failure, chain};
use super::local::{Local, Purpose};
use super::serve;
use super::show;
use super::target::{Global, Target};
use crate::config::Settings;
use crate::store;

/// Examples.
pub const AFTER_HELP: &str = "Examples:\n  metergate doctor\n  metergate doctor --server http://127.0.0.1:8080 --json\n\n\
    Each line is ok, warn or FAIL, what was looked at, what was found, and what to do. The exit code is 1 when anything\n\
    failed. The reserve, the denial, the settle and the audit record are tried in a store of their own that goes away;\n\
    with --on-the-store on the tenant `metergate-doctor` of the real one, which leaves its tombstone and its records there.";

/// Flags of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Try the reserve, the denial, the settle and the audit record on the real store, as the tenant metergate-doctor
    #[arg(long)]
    on_the_store: bool,
    #[command(flatten)]
    target: Target,
}

/// How well one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works; somebody should look.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    verdict: Verdict,
    what: &'static str,
    detail: String,
    remedy: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what, detail: detail.into(), remedy: String::new() }
    }

    /// It works, but `remedy` should be done.
    pub fn warn(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what, detail: detail.into(), remedy: remedy.into() }
    }

    /// It does not work until `remedy` is done.
    pub fn fail(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what, detail: detail.into(), remedy: remedy.into() }
    }
}

/// Looks, prints, and fails when anything failed.
pub fn run(global: &Global, args: &DoctorArgs) -> Result<Exit, Failure> {
    let findings = match serve::settings(global, Vec::new()) {
        Ok(settings) => look(global, args, &settings),
        Err(failure) => vec![Finding::fail("settings", failure.message, "correct the setting that is named")],
    };
    if args.target.json {
        let lines = findings.iter().map(|finding| {
            json!({
                "verdict": finding.verdict.to_string().to_lowercase(),
                "what": finding.what,
                "detail": finding.detail,
                "remedy": finding.remedy,
            })
        });
        show::print(json!({ "findings": lines.collect::<Vec<_>>() }));
    } else {
        let mut table = show::table(&["", "what", "found", "what to do"]);
        for Finding { verdict, what, detail, remedy } in &findings {
            table.add_row([&verdict.to_string(), *what, detail, remedy]);
        }
        show::print(show::draw(table));
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn look(global: &Global, args: &DoctorArgs, settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![match settings.file() {
        Some(path) => Finding::ok("settings", format!("read from {}", path.display())),
        None => Finding::ok("settings", "no file; flags, environment and defaults"),
    }];
    let remote = args.target.server.is_some() || settings.value("server").is_some();
    if !remote {
        findings.extend(folder::look(settings));
    }
    findings.extend(folder::secrets(settings, remote));
    if remote || settings.data_dir().join(store::FILE_NAME).is_file() {
        match Backend::open(&args.target, settings, Purpose::Read) {
            Ok(backend) => {
                findings.extend(service::look(&backend));
                if args.on_the_store {
                    findings.extend(trial::on(&backend, "the real store"));
                } else if remote {
                    findings.extend(trial::check_only(&backend));
                }
                backend.close();
            }
            Err(failure) if failure.message.contains("in use") => {
                findings.push(Finding::warn("store", failure.message, "ask the server itself: --server URL"));
            }
            Err(failure) => findings.push(Finding::fail("store", failure.message, "see `metergate help runbook`")),
        }
    } else {
        findings.push(Finding::ok("store", "none yet: `metergate serve` makes it"));
    }
    if !remote && !args.on_the_store {
        findings.extend(in_scratch(global));
    }
    findings
}

/// The trial in a store of its own, with the settings in force.
fn in_scratch(global: &Global) -> Vec<Finding> {
    let tried = Scratch::make("metergate-doctor").and_then(|scratch| {
        let own = Global { data_dir: Some(scratch.path().to_owned()), config: global.config.clone() };
        let settings = serve::settings(&own, Vec::new())?;
        let backend = Local::open(&settings, Purpose::Write).map(Backend::Local)?;
        let findings = trial::on(&backend, "a store of its own");
        backend.close();
        Ok(findings)
    });
    tried.unwrap_or_else(|failure| {
        vec![Finding::fail("trial", chain(&failure), "make the folder for temporary files writable")]
    })
}
