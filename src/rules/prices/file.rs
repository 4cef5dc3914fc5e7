//! What every price file has in common: formats, limits, errors and remarks.

use serde_json::Value;

use super::book::PriceBook;
use super::decimal::{Excess, RateError, read_rate};
use super::{genai_file, litellm_file, toml_file};
use crate::domain::price::{ModelLimits, PriceClass, Rate};

/// Largest price file.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// Most remarks that are kept; the rest is counted.
const MAX_NOTICES: usize = 1_000;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceFormat {
    /// Our own, `prices.toml`.
    Toml,
    /// The `data.json` of genai-prices.
    GenaiPrices,
    /// The `model_prices_and_context_window.json` of LiteLLM.
    LiteLlm,
}

impl PriceFormat {
    /// Every format, by the name it is asked for.
    pub const NAMES: [(&'static str, Self); 3] =
        [("toml", Self::Toml), ("genai-prices", Self::GenaiPrices), ("litellm", Self::LiteLlm)];

    /// The format that a text looks like: a JSON list is genai-prices, a JSON object LiteLLM, anything else our own.
    pub fn sniff(text: &str) -> Self {
        match text.trim_start().as_bytes().first() {
            Some(b'[') if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Self::GenaiPrices,
            Some(b'{') => Self::LiteLlm,
            _ => Self::Toml,
        }
    }
}

/// A price file, read.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// Its prices.
    pub book: PriceBook,
    /// What was not taken as it stands, the first 1,000.
    pub notices: Vec<Notice>,
    /// How many remarks there were.
    pub notices_total: usize,
}

/// A remark about one entry of a price file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whose price.
    pub provider: String,
    /// Of which model.
    pub model: String,
    /// Which field; empty for the whole entry.
    pub field: String,
    /// What was done about it.
    pub remark: String,
}

/// Why a price file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceFileError {
    /// Not TOML, or not JSON.
    #[error("cannot be read: {0}")]
    Syntax(String),
    /// Too large.
    #[error("a price file has at most 32 MiB")]
    TooLarge,
    /// Too many of something.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// One entry is wrong.
    #[error("provider `{provider}`, model `{model}`, field `{field}`: {reason}")]
    Entry {
        /// Whose price.
        provider: String,
        /// Of which model; empty for the provider itself.
        model: String,
        /// Which field.
        field: String,
        /// What to change.
        reason: String,
    },
}

impl PriceFileError {
    pub(super) fn entry(provider: &str, model: &str, field: &str, reason: impl ToString) -> Self {
        let short = |text: &str| text.chars().take(128).collect();
        Self::Entry { provider: short(provider), model: short(model), field: short(field), reason: reason.to_string() }
    }
}

/// Reads a price file of any format.
///
/// Our own refuses what it does not know, and digits finer than 15 places. In the files of others a field that is not
/// known, or an entry without a price per token, is left out and remarked; finer digits are a double's noise there, and
/// are rounded half to even to a femto-dollar a unit and remarked.
pub fn read_prices(format: PriceFormat, text: &str) -> Result<Imported, PriceFileError> {
    if text.len() > MAX_BYTES {
        return Err(PriceFileError::TooLarge);
    }
    match format {
        PriceFormat::Toml => toml_file::read(text),
        PriceFormat::GenaiPrices => genai_file::read(text),
        PriceFormat::LiteLlm => litellm_file::read(text),
    }
}

impl Imported {
    pub(super) fn remark(&mut self, provider: &str, model: &str, field: &str, remark: impl ToString) {
        self.notices_total += 1;
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(Notice {
                provider: provider.to_owned(),
                model: model.to_owned(),
                field: field.to_owned(),
                remark: remark.to_string(),
            });
        }
    }

    /// Reads a limit, which is left out with a remark where it is not a number of tokens.
    pub(super) fn read_limit(
        &mut self,
        limits: &mut ModelLimits,
        (provider, model, field): (&str, &str, &str),
        name: &str,
        value: &Value,
    ) {
        if value.as_u64().is_none_or(|tokens| limits.set(name, tokens).is_err()) {
            self.remark(provider, model, field, format!("left out: {value} is not a number of tokens"));
        }
    }

    /// Reads a rate out of a file that was written from doubles.
    pub(super) fn rounded_rate(
        &mut self,
        (provider, model, field): (&str, &str, &str),
        text: &str,
        units_exponent: u32,
    ) -> Result<Rate, RateError> {
        let (rate, rounded) = read_rate(text, units_exponent, Excess::Round)?;
        if rounded {
            self.remark(provider, model, field, format!("{text} was rounded to 15 decimal places a unit"));
        }
        Ok(rate)
    }
}

/// How many decimal places lie between the published price of a class and the price of one unit.
pub(super) const fn units_exponent(class: PriceClass) -> u32 {
    if class.units_per_price() == 1_000 { 3 } else { 6 }
}
