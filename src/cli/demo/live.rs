//! The demonstration's caller: sets tenants up, fills in the last days, then calls at a steady rate until it is told to stop.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};

use super::random::Random;
use super::tenants::TENANTS;
use super::traffic::{Call, day, next_tenant};
use crate::cli::backend::{Answer, Backend, segment};
use crate::cli::failure::Failure;
use crate::domain::time::Timestamp;

/// Whole days before today that are filled in.
const DAYS_BACK: u32 = 7;
/// Events of one request.
const BATCH: usize = 2_000;
/// The longest that one request to the demonstration's own server is thought to hold, in seconds.
const HOLD_SECONDS: u64 = 60;
/// Below the calls a minute of every shipped plan.
const FIRST_CALLS: usize = 20;
/// One of so many live calls leaves an audit record of its own.
const AUDITED_EVERY: u64 = 4;

/// What the caller does.
pub struct Caller {
    /// The demonstration's server.
    pub backend: Backend,
    /// Decides everything but the times.
    pub seed: u64,
    /// Between two live calls.
    pub pause: Duration,
}

impl Caller {
    /// Registers the tenants, with the audit records of their beginnings.
    pub fn set_up(&self) -> Result<(), Failure> {
        let mut audit = Vec::new();
        for tenant in &TENANTS {
            let path = format!("/api/admin/tenants/{}", segment(tenant.id));
            let body = json!({"name": tenant.name, "plan": tenant.plan, "labels": {"demo": "yes"}});
            self.backend.send_json("PUT", &path, &body)?;
            if let Some(limit) = tenant.tokens_per_day {
                let body = json!({"limit": limit, "reason": "demo: a limit that is soon reached"});
                self.backend.send_json("PUT", &format!("{path}/quotas/tokens"), &body)?;
            }
            audit.push(record(tenant.id, "kb_uploaded", "knowledge_base", "create", "handbook.pdf was uploaded"));
        }
        audit.push(record("acme", "trial_upgraded", "trial", "update", "Plan upgraded from trial to pro"));
        self.backend.send_json("POST", "/api/audit/events", &Value::Array(audit)).map(|_| ())
    }

    /// Records the last days and today up to `now`; a second time adds nothing. Gives how many events were new.
    pub fn fill_in(&self, now: Timestamp) -> Result<u64, Failure> {
        let mut accepted = 0;
        for date in now.day().saturating_sub(DAYS_BACK)..=now.day() {
            for batch in day(self.seed, date, now).chunks(BATCH) {
                let answer = self.backend.send_json("POST", "/api/usage/events", &batch.into())?;
                accepted += answer.json["accepted"].as_u64().unwrap_or(0);
            }
        }
        Ok(accepted)
    }

    /// Calls for the tenants with a low limit of their own until it is reached, so that alerts and denials are there at once.
    pub fn reach_limits(&self) -> Result<(), Failure> {
        let mut random = Random::new(&[self.seed, u64::MAX - 1]);
        for tenant in TENANTS.iter().filter(|tenant| tenant.tokens_per_day.is_some()) {
            (0..FIRST_CALLS).try_for_each(|_| self.one(&Call::next(tenant, &mut random)))?;
        }
        Ok(())
    }

    /// Calls until `stop` says so, or its other end is gone; a server that is gone ends it too.
    pub fn call_until(&self, stop: &Receiver<()>) -> Result<(), Failure> {
        let mut random = Random::new(&[self.seed, u64::MAX]);
        loop {
            let tenant = next_tenant(&mut random);
            let call = Call::next(tenant, &mut random);
            self.one(&call)?;
            if random.below(AUDITED_EVERY) == 0 {
                self.audit(&call)?;
            }
            match stop.recv_timeout(self.pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// One call as a careful platform makes it: reserve, work, settle; what is denied is recorded as rate limited. Other
    /// refusals, as of a tenant that somebody has suspended, end this call only.
    fn one(&self, call: &Call) -> Result<(), Failure> {
        let own = match call.event_type {
            "chat_message" => "chat_messages",
            "embedding" => "embeddings",
            _ => "api_calls",
        };
        let mut items = vec![json!({"quota_type": own, "amount": 1})];
        if call.tokens_in_all() > 0 {
            items.push(json!({"quota_type": "tokens", "amount": call.tokens_in_all()}));
        }
        let body = json!({"tenant_id": call.tenant, "items": items, "ttl_seconds": HOLD_SECONDS});
        let answer = self.post("/api/quota/reserve", &body)?;
        match (answer.status, answer.json["reservation_id"].as_str()) {
            (200, Some(id)) => {
                let events = json!({"events": [call.event(None, None)]});
                self.post(&format!("/api/quota/reservations/{}/settle", segment(id)), &events)?;
            }
            (429, _) => {
                let refused = Call { status: 429, tokens: [0; 3], millis: 2, ..call.clone() };
                self.post("/api/usage/events", &refused.event(None, None))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn audit(&self, call: &Call) -> Result<(), Failure> {
        let entry = match (&call.session, call.status) {
            (_, 400..) => {
                let mut entry = record(call.tenant, "api_error", "api_endpoint", "error", "a call failed");
                entry["result"] = "failure".into();
                entry["error_message"] = format!("status {}", call.status).into();
                entry
            }
            (Some(session), _) => {
                let mut entry = record(call.tenant, "chat_session_created", "chat_session", "create", "a chat began");
                entry["entity_id"] = session.as_str().into();
                entry["actor_type"] = "visitor".into();
                entry
            }
            (None, _) => record(call.tenant, "kb_crawled", "crawl_job", "update", "a page was read again"),
        };
        self.post("/api/audit/events", &entry).map(|_| ())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.backend.call("POST", path, &[], Some(("application/json", body.to_string().into_bytes())))
    }
}

fn record(tenant: &str, event_type: &str, entity_type: &str, action: &str, summary: &str) -> Value {
    json!({
        "tenant_id": tenant, "event_type": event_type, "entity_type": entity_type, "action": action,
        "changes_summary": summary,
    })
}
