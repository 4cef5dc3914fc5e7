//! What a client asks for, and the request that asks for it: the same bytes whenever it is asked again.

use serde_json::{Value, json};

use super::support::CRON_SECRET;

const JSON: &str = "content-type: application/json\r\n";

/// What a request is to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Events by id and tokens: one, a batch (one commit), or lines (committed by the thousand).
    Events {
        tenant: String,
        events: Vec<(String, u64)>,
        shape: Shape,
    },
    Reserve {
        tenant: String,
        id: String,
        tokens: u64,
    },
    /// Records one event under the reservation's id.
    Settle {
        tenant: String,
        id: String,
        held: u64,
        tokens: u64,
    },
    Release {
        tenant: String,
        id: String,
        held: u64,
    },
    /// Takes a little for a minute; the next event closes it.
    Enforce {
        tenant: String,
    },
    Audit {
        ids: Vec<String>,
    },
    Resolve {
        id: String,
    },
    /// A limit of the tenant's own, and the id of the request, by which its audit record is found.
    Limit {
        tenant: String,
        limit: u64,
        change: String,
    },
    Aggregate,
    BackUp,
    Verify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    Batch,
    Lines,
    /// One, acknowledged by 202 before it is on disk.
    Queued,
}

pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: String,
    pub body: Vec<u8>,
}

/// The event that a settlement records.
pub fn settled_id(reservation: &str) -> String {
    format!("{reservation}:0")
}

impl Work {
    /// The request. `who` is the client, as audit records name it; `again`: the answer is waited for whatever it was before.
    pub fn request(&self, who: &str, again: bool) -> Request {
        let post = |path: &str, body: &Value| Request {
            method: "POST",
            path: path.to_owned(),
            headers: JSON.to_owned(),
            body: body.to_string().into_bytes(),
        };
        match self {
            Self::Events { tenant, events, shape } => {
                let events = events.iter().map(|(id, tokens)| event(tenant, id, *tokens));
                match shape {
                    Shape::Queued if !again => post("/api/usage/events?ack=queued", &one(events)),
                    Shape::One | Shape::Queued => post("/api/usage/events", &one(events)),
                    Shape::Batch => post("/api/usage/events", &events.collect()),
                    Shape::Lines => Request {
                        headers: "content-type: application/x-ndjson\r\n".to_owned(),
                        body: events.map(|event| format!("{event}\n")).collect::<String>().into_bytes(),
                        ..post("/api/usage/events", &Value::Null)
                    },
                }
            }
            Self::Reserve { tenant, id, tokens } => {
                let items = json!([{"quota_type": "tokens", "amount": tokens}]);
                let body = json!({"tenant_id": tenant, "reservation_id": id, "ttl_seconds": 3_600, "items": items});
                post("/api/quota/reserve", &body)
            }
            Self::Settle { tenant, id, tokens, .. } => {
                let events = json!([{"event_type": "api_call", "tokens_consumed": tokens}]);
                let body = json!({"tenant_id": tenant, "events": events});
                post(&format!("/api/quota/reservations/{id}/settle"), &body)
            }
            Self::Release { tenant, id, .. } => Request {
                method: "DELETE",
                path: format!("/api/quota/reservations/{id}?tenant_id={tenant}"),
                headers: String::new(),
                body: Vec::new(),
            },
            Self::Enforce { tenant } => {
                post("/api/quota/enforce", &json!({"tenant_id": tenant, "quota_type": "tokens", "amount": 1}))
            }
            Self::Audit { ids } => {
                let records = ids.iter().map(|id| {
                    json!({
                        "event_id": id, "event_type": "kills", "entity_type": "client", "entity_id": who,
                        "action": "access", "result": "failure", "error_message": format!("of {id}"),
                    })
                });
                post("/api/audit/events", &records.collect())
            }
            Self::Resolve { id } => {
                post(&format!("/api/audit/events/{id}/resolve"), &json!({"resolution_action": "looked at"}))
            }
            Self::Limit { tenant, limit, change } => Request {
                method: "PUT",
                headers: format!("{JSON}x-request-id: {change}\r\n"),
                ..post(&format!("/api/admin/tenants/{tenant}/quotas/tokens"), &json!({ "limit": limit }))
            },
            Self::Aggregate => Request {
                method: "POST",
                path: "/api/admin/metrics/aggregate".to_owned(),
                headers: format!("x-cron-secret: {CRON_SECRET}\r\n"),
                body: Vec::new(),
            },
            Self::BackUp => {
                Request { headers: String::new(), body: Vec::new(), ..post("/api/admin/backups", &json!(0)) }
            }
            Self::Verify => post("/api/audit/verify", &json!({})),
        }
    }

    /// Whether it must be asked again when no answer came.
    pub fn is_owed(&self) -> bool {
        !matches!(self, Self::Enforce { .. } | Self::Aggregate | Self::BackUp | Self::Verify)
    }
}

fn one(mut events: impl Iterator<Item = Value>) -> Value {
    events.next().unwrap_or_default()
}

/// Some of each kind that is filed differently.
pub fn event(tenant: &str, id: &str, tokens: u64) -> Value {
    let mut event = json!({"tenant_id": tenant, "event_id": id, "event_type": "api_call", "tokens_consumed": tokens});
    match tokens % 4 {
        0 => event["model"] = json!("gpt-4o-mini"),
        1 => event["metadata"] = json!({"tokens": tokens}),
        2 => event["api_status_code"] = json!(200),
        _ => {}
    }
    event
}
