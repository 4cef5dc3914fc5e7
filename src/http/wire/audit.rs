//! Audit events on the wire.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Fault;
use super::object::{Object, read_array};
use super::scalar::{text, text_or_null};
use crate::audit::AuditReport;
use crate::domain::audit::{AuditEntry, AuditEvent, AuditSubmission, MAX_ENTRIES_PER_SUBMISSION};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;

const INVALID_EVENT: &str = "invalid_event";
const KNOWN: &str = "event_id, tenant_id, event_type, entity_type, entity_id, action, actor_type, actor_id, old_values, \
    new_values, changes_summary, result, error_message, ip_address, user_agent, request_id and occurred_at";

/// One audit event as sent. `event_type`, `entity_type` and `action` are required; `timestamp`, the column's name, is read
/// as `occurred_at`.
pub fn read_audit_event(json: &[u8]) -> Result<AuditSubmission, Fault> {
    let mut object = Object::read_as(json, INVALID_EVENT)?;
    let event_id: Option<Uuid> = object.parsed("event_id")?;
    let occurred_at: Option<Timestamp> = object.parsed("occurred_at")?;
    let entry = AuditEntry {
        tenant_id: object.parsed_as("tenant_id", "invalid_tenant_id")?,
        event_type: object.value("event_type")?.ok_or_else(|| object.missing("event_type"))?,
        entity_type: object.value("entity_type")?.ok_or_else(|| object.missing("entity_type"))?,
        entity_id: object.value("entity_id")?,
        action: object.parsed("action")?.ok_or_else(|| object.missing("action"))?,
        actor_type: object.parsed("actor_type")?.unwrap_or_default(),
        actor_id: object.value("actor_id")?,
        old_values: values(&mut object, "old_values"),
        new_values: values(&mut object, "new_values"),
        changes_summary: object.value("changes_summary")?,
        result: object.parsed("result")?.unwrap_or_default(),
        error_message: object.value("error_message")?,
        ip_address: object.value("ip_address")?,
        user_agent: object.value("user_agent")?,
        request_id: object.value("request_id")?,
        occurred_at: match occurred_at {
            Some(time) => Some(time),
            None => object.parsed("timestamp")?,
        },
        key_id: None,
    };
    object.finish(KNOWN)?;
    entry.validate().map_err(|error| Fault::field(INVALID_EVENT, error.field, error.reason))?;
    Ok(AuditSubmission { event_id, entry })
}

/// A batch, each event on its own.
pub fn read_audit_batch(json: &[u8]) -> Result<Vec<Result<AuditSubmission, Fault>>, Fault> {
    let events = read_array(json, MAX_ENTRIES_PER_SUBMISSION)?;
    Ok(events.into_iter().map(|one| read_audit_event(one.get().as_bytes())).collect())
}

/// JSON of any shape, as it was sent; null counts as absent.
fn values(object: &mut Object<'_>, name: &str) -> Option<String> {
    object.take(name).map(|raw| raw.get().to_owned()).filter(|text| text != "null")
}

/// One audit event as it reads now.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the documented columns")]
pub struct AuditEventJson {
    #[serde(with = "text")]
    pub event_id: Uuid,
    /// Its place in the log, from 0 without gaps.
    pub index: u64,
    #[serde(with = "text_or_null")]
    pub tenant_id: Option<TenantId>,
    pub event_type: String,
    pub entity_type: String,
    pub entity_id: Option<String>,
    pub action: &'static str,
    pub actor_type: &'static str,
    pub actor_id: Option<String>,
    pub old_values: Option<Box<RawValue>>,
    pub new_values: Option<Box<RawValue>>,
    pub changes_summary: Option<String>,
    /// `resolved` once resolved.
    pub result: &'static str,
    /// Once resolved: as it was written.
    pub original_result: Option<&'static str>,
    pub error_message: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    /// When it was recorded, by the server's clock.
    #[serde(with = "text")]
    pub timestamp: Timestamp,
    /// When it happened, by the caller's clock; null: when it was recorded.
    #[serde(with = "text_or_null")]
    pub occurred_at: Option<Timestamp>,
    /// The key that wrote it.
    pub key_id: Option<String>,
    #[serde(with = "text_or_null")]
    pub resolved_at: Option<Timestamp>,
    pub resolution_action: Option<String>,
}

impl From<AuditEvent> for AuditEventJson {
    fn from(event: AuditEvent) -> Self {
        let result = event.result_name();
        let AuditEvent { record, resolution } = event;
        let entry = record.entry;
        // What is stored is JSON: it was read before it was written.
        let raw = |json: Option<String>| json.and_then(|json| RawValue::from_string(json).ok());
        Self {
            event_id: record.event_id,
            index: record.index,
            tenant_id: entry.tenant_id,
            event_type: entry.event_type,
            entity_type: entry.entity_type,
            entity_id: entry.entity_id,
            action: entry.action.name(),
            actor_type: entry.actor_type.name(),
            actor_id: entry.actor_id,
            old_values: raw(entry.old_values),
            new_values: raw(entry.new_values),
            changes_summary: entry.changes_summary,
            result,
            original_result: resolution.is_some().then(|| entry.result.name()),
            error_message: entry.error_message,
            ip_address: entry.ip_address,
            user_agent: entry.user_agent,
            request_id: entry.request_id,
            timestamp: record.timestamp,
            occurred_at: entry.occurred_at,
            key_id: entry.key_id,
            resolved_at: resolution.as_ref().map(|resolution| resolution.resolved_at),
            resolution_action: resolution.map(|resolution| resolution.resolution_action),
        }
    }
}

/// A page of audit events, newest first.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "they say what they are")]
pub struct AuditEventsJson {
    pub events: Vec<AuditEventJson>,
    pub next_cursor: Option<String>,
}

/// One tenant's report.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields of AuditReport")]
pub struct AuditReportJson {
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    #[serde(with = "text")]
    pub from: Timestamp,
    #[serde(with = "text")]
    pub to: Timestamp,
    pub total: u64,
    pub by_type: std::collections::BTreeMap<String, u64>,
    pub by_action: std::collections::BTreeMap<String, u64>,
    pub successes: u64,
    pub failures: u64,
    /// The newest, at most 1,000.
    pub events: Vec<AuditEventJson>,
}

impl From<AuditReport> for AuditReportJson {
    fn from(report: AuditReport) -> Self {
        Self {
            tenant_id: report.tenant_id,
            from: report.from,
            to: report.to,
            total: report.total,
            by_type: report.by_type,
            by_action: report.by_action,
            successes: report.successes,
            failures: report.failures,
            events: report.events.into_iter().map(AuditEventJson::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_whole_and_a_fault_names_its_field() {
        let read = |more: &str| {
            let json = format!(r#"{{"event_type":"kb_uploaded","entity_type":"knowledge_base"{more}}}"#);
            read_audit_event(json.as_bytes()).map_err(|fault| fault.field.unwrap_or_default().into_owned())
        };
        let whole =
            read(r#","action":"create","new_values":{"a":[1]},"old_values":null,"timestamp":"2026-11-24T12:00:00Z""#);
        let whole = whole.unwrap();
        assert_eq!(whole.entry.new_values.as_deref(), Some(r#"{"a":[1]}"#));
        assert_eq!((whole.entry.old_values, whole.event_id), (None, None));
        assert_eq!(whole.entry.occurred_at.unwrap().to_string(), "2026-11-24T12:00:00Z");
        for (more, field) in [
            ("", "action"),
            (r#","action":"destroy""#, "action"),
            (r#","action":"create","event_id":"7""#, "event_id"),
            (r#","action":"create","tenant_id":"a/b""#, "tenant_id"),
            (r#","action":"create","ip_address":"localhost""#, "ip_address"),
            (r#","action":"create","key_id":"forged""#, "key_id"),
            (r#","action":"create","result":"resolved""#, "result"),
            (r#","action":"create","event_type_":"x""#, "event_type_"),
        ] {
            assert_eq!(read(more).unwrap_err(), field, "{more}");
        }
    }
}
