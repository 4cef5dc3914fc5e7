//! What a server, or an opened store, says about itself.

use serde_json::Value;

use super::Finding;
use crate::cli::backend::Backend;
use crate::cli::show;
use crate::clock::Clock;
use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp};

/// Ready, version and format, clock, jobs, alarms, unpriced events.
pub fn look(backend: &Backend) -> Vec<Finding> {
    let mut findings = Vec::new();
    if matches!(backend, Backend::Remote { .. }) {
        findings.push(match backend.get("/readyz", &[]) {
            Ok(_) => Finding::ok("ready", "the server takes writes"),
            Err(failure) => {
                Finding::fail("ready", failure.message, "`metergate status`, and `metergate help runbook not_ready`")
            }
        });
    }
    let status = match backend.get("/api/admin/status", &[]) {
        Ok(answer) => answer.json,
        Err(failure) => {
            findings.push(Finding::fail("status", failure.message, "look at --server and --key"));
            return findings;
        }
    };
    findings.push(version(&status));
    findings.push(clock(&status));
    findings.extend(jobs(&status));
    let alarms = status["alarms"].as_array().map_or(&[][..], Vec::as_slice);
    if alarms.is_empty() {
        findings.push(Finding::ok("alarms", "none"));
    }
    for alarm in alarms {
        let code = show::field(alarm, "code");
        let (detail, remedy) =
            (format!("{code}: {}", show::field(alarm, "message")), format!("metergate help runbook {code}"));
        findings.push(match code.as_str() {
            "not_ready" | "storage_unavailable" => Finding::fail("alarms", detail, remedy),
            _ => Finding::warn("alarms", detail, remedy),
        });
    }
    findings.push(match status["unpriced_events_today"].as_u64() {
        Some(0) => Finding::ok("unpriced events", "none today"),
        Some(count) => {
            let detail = format!("{} today: their cost is unknown", show::grouped(count));
            Finding::warn("unpriced events", detail, "send cost_usd, or give their models a price")
        }
        None => Finding::ok("unpriced events", "not told by this server"),
    });
    findings
}

fn version(status: &Value) -> Finding {
    let (theirs, ours) = (show::field(status, "version"), env!("CARGO_PKG_VERSION"));
    let detail = format!("metergate {theirs}, format {}", show::field(status, "format_version"));
    if theirs == ours {
        Finding::ok("version", detail)
    } else {
        Finding::warn("version", detail, format!("this command is {ours}: use the same on both sides"))
    }
}

/// The server's clock starts no earlier than the store's last commit, so a wall clock behind that shows here.
fn clock(status: &Value) -> Finding {
    let Ok(server) = show::field(status, "timestamp").parse::<Timestamp>() else {
        return Finding::warn("clock", "not told by this server", "");
    };
    let wall = Clock::system(Timestamp::default()).now();
    let apart = wall.micros_since(server);
    let detail = format!("{server}, {:.1} s from this machine's wall clock", apart as f64 / MICROS_PER_SECOND as f64);
    if apart.abs() <= 5 * MICROS_PER_MINUTE {
        Finding::ok("clock", detail)
    } else {
        Finding::warn(
            "clock",
            detail,
            "set the wall clock right (NTP): see `metergate help runbook clock_not_believed`",
        )
    }
}

fn jobs(status: &Value) -> Vec<Finding> {
    let now = show::field(status, "timestamp").parse::<Timestamp>().unwrap_or_default();
    let jobs = status["jobs"].as_array().map_or(&[][..], Vec::as_slice);
    let mut findings = Vec::new();
    for job in jobs {
        let name = show::field(job, "job");
        let success = job["last_success"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let detail = match success {
            Some(time) => format!("{name}: last success {time}"),
            None => format!("{name}: no success yet"),
        };
        let remedy = format!("metergate jobs run {name}");
        findings.push(match success {
            _ if job["result"] == "failure" => {
                Finding::fail("jobs", format!("{detail}; {}", show::field(job, "error")), remedy)
            }
            // Each runs at least daily unless its schedule says otherwise.
            Some(time) if now.micros_since(time) > 2 * MICROS_PER_DAY => Finding::warn("jobs", detail, remedy),
            _ => Finding::ok("jobs", detail),
        });
    }
    findings
}
