//! The endpoints of the door, and what each means for metering.

use crate::domain::event::event_types;
use crate::domain::quota::QuotaType;
use crate::rules::extract::Api;

/// An endpoint that calls are forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
}

impl Endpoint {
    /// Its path at the door.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// What follows an upstream's base URL.
    pub(super) const fn upstream_path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Responses => "/responses",
            Self::Embeddings => "/embeddings",
        }
    }

    /// The event that a call is recorded as. A chat completion and a response are a chat message that was sent (POST), so
    /// that `chat_messages_sent` and the quota of chat messages count them.
    pub(super) const fn event_type(self) -> &'static str {
        match self {
            Self::ChatCompletions | Self::Responses => event_types::CHAT_MESSAGE,
            Self::Embeddings => event_types::EMBEDDING,
        }
    }

    /// What one call takes one of, besides an api_call.
    pub(super) const fn quota_type(self) -> QuotaType {
        match self {
            Self::ChatCompletions | Self::Responses => QuotaType::ChatMessages,
            Self::Embeddings => QuotaType::Embeddings,
        }
    }

    /// How an answer's usage is read.
    pub(super) fn api(self, provider: &str) -> Api {
        let default = match self {
            Self::ChatCompletions => ("chat", Api::OpenAiChat),
            Self::Responses => ("responses", Api::OpenAiResponses),
            Self::Embeddings => return Api::OpenAiEmbeddings,
        };
        Api::named(provider, default.0).unwrap_or(default.1)
    }

    /// Whether its answers can be streamed.
    pub(super) const fn streams(self) -> bool {
        !matches!(self, Self::Embeddings)
    }

    /// Whether usage at the end of a stream must be asked for.
    pub(super) const fn asks_for_usage(self) -> bool {
        matches!(self, Self::ChatCompletions)
    }

    /// The fields that name a maximum of output.
    pub(super) const fn output_fields(self) -> &'static [&'static str] {
        match self {
            Self::ChatCompletions => &["max_completion_tokens", "max_tokens"],
            Self::Responses => &["max_output_tokens"],
            Self::Embeddings => &[],
        }
    }

    /// The field that the door's own cap is sent in. OpenAI's newer models know only the first name, others only the older.
    pub(super) fn cap_field(self, provider: &str) -> Option<&'static str> {
        match self {
            Self::ChatCompletions if knows_all_caps(provider) => Some("max_completion_tokens"),
            Self::ChatCompletions => Some("max_tokens"),
            Self::Responses => Some("max_output_tokens"),
            Self::Embeddings => None,
        }
    }

    /// The field in which the caller's own maximum is sent as well: the only one that the upstream is known to heed.
    pub(super) fn heeded_cap_field(self, provider: &str) -> Option<&'static str> {
        self.cap_field(provider).filter(|_| !knows_all_caps(provider))
    }

    /// The least cap that upstreams take.
    pub(super) const fn cap_min(self) -> u64 {
        match self {
            Self::Responses => 16,
            _ => 1,
        }
    }
}

/// Whether the provider heeds each of the fields that name a maximum; it refuses two of them at once.
fn knows_all_caps(provider: &str) -> bool {
    ["openai", "azure"].iter().any(|name| provider.starts_with(name))
}
