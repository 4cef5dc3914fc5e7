//! The documented builders: entries of known types with their values and summaries, to be written by
//! [`AuditLogger::record`](super::AuditLogger::record).

use serde_json::{Value, json};

use crate::domain::audit::{ActorType, AuditAction, AuditEntry, AuditResult};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;

fn entry(
    tenant_id: &TenantId,
    event_type: &str,
    (entity_type, entity_id): (&str, &str),
    action: AuditAction,
    summary: impl Into<String>,
) -> AuditEntry {
    AuditEntry {
        entity_id: Some(entity_id.to_owned()),
        changes_summary: Some(summary.into()),
        ..AuditEntry::system(Some(tenant_id.clone()), event_type, entity_type, action)
    }
}

fn json_of(value: Value) -> Option<String> {
    Some(value.to_string())
}

/// What happens to a tenant's trial.
pub struct TrialAudit;

impl TrialAudit {
    /// `trial_created`
    pub fn created(tenant_id: &TenantId, plan: &str) -> AuditEntry {
        let entry = Self::of(tenant_id, "trial_created", AuditAction::Create, format!("Trial created on plan {plan}"));
        AuditEntry { new_values: json_of(json!({ "plan": plan })), ..entry }
    }

    /// `trial_upgraded`
    pub fn upgraded(tenant_id: &TenantId, from: &str, to: &str) -> AuditEntry {
        let summary = format!("Plan upgraded from {from} to {to}");
        AuditEntry {
            old_values: json_of(json!({ "plan": from })),
            new_values: json_of(json!({ "plan": to })),
            ..Self::of(tenant_id, "trial_upgraded", AuditAction::Update, summary)
        }
    }

    /// `trial_extended`
    pub fn extended(tenant_id: &TenantId, from: Option<Timestamp>, to: Timestamp) -> AuditEntry {
        AuditEntry {
            old_values: json_of(json!({ "expires_at": from.map(|time| time.to_string()) })),
            new_values: json_of(json!({ "expires_at": to.to_string() })),
            ..Self::of(tenant_id, "trial_extended", AuditAction::Update, format!("Trial extended to {to}"))
        }
    }

    /// `trial_expired`
    pub fn expired(tenant_id: &TenantId) -> AuditEntry {
        Self::ended(tenant_id, "trial_expired", "expired", "Trial expired".to_owned())
    }

    /// `trial_cancelled`
    pub fn cancelled(tenant_id: &TenantId, reason: Option<&str>) -> AuditEntry {
        let summary = reason.map_or("Trial cancelled".to_owned(), |reason| format!("Trial cancelled: {reason}"));
        Self::ended(tenant_id, "trial_cancelled", "cancelled", summary)
    }

    fn ended(tenant_id: &TenantId, event_type: &str, status: &str, summary: String) -> AuditEntry {
        AuditEntry {
            old_values: json_of(json!({ "status": "active" })),
            new_values: json_of(json!({ "status": status })),
            ..Self::of(tenant_id, event_type, AuditAction::Update, summary)
        }
    }

    fn of(tenant_id: &TenantId, event_type: &str, action: AuditAction, summary: String) -> AuditEntry {
        entry(tenant_id, event_type, ("trial", tenant_id.as_str()), action, summary)
    }
}

/// What happens to a knowledge base. The documented name is `KBaudit`.
pub struct KbAudit;

impl KbAudit {
    /// `kb_uploaded`
    pub fn uploaded(tenant_id: &TenantId, kb_id: &str, file_name: &str, bytes: u64) -> AuditEntry {
        let summary = format!("Uploaded {file_name}");
        AuditEntry {
            new_values: json_of(json!({ "file_name": file_name, "bytes": bytes })),
            ..entry(tenant_id, "kb_uploaded", ("knowledge_base", kb_id), AuditAction::Create, summary)
        }
    }

    /// `kb_upload_failed`
    pub fn upload_failed(tenant_id: &TenantId, kb_id: &str, file_name: &str, error: &str) -> AuditEntry {
        let summary = format!("Upload of {file_name} failed");
        AuditEntry {
            new_values: json_of(json!({ "file_name": file_name })),
            result: AuditResult::Failure,
            error_message: Some(error.to_owned()),
            ..entry(tenant_id, "kb_upload_failed", ("knowledge_base", kb_id), AuditAction::Error, summary)
        }
    }

    /// `kb_crawled`; with pages that failed, the result is partial.
    pub fn crawled(tenant_id: &TenantId, crawl_id: &str, url: &str, pages: u64, pages_failed: u64) -> AuditEntry {
        let summary = format!("Crawled {url}: {pages} pages, {pages_failed} failed");
        AuditEntry {
            new_values: json_of(json!({ "url": url, "pages": pages, "pages_failed": pages_failed })),
            result: match (pages, pages_failed) {
                (_, 0) => AuditResult::Success,
                (0, _) => AuditResult::Failure,
                _ => AuditResult::Partial,
            },
            ..entry(tenant_id, "kb_crawled", ("crawl_job", crawl_id), AuditAction::Create, summary)
        }
    }

    /// `kb_manual_added`
    pub fn manual_added(tenant_id: &TenantId, kb_id: &str, title: &str) -> AuditEntry {
        AuditEntry {
            new_values: json_of(json!({ "title": title })),
            ..entry(
                tenant_id,
                "kb_manual_added",
                ("knowledge_base", kb_id),
                AuditAction::Create,
                format!("Added {title}"),
            )
        }
    }

    /// `kb_deleted`
    pub fn deleted(tenant_id: &TenantId, kb_id: &str) -> AuditEntry {
        entry(tenant_id, "kb_deleted", ("knowledge_base", kb_id), AuditAction::Delete, "Knowledge base deleted")
    }
}

/// What happens in a chat. Never what is said in it.
pub struct ChatAudit;

impl ChatAudit {
    /// `chat_session_created`
    pub fn session_created(tenant_id: &TenantId, session_id: &str, visitor_id: Option<&str>) -> AuditEntry {
        let created = ("chat_session_created", AuditAction::Create, "Chat session created");
        Self::of(tenant_id, session_id, created, ActorType::Visitor, visitor_id)
    }

    /// `chat_message_received`
    pub fn message_received(
        tenant_id: &TenantId,
        session_id: &str,
        visitor_id: Option<&str>,
        characters: u64,
    ) -> AuditEntry {
        let received = ("chat_message_received", AuditAction::Access, "Message received");
        AuditEntry {
            new_values: json_of(json!({ "characters": characters })),
            ..Self::of(tenant_id, session_id, received, ActorType::Visitor, visitor_id)
        }
    }

    /// `chat_response_sent`
    pub fn response_sent(tenant_id: &TenantId, session_id: &str, tokens: u64, response_time_ms: u64) -> AuditEntry {
        let sent = ("chat_response_sent", AuditAction::Create, "Response sent");
        AuditEntry {
            new_values: json_of(json!({ "tokens": tokens, "response_time_ms": response_time_ms })),
            ..Self::of(tenant_id, session_id, sent, ActorType::System, None)
        }
    }

    /// `chat_session_ended`
    pub fn session_ended(tenant_id: &TenantId, session_id: &str, messages: u64) -> AuditEntry {
        let ended = ("chat_session_ended", AuditAction::Update, "Chat session ended");
        AuditEntry {
            new_values: json_of(json!({ "messages": messages })),
            ..Self::of(tenant_id, session_id, ended, ActorType::System, None)
        }
    }

    fn of(
        tenant_id: &TenantId,
        session_id: &str,
        (event_type, action, summary): (&str, AuditAction, &str),
        actor_type: ActorType,
        actor_id: Option<&str>,
    ) -> AuditEntry {
        AuditEntry {
            actor_type,
            actor_id: actor_id.map(str::to_owned),
            ..entry(tenant_id, event_type, ("chat_session", session_id), action, summary)
        }
    }
}

/// What an administrator sets up.
pub struct ConfigAudit;

impl ConfigAudit {
    /// `branding_updated`
    pub fn branding_updated(tenant_id: &TenantId, admin: &str, old: &Value, new: &Value) -> AuditEntry {
        let done = ("branding_updated", AuditAction::Update, "Branding updated".to_owned());
        AuditEntry { old_values: json_of(old.clone()), ..Self::of(tenant_id, admin, done, new.clone()) }
    }

    /// `tools_assigned`
    pub fn tools_assigned(tenant_id: &TenantId, admin: &str, tools: &[&str]) -> AuditEntry {
        let done = ("tools_assigned", AuditAction::Update, format!("Tools assigned: {}", tools.join(", ")));
        Self::of(tenant_id, admin, done, json!({ "tools": tools }))
    }

    /// `widget_generated`
    pub fn widget_generated(tenant_id: &TenantId, admin: &str, widget_id: &str) -> AuditEntry {
        let done = ("widget_generated", AuditAction::Create, "Widget generated".to_owned());
        let entry = Self::of(tenant_id, admin, done, json!({ "widget_id": widget_id }));
        AuditEntry { entity_id: Some(widget_id.to_owned()), ..entry }
    }

    fn of(
        tenant_id: &TenantId,
        admin: &str,
        (event_type, action, summary): (&str, AuditAction, String),
        new_values: Value,
    ) -> AuditEntry {
        AuditEntry {
            actor_type: ActorType::Admin,
            actor_id: Some(admin.to_owned()),
            new_values: json_of(new_values),
            ..entry(tenant_id, event_type, ("widget_config", tenant_id.as_str()), action, summary)
        }
    }
}

/// What went wrong.
pub struct ErrorAudit;

impl ErrorAudit {
    /// `api_error`
    pub fn api_error(tenant_id: &TenantId, endpoint: &str, status_code: u16, error: &str) -> AuditEntry {
        let done = ("api_error", format!("{endpoint} answered {status_code}"));
        let values = json!({ "status_code": status_code });
        Self::of(tenant_id, ("api_endpoint", endpoint), done, values, error.to_owned())
    }

    /// `quota_exceeded`
    pub fn quota_exceeded(tenant_id: &TenantId, quota_type: &str, limit: u64, used: u64, asked: u64) -> AuditEntry {
        let exceeded_by = used.saturating_add(asked).saturating_sub(limit);
        let done = ("quota_exceeded", format!("{quota_type} exceeded by {exceeded_by}"));
        let values = json!({ "quota_type": quota_type, "limit": limit, "used": used, "exceeded_by": exceeded_by });
        let error = format!("Quota exceeded: {quota_type}");
        Self::of(tenant_id, ("usage_quota", quota_type), done, values, error)
    }

    /// `security_violation`; the address where it came from, if that is one.
    pub fn security_violation(
        tenant_id: &TenantId,
        endpoint: &str,
        violation: &str,
        ip_address: Option<&str>,
    ) -> AuditEntry {
        let done = ("security_violation", format!("Security violation at {endpoint}"));
        let values = json!({ "violation": violation });
        let entry = Self::of(tenant_id, ("api_endpoint", endpoint), done, values, violation.to_owned());
        AuditEntry { ip_address: ip_address.map(str::to_owned), ..entry }
    }

    fn of(
        tenant_id: &TenantId,
        entity: (&str, &str),
        (event_type, summary): (&str, String),
        new_values: Value,
        error: String,
    ) -> AuditEntry {
        AuditEntry {
            new_values: json_of(new_values),
            result: AuditResult::Failure,
            error_message: Some(error),
            ..entry(tenant_id, event_type, entity, AuditAction::Error, summary)
        }
    }
}
