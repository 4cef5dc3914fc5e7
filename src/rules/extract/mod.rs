//! Reads token counts out of what providers answer: a `usage` object, a whole body, or a stream as it passes.
//!
//! Nothing is guessed. A shape that is not known is refused and named; a count that is not a whole number is refused;
//! parts that are more than their whole are refused ([`UsageCounts::check`]). A total that does not add up changes
//! nothing, since every count that matters has a field of its own; it is kept in [`Extracted::total_given`].

mod api;
mod bedrock_frames;
mod fields;
mod frames;
mod hosted_tools;
mod scan;
mod shapes;
mod stream;

use serde_json::{Map, Value};

pub use api::Api;
pub use stream::UsageStream;

use crate::domain::usage::{PartsExceedWhole, UsageCounts};

/// What a provider says that a call took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// How it was read.
    pub api: Api,
    /// The model that answered, where the body names it.
    pub model: Option<String>,
    /// The counts; their parts fit into their wholes.
    pub counts: UsageCounts,
    /// The provider's own total, where it gives one.
    pub total_given: Option<u64>,
}

impl Extracted {
    /// Whether the provider's total is another than input and output together.
    pub fn total_differs(&self) -> bool {
        self.total_given.is_some_and(|total| total != self.counts.total_tokens())
    }
}

/// Why counts cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// There is no usage in the body.
    #[error("the answer carries no usage")]
    NoUsage,
    /// No known API answers like this.
    #[error("usage of a shape that is not known: it has the fields {0}")]
    UnknownShape(String),
    /// Two APIs answer like this, and mean different things by it.
    #[error("usage that could be {0} or {1}: name the API")]
    Ambiguous(&'static str, &'static str),
    /// No such API of this provider.
    #[error("`{0}` is not a known API")]
    UnknownApi(String),
    /// A count that must be there is not.
    #[error("usage of {api} has no `{field}`")]
    Missing {
        /// Read as which API.
        api: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A field that is not what it must be.
    #[error("usage field `{field}`: {reason}")]
    Field {
        /// Which field, with its path.
        field: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The counts contradict each other.
    #[error("usage that contradicts itself: {0}")]
    Inconsistent(#[from] PartsExceedWhole),
    /// A frame of Amazon's event stream is not as it was sent: nothing of the stream is believed.
    #[error("a damaged frame in the event stream: {0}")]
    Damaged(&'static str),
    /// More than a usage object can need.
    #[error("a usage object of more than 32 KiB or 64 fields")]
    TooLarge,
}

/// Reads a `usage` object as its provider sent it (`usageMetadata` of Google, `usage` or `meta` of Cohere).
///
/// With an `api` its fields are read and no others. Without one the shape decides, and `provider` where two providers
/// count the same field differently.
pub fn extract_usage(provider: Option<&str>, api: Option<Api>, usage: &Value) -> Result<Extracted, ExtractError> {
    let Value::Object(usage) = usage else {
        return Err(ExtractError::Field { field: "usage".to_owned(), reason: "is not an object" });
    };
    read(provider, api, usage, None)
}

/// Reads the usage and the model out of a whole body: JSON, a JSON list, server-sent events, or the frames of
/// Amazon's event stream.
pub fn extract_body(provider: Option<&str>, api: Option<Api>, body: &[u8]) -> Result<Extracted, ExtractError> {
    let mut stream = UsageStream::new(provider, api);
    stream.feed(body);
    stream.finish()?.ok_or(ExtractError::NoUsage)
}

fn read(
    provider: Option<&str>,
    api: Option<Api>,
    usage: &Map<String, Value>,
    model: Option<String>,
) -> Result<Extracted, ExtractError> {
    let api = match api {
        Some(api) => api,
        None => Api::of_shape(provider, usage)?,
    };
    let (counts, total_given) = shapes::read(api, usage)?;
    counts.check()?;
    Ok(Extracted { api, model, counts, total_given })
}
