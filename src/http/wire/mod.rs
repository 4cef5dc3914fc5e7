//! What travels: JSON shapes apart from the domain's types, with the conversions between them. Nothing here knows axum.

pub mod alert;
pub mod audit;
pub mod cloudevent;
pub mod cost;
pub mod event;
pub mod explain;
mod field;
pub mod key;
pub mod object;
pub mod plan;
pub mod price;
pub mod price_terms;
pub mod quota;
pub mod scalar;
pub mod tenant;
pub mod usage;

use std::borrow::Cow;

/// Why something sent to us cannot be taken, naming the field at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// A stable code, such as `invalid_event`.
    pub code: &'static str,
    /// The field at fault, by its JSON name.
    pub field: Option<Cow<'static, str>>,
    /// What to change.
    pub message: String,
    /// Line and column, both from 1, when the JSON itself is broken.
    pub place: Option<(usize, usize)>,
}

/// Bytes as standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

impl Fault {
    /// A fault of one field; `reason` goes on from its name.
    pub fn field(code: &'static str, field: impl Into<Cow<'static, str>>, reason: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self { code, message: format!("{field} {reason}"), field: Some(field), place: None }
    }

    /// A fault of the whole.
    pub fn whole(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into(), place: None }
    }

    /// Broken JSON.
    pub fn syntax(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self {
            code: "invalid_json",
            field: None,
            message: format!("not valid JSON: {} at line {line}, column {column}", bare_message(error)),
            place: Some((line, column)),
        }
    }
}

/// serde_json's message without the place it appends.
fn bare_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message,
    }
}

/// A message of serde as the rest of a sentence that starts with the field's name.
fn reason(error: &serde_json::Error) -> String {
    let message = bare_message(error);
    let reason = match message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        // A text may be anything, also a secret in the wrong field.
        Some((found, expected)) if found.starts_with("string ") => format!("must be {expected}, not a text"),
        Some((found, expected)) => format!("must be {expected}, not {}", shortened(found)),
        None => message,
    };
    shortened(&reason).into_owned()
}

/// An error about a text that was sent, without that text where it is too long for a mistyped word: then it may be a secret
/// that stands in the wrong field.
pub fn unquoted(error: impl std::fmt::Display, sent: &str) -> String {
    let message = error.to_string();
    if is_a_word(sent) {
        return message;
    }
    // Some errors quote the beginning only.
    let cut: String = sent.chars().take(64).collect();
    message.replace(sent, "…").replace(&cut, "…")
}

/// A field's name that nobody knows, or `…` where it is too long for a mistyped one: it may be a secret.
fn named(name: &str) -> &str {
    if is_a_word(name) { name } else { "…" }
}

/// Whether a text is no longer than the names and words that requests are made of.
fn is_a_word(text: &str) -> bool {
    const WORD_CHARS_MAX: usize = 20;
    text.chars().count() <= WORD_CHARS_MAX
}

/// At most 200 characters of it: a caller's own content is quoted, not mirrored.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(200) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
