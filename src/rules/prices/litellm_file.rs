//! Reads LiteLLM's `model_prices_and_context_window.json`: an object by model, prices in dollars for one token.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::book::{MAX_MODELS, ModelPrices, ProviderPrices, with_id};
use super::file::{Imported, PriceFileError};
use super::matching::{MatchRule, MatchRuleError};
use crate::domain::price::{MAX_TIERS, ModelLimits, PriceClass, PriceRow, Rate, Tier, TierRule, TieredRate, Validity};

/// The classes by the names of that file. Where two names mean one class, the first that is given counts.
const FIELDS: [(&str, PriceClass); 18] = [
    ("input_cost_per_token", PriceClass::Input),
    ("cache_read_input_token_cost", PriceClass::CachedInput),
    ("input_cost_per_token_cache_hit", PriceClass::CachedInput),
    ("cache_creation_input_token_cost", PriceClass::CacheWrite),
    ("cache_creation_input_token_cost_above_1hr", PriceClass::CacheWrite1h),
    ("input_cost_per_audio_token", PriceClass::AudioInput),
    ("cache_read_input_audio_token_cost", PriceClass::CachedAudio),
    ("input_cost_per_image_token", PriceClass::ImageInput),
    ("cache_read_input_image_token_cost", PriceClass::CachedImage),
    ("input_cost_per_video_token", PriceClass::VideoInput),
    ("output_cost_per_token", PriceClass::Output),
    ("output_cost_per_reasoning_token", PriceClass::Reasoning),
    ("output_cost_per_audio_token", PriceClass::AudioOutput),
    ("output_cost_per_image_token", PriceClass::ImageOutput),
    ("output_cost_per_video_token", PriceClass::VideoOutput),
    ("citation_cost_per_token", PriceClass::Citation),
    ("input_cost_per_request", PriceClass::Request),
    ("input_cost_per_query", PriceClass::Request),
];

/// Its providers that go by another name here; those that are not listed keep theirs.
const PROVIDERS: [(&str, &str); 15] = [
    ("azure_ai", "azure"),
    ("azure_text", "azure"),
    ("bedrock", "aws"),
    ("bedrock_converse", "aws"),
    ("bedrock_mantle", "aws"),
    ("amazon_nova", "aws"),
    ("gemini", "google"),
    ("cohere_chat", "cohere"),
    ("text-completion-openai", "openai"),
    ("codestral", "mistral"),
    ("text-completion-codestral", "mistral"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("fireworks_ai-embedding-models", "fireworks"),
    ("xai", "x-ai"),
];

type Entry<'a> = BTreeMap<String, &'a RawValue>;

pub(super) fn read(text: &str) -> Result<Imported, PriceFileError> {
    let syntax = |error: serde_json::Error| PriceFileError::Syntax(error.to_string());
    let file: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(syntax)?;
    if file.len() > MAX_MODELS {
        return Err(PriceFileError::TooMany { what: "models", limit: MAX_MODELS });
    }
    let mut imported = Imported::default();
    let mut lists: BTreeMap<String, ProviderPrices> = BTreeMap::new();
    for (model, value) in file.iter().filter(|(model, _)| *model != "sample_spec") {
        let entry: Entry<'_> =
            serde_json::from_str(value.get()).map_err(|error| PriceFileError::entry("", model, "", error))?;
        let Some(theirs) = text_of(&entry, "litellm_provider") else {
            imported.remark("", model, "litellm_provider", "left out: it does not say whose model it is");
            continue;
        };
        let provider = ours(&theirs);
        let Some(row) = read_row(&mut imported, &provider, model, &entry)? else { continue };
        let list = lists.entry(provider.clone()).or_insert_with(|| new_list(&provider, &theirs));
        let mut names = vec![MatchRule::Equals(model.to_lowercase())];
        if let Some((prefix, short)) = model.split_once('/') {
            // A model that is listed by that very name keeps it.
            if !file.contains_key(short) && (ours(prefix) == provider || prefix == theirs) {
                names.push(MatchRule::Equals(short.to_lowercase()));
            }
        }
        let wrong = |error: MatchRuleError| PriceFileError::entry(&provider, model, "", error);
        let rule = MatchRule::any_of(names).map_err(wrong)?;
        let mut limits = ModelLimits::default();
        for field in ["max_input_tokens", "max_output_tokens"] {
            if let Some(value) = entry.get(field).and_then(|value| serde_json::from_str(value.get()).ok())
                && value != Value::Null
            {
                imported.read_limit(&mut limits, (&provider, model, field), field, &value);
            }
        }
        list.push(ModelPrices { id: model.clone(), rule, limits, rows: vec![row] })?;
    }
    for list in lists.into_values() {
        imported.book.push(list)?;
    }
    Ok(imported)
}

fn new_list(provider: &str, theirs: &str) -> ProviderPrices {
    let mut list = ProviderPrices::new(provider);
    let known = PROVIDERS.iter().filter(|(_, ours)| *ours == provider).map(|(name, _)| *name);
    let extra: &[&str] = match provider {
        "google" => &["vertex_ai", "vertex", "gemini"],
        _ => &[],
    };
    let names = known.chain(extra.iter().copied()).chain([theirs]).map(MatchRule::from_pattern);
    // A name that cannot be a pattern is only not known as one.
    list.known_as = MatchRule::any_of(names.filter_map(Result::ok).collect()).ok();
    list.speaks_for = match provider {
        "openai" => speaks_for(&["gpt-*", "o1*", "o3*", "o4*", "text-embedding-*"]),
        "anthropic" => speaks_for(&["claude*"]),
        "google" => speaks_for(&["gemini*"]),
        _ => None,
    };
    list
}

fn speaks_for(patterns: &[&str]) -> Option<MatchRule> {
    let rules = patterns.iter().filter_map(|pattern| MatchRule::from_pattern(pattern).ok()).collect();
    MatchRule::any_of(rules).ok()
}

fn ours(theirs: &str) -> String {
    let lower = theirs.to_lowercase();
    if lower.starts_with("vertex_ai") {
        return "google".to_owned();
    }
    PROVIDERS.iter().find(|(name, _)| *name == lower).map_or(lower, |(_, ours)| (*ours).to_owned())
}

fn text_of(entry: &Entry<'_>, field: &str) -> Option<String> {
    serde_json::from_str(entry.get(field)?.get()).ok()
}

/// The row of one model; `None`, with a remark, where it has no price per token or request.
fn read_row(
    imported: &mut Imported,
    provider: &str,
    model: &str,
    entry: &Entry<'_>,
) -> Result<Option<PriceRow>, PriceFileError> {
    let wrong = |field: &str, reason: String| PriceFileError::entry(provider, model, field, reason);
    let mut rates: BTreeMap<PriceClass, TieredRate> = BTreeMap::new();
    for (field, class) in FIELDS {
        if let Some(value) = entry.get(field).filter(|value| value.get() != "null") {
            let rate = imported.rounded_rate((provider, model, field), value.get(), 0);
            let rate = rate.map_err(|error| wrong(field, error.to_string()))?;
            rates.entry(class).or_insert_with(|| rate.into());
        }
    }
    for (field, value) in entry {
        let Some((class, above)) = tier_of(field) else { continue };
        let rate = imported.rounded_rate((provider, model, field), value.get(), 0);
        let rate = rate.map_err(|error| wrong(field, error.to_string()))?;
        if let Some(known) = rates.get_mut(&class) {
            known.tiers.push(Tier { above, rate });
        }
    }
    if let Some(tiers) = entry.get("tiered_pricing") {
        read_ranges(imported, (provider, model), tiers, &mut rates)
            .map_err(|reason| wrong("tiered_pricing", reason))?;
    }
    if let Some(searches) = entry.get("search_context_cost_per_query") {
        let sizes: BTreeMap<String, &RawValue> = serde_json::from_str(searches.get()).unwrap_or_default();
        if let Some(medium) = sizes.get("search_context_size_medium") {
            let at = (provider, model, "search_context_cost_per_query");
            let rate = imported.rounded_rate(at, medium.get(), 0).map_err(|error| wrong(at.2, error.to_string()))?;
            rates.insert(PriceClass::WebSearch, rate.into());
        }
    }
    if entry.contains_key("off_peak_pricing") {
        imported.remark(provider, model, "off_peak_pricing", "left out: the price of the peak is taken at all hours");
    }
    for rate in rates.values_mut() {
        rate.tiers.sort_by_key(|tier| tier.above);
        rate.tiers.dedup_by_key(|tier| tier.above);
        if rate.tiers.len() > MAX_TIERS {
            return Err(wrong("", format!("more than {MAX_TIERS} tiers")));
        }
    }
    if rates.is_empty() {
        imported.remark(provider, model, "", "left out: it has no price per token or request");
        return Ok(None);
    }
    if rates.values().all(|rate| rate.base == Rate::default() && rate.tiers.is_empty()) {
        imported.remark(provider, model, "", "left out: a price of zero is not known, and nothing is free by mistake");
        return Ok(None);
    }
    Ok(Some(with_id(PriceRow {
        id: String::new(),
        provider: provider.to_owned(),
        model: model.to_owned(),
        validity: Validity::default(),
        tier_rule: TierRule::WholeRequest,
        rates,
    })))
}

/// `input_cost_per_token_above_200k_tokens`: which class, above how many tokens. Prices of batches and of faster or slower
/// service have a further ending and are not this.
fn tier_of(field: &str) -> Option<(PriceClass, u64)> {
    let (base, above) = field.strip_suffix("k_tokens")?.rsplit_once("_above_")?;
    let (_, class) = FIELDS.iter().find(|(name, _)| *name == base)?;
    Some((*class, above.parse::<u64>().ok()?.checked_mul(1_000)?))
}

/// `tiered_pricing`: whole prices for ranges of the input's length.
fn read_ranges(
    imported: &mut Imported,
    (provider, model): (&str, &str),
    tiers: &RawValue,
    rates: &mut BTreeMap<PriceClass, TieredRate>,
) -> Result<(), String> {
    let tiers: Vec<Entry<'_>> = serde_json::from_str(tiers.get()).map_err(|error| error.to_string())?;
    for entry in &tiers {
        let Some(range) = entry.get("range") else {
            imported.remark(
                provider,
                model,
                "tiered_pricing",
                "left out: prices that do not depend on the input's length",
            );
            continue;
        };
        let range: Vec<&RawValue> = serde_json::from_str(range.get()).map_err(|error| error.to_string())?;
        let start = range.first().map(|start| start.get().trim_end_matches(".0"));
        let above: u64 = start.and_then(|start| start.parse().ok()).ok_or("a range starts with a whole number")?;
        for (field, class) in FIELDS {
            let Some(value) = entry.get(field) else { continue };
            let rate = imported.rounded_rate((provider, model, field), value.get(), 0);
            let rate = rate.map_err(|error| error.to_string())?;
            match rates.get_mut(&class) {
                Some(known) if above > 0 => known.tiers.push(Tier { above, rate }),
                Some(_) => {}
                // A class whose price begins with a higher range has no lower one: it costs that much from the start.
                None => _ = rates.insert(class, rate.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    const FILE: &str = r#"{
        "sample_spec": {"input_cost_per_token": 0.0},
        "gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05,
            "input_cost_per_token_batches": 1e-06, "input_cost_per_token_above_200k_tokens": 5e-06,
            "input_cost_per_token_above_200k_tokens_priority": 9e-06,
            "search_context_cost_per_query": {"search_context_size_medium": 0.01}},
        "gemini/flash-x": {"litellm_provider": "gemini", "input_cost_per_token": 9.499999999999999e-07},
        "dashscope/q": {"litellm_provider": "dashscope", "tiered_pricing": [
            {"range": [0, 256000.0], "input_cost_per_token": 5e-08}, {"range": [256000.0, 1000000.0], "input_cost_per_token": 2.5e-07}]},
        "free-x": {"litellm_provider": "openai", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
        "picture-x": {"litellm_provider": "openai", "output_cost_per_image": 0.04}
    }"#;

    #[test]
    fn models_are_found_by_their_key_and_by_their_own_name_with_tiers_and_without_noise() {
        let imported = read(FILE).unwrap();
        let row = |provider: Option<&str>, model: &str| {
            let found = imported.book.find(provider, model, Timestamp::default());
            found.map(|found| found.row.clone())
        };
        let gpt = row(None, "gpt-x").unwrap();
        let input = &gpt.rates[&PriceClass::Input];
        assert_eq!((input.base.femtos(), input.tiers.len(), input.tiers[0].above), (2_500_000_000, 1, 200_000));
        assert_eq!(gpt.rates[&PriceClass::WebSearch].base.femtos(), 10_000_000_000_000);
        for (provider, model) in [(Some("gemini"), "flash-x"), (Some("vertex_ai"), "flash-x"), (None, "gemini/flash-x")]
        {
            assert_eq!(row(provider, model).unwrap().rates[&PriceClass::Input].base.femtos(), 950_000_000, "{model}");
        }
        let ranges = &row(Some("dashscope"), "q").unwrap().rates[&PriceClass::Input];
        assert_eq!((ranges.base.femtos(), ranges.tiers[0].above), (50_000_000, 256_000));
    }

    #[test]
    fn what_has_no_price_is_left_out_with_a_remark_and_never_free() {
        let imported = read(FILE).unwrap();
        assert_eq!(imported.book.find(Some("openai"), "free-x", Timestamp::default()), None);
        assert_eq!(imported.book.find(Some("openai"), "picture-x", Timestamp::default()), None);
        let remarks: Vec<(&str, &str)> =
            imported.notices.iter().map(|notice| (notice.model.as_str(), notice.field.as_str())).collect();
        assert_eq!(remarks, [("free-x", ""), ("gemini/flash-x", "input_cost_per_token"), ("picture-x", "")]);
    }
}
