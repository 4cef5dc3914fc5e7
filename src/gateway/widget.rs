//! The chat widget: sessions of visitors, and messages that a configured model answers, through the same door.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Gateway;
use super::call::{Answer, AnswerBody, Call, CallError};
use super::endpoint::Endpoint;
use super::places::NoPlace;
use super::sessions::{Admitted, SessionRefused, Sessions};
use super::widget_stream::WidgetStream;
use crate::audit::{AuditLogger, ChatAudit, ErrorAudit};
use crate::domain::audit::AuditEntry;
use crate::domain::tenant::{TenantId, TenantStatus};
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;
use crate::enforcer::{EnforceError, ReserveOutcome};

/// The route, as audit records name it.
const ROUTE: &str = "/api/widget/chat";

/// What the widget needs to know.
#[derive(Clone, Debug, Default)]
pub struct WidgetSettings {
    /// The origins that may use it; `*` is any.
    pub origins: Vec<String>,
    /// The upstream that answers; `None`: the one that has the model.
    pub upstream: Option<String>,
    /// The model that answers; `None`: the widget is closed.
    pub model: Option<String>,
    /// What the model is told before each message.
    pub system_prompt: Option<String>,
}

/// The widget's own part of the door. Cheap to clone; clones share the sessions.
#[derive(Clone)]
pub struct Widget(Arc<Parts>);

struct Parts {
    gateway: Gateway,
    audit: AuditLogger,
    sessions: Sessions,
    settings: WidgetSettings,
}

/// A message of a visitor.
pub struct ChatMessage {
    /// The session.
    pub session_id: String,
    /// What the visitor says. Never stored.
    pub message: String,
    /// The most characters of the reply.
    pub response_character_limit: Option<usize>,
    /// What the caller answers from; shown where the upstream names no sources.
    pub sources: Vec<Value>,
    /// Whether the reply is streamed.
    pub stream: bool,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The id of the request.
    pub request_id: Option<String>,
}

/// A reply.
pub enum ChatReply {
    /// `{reply, sources, metadata}`
    Whole(Value),
    /// Server-sent events.
    Stream(Box<WidgetStream>),
}

/// Why there is no reply. In the documented order.
#[derive(Debug)]
pub enum ChatRefused {
    /// No model is configured.
    Closed,
    /// The session.
    Session(SessionRefused),
    /// The tenant may do nothing.
    Inactive(TenantStatus),
    /// Too many calls are open.
    Full(NoPlace),
    /// A limit said no.
    Quota(Box<ReserveOutcome>),
    /// The gate could not answer.
    Gate(EnforceError),
    /// The answer could not be made.
    Failed,
}

impl Widget {
    /// A widget in front of a door.
    pub fn new(gateway: Gateway, audit: AuditLogger, settings: WidgetSettings) -> Self {
        Self(Arc::new(Parts { gateway, audit, sessions: Sessions::default(), settings }))
    }

    /// Whether pages of this origin may use it.
    pub fn allows(&self, origin: &str) -> bool {
        self.0.settings.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }

    /// Opens a session: its id, a secret, and when it expires unless it is used. `None` when there are too many.
    pub fn open_session(&self, tenant_id: TenantId, visitor_id: Option<String>) -> Option<(String, Timestamp)> {
        let now = self.0.gateway.0.now();
        let (id, expires_at) = self.0.sessions.create(tenant_id.clone(), visitor_id.clone(), now)?;
        let shown = public_id(&id).to_string();
        self.0.note(ChatAudit::session_created(&tenant_id, &shown, visitor_id.as_deref()));
        Some((id, expires_at))
    }

    /// Answers a message.
    pub async fn chat(&self, message: ChatMessage) -> Result<ChatReply, ChatRefused> {
        let parts = Arc::clone(&self.0);
        let model = parts.settings.model.clone().ok_or(ChatRefused::Closed)?;
        let door = &parts.gateway.0;
        let started = door.now();
        let admitted = parts.sessions.admit(&message.session_id, message.address, started);
        let Admitted { tenant_id, visitor_id } = admitted.map_err(ChatRefused::Session)?;
        match door.enforcer.get_quota_status(&tenant_id) {
            Ok(status) if status.status != TenantStatus::Active => return Err(ChatRefused::Inactive(status.status)),
            // A tenant that nobody has seen yet is registered by its first hold.
            Ok(_) | Err(EnforceError::UnknownTenant(_)) => {}
            Err(error) => return Err(ChatRefused::Gate(error)),
        }
        let place = parts.gateway.place(&tenant_id).map_err(ChatRefused::Full)?;
        let session = public_id(&message.session_id);
        let received = ChatAudit::message_received(
            &tenant_id,
            &session.to_string(),
            visitor_id.as_deref(),
            message.message.chars().count() as u64,
        );
        let noting = Arc::clone(&parts);
        let call = Call {
            endpoint: Endpoint::ChatCompletions,
            tenant_id: tenant_id.clone(),
            place,
            request_id: message.request_id.clone(),
            chat_session_id: Some(session.to_string()),
            upstream: parts.settings.upstream.clone(),
            on_granted: Some(Box::new(move || noting.note(received))),
            headers: HeaderMap::new(),
            body: parts.body(&model, &message).to_string().into(),
        };
        let talk =
            Talk { parts: Arc::clone(&parts), tenant_id, session, started, limit: message.response_character_limit };
        match parts.gateway.call(call).await {
            Ok(answer) if answer.status < 400 => talk.answer(answer, message.sources),
            Ok(answer) => Err(talk.failed(answer.status, "the upstream answered with an error")),
            Err(CallError::Denied(outcome)) => Err(ChatRefused::Quota(outcome)),
            Err(CallError::Refused(EnforceError::Blocked { status, .. })) => Err(ChatRefused::Inactive(status)),
            Err(CallError::Refused(error)) => Err(ChatRefused::Gate(error)),
            Err(error) => Err(talk.failed(502, &error.to_string())),
        }
    }
}

impl Parts {
    /// Writes an audit record; one that cannot be written does not stop a chat.
    fn note(&self, entry: AuditEntry) {
        match self.audit.record(vec![entry.into()]) {
            Ok(pending) => drop(pending),
            Err(error) => tracing::warn!(%error, "an audit record of a chat could not be written"),
        }
    }

    fn body(&self, model: &str, message: &ChatMessage) -> Value {
        let limit = message.response_character_limit.map(|most| format!("Answer in at most {most} characters."));
        let told: Vec<&str> = self.settings.system_prompt.as_deref().into_iter().chain(limit.as_deref()).collect();
        let mut messages = Vec::new();
        if !told.is_empty() {
            messages.push(json!({"role": "system", "content": told.join("\n")}));
        }
        messages.push(json!({"role": "user", "content": message.message}));
        match message.stream {
            true => json!({"model": model, "messages": messages, "stream": true}),
            false => json!({"model": model, "messages": messages}),
        }
    }
}

/// One message that was let in.
pub(super) struct Talk {
    parts: Arc<Parts>,
    tenant_id: TenantId,
    session: Uuid,
    started: Timestamp,
    pub(super) limit: Option<usize>,
}

impl Talk {
    fn answer(self, answer: Answer, sources: Vec<Value>) -> Result<ChatReply, ChatRefused> {
        let bytes = match answer.body {
            AnswerBody::Stream(body) => {
                return Ok(ChatReply::Stream(Box::new(WidgetStream::new(*body, self, sources))));
            }
            AnswerBody::Whole(bytes) => bytes,
        };
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let Some(reply) = body["choices"][0]["message"]["content"].as_str() else {
            return Err(self.failed(502, "the upstream's answer has no text"));
        };
        let reply = first_chars(reply, self.limit.unwrap_or(usize::MAX));
        let metadata = self.sent(&answer.used.unwrap_or_default(), answer.event_id, body["model"].as_str());
        Ok(ChatReply::Whole(
            json!({"reply": reply, "sources": sources_of(&body).unwrap_or(sources), "metadata": metadata}),
        ))
    }

    /// Notes that the response was sent; gives the reply's metadata.
    pub(super) fn sent(&self, used: &UsageCounts, event_id: Uuid, model: Option<&str>) -> Value {
        let took = self.parts.gateway.0.now().micros_since(self.started).max(0) as u64 / 1_000;
        let tokens = used.total_tokens();
        self.parts.note(ChatAudit::response_sent(&self.tenant_id, &self.session.to_string(), tokens, took));
        json!({
            "model": model, "tokens_used": tokens, "input_tokens": used.input_tokens, "output_tokens": used.output_tokens,
            "response_time_ms": took, "event_id": event_id.to_string(),
        })
    }

    /// Notes that there is no answer.
    pub(super) fn failed(&self, status: u16, error: &str) -> ChatRefused {
        self.parts.note(ErrorAudit::api_error(&self.tenant_id, ROUTE, status, error));
        ChatRefused::Failed
    }
}

/// What stands for a session where others read: the id itself opens the chat.
fn public_id(session_id: &str) -> Uuid {
    crate::ids::uuid_of_name(session_id)
}

/// The sources that an upstream names.
pub(super) fn sources_of(body: &Value) -> Option<Vec<Value>> {
    ["sources", "citations", "search_results"].iter().find_map(|name| body[*name].as_array().cloned())
}

/// The first so many characters.
pub(super) fn first_chars(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}
