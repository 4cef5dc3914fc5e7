//! Changes of prices: what differs between two books, a line each, and the audit record of it.

use serde_json::json;

use super::prices::{Difference, PriceBook, PriceFormat, diff};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::price::{PriceClass, TieredRate};

/// Differences listed in an audit record or a summary; the rest is counted.
const LISTED_MAX: usize = 200;

/// The format by the name it has in commands and answers.
pub fn format_named(name: &str) -> Option<PriceFormat> {
    match name {
        "metergate" => Some(PriceFormat::Toml),
        "genai-prices" => Some(PriceFormat::GenaiPrices),
        "litellm" => Some(PriceFormat::LiteLlm),
        _ => None,
    }
}

/// The inverse of [`format_named`].
pub const fn format_name(format: PriceFormat) -> &'static str {
    match format {
        PriceFormat::Toml => "metergate",
        PriceFormat::GenaiPrices => "genai-prices",
        PriceFormat::LiteLlm => "litellm",
    }
}

/// A price as it is published, such as `2.5` or `1.25, 2.5 above 200000`.
pub fn show_rate(class: PriceClass, rate: &TieredRate) -> String {
    let tiers = rate.tiers.iter().map(|tier| format!(", {} above {}", tier.rate.published(class), tier.above));
    format!("{}{}", rate.base.published(class), tiers.collect::<String>())
}

/// What is different, a line for each model or rate, such as `openai/gpt-4o output: 10 -> 12`.
pub fn price_differences(before: &PriceBook, after: &PriceBook) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in diff(before, after) {
        match difference {
            Difference::Added { provider, model } => lines.push(format!("{provider}/{model}: added")),
            Difference::Removed { provider, model } => lines.push(format!("{provider}/{model}: removed")),
            Difference::Changed { provider, model, rates, limits } if rates.is_empty() && limits.is_empty() => {
                lines.push(format!("{provider}/{model}: other names or tiers"));
            }
            Difference::Changed { provider, model, rates, limits } => {
                for change in rates {
                    let shown = |rate: Option<TieredRate>| match rate {
                        Some(rate) => show_rate(change.class, &rate),
                        None => "none".to_owned(),
                    };
                    let since = change.validity.from.map_or_else(String::new, |from| format!(" from {from}"));
                    let (old, new) = (shown(change.old), shown(change.new));
                    lines.push(format!("{provider}/{model} {}{since}: {old} -> {new}", change.class.name()));
                }
                for (name, old, new) in limits {
                    let shown = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
                    lines.push(format!("{provider}/{model} {name}: {} -> {}", shown(old), shown(new)));
                }
            }
        }
    }
    lines
}

/// The audit record of a book that comes into force.
pub fn prices_audit_entry(before: &PriceBook, after: &PriceBook, format: &str, actor: &Actor) -> AuditEntry {
    let mut lines = price_differences(before, after);
    let differences = lines.len();
    // What has a price comes before what has none any more: a whole catalogue may go when another comes.
    lines.sort_by_key(|line| line.ends_with(": removed"));
    lines.truncate(LISTED_MAX);
    let mut entry = AuditEntry::system(None, "prices_changed", "price_book", AuditAction::Update);
    entry.old_values = Some(json!({ "models": before.models() }).to_string());
    let new = json!({ "models": after.models(), "format": format, "differences": differences, "changed": lines });
    entry.new_values = Some(new.to_string());
    entry.changes_summary = Some(format!("Prices changed: {differences} differences, {} models", after.models()));
    actor.sign(&mut entry);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::prices::read_prices;

    #[test]
    fn differences_name_the_model_the_class_and_both_prices() {
        let book = |text: &str| read_prices(PriceFormat::Toml, text).unwrap().book;
        let before = book("[providers.p]\n[prices.p.a]\ninput = \"1\"\noutput = \"2\"\n[prices.p.b]\ninput = \"1\"\n");
        let after = book(concat!(
            "[providers.p]\n[prices.p.a]\ninput = { base = \"1\", above_200000 = \"1.5\" }\noutput = \"2\"\n",
            "max_output_tokens = 900\n[prices.p.c]\ninput = \"1\"\n"
        ));
        assert_eq!(
            price_differences(&before, &after),
            ["p/a input: 1 -> 1, 1.5 above 200000", "p/a max_output_tokens: none -> 900", "p/b: removed", "p/c: added"]
        );
        let entry = prices_audit_entry(&before, &after, "metergate", &Actor::named("admin-key"));
        assert_eq!(entry.changes_summary.as_deref(), Some("Prices changed: 4 differences, 2 models"));
        assert_eq!(entry.actor_id.as_deref(), Some("admin-key"));
    }
}
