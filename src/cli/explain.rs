//! `metergate quota explain`: why a request was denied, told as an answer.

use clap::Args;
use serde_json::Value;

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::domain::time::Timestamp;

/// Flags of `quota explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The tenant
    tenant: String,
    /// When it was denied, give or take 5 minutes: a day or RFC 3339 time (UTC) [default: the latest denial]
    #[arg(long, value_name = "TIME", value_parser = super::moment::read, group = "which")]
    at: Option<Timestamp>,
    /// The decision_id of the denial
    #[arg(long, value_name = "ID", group = "which")]
    decision: Option<uuid::Uuid>,
    /// The x-request-id of the denied request
    #[arg(long, value_name = "ID", group = "which")]
    request: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl ExplainArgs {
    /// Whom to ask.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Asks and tells.
pub fn run(args: &ExplainArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut query = Vec::new();
    query.extend(args.at.map(|at| ("at", at.to_string())));
    query.extend(args.decision.map(|id| ("decision_id", id.to_string())));
    query.extend(args.request.clone().map(|id| ("request_id", id)));
    let answer = backend.get(&format!("/api/quota/{}/explain", segment(&args.tenant)), &query)?;
    show::print(if args.target.json { answer.text } else { told(&answer.json) });
    Ok(Exit::Ok)
}

fn told(json: &Value) -> String {
    let (denial, by, usage) = (&json["denial"], &json["denial"]["denied_by"], &json["usage"]);
    let unit = show::field(by, "quota_type");
    let verb =
        if denial["observed"] == true { "would have been denied (its limit only observes)" } else { "was denied" };
    let mut text = format!("{} {verb} at {}", show::field(json, "tenant_id"), show::field(denial, "at"));
    let ids: Vec<String> = [("decision", "decision_id"), ("request", "request_id")]
        .into_iter()
        .filter(|(_, name)| denial[*name].is_string())
        .map(|(word, name)| format!("{word} {}", show::field(denial, name)))
        .collect();
    if !ids.is_empty() {
        text.push_str(&format!("\n  {}", ids.join(", ")));
    }
    let mut table = show::table(&["limit", "window", "amount", "used", "held", "left", "asked for", "resets at"]);
    let limit = if by["scope"] == "platform" { "the platform's".to_owned() } else { show::limit(by, "limit") };
    let mut cells = vec![unit.clone(), show::field(by, "window"), limit];
    cells.extend(["used", "held", "remaining", "asked", "resets_at"].map(|name| show::field(by, name)));
    show::row(&mut table, cells);
    text.push_str(&format!("\n\n{}", show::draw(table)));
    if denial["denials"].as_u64().is_some_and(|count| count > 1) {
        text.push_str(&format!("\n\nThe record stands for {} denials.", show::field(denial, "denials")));
    }
    text.push_str(&format!(
        "\n\n{} since {}: {} {unit} by {} events{}",
        if by["scope"] == "platform" { "What the tenant itself had used" } else { "What had used it" },
        show::field(usage, "from"),
        show::field(usage, "amount"),
        show::field(usage, "events"),
        if usage["complete"] == true { "" } else { " (not all events could be looked at)" },
    ));
    text.push_str(&shares(usage, &unit));
    text.push_str(&holds(json, &unit));
    let others = json["others"].as_array().map_or(&[][..], Vec::as_slice);
    if !others.is_empty() {
        let mut table = show::table(&["denied at", "type", "window", "asked for", "denials", "decision"]);
        for other in others {
            let mut cells = vec![show::field(other, "at")];
            cells.extend(["quota_type", "window", "asked"].map(|name| show::field(&other["denied_by"], name)));
            cells.extend(["denials", "decision_id"].map(|name| show::field(other, name)));
            show::row(&mut table, cells);
        }
        text.push_str(&format!("\n\nOther denials\n{}", show::draw(table)));
    }
    text
}

fn shares(usage: &Value, unit: &str) -> String {
    let mut table = show::table(&["by", "name", "events", unit, "%"]);
    let mut any = false;
    for (word, list) in [("event type", "event_types"), ("model", "models"), ("session", "sessions")] {
        for share in usage[list].as_array().into_iter().flatten() {
            let percentage = share["percentage"].as_f64().map_or_else(String::new, |share| format!("{share:.1}"));
            let mut cells = vec![word.to_owned()];
            cells.extend(["name", "events", "amount"].map(|name| show::field(share, name)));
            cells.push(percentage);
            show::row(&mut table, cells);
            any = true;
        }
    }
    if any { format!("\n{}", show::draw(table)) } else { String::new() }
}

fn holds(json: &Value, unit: &str) -> String {
    let holds = json["holds"].as_array().map_or(&[][..], Vec::as_slice);
    if holds.is_empty() {
        let held = show::field(&json["denial"]["denied_by"], "held");
        let known = if held == "0" { "Nothing was held." } else { "Which reservations held it is not known any more." };
        return format!("\n\n{known}");
    }
    let mut table = show::table(&["reservation", unit, "since", "lapses at"]);
    for hold in holds {
        let cells = ["reservation_id", "amount", "granted_at", "expires_at"].map(|name| show::field(hold, name));
        show::row(&mut table, cells.to_vec());
    }
    format!("\n\nHeld then\n{}", show::draw(table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_reads_like_an_answer() {
        let json = json!({
            "tenant_id": "acme",
            "denial": {
                "decision_id": null, "request_id": "req-7", "at": "2026-11-24T14:03:00Z", "observed": false, "denials": 12,
                "denied_by": {
                    "quota_type": "tokens", "window": "day", "limit": 10000, "used": 9950, "held": 0, "remaining": 50,
                    "asked": 200, "resets_at": "2026-11-25T00:00:00Z",
                },
            },
            "usage": {
                "from": "2026-11-24T00:00:00Z", "events": 3, "amount": 9950, "complete": true,
                "event_types": [{"name": "api_call", "events": 3, "amount": 9950, "percentage": 100.0}],
                "models": [{"name": null, "events": 3, "amount": 9950, "percentage": 100.0}],
                "sessions": [],
            },
            "holds": [],
            "others": [],
        });
        let text = told(&json);
        for part in [
            "acme was denied at 2026-11-24T14:03:00Z\n  request req-7",
            "The record stands for 12 denials.",
            "What had used it since 2026-11-24T00:00:00Z: 9,950 tokens by 3 events",
            "Nothing was held.",
        ] {
            assert!(text.contains(part), "{part:?} in:\n{text}");
        }
    }
}
