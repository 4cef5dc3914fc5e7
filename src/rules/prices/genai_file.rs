//! Reads the `data.json` of genai-prices: a list of providers with their models, matching rules and prices.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::book::{MAX_PROVIDERS, ModelPrices, ProviderPrices, with_id};
use super::file::{Imported, PriceFileError, units_exponent};
use super::matching::{MAX_DEPTH, MatchRule};
use crate::domain::price::{MAX_TIERS, ModelLimits, PriceClass, PriceRow, Rate, Tier, TierRule, TieredRate, Validity};
use crate::domain::time::Timestamp;

/// The classes by the names of that file.
const FIELDS: [(&str, PriceClass); 17] = [
    ("input_mtok", PriceClass::Input),
    ("cache_read_mtok", PriceClass::CachedInput),
    ("cache_write_mtok", PriceClass::CacheWrite),
    ("cache_write_1h_mtok", PriceClass::CacheWrite1h),
    ("input_audio_mtok", PriceClass::AudioInput),
    ("cache_audio_read_mtok", PriceClass::CachedAudio),
    ("input_image_mtok", PriceClass::ImageInput),
    ("cache_image_read_mtok", PriceClass::CachedImage),
    ("input_video_mtok", PriceClass::VideoInput),
    ("output_mtok", PriceClass::Output),
    ("output_reasoning_mtok", PriceClass::Reasoning),
    ("output_audio_mtok", PriceClass::AudioOutput),
    ("output_image_mtok", PriceClass::ImageOutput),
    ("output_video_mtok", PriceClass::VideoOutput),
    ("output_citation_mtok", PriceClass::Citation),
    ("requests_kcount", PriceClass::Request),
    ("web_searches_kcount", PriceClass::WebSearch),
];

#[derive(Deserialize)]
struct ProviderFile<'a> {
    id: String,
    #[serde(default)]
    pricing_urls: Vec<String>,
    model_match: Option<Value>,
    provider_match: Option<Value>,
    #[serde(default)]
    fallback_model_providers: Vec<String>,
    #[serde(borrow)]
    models: Vec<ModelFile<'a>>,
}

#[derive(Deserialize)]
struct ModelFile<'a> {
    id: String,
    #[serde(rename = "match")]
    rule: Value,
    #[serde(borrow)]
    prices: &'a RawValue,
    context_window: Option<Value>,
}

#[derive(Deserialize)]
struct ConditionalFile<'a> {
    constraint: Option<ConstraintFile>,
    #[serde(borrow)]
    prices: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConstraintFile {
    start_date: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
}

#[derive(Deserialize)]
struct TieredFile<'a> {
    #[serde(borrow)]
    base: &'a RawValue,
    #[serde(borrow)]
    tiers: Vec<TierFile<'a>>,
}

#[derive(Deserialize)]
struct TierFile<'a> {
    start: u64,
    #[serde(borrow)]
    price: &'a RawValue,
}

pub(super) fn read(text: &str) -> Result<Imported, PriceFileError> {
    let syntax = |error: serde_json::Error| PriceFileError::Syntax(error.to_string());
    let providers: Vec<&RawValue> = serde_json::from_str(text).map_err(syntax)?;
    if providers.len() > MAX_PROVIDERS {
        return Err(PriceFileError::TooMany { what: "providers", limit: MAX_PROVIDERS });
    }
    let mut imported = Imported::default();
    for provider in providers {
        let file: ProviderFile<'_> = serde_json::from_str(provider.get()).map_err(syntax)?;
        let wrong = |field: &str, reason: String| PriceFileError::entry(&file.id, "", field, reason);
        let rule = |field: &str, value: &Option<Value>| {
            value.as_ref().map(|value| match_rule(value, 0)).transpose().map_err(|reason| wrong(field, reason))
        };
        let mut list = ProviderPrices::new(&file.id);
        list.source = file.pricing_urls.first().cloned();
        list.known_as = rule("provider_match", &file.provider_match)?;
        list.speaks_for = rule("model_match", &file.model_match)?;
        list.falls_back_to = file.fallback_model_providers.clone();
        for model in &file.models {
            let rows = read_rows(&mut imported, &file.id, model)?;
            let rule = match_rule(&model.rule, 0)
                .map_err(|reason| PriceFileError::entry(&file.id, &model.id, "match", reason))?;
            list.push(ModelPrices {
                id: model.id.clone(),
                rule,
                limits: read_limits(&mut imported, &file.id, model),
                rows,
            })?;
        }
        imported.book.push(list)?;
    }
    Ok(imported)
}

fn read_limits(imported: &mut Imported, provider: &str, model: &ModelFile<'_>) -> ModelLimits {
    let mut limits = ModelLimits::default();
    if let Some(value) = model.context_window.as_ref() {
        imported.read_limit(&mut limits, (provider, &model.id, "context_window"), "context_tokens", value);
    }
    limits
}

fn match_rule(value: &Value, depth: usize) -> Result<MatchRule, String> {
    let Value::Object(clause) = value else { return Err("a rule is an object".to_owned()) };
    let (Some((kind, inner)), 1) = (clause.iter().next(), clause.len()) else {
        return Err("a rule has one key".to_owned());
    };
    if depth >= MAX_DEPTH {
        return Err("rules are nested too deeply".to_owned());
    }
    match (kind.as_str(), inner) {
        ("or" | "and", Value::Array(parts)) => {
            let parts = parts.iter().map(|part| match_rule(part, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            let joined = if kind == "or" { MatchRule::any_of(parts) } else { MatchRule::all_of(parts) };
            joined.map_err(|error| error.to_string())
        }
        (kind, Value::String(text)) => match MatchRule::of_kind(kind, text) {
            Some(rule) => rule.map_err(|error| error.to_string()),
            None => Err(format!("`{kind}` is not a kind of rule")),
        },
        (kind, _) => Err(format!("`{kind}` is not a kind of rule, or has another shape")),
    }
}

fn read_rows(imported: &mut Imported, provider: &str, model: &ModelFile<'_>) -> Result<Vec<PriceRow>, PriceFileError> {
    let wrong = |field: &str, reason: String| PriceFileError::entry(provider, &model.id, field, reason);
    let prices = model.prices.get();
    let versions = if prices.starts_with('[') {
        let versions: Vec<ConditionalFile<'_>> =
            serde_json::from_str(prices).map_err(|error| wrong("prices", error.to_string()))?;
        let validity = |constraint: Option<ConstraintFile>| {
            constraint
                .map_or_else(|| Ok(Validity::default()), read_validity)
                .map_err(|reason| wrong("constraint", reason))
        };
        versions
            .into_iter()
            .map(|version| Ok((validity(version.constraint)?, version.prices.get())))
            .collect::<Result<Vec<_>, PriceFileError>>()?
    } else {
        vec![(Validity::default(), prices)]
    };
    let mut rows = Vec::with_capacity(versions.len());
    for (validity, prices) in versions {
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(prices).map_err(|error| wrong("prices", error.to_string()))?;
        let mut rates = BTreeMap::new();
        for (field, value) in fields {
            let Some((_, class)) = FIELDS.iter().find(|(name, _)| *name == field) else {
                imported.remark(provider, &model.id, &field, "left out: this class of usage is not known");
                continue;
            };
            if value.get() != "null" {
                let at = (provider, model.id.as_str(), field.as_str());
                let rate = read_tiered(imported, at, value.get(), *class).map_err(|reason| wrong(&field, reason))?;
                rates.insert(*class, rate);
            }
        }
        rows.push(with_id(PriceRow {
            id: String::new(),
            provider: provider.to_lowercase(),
            model: model.id.clone(),
            validity,
            tier_rule: TierRule::WholeRequest,
            rates,
        }));
    }
    Ok(rows)
}

fn read_tiered(
    imported: &mut Imported,
    at: (&str, &str, &str),
    text: &str,
    class: PriceClass,
) -> Result<TieredRate, String> {
    let mut rate = |text: &str| -> Result<Rate, String> {
        // A decimal may be written as a number or as a text.
        let text = text.trim_matches('"');
        imported.rounded_rate(at, text, units_exponent(class)).map_err(|error| error.to_string())
    };
    if !text.starts_with('{') {
        return rate(text).map(TieredRate::from);
    }
    let file: TieredFile<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let base = rate(file.base.get())?;
    let mut tiers = Vec::with_capacity(file.tiers.len());
    for tier in &file.tiers {
        tiers.push(Tier { above: tier.start, rate: rate(tier.price.get())? });
    }
    if tiers.len() > MAX_TIERS || !tiers.is_sorted_by(|one, other| one.above < other.above) {
        return Err(format!("at most {MAX_TIERS} tiers, each starting above the one before"));
    }
    Ok(TieredRate { base, tiers })
}

fn read_validity(constraint: ConstraintFile) -> Result<Validity, String> {
    let from = constraint.start_date.as_deref().map(read_date).transpose()?;
    let daily = match (&constraint.start_time, &constraint.end_time) {
        (None, None) => None,
        (Some(start), Some(end)) => Some((read_time(start)?, read_time(end)?)),
        _ => return Err("a time of the day has a start and an end".to_owned()),
    };
    Ok(Validity { from, daily })
}

/// The first instant of a date in UTC.
pub(super) fn read_date(text: &str) -> Result<Timestamp, String> {
    let date: chrono::NaiveDate = text.parse().map_err(|_| format!("`{text}` is not a date such as 2026-08-21"))?;
    Ok(Timestamp::from(date.and_time(chrono::NaiveTime::MIN).and_utc()))
}

/// Seconds after midnight UTC of `00:30`, `00:30:00` or `00:30:00Z`.
pub(super) fn read_time(text: &str) -> Result<u32, String> {
    let plain = text.strip_suffix('Z').unwrap_or(text);
    let formats = ["%H:%M:%S", "%H:%M"];
    let time = formats.iter().find_map(|format| chrono::NaiveTime::parse_from_str(plain, format).ok());
    let time = time.ok_or_else(|| format!("`{text}` is not a time of the day in UTC such as 16:30"))?;
    Ok(chrono::Timelike::num_seconds_from_midnight(&time))
}
