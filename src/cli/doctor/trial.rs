//! A tenant of the doctor's own: a reserve, a denial, a settle and an audit record, from end to end.

use serde_json::{Value, json};

use super::Finding;
use crate::cli::backend::{Answer, Backend};
use crate::cli::failure::Failure;
use crate::ids;

/// The tenant. On a real store its tombstone and its audit records stay.
const TENANT: &str = "metergate-doctor";
/// The room its limit leaves, and what is taken of it.
const ROOM: u64 = 1_000;
const TAKEN: u64 = 600;
const USED: u64 = 500;

/// Tries all of it; `place` says where.
pub fn on(backend: &Backend, place: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(failure) = steps(backend, place, &mut findings) {
        findings.push(Finding::fail("trial", failure.message, "look at the log, and `metergate help runbook`"));
    }
    // What is used up today stays used: a tombstone keeps it out of the way.
    let path = format!("/api/admin/tenants/{TENANT}");
    if let Err(failure) = backend.call("DELETE", &path, &[], None).and_then(Answer::or_failure) {
        findings.push(Finding::warn("trial", failure.message, format!("metergate tenants delete {TENANT}")));
    }
    findings
}

fn steps(backend: &Backend, place: &str, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    backend.send_json("PUT", &format!("/api/admin/tenants/{TENANT}"), &json!({ "name": "metergate doctor" }))?;
    let before = tokens(backend)?;
    let limit = json!({ "limit": before + ROOM, "reason": "metergate doctor" });
    backend.send_json("PUT", &format!("/api/admin/tenants/{TENANT}/quotas/tokens"), &limit)?;

    let random: [u8; 8] = ids::random_bytes();
    let id = random.iter().fold("doctor-".to_owned(), |id, byte| id + &format!("{byte:02x}"));
    let reserve = |amount: u64, id: &str| {
        let items = json!([{ "quota_type": "tokens", "amount": amount }]);
        post(backend, "/api/quota/reserve", &json!({ "tenant_id": TENANT, "reservation_id": id, "items": items }))
    };
    let granted = reserve(TAKEN, &id)?;
    findings.push(told("reserve", granted.status == 200, format!("{TAKEN} of {ROOM} tokens, on {place}"), &granted));
    let denied = reserve(TAKEN, &format!("{id}-more"))?;
    let is_denied = denied.status == 429 && denied.json["code"] == "quota_exceeded";
    findings.push(told("deny", is_denied, format!("{TAKEN} more are denied"), &denied));

    let event = json!({ "tenant_id": TENANT, "event_type": "api_call", "tokens_consumed": USED });
    let settled = post(backend, &format!("/api/quota/reservations/{id}/settle"), &json!({ "events": [event] }))?;
    let used = tokens(backend)?.checked_sub(before);
    let is_settled = settled.status == 200 && used == Some(USED);
    findings.push(told("settle", is_settled, format!("{USED} tokens recorded, the rest given back"), &settled));

    let query = [("tenant_id", TENANT.to_owned()), ("limit", "10".to_owned())];
    let written = backend.get("/api/audit/events", &query)?;
    let records = written.json["events"].as_array().map_or(0, Vec::len);
    findings.push(told("audit", records > 0, format!("{records} records of what was changed"), &written));
    Ok(())
}

/// Without leave to write: a check, which changes nothing and registers nobody.
pub fn check_only(backend: &Backend) -> Vec<Finding> {
    let asked = post(backend, "/api/quota/check", &json!({ "tenant_id": TENANT, "quota_type": "tokens", "amount": 1 }));
    vec![match asked {
        // A server that knows no unknown tenants, or that denies, has decided all the same.
        Ok(answer) if [200, 404, 429].contains(&answer.status) => {
            Finding::ok("check", "the server decides; --on-the-store tries the rest")
        }
        Ok(answer) => Finding::fail("check", answer.failure().message, "look at the server's log"),
        Err(failure) => Finding::fail("check", failure.message, "look at the server's log"),
    }]
}

fn post(backend: &Backend, path: &str, body: &Value) -> Result<Answer, Failure> {
    backend.call("POST", path, &[], Some(("application/json", body.to_string().into_bytes())))
}

/// What the tenant has used and holds today.
fn tokens(backend: &Backend) -> Result<u64, Failure> {
    let status = backend.get(&format!("/api/quota/{TENANT}"), &[])?;
    let limits = status.json["limits"].as_array().map_or(&[][..], Vec::as_slice);
    let daily = limits.iter().find(|limit| limit["quota_type"] == "tokens" && limit["window"] == "day");
    let daily = daily.unwrap_or(&status.json["quotas"]["tokens"]);
    Ok(daily["used"].as_u64().unwrap_or_default() + daily["held"].as_u64().unwrap_or_default())
}

fn told(what: &'static str, as_expected: bool, detail: String, answer: &Answer) -> Finding {
    if as_expected {
        return Finding::ok(what, detail);
    }
    let said: String = answer.text.chars().take(200).collect();
    Finding::fail(what, format!("not as expected: {} {said}", answer.status), "look at the log, and report it")
}
