//! A tenant's own rates, laid over the price list.

use super::book::{MAX_NAME, ModelPrices, PriceBook, ProviderPrices};
use super::matching::MatchRule;
use super::names::candidates;
use crate::domain::price::{ModelLimits, PriceRow};

/// Rates of a tenant's own, to be found by the names that the list knows.
#[derive(Clone, Debug, Default)]
pub struct OwnRates {
    providers: Vec<ProviderPrices>,
}

/// A rate that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFound<'a> {
    /// The rate.
    pub row: &'a PriceRow,
    /// The name by which it was found: the one asked for, or a simpler one.
    pub alias: String,
}

impl OwnRates {
    /// Of these rows, each of another model. A row whose model is no name and no pattern finds nothing: it was looked at
    /// when it was set.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a PriceRow>) -> Self {
        let mut providers: Vec<ProviderPrices> = Vec::new();
        for row in rows {
            let Ok(rule) = MatchRule::from_pattern(&row.model) else { continue };
            let place = providers.iter().position(|list| list.id == row.provider).unwrap_or_else(|| {
                providers.push(ProviderPrices::new(&row.provider));
                providers.len() - 1
            });
            let model =
                ModelPrices { id: row.model.clone(), rule, limits: ModelLimits::default(), rows: vec![row.clone()] };
            // One row is never too many.
            let _taken = providers[place].push(model);
        }
        providers.iter_mut().for_each(ProviderPrices::prefer_longer_patterns);
        Self { providers }
    }

    /// The tenant's own rate of a model, if it beats the list's: one of the name itself, or of the model that the list
    /// means by it. A snapshot that the list prices apart is another model.
    ///
    /// `provider` and `model` are what [`PriceBook::find`] takes. Where the list does not know whose a model is, it is the
    /// first provider's that has a rate of just this name.
    pub fn find(&self, list: &PriceBook, provider: Option<&str>, model: &str) -> Option<OwnFound<'_>> {
        if self.providers.is_empty() || model.len() > MAX_NAME || provider.is_some_and(|name| name.len() > MAX_NAME) {
            return None;
        }
        let model = model.trim().to_lowercase();
        let (id, name) = match provider {
            Some(named) => (id_of(list, named), model.as_str()),
            None => self.whose(list, &model)?,
        };
        self.find_in(list, &id, name).or_else(|| {
            let (prefix, rest) = name.split_once('/')?;
            (id_of(list, prefix) == id).then(|| self.find_in(list, &id, rest))?
        })
    }

    fn whose<'m>(&self, list: &PriceBook, model: &'m str) -> Option<(String, &'m str)> {
        if let Some((provider, name)) = list.whose(model) {
            return Some((provider.id.clone(), name));
        }
        if let Some((prefix, name)) = model.split_once('/')
            && self.providers.iter().any(|own| own.id == prefix)
        {
            return Some((prefix.to_owned(), name));
        }
        let own = self.providers.iter().find(|own| own.lists(model))?;
        Some((own.id.clone(), model))
    }

    fn find_in(&self, list: &PriceBook, id: &str, name: &str) -> Option<OwnFound<'_>> {
        let own = self.providers.iter().find(|own| own.id == id)?;
        let listed = list.provider(id).filter(|provider| provider.id == id);
        for alias in candidates(name) {
            let known = listed.and_then(|provider| list.listed_by(provider, &alias));
            let by_model = || own.model(&known?.id.to_lowercase());
            if let Some(model) = own.model(&alias).or_else(by_model) {
                return model.rows.first().map(|row| OwnFound { row, alias });
            }
            if known.is_some() {
                return None;
            }
        }
        None
    }
}

/// The id of a provider by any name that the list knows, else the name.
fn id_of(list: &PriceBook, name: &str) -> String {
    list.provider(name).map_or_else(|| name.trim().to_lowercase(), |provider| provider.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::prices::{PriceFormat, own_rates, read_prices};

    const LIST: &str = r#"
        [providers.openai]
        speaks_for = ["gpt-*"]
        known_as = ["openai-*"]
        [providers.azure]
        falls_back_to = ["openai"]
        [prices.openai.gpt-x]
        also = ["gpt-x-latest"]
        input = "2"
        [prices.openai.gpt-x-2026-01-01]
        input = "5"
    "#;

    #[test]
    fn an_own_rate_beats_the_list_by_every_name_of_its_model_and_of_no_other() {
        let list = read_prices(PriceFormat::Toml, LIST).unwrap().book;
        let rates = r#"{"openai": {"gpt-x": {"input": "1"}, "ft-*": {"input": "3"}}, "azure": {"gpt-y": {"input": "4"}},
            "house": {"llm-7": {"input": "6"}}}"#;
        let rows = own_rates(&serde_json::from_str(rates).unwrap()).unwrap();
        let own = OwnRates::new(&rows);
        let found = |provider, model: &str| own.find(&list, provider, model).map(|found| found.row.model.clone());
        for (provider, model, expected) in [
            (None, "gpt-x", Some("gpt-x")),
            (None, "GPT-X-2026-03-04", Some("gpt-x")),
            (Some("openai-eu"), "gpt-x-latest", Some("gpt-x")),
            (None, "openai/gpt-x", Some("gpt-x")),
            (None, "gpt-x-2026-01-01", None),
            (Some("openai"), "gpt-x-2026-01-01", None),
            (Some("openai"), "ft-7", Some("ft-*")),
            (None, "openai/ft-7", Some("ft-*")),
            (None, "ft-7", None),
            (Some("azure"), "gpt-x", None),
            (Some("azure"), "gpt-y-2026-01-01", Some("gpt-y")),
            (None, "llm-7", Some("llm-7")),
            (None, "house/llm-7", Some("llm-7")),
            (Some("house"), "llm-8", None),
            (None, "", None),
        ] {
            assert_eq!(found(provider, model).as_deref(), expected, "{provider:?} {model}");
        }
    }
}
