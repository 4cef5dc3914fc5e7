//! The book: providers, their models, and the rows in force at a time.

use std::collections::HashMap;
use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use super::cost::{Cost, CostError, price};
use super::file::PriceFileError;
use super::matching::MatchRule;
use super::names::candidates;
use crate::domain::price::{ModelLimits, PriceRow, Validity};
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;

/// Most providers of one book.
pub(super) const MAX_PROVIDERS: usize = 1_000;
/// Most models of one book.
pub(super) const MAX_MODELS: usize = 20_000;
/// Most rows of one model.
pub(super) const MAX_ROWS: usize = 64;
/// Longest name of a provider or a model that is looked up.
pub(super) const MAX_NAME: usize = 256;

/// Prices by provider and model.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    providers: Vec<ProviderPrices>,
    models: usize,
}

/// One provider's price list.
#[derive(Clone, Debug)]
pub struct ProviderPrices {
    /// Its name, in lower case.
    pub id: String,
    /// Where its prices are published.
    pub source: Option<String>,
    /// When they were last compared with that, as a date.
    pub checked: Option<String>,
    /// Its other names.
    pub known_as: Option<MatchRule>,
    /// Models that are its own when no provider is named.
    pub speaks_for: Option<MatchRule>,
    /// Whose prices it takes for models that it does not list.
    pub falls_back_to: Vec<String>,
    models: Vec<ModelPrices>,
    exact: HashMap<String, usize>,
    /// Rules beyond whole names, in the order in which they are tried, and whose they are.
    patterns: Vec<(MatchRule, usize)>,
}

/// One model's prices over time.
#[derive(Clone, Debug)]
pub struct ModelPrices {
    /// Its name on the price list.
    pub id: String,
    /// The names it is called by.
    pub rule: MatchRule,
    /// What it takes and gives at most.
    pub limits: ModelLimits,
    /// Of those that cover an instant, the last one is in force.
    pub rows: Vec<PriceRow>,
}

/// A price that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    /// The row in force.
    pub row: &'a PriceRow,
    /// The name by which it was found: the one asked for, or a simpler one.
    pub alias: String,
    /// Whether the row is of another provider, to which the one asked for falls back. Its prices of tokens hold then, but
    /// not what it charges by request and by search: those the platform sets itself.
    pub borrowed: bool,
}

/// A model that was found.
#[derive(Clone, Debug)]
pub struct FoundModel<'a> {
    /// Its prices over time.
    pub model: &'a ModelPrices,
    /// As [`Found::alias`].
    pub alias: String,
    /// As [`Found::borrowed`].
    pub borrowed: bool,
}

impl Found<'_> {
    /// What a call costs by it; see [`cost`](super::cost).
    pub fn cost(&self, counts: &UsageCounts) -> Result<Cost, CostError> {
        price(self.row, counts, !self.borrowed)
    }
}

impl PriceBook {
    /// Looks up a model at a time. `provider` may be any of its names; without one, the model's own says whose it is
    /// (`openai/gpt-4o`, or a model that a provider speaks for). `None` where provider, model or a price in force is
    /// unknown.
    pub fn find(&self, provider: Option<&str>, model: &str, at: Timestamp) -> Option<Found<'_>> {
        let found = self.find_model(provider, model)?;
        found.model.at(at).map(|row| Found { row, alias: found.alias, borrowed: found.borrowed })
    }

    /// The model that a name means, whatever the time; as [`PriceBook::find`].
    pub fn find_model(&self, provider: Option<&str>, model: &str) -> Option<FoundModel<'_>> {
        if model.len() > MAX_NAME || provider.is_some_and(|provider| provider.len() > MAX_NAME) {
            return None;
        }
        let model = model.trim().to_lowercase();
        let (provider, model) = match provider {
            Some(provider) => (self.provider(provider)?, model.as_str()),
            None => self.whose(&model)?,
        };
        self.find_in(provider, model).or_else(|| {
            // A model may carry its provider's name: `azure/gpt-4o`.
            let (prefix, rest) = model.split_once('/')?;
            (self.provider(prefix)?.id == provider.id).then(|| self.find_in(provider, rest))?
        })
    }

    fn find_in<'a>(&'a self, provider: &'a ProviderPrices, model: &str) -> Option<FoundModel<'a>> {
        let others = provider.falls_back_to.iter().filter_map(|other| self.provider(other));
        let lists: Vec<&ProviderPrices> = std::iter::once(provider).chain(others).collect();
        for alias in candidates(model) {
            let found = lists.iter().find_map(|list| Some((list.model(&alias)?, list.id != provider.id)));
            if let Some((model, borrowed)) = found {
                return Some(FoundModel { model, alias, borrowed });
            }
        }
        None
    }

    /// The model that a provider, or one that it falls back to, lists under just this name in lower case.
    pub(super) fn listed_by(&self, provider: &ProviderPrices, lower: &str) -> Option<&ModelPrices> {
        let mut others = provider.falls_back_to.iter().filter_map(|other| self.provider(other));
        let own = self.providers.iter().find(|list| list.id == provider.id)?;
        own.model(lower).or_else(|| others.find_map(|list| list.model(lower)))
    }

    pub(super) fn whose<'a, 'm>(&'a self, model: &'m str) -> Option<(&'a ProviderPrices, &'m str)> {
        if let Some((prefix, rest)) = model.split_once('/')
            && let Some(provider) = self.provider(prefix)
        {
            return Some((provider, rest));
        }
        let speaks = |list: &&ProviderPrices| list.speaks_for.as_ref().is_some_and(|rule| rule.matches(model));
        self.providers.iter().find(speaks).map(|provider| (provider, model))
    }

    /// A provider by any of its names.
    pub fn provider(&self, name: &str) -> Option<&ProviderPrices> {
        let name = name.trim().to_lowercase();
        let known = |list: &&ProviderPrices| list.known_as.as_ref().is_some_and(|rule| rule.matches(&name));
        self.providers.iter().find(|list| list.id == name).or_else(|| self.providers.iter().find(known))
    }

    /// The row of an id that a priced event keeps; `None` once the book has another price in its place.
    pub fn row(&self, id: &str) -> Option<&PriceRow> {
        let rows = self.providers.iter().flat_map(|list| &list.models).flat_map(|model| &model.rows);
        rows.into_iter().find(|row| row.id == id)
    }

    /// Every provider, in the order of the file.
    pub fn providers(&self) -> &[ProviderPrices] {
        &self.providers
    }

    /// How many models it lists.
    pub const fn models(&self) -> usize {
        self.models
    }

    pub(super) fn push(&mut self, provider: ProviderPrices) -> Result<(), PriceFileError> {
        self.models += provider.models.len();
        if self.providers.len() >= MAX_PROVIDERS {
            return Err(PriceFileError::TooMany { what: "providers", limit: MAX_PROVIDERS });
        }
        if self.models > MAX_MODELS {
            return Err(PriceFileError::TooMany { what: "models", limit: MAX_MODELS });
        }
        self.providers.push(provider);
        Ok(())
    }
}

impl ProviderPrices {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_lowercase(),
            source: None,
            checked: None,
            known_as: None,
            speaks_for: None,
            falls_back_to: Vec::new(),
            models: Vec::new(),
            exact: HashMap::new(),
            patterns: Vec::new(),
        }
    }

    /// Whether a model of just this name, in lower case, is listed.
    pub(super) fn lists(&self, lower: &str) -> bool {
        self.exact.contains_key(lower)
    }

    /// Its models, in the order in which they are tried.
    pub fn models(&self) -> &[ModelPrices] {
        &self.models
    }

    /// A model by a name in lower case. A name that is listed word for word beats a pattern; of patterns the first wins.
    pub(super) fn model(&self, lower: &str) -> Option<&ModelPrices> {
        let exact = self.exact.get(lower).copied();
        let by_pattern = || self.patterns.iter().find(|(rule, _)| rule.matches(lower)).map(|(_, index)| *index);
        exact.or_else(by_pattern).map(|index| &self.models[index])
    }

    pub(super) fn push(&mut self, model: ModelPrices) -> Result<(), PriceFileError> {
        if model.rows.len() > MAX_ROWS {
            return Err(PriceFileError::entry(&self.id, &model.id, "", "more than 64 prices of one model"));
        }
        let index = self.models.len();
        for name in model.rule.exact_names() {
            self.exact.entry(name.to_owned()).or_insert(index);
        }
        self.patterns.extend(model.rule.patterns().into_iter().map(|rule| (rule.clone(), index)));
        self.models.push(model);
        Ok(())
    }

    /// Tries longer patterns first, for files in which models have no order.
    pub(super) fn prefer_longer_patterns(&mut self) {
        self.patterns.sort_by_key(|(rule, _)| std::cmp::Reverse(rule.fixed_length()));
    }
}

impl ModelPrices {
    /// The row in force at an instant.
    pub fn at(&self, at: Timestamp) -> Option<&PriceRow> {
        self.rows.iter().rev().find(|row| row.validity.covers(at))
    }
}

/// The id of a row: what it is for, since when, and a digest of its content.
pub(super) fn with_id(mut row: PriceRow) -> PriceRow {
    let mut content = format!("{:?}", row.tier_rule);
    for (class, rate) in &row.rates {
        // Writing to a string cannot fail.
        let _ = write!(content, " {}={}", class.name(), rate.base.femtos());
        for tier in &rate.tiers {
            let _ = write!(content, ">{}:{}", tier.above, tier.rate.femtos());
        }
    }
    let Validity { from, daily } = row.validity;
    let _ = write!(content, " {daily:?}");
    let since = from.map_or_else(|| "start".to_owned(), |from| from.to_datetime().format("%Y-%m-%d").to_string());
    row.id = format!("{}/{}@{since}~{:016x}", row.provider, row.model, xxh3_64(content.as_bytes()));
    row
}
