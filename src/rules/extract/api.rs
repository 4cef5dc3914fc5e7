//! The APIs whose usage can be read, and how one is told from another.

use serde_json::{Map, Value};

use super::ExtractError;

/// A way in which usage is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI's chat and text completions, and everybody who speaks like them (Mistral, Groq, DeepSeek, Azure, ...).
    OpenAiChat,
    /// OpenAI's responses.
    OpenAiResponses,
    /// OpenAI's embeddings.
    OpenAiEmbeddings,
    /// OpenAI's pictures.
    OpenAiImages,
    /// OpenAI's realtime sessions and transcriptions.
    OpenAiRealtime,
    /// Anthropic's messages, also at Bedrock, Vertex and Azure.
    AnthropicMessages,
    /// Google's generateContent.
    GoogleGenerate,
    /// Cohere, as billed.
    CohereBilled,
    /// Cohere, as counted.
    CohereTokens,
    /// Cohere's embeddings.
    CohereEmbed,
    /// Bedrock's converse.
    BedrockConverse,
    /// xAI's chat: its reasoning is not in `completion_tokens`.
    XaiChat,
    /// Perplexity's chat: its reasoning and its citations are not in `completion_tokens`.
    PerplexityChat,
}

impl Api {
    /// Every API.
    pub const ALL: [Self; 13] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::OpenAiEmbeddings,
        Self::OpenAiImages,
        Self::OpenAiRealtime,
        Self::AnthropicMessages,
        Self::GoogleGenerate,
        Self::CohereBilled,
        Self::CohereTokens,
        Self::CohereEmbed,
        Self::BedrockConverse,
        Self::XaiChat,
        Self::PerplexityChat,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::OpenAiEmbeddings => "openai-embeddings",
            Self::OpenAiImages => "openai-images",
            Self::OpenAiRealtime => "openai-realtime",
            Self::AnthropicMessages => "anthropic-messages",
            Self::GoogleGenerate => "google-generate",
            Self::CohereBilled => "cohere-billed",
            Self::CohereTokens => "cohere-tokens",
            Self::CohereEmbed => "cohere-embed",
            Self::BedrockConverse => "bedrock-converse",
            Self::XaiChat => "xai-chat",
            Self::PerplexityChat => "perplexity-chat",
        }
    }

    /// By its name, or by the flavor of a provider as genai-prices calls it (`chat`, `responses`, `anthropic`, `default`).
    pub fn named(provider: &str, name: &str) -> Result<Self, ExtractError> {
        if let Some(api) = Self::ALL.into_iter().find(|api| api.name() == name) {
            return Ok(api);
        }
        let provider = provider.trim().to_lowercase();
        let is = |part: &str| provider.contains(part);
        let api = match name {
            "chat" => Some(Self::chat_of(&provider)),
            "responses" => Some(Self::OpenAiResponses),
            "embeddings" if is("cohere") => Some(Self::CohereEmbed),
            "embeddings" => Some(Self::OpenAiEmbeddings),
            "images" => Some(Self::OpenAiImages),
            "realtime" => Some(Self::OpenAiRealtime),
            "anthropic" => Some(Self::AnthropicMessages),
            "tokens" if is("cohere") => Some(Self::CohereTokens),
            "default" if is("anthropic") || is("minimax") => Some(Self::AnthropicMessages),
            "default" if is("aws") || is("bedrock") => Some(Self::BedrockConverse),
            "default" if is("cohere") => Some(Self::CohereBilled),
            "default" if is("google") || is("vertex") || is("gemini") => Some(Self::GoogleGenerate),
            "default" if is("groq") || is("mistral") || is_xai(&provider) || is("perplexity") => {
                Some(Self::chat_of(&provider))
            }
            _ => None,
        };
        api.ok_or_else(|| ExtractError::UnknownApi(format!("{provider} {name}").chars().take(128).collect()))
    }

    fn chat_of(provider: &str) -> Self {
        if is_xai(provider) {
            Self::XaiChat
        } else if provider.contains("perplexity") {
            Self::PerplexityChat
        } else {
            Self::OpenAiChat
        }
    }

    /// The API that answers with usage of this shape.
    pub(super) fn of_shape(provider: Option<&str>, usage: &Map<String, Value>) -> Result<Self, ExtractError> {
        let has = |field: &str| usage.get(field).is_some_and(|value| !value.is_null());
        let any = |fields: &[&str]| fields.iter().any(|field| has(field));
        let provider = provider.unwrap_or_default().trim().to_lowercase();
        let mut found = Vec::with_capacity(2);
        if any(&["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"]) {
            found.push(Self::GoogleGenerate);
        }
        if has("inputTokens") && has("outputTokens") {
            found.push(Self::BedrockConverse);
        }
        if has("billed_units") {
            found.push(Self::CohereBilled);
        } else if usage.get("tokens").is_some_and(Value::is_object) {
            found.push(Self::CohereTokens);
        }
        if has("prompt_tokens") {
            let chat = has("completion_tokens");
            found.push(if chat { Self::chat_of(&provider) } else { Self::OpenAiEmbeddings });
        }
        if has("input_tokens") {
            let anthropic =
                any(&["cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use"]);
            let details = usage.get("input_tokens_details").filter(|details| details.is_object());
            if anthropic {
                found.push(Self::AnthropicMessages);
            }
            if details.is_some_and(|details| !details["image_tokens"].is_null()) {
                found.push(Self::OpenAiImages);
            } else if details.is_some() {
                found.push(Self::OpenAiResponses);
            } else if usage.get("input_token_details").is_some_and(Value::is_object) {
                found.push(Self::OpenAiRealtime);
            } else if !anthropic && has("output_tokens") {
                // Bare input and output mean the same to all who send them.
                found.push(match provider.as_str() {
                    name if name.contains("anthropic") => Self::AnthropicMessages,
                    name if name.contains("cohere") => Self::CohereBilled,
                    _ => Self::OpenAiResponses,
                });
            }
        }
        match found.as_slice() {
            [api] => Ok(*api),
            [one, other, ..] => Err(ExtractError::Ambiguous(one.name(), other.name())),
            [] => {
                let fields: Vec<&str> = usage.keys().take(8).map(|key| key.get(..40).unwrap_or(key.as_str())).collect();
                let fields = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
                Err(ExtractError::UnknownShape(fields.chars().take(300).collect()))
            }
        }
    }
}

fn is_xai(provider: &str) -> bool {
    matches!(provider, "xai" | "x-ai" | "x_ai")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(provider: Option<&str>, usage: &str) -> Result<Api, ExtractError> {
        Api::of_shape(provider, serde_json::from_str::<Value>(usage).unwrap().as_object().unwrap())
    }

    #[test]
    fn every_api_is_known_by_its_shape() {
        for (usage, api) in [
            (r#"{"prompt_tokens":1,"completion_tokens":2}"#, Api::OpenAiChat),
            (r#"{"prompt_tokens":1,"total_tokens":1}"#, Api::OpenAiEmbeddings),
            (
                r#"{"input_tokens":1,"input_tokens_details":{"cached_tokens":0},"output_tokens":2}"#,
                Api::OpenAiResponses,
            ),
            (r#"{"input_tokens":1,"cache_read_input_tokens":0,"output_tokens":2}"#, Api::AnthropicMessages),
            (r#"{"input_tokens":1,"input_tokens_details":{"image_tokens":0},"output_tokens":2}"#, Api::OpenAiImages),
            (r#"{"input_tokens":1,"input_token_details":{},"output_tokens":2}"#, Api::OpenAiRealtime),
            (r#"{"promptTokenCount":1}"#, Api::GoogleGenerate),
            (r#"{"inputTokens":1,"outputTokens":2}"#, Api::BedrockConverse),
            (r#"{"billed_units":{"input_tokens":1}}"#, Api::CohereBilled),
            (r#"{"tokens":{"input_tokens":1}}"#, Api::CohereTokens),
        ] {
            assert_eq!(shape(None, usage), Ok(api), "{usage}");
        }
        assert_eq!(shape(Some("x-ai"), r#"{"prompt_tokens":1,"completion_tokens":2}"#), Ok(Api::XaiChat));
    }

    #[test]
    fn a_shape_that_is_not_known_or_not_clear_is_refused() {
        let unknown = shape(None, r#"{"tokens_in":1,"tokens_out":2}"#).unwrap_err().to_string();
        assert_eq!(unknown, "usage of a shape that is not known: it has the fields tokens_in, tokens_out");
        for unclear in [
            r#"{"prompt_tokens":1,"completion_tokens":2,"input_tokens":3,"output_tokens":4}"#,
            r#"{"input_tokens":1,"input_tokens_details":{},"cache_read_input_tokens":5,"output_tokens":2}"#,
        ] {
            assert!(matches!(shape(None, unclear), Err(ExtractError::Ambiguous(..))), "{unclear}");
        }
        assert!(shape(None, "{}").is_err());
        assert!(matches!(Api::named("openai", "telepathy"), Err(ExtractError::UnknownApi(_))));
    }
}
