//! Reads our own price file; `data/prices.toml` explains its format at its top.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::book::{MAX_ROWS, ModelPrices, ProviderPrices, with_id};
use super::decimal::{Excess, read_rate};
use super::file::{Imported, PriceFileError, units_exponent};
use super::genai_file::{read_date, read_time};
use super::matching::MatchRule;
use crate::domain::price::{
    MAX_LIMIT_TOKENS, MAX_TIERS, ModelLimits, PriceClass, PriceRow, Tier, TierRule, TieredRate, Validity,
};
use crate::domain::price_terms::MAX_RATES;
use crate::domain::time::Timestamp;

/// The shipped prices, which fill an empty store.
pub const SHIPPED_PRICES: &str = include_str!("../../../data/prices.toml");

const TIER_PREFIX: &str = "above_";

pub(super) fn read(text: &str) -> Result<Imported, PriceFileError> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| PriceFileError::Syntax(error.to_string()))?;
    if let Some(key) = file.keys().find(|key| !["providers", "prices"].contains(&key.as_str())) {
        return Err(PriceFileError::Syntax(format!(
            "`{key}` is not known here: write [providers.ID] and [prices.ID.MODEL]"
        )));
    }
    let table = |name: &str| match file.get(name) {
        Some(Value::Table(table)) => Ok(table.clone()),
        None => Ok(Table::new()),
        Some(_) => Err(PriceFileError::Syntax(format!("`{name}` is a table"))),
    };
    let (providers, prices) = (table("providers")?, table("prices")?);
    if let Some(id) = prices.keys().find(|id| !providers.contains_key(*id)) {
        return Err(PriceFileError::entry(id, "", "", format!("there is no [providers.{id}]")));
    }
    let mut imported = Imported::default();
    for (id, about) in &providers {
        let mut list = read_provider(id, about)?;
        let models = match prices.get(id) {
            Some(Value::Table(models)) => models.clone(),
            None => Table::new(),
            Some(_) => return Err(PriceFileError::entry(id, "", "", "the prices of a provider are a table by model")),
        };
        for (model, value) in &models {
            list.push(read_model(id, model, value)?)?;
        }
        // Tables have no order: of the patterns that overlap, the one with the longer text is meant.
        list.prefer_longer_patterns();
        imported.book.push(list)?;
    }
    for list in imported.book.providers() {
        if let Some(other) = list.falls_back_to.iter().find(|other| imported.book.provider(other).is_none()) {
            return Err(PriceFileError::entry(
                &list.id,
                "",
                "falls_back_to",
                format!("there is no [providers.{other}]"),
            ));
        }
    }
    Ok(imported)
}

/// A tenant's own rates, written as the `[prices]` of a file but in JSON: by provider, by model (a name, or a pattern with a
/// star), `tiers` and the price of each class. They have no other names and no dates: their terms have one. Rows are not
/// named yet.
pub fn own_rates(json: &serde_json::Value) -> Result<Vec<PriceRow>, PriceFileError> {
    let no_table = |provider: &str, model: &str| PriceFileError::entry(provider, model, "", "must be an object");
    let mut rows = Vec::new();
    for (provider, models) in json.as_object().ok_or_else(|| no_table("", ""))? {
        if provider.trim() != provider || !(1..=128).contains(&provider.len()) {
            return Err(PriceFileError::entry(provider, "", "", "a provider has 1 to 128 characters"));
        }
        for (model, entry) in models.as_object().ok_or_else(|| no_table(provider, ""))? {
            let wrong = |field: &str, reason: &str| PriceFileError::entry(provider, model, field, reason);
            if rows.len() >= MAX_RATES {
                return Err(PriceFileError::TooMany { what: "rates of a tenant's own", limit: MAX_RATES });
            }
            MatchRule::from_pattern(model).map_err(|error| wrong("", &error.to_string()))?;
            let entry = Table::try_from(entry).map_err(|_| wrong("", "is an object of texts such as \"0.15\""))?;
            if let Some(field) = ["from", "daily", "also", "later"].iter().find(|field| entry.contains_key(**field)) {
                return Err(wrong(field, "is not known here: the terms begin together"));
            }
            let row = read_row(provider, model, &entry).map_err(|(field, reason)| wrong(&field, &reason))?;
            let same = |known: &PriceRow| {
                (known.provider.as_str(), known.model.to_lowercase()) == (row.provider.as_str(), model.to_lowercase())
            };
            if rows.iter().any(same) {
                return Err(wrong("", "is there twice"));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A tenant's own rate with its name: whose it is, since when, and its content.
pub fn own_row(tenant_id: &str, from: Timestamp, mut row: PriceRow) -> PriceRow {
    row.validity = Validity { from: Some(from), daily: None };
    let mut row = with_id(row);
    row.id = format!("tenant {tenant_id}: {}", row.id);
    row
}

fn read_provider(id: &str, about: &Value) -> Result<ProviderPrices, PriceFileError> {
    let wrong = |field: &str, reason: &str| PriceFileError::entry(id, "", field, reason);
    let Value::Table(about) = about else { return Err(wrong("", "a provider is a table")) };
    let mut list = ProviderPrices::new(id);
    for (key, value) in about {
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a text in quotes"));
        match key.as_str() {
            "name" => _ = text()?,
            "source" => list.source = Some(text()?),
            "checked" => {
                let date = text()?;
                read_date(&date).map_err(|reason| wrong(key, &reason))?;
                list.checked = Some(date);
            }
            "known_as" => list.known_as = Some(patterns(value).map_err(|reason| wrong(key, &reason))?),
            "speaks_for" => list.speaks_for = Some(patterns(value).map_err(|reason| wrong(key, &reason))?),
            "falls_back_to" => list.falls_back_to = texts(value).map_err(|reason| wrong(key, &reason))?,
            _ => return Err(wrong(key, "is not known here")),
        }
    }
    Ok(list)
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let list = || value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    let list = list().ok_or("a list of texts in quotes")?;
    Ok(list.into_iter().map(str::to_owned).collect())
}

fn patterns(value: &Value) -> Result<MatchRule, String> {
    let rules = texts(value)?.iter().map(|pattern| MatchRule::from_pattern(pattern)).collect::<Result<Vec<_>, _>>();
    rules.and_then(MatchRule::any_of).map_err(|error| error.to_string())
}

fn read_model(provider: &str, model: &str, value: &Value) -> Result<ModelPrices, PriceFileError> {
    let wrong = |field: &str, reason: String| PriceFileError::entry(provider, model, field, reason);
    let Value::Table(entry) = value else { return Err(wrong("", "the prices of a model are a table".to_owned())) };
    let mut rules = vec![MatchRule::from_pattern(model).map_err(|error| wrong("", error.to_string()))?];
    let (mut first, mut versions, mut limits) = (Table::new(), Vec::new(), ModelLimits::default());
    for (key, value) in entry {
        match key.as_str() {
            "also" => {
                for pattern in texts(value).map_err(|reason| wrong(key, reason))? {
                    rules.push(MatchRule::from_pattern(&pattern).map_err(|error| wrong(key, error.to_string()))?);
                }
            }
            "later" => {
                let tables =
                    || value.as_array()?.iter().map(|value| value.as_table().cloned()).collect::<Option<Vec<_>>>();
                versions = tables().ok_or_else(|| wrong(key, "write [[prices.ID.MODEL.later]]".to_owned()))?;
            }
            name if ModelLimits::NAMES.contains(&name) => {
                let tokens = value.as_integer().and_then(|tokens| u64::try_from(tokens).ok());
                let set = tokens.is_some_and(|tokens| limits.set(name, tokens).is_ok());
                if !set {
                    return Err(wrong(key, format!("a number of tokens from 1 to {MAX_LIMIT_TOKENS}")));
                }
            }
            _ => _ = first.insert(key.clone(), value.clone()),
        }
    }
    if versions.len() >= MAX_ROWS {
        return Err(wrong("later", format!("at most {MAX_ROWS} prices of one model")));
    }
    let named = |reason: (String, String)| wrong(&reason.0, reason.1);
    let mut rows = vec![read_row(provider, model, &first).map_err(named)?];
    for version in &versions {
        let row =
            read_row(provider, model, version).map_err(|(field, reason)| wrong(&format!("later.{field}"), reason))?;
        if row.validity == Validity::default() {
            return Err(wrong("later", "a later price says `from` or `daily`".to_owned()));
        }
        rows.push(row);
    }
    let rule = MatchRule::any_of(rules).map_err(|error| wrong("also", error.to_string()))?;
    Ok(ModelPrices { id: model.to_owned(), rule, limits, rows })
}

/// Fails with the field and what is wrong with it.
fn read_row(provider: &str, model: &str, entry: &Table) -> Result<PriceRow, (String, String)> {
    let (mut validity, mut tier_rule, mut rates) = (Validity::default(), TierRule::default(), BTreeMap::new());
    for (key, value) in entry {
        let wrong = |reason: String| (key.clone(), reason);
        match (key.as_str(), value) {
            ("from", Value::String(date)) => validity.from = Some(read_date(date).map_err(wrong)?),
            ("daily", Value::String(span)) => {
                let (start, end) = span.split_once('-').ok_or_else(|| wrong("write 16:30-00:30, in UTC".to_owned()))?;
                let time = |text: &str| read_time(text.trim()).map_err(wrong);
                validity.daily = Some((time(start)?, time(end)?));
            }
            ("tiers", Value::String(name)) if name == "whole" => tier_rule = TierRule::WholeRequest,
            ("tiers", Value::String(name)) if name == "graduated" => tier_rule = TierRule::Graduated,
            ("from" | "daily" | "tiers", _) => {
                return Err(wrong("`from` is a date, `daily` a span, `tiers` \"whole\" or \"graduated\"".to_owned()));
            }
            _ => {
                let class = PriceClass::from_name(key).ok_or_else(|| wrong("is not known here".to_owned()))?;
                rates.insert(class, read_tiered(class, value).map_err(wrong)?);
            }
        }
    }
    if rates.is_empty() {
        return Err((String::new(), "there is no price".to_owned()));
    }
    let (provider, model) = (provider.to_lowercase(), model.to_owned());
    Ok(with_id(PriceRow { id: String::new(), provider, model, validity, tier_rule, rates }))
}

fn read_tiered(class: PriceClass, value: &Value) -> Result<TieredRate, String> {
    let rate = |value: &Value| {
        let text = value.as_str().ok_or_else(|| "a decimal in quotes, such as \"0.15\"".to_owned())?;
        read_rate(text, units_exponent(class), Excess::Refuse).map(|(rate, _)| rate).map_err(|error| error.to_string())
    };
    let Value::Table(tiers) = value else { return rate(value).map(TieredRate::from) };
    let base = rate(tiers.get("base").ok_or("there is no `base`")?)?;
    let mut read = Vec::with_capacity(tiers.len());
    for (key, value) in tiers.iter().filter(|(key, _)| *key != "base") {
        let above = key.strip_prefix(TIER_PREFIX).and_then(|digits| digits.parse().ok());
        let above = above.ok_or_else(|| format!("`{key}`: write above_200000"))?;
        read.push(Tier { above, rate: rate(value)? });
    }
    if read.len() > MAX_TIERS {
        return Err(format!("at most {MAX_TIERS} tiers"));
    }
    read.sort_by_key(|tier| tier.above);
    Ok(TieredRate { base, tiers: read })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_prices_are_read_without_a_remark() {
        let imported = read(SHIPPED_PRICES).unwrap();
        assert_eq!(imported.notices_total, 0);
        assert!(imported.book.models() > 100, "{}", imported.book.models());
        assert!(imported.book.providers().iter().all(|list| list.source.is_some() && list.checked.is_some()));
    }

    #[test]
    fn the_longer_pattern_is_meant_and_a_name_beats_them_all() {
        let text = concat!(
            "[providers.p]\nspeaks_for = [\"m*\"]\n",
            "[prices.p.\"m*\"]\ninput = \"1\"\n[prices.p.\"m-mini*\"]\ninput = \"2\"\n",
            "[prices.p.m-mini-x]\ninput = \"3\"\nalso = [\"odd\"]\n",
        );
        let book = read(text).unwrap().book;
        let of = |name: &str| book.find(None, name, Timestamp::default()).map(|found| found.row.model.clone());
        let found = ["m-large", "m-mini-2", "m-mini-x", "p/odd", "x"].map(of);
        let expected = [Some("m*"), Some("m-mini*"), Some("m-mini-x"), Some("m-mini-x"), None];
        assert_eq!(found.each_ref().map(Option::as_deref), expected);
    }

    #[test]
    fn a_later_price_applies_from_its_date_on() {
        let text = concat!(
            "[providers.p]\n[prices.p.m]\ninput = \"10\"\n",
            "[[prices.p.m.later]]\nfrom = \"2025-06-10\"\ninput = { base = \"2\", above_200000 = \"4\" }\n",
        );
        let book = read(text).unwrap().book;
        let base = |date: &str| {
            let found = book.find(Some("P"), "m", read_date(date).unwrap()).unwrap();
            (found.row.rates[&PriceClass::Input].base.femtos(), found.row.id.clone())
        };
        let ((before, old_id), (after, new_id)) = (base("2025-06-09"), base("2025-06-10"));
        assert_eq!((before, after), (10_000_000_000, 2_000_000_000));
        assert_eq!(book.row(&new_id).map(|row| row.model.as_str()), Some("m"));
        assert!(old_id.starts_with("p/m@start~") && new_id.starts_with("p/m@2025-06-10~"), "{old_id} {new_id}");
    }

    #[test]
    fn what_is_wrong_is_named_by_provider_model_and_field() {
        for (entry, message) in [
            ("[prices.p.m]\ninput = 0.5", "field `input`: a decimal in quotes, such as \"0.15\""),
            (
                "[prices.p.m]\ninput = \"0.0000000001\"",
                "field `input`: finer than 15 decimal places of a dollar a unit",
            ),
            ("[prices.p.m]\ninptu = \"1\"", "field `inptu`: is not known here"),
            ("[prices.p.m]\ninput = { base = \"1\", over_5 = \"2\" }", "field `input`: `over_5`: write above_200000"),
            ("[prices.p.m]\nalso = [\"x\"]", "field ``: there is no price"),
            (
                "[prices.p.m]\ninput = \"1\"\nmax_output_tokens = \"9\"",
                "field `max_output_tokens`: a number of tokens from 1",
            ),
            ("[prices.p.m]\ninput = \"1\"\ncontext_tokens = 0", "field `context_tokens`: a number of tokens from 1"),
            ("[prices.p.m]\ninput = \"1\"\n[[prices.p.m.later]]\ninput = \"1\"", "field `later`: a later price says"),
            ("[prices.p.m]\ninput = \"1\"\nalso = [\"a*b\"]", "field `also`: `a*b`: a * may only stand"),
        ] {
            let error = read(&format!("[providers.p]\n{entry}\n")).unwrap_err().to_string();
            assert!(error.starts_with("provider `p`, model `m`, ") && error.contains(message), "{error}");
        }
        assert!(read("[prices.q.m]\ninput = \"1\"").unwrap_err().to_string().contains("there is no [providers.q]"));
        assert!(matches!(read("[plans]"), Err(PriceFileError::Syntax(_))));
    }
}
