//! What the fields of each API's usage mean.

use serde_json::{Map, Value};

use super::fields::{count, list, object, sum};
use super::{Api, ExtractError};
use crate::domain::usage::UsageCounts;

type Object = Map<String, Value>;

/// Reads the counts of one API, and the total that the provider gives.
pub(super) fn read(api: Api, usage: &Object) -> Result<(UsageCounts, Option<u64>), ExtractError> {
    let (counts, total) = match api {
        Api::OpenAiChat | Api::XaiChat | Api::PerplexityChat => (chat(api, usage)?, "total_tokens"),
        Api::OpenAiEmbeddings => (embeddings(usage)?, "total_tokens"),
        Api::OpenAiResponses => (responses(usage)?, "total_tokens"),
        Api::OpenAiImages => (images(usage)?, "total_tokens"),
        Api::OpenAiRealtime => (realtime(usage)?, "total_tokens"),
        Api::AnthropicMessages => (anthropic(usage)?, "total_tokens"),
        Api::GoogleGenerate => (google(usage)?, "totalTokenCount"),
        Api::CohereBilled | Api::CohereEmbed => (cohere_billed(api, usage)?, "total_tokens"),
        Api::CohereTokens => (cohere_tokens(usage)?, "total_tokens"),
        Api::BedrockConverse => (bedrock(usage)?, "totalTokens"),
    };
    Ok((counts, count(usage, "", total)?))
}

fn required(api: Api, usage: &Object, field: &'static str) -> Result<Option<u64>, ExtractError> {
    match count(usage, "", field)? {
        Some(count) => Ok(Some(count)),
        None => Err(ExtractError::Missing { api: api.name(), field }),
    }
}

/// A count inside a `..._details` object.
fn detail(details: Option<&Object>, path: &str, field: &str) -> Result<Option<u64>, ExtractError> {
    details.map_or(Ok(None), |details| count(details, path, field))
}

fn chat(api: Api, usage: &Object) -> Result<UsageCounts, ExtractError> {
    let sent = object(usage, "prompt_tokens_details")?;
    let made = object(usage, "completion_tokens_details")?;
    let of_sent = |field| detail(sent, "prompt_tokens_details.", field);
    let of_made = |field| detail(made, "completion_tokens_details.", field);
    let plain = |field| count(usage, "", field);
    // DeepSeek, Moonshot and an older xAI name the cached part otherwise; where two are given they are the same tokens.
    let cached = of_sent("cached_tokens")?
        .or(plain("prompt_cache_hit_tokens")?)
        .or(plain("cached_tokens")?)
        .or(plain("cached_prompt_text_tokens")?);
    let completion = required(api, usage, "completion_tokens")?;
    let reasoning = of_made("reasoning_tokens")?.or(plain("reasoning_tokens")?);
    let (output, citations) = match api {
        Api::XaiChat => (sum([completion, reasoning]), None),
        Api::PerplexityChat => {
            let citations = plain("citation_tokens")?;
            (sum([completion, reasoning, citations]), citations)
        }
        _ => (completion, None),
    };
    Ok(UsageCounts {
        input_tokens: required(api, usage, "prompt_tokens")?,
        cached_input_tokens: cached,
        cache_write_tokens: of_sent("cache_write_tokens")?,
        audio_input_tokens: of_sent("audio_tokens")?,
        output_tokens: output,
        reasoning_tokens: reasoning,
        audio_output_tokens: of_made("audio_tokens")?,
        citation_tokens: citations,
        web_searches: if api == Api::PerplexityChat { plain("num_search_queries")? } else { None },
        ..UsageCounts::default()
    })
}

fn embeddings(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let input = required(Api::OpenAiEmbeddings, usage, "prompt_tokens")?;
    Ok(UsageCounts { input_tokens: input, embedding_tokens: input, ..UsageCounts::default() })
}

fn responses(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let api = Api::OpenAiResponses;
    let sent = object(usage, "input_tokens_details")?;
    let made = object(usage, "output_tokens_details")?;
    Ok(UsageCounts {
        input_tokens: required(api, usage, "input_tokens")?,
        cached_input_tokens: detail(sent, "input_tokens_details.", "cached_tokens")?,
        cache_write_tokens: detail(sent, "input_tokens_details.", "cache_write_tokens")?,
        output_tokens: required(api, usage, "output_tokens")?,
        reasoning_tokens: detail(made, "output_tokens_details.", "reasoning_tokens")?,
        ..UsageCounts::default()
    })
}

fn images(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let api = Api::OpenAiImages;
    let sent = object(usage, "input_tokens_details")?;
    let made = object(usage, "output_tokens_details")?;
    Ok(UsageCounts {
        input_tokens: required(api, usage, "input_tokens")?,
        image_input_tokens: detail(sent, "input_tokens_details.", "image_tokens")?,
        output_tokens: required(api, usage, "output_tokens")?,
        image_output_tokens: detail(made, "output_tokens_details.", "image_tokens")?,
        ..UsageCounts::default()
    })
}

fn realtime(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let api = Api::OpenAiRealtime;
    let sent = object(usage, "input_token_details")?;
    let made = object(usage, "output_token_details")?;
    let cached = sent.map_or(Ok(None), |sent| object(sent, "cached_tokens_details"))?;
    let of_sent = |field| detail(sent, "input_token_details.", field);
    let of_cached = |field| detail(cached, "input_token_details.cached_tokens_details.", field);
    Ok(UsageCounts {
        input_tokens: required(api, usage, "input_tokens")?,
        cached_input_tokens: of_sent("cached_tokens")?,
        audio_input_tokens: of_sent("audio_tokens")?,
        cached_audio_tokens: of_cached("audio_tokens")?,
        image_input_tokens: of_sent("image_tokens")?,
        cached_image_tokens: of_cached("image_tokens")?,
        output_tokens: required(api, usage, "output_tokens")?,
        audio_output_tokens: detail(made, "output_token_details.", "audio_tokens")?,
        ..UsageCounts::default()
    })
}

/// Anthropic counts what it read from and wrote to the cache beside `input_tokens`, not in it.
fn anthropic(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let api = Api::AnthropicMessages;
    let by_life = object(usage, "cache_creation")?;
    let life = |field| detail(by_life, "cache_creation.", field);
    let hour = life("ephemeral_1h_input_tokens")?;
    let write = match count(usage, "", "cache_creation_input_tokens")? {
        Some(write) => Some(write),
        None => sum([life("ephemeral_5m_input_tokens")?, hour]),
    };
    let cached = count(usage, "", "cache_read_input_tokens")?;
    let made = object(usage, "output_tokens_details")?;
    let tools = object(usage, "server_tool_use")?;
    Ok(UsageCounts {
        input_tokens: sum([required(api, usage, "input_tokens")?, write, cached]),
        cached_input_tokens: cached,
        cache_write_tokens: write,
        cache_write_1h_tokens: hour,
        output_tokens: required(api, usage, "output_tokens")?,
        reasoning_tokens: detail(made, "output_tokens_details.", "thinking_tokens")?,
        web_searches: detail(tools, "server_tool_use.", "web_search_requests")?,
        ..UsageCounts::default()
    })
}

/// Google counts thoughts beside the candidates, and the results of its tools beside the prompt.
fn google(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let plain = |field| count(usage, "", field);
    let (prompt, tool) = (plain("promptTokenCount")?, plain("toolUsePromptTokenCount")?);
    let (candidates, thoughts) = (plain("candidatesTokenCount")?, plain("thoughtsTokenCount")?);
    if [prompt, tool, candidates, thoughts].iter().all(Option::is_none) {
        return Err(ExtractError::Missing { api: Api::GoogleGenerate.name(), field: "promptTokenCount" });
    }
    let sent = media(usage, &["promptTokensDetails", "toolUsePromptTokensDetails"])?;
    let cached = media(usage, &["cacheTokensDetails"])?;
    let made = media(usage, &["candidatesTokensDetails"])?;
    Ok(UsageCounts {
        input_tokens: sum([prompt, tool]),
        cached_input_tokens: plain("cachedContentTokenCount")?,
        audio_input_tokens: sent.audio,
        cached_audio_tokens: cached.audio,
        image_input_tokens: sent.image,
        cached_image_tokens: cached.image,
        video_input_tokens: sent.video,
        cached_video_tokens: cached.video,
        tool_input_tokens: tool,
        output_tokens: sum([candidates, thoughts]),
        reasoning_tokens: thoughts,
        audio_output_tokens: made.audio,
        image_output_tokens: made.image,
        video_output_tokens: made.video,
        ..UsageCounts::default()
    })
}

#[derive(Default)]
struct Media {
    audio: Option<u64>,
    image: Option<u64>,
    video: Option<u64>,
}

/// The tokens of each medium in Google's lists; text is what remains. A medium is a word, or its number in the protocol.
fn media(usage: &Object, fields: &[&'static str]) -> Result<Media, ExtractError> {
    let mut media = Media::default();
    for field in fields {
        for entry in list(usage, field)? {
            let wrong = |reason| ExtractError::Field { field: (*field).to_owned(), reason };
            let Value::Object(entry) = entry else { return Err(wrong("is not a list of objects")) };
            let tokens = count(entry, &format!("{field}.tokenCount: "), "tokenCount")?;
            let medium = match entry.get("modality") {
                Some(Value::String(name)) => name.as_str(),
                Some(Value::Number(number)) => match number.as_u64() {
                    Some(0 | 1) => "TEXT",
                    Some(2) => "IMAGE",
                    Some(3) => "VIDEO",
                    Some(4) => "AUDIO",
                    Some(5) => "DOCUMENT",
                    _ => return Err(wrong("has a modality that is not known")),
                },
                _ => return Err(wrong("has an entry without a modality")),
            };
            let slot = match medium {
                "AUDIO" => &mut media.audio,
                "IMAGE" | "DOCUMENT" => &mut media.image,
                "VIDEO" => &mut media.video,
                // Text, and media that nobody prices apart.
                _ => continue,
            };
            *slot = sum([*slot, tokens]);
        }
    }
    Ok(media)
}

fn cohere_billed(api: Api, usage: &Object) -> Result<UsageCounts, ExtractError> {
    // `usage` and `meta` hold the billed units; they may also be given by themselves.
    let billed = object(usage, "billed_units")?.unwrap_or(usage);
    let input = count(billed, "billed_units.", "input_tokens")?;
    let output = count(billed, "billed_units.", "output_tokens")?;
    let searches = count(billed, "billed_units.", "search_units")?;
    if [input, output, searches].iter().all(Option::is_none) {
        return Err(ExtractError::Missing { api: api.name(), field: "billed_units.input_tokens" });
    }
    let embedded = api == Api::CohereEmbed || (output.is_none() && searches.is_none());
    Ok(UsageCounts {
        input_tokens: input,
        embedding_tokens: input.filter(|_| embedded),
        output_tokens: output,
        requests: searches,
        ..UsageCounts::default()
    })
}

fn cohere_tokens(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let tokens = object(usage, "tokens")?;
    let of = |field| detail(tokens, "tokens.", field);
    let (input, output) = (of("input_tokens")?, of("output_tokens")?);
    if input.is_none() && output.is_none() {
        return Err(ExtractError::Missing { api: Api::CohereTokens.name(), field: "tokens.input_tokens" });
    }
    Ok(UsageCounts {
        input_tokens: input,
        cached_input_tokens: count(usage, "", "cached_tokens")?,
        output_tokens: output,
        ..UsageCounts::default()
    })
}

/// Bedrock counts the cache beside `inputTokens`, not in it.
fn bedrock(usage: &Object) -> Result<UsageCounts, ExtractError> {
    let api = Api::BedrockConverse;
    // Nova names them otherwise; where both are given they are the same tokens.
    let of = |field| count(usage, "", field);
    let cached = of("cacheReadInputTokens")?.or(of("cacheReadInputTokenCount")?);
    let write = of("cacheWriteInputTokens")?.or(of("cacheWriteInputTokenCount")?);
    let mut hour = None;
    for entry in list(usage, "cacheDetails")? {
        if let Some(entry) = entry.as_object().filter(|entry| entry.get("ttl").and_then(Value::as_str) == Some("1h")) {
            hour = sum([hour, count(entry, "cacheDetails.", "inputTokens")?]);
        }
    }
    Ok(UsageCounts {
        input_tokens: sum([required(api, usage, "inputTokens")?, cached, write]),
        cached_input_tokens: cached,
        cache_write_tokens: write,
        cache_write_1h_tokens: hour,
        output_tokens: required(api, usage, "outputTokens")?,
        ..UsageCounts::default()
    })
}
