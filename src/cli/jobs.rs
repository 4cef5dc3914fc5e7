//! `metergate jobs` and `metergate status`: what runs by itself, and whether all is well.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::operations;
use super::show;
use super::target::Target;

/// Flags of `jobs`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct JobsArgs {
    #[command(subcommand)]
    action: Option<JobsAction>,
    #[command(flatten)]
    target: Target,
}

/// What to do with the jobs.
#[derive(Subcommand, Debug)]
enum JobsAction {
    /// Run a job now
    #[command(after_help = "Example:\n  metergate jobs run cleanup_old_realtime_events --server http://127.0.0.1:8080")]
    Run {
        /// aggregate_usage_metrics or cleanup_old_realtime_events
        job: String,
        #[command(flatten)]
        target: Target,
    },
    /// Say that the clock is right after a stop of more than 48 hours, so that retention goes on
    #[command(after_help = "Example:\n  date -u; metergate jobs confirm-clock --server http://127.0.0.1:8080")]
    ConfirmClock {
        #[command(flatten)]
        target: Target,
    },
}

/// Flags of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub target: Target,
}

impl JobsArgs {
    /// Whom to ask.
    pub fn target(&self) -> &Target {
        match &self.action {
            Some(JobsAction::Run { target, .. } | JobsAction::ConfirmClock { target }) => target,
            None => &self.target,
        }
    }

    /// Does it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match &self.action {
            Some(JobsAction::Run { job, target }) => {
                operations::job(backend, target, &job.replace('-', "_"), Vec::new())
            }
            Some(JobsAction::ConfirmClock { target }) => {
                let answer = backend.send_json("POST", "/api/admin/jobs", &json!({ "job": "confirm_clock" }))?;
                if target.json {
                    show::print(&answer.text);
                } else if answer.json["was_waiting"] == true {
                    show::print("the clock is confirmed: retention goes on");
                } else {
                    show::print("nothing was waiting for it");
                }
                Ok(Exit::Ok)
            }
            None => {
                let answer = backend.get("/api/admin/jobs", &[])?;
                if self.target.json {
                    show::print(&answer.text);
                } else {
                    jobs(&answer.json);
                    alarms(&answer.json);
                }
                Ok(Exit::Ok)
            }
        }
    }
}

/// Shows the server on one screen; fails when writes are not possible.
pub fn status(args: &StatusArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = backend.get("/api/admin/status", &[])?;
    let ready = answer.json["ready"] == true;
    if args.target.json {
        show::print(&answer.text);
    } else {
        let status = &answer.json;
        let up = status["uptime_seconds"].as_u64().unwrap_or_default();
        let mib = status["store_file_bytes"].as_u64().unwrap_or_default().div_ceil(1 << 20);
        let mut table = show::table(&["metergate", &show::field(status, "version")]);
        for (name, value) in [
            ("ready", if ready { "yes" } else { "no" }.to_owned()),
            ("up", format!("{} h {} min {} s", up / 3_600, up / 60 % 60, up % 60)),
            ("tenants", show::field(status, "tenants")),
            ("events today (UTC)", show::field(status, "events_today")),
            ("unfiled generations", show::field(status, "unfiled_generations")),
            ("store file", format!("{} MiB", show::grouped(mib))),
        ] {
            show::row(&mut table, vec![name.to_owned(), value]);
        }
        show::print(show::draw(table));
        ceilings(status);
        show::print("");
        jobs(status);
        alarms(status);
    }
    Ok(if ready { Exit::Ok } else { Exit::Failed })
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

/// The ceilings over all tenants, if there are any.
fn ceilings(answer: &Value) {
    let ceilings = list(answer, "platform");
    if ceilings.is_empty() {
        return;
    }
    let mut table = show::table(&["ceiling", "window", "limit", "used", "held", "remaining", "resets at"]);
    for ceiling in ceilings {
        let cells = ["quota_type", "window", "limit", "used", "held", "remaining", "resets_at"];
        show::row(&mut table, cells.map(|name| show::field(ceiling, name)).to_vec());
    }
    show::print(format!("\n{}", show::draw(table)));
}

fn jobs(answer: &Value) {
    let mut table = show::table(&["job", "last run", "result", "rows", "next run"]);
    for job in list(answer, "jobs") {
        let mut cells = ["job", "last_started", "result", "rows", "next_run"].map(|name| show::field(job, name));
        if job["running"] == true {
            cells[2] = "running".to_owned();
        }
        show::row(&mut table, cells.to_vec());
    }
    show::print(show::draw(table));
}

fn alarms(answer: &Value) {
    let alarms = list(answer, "alarms");
    show::print("");
    if alarms.is_empty() {
        show::print("no alarms");
    }
    for alarm in alarms {
        show::print(format!("ALARM {}: {}", show::field(alarm, "code"), show::field(alarm, "message")));
    }
}
