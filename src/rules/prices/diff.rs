//! What differs between two price books.

use std::collections::{BTreeMap, BTreeSet};

use super::book::PriceBook;
use crate::domain::price::{ModelLimits, PriceClass, PriceRow, TierRule, TieredRate, Validity};

/// One model whose prices differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the new book lists it.
    Added {
        /// Whose model.
        provider: String,
        /// Which model.
        model: String,
    },
    /// Only the old book lists it.
    Removed {
        /// Whose model.
        provider: String,
        /// Which model.
        model: String,
    },
    /// Both list it, at other prices, under other names or with other limits.
    Changed {
        /// Whose model.
        provider: String,
        /// Which model.
        model: String,
        /// Each rate that differs; empty, as the limits, where only its names or the reading of its tiers do.
        rates: Vec<RateChange>,
        /// Each limit that differs: its name, before, and after.
        limits: Vec<(&'static str, Option<u64>, Option<u64>)>,
    },
}

/// One rate that differs; `None` where the book has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateChange {
    /// Of which class.
    pub class: PriceClass,
    /// Of the row that applies then.
    pub validity: Validity,
    /// Before.
    pub old: Option<TieredRate>,
    /// After.
    pub new: Option<TieredRate>,
}

type Key<'a> = (&'a str, &'a str);

/// Compares two books, by provider and model in order of their names.
pub fn diff(old: &PriceBook, new: &PriceBook) -> Vec<Difference> {
    let (old, new) = (by_name(old), by_name(new));
    let keys: BTreeSet<Key<'_>> = old.keys().chain(new.keys()).copied().collect();
    let mut differences = Vec::new();
    for key in keys {
        let (provider, model) = (key.0.to_owned(), key.1.to_owned());
        match (old.get(&key), new.get(&key)) {
            (None, _) => differences.push(Difference::Added { provider, model }),
            (_, None) => differences.push(Difference::Removed { provider, model }),
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) => {
                let rates = changes(&before.2, &after.2);
                let limits = before.1.named().into_iter().zip(after.1.named());
                let limits = limits.filter(|(old, new)| old != new).map(|((name, old), (_, new))| (name, old, new));
                differences.push(Difference::Changed { provider, model, rates, limits: limits.collect() });
            }
        }
    }
    differences
}

type Rows = BTreeMap<(Option<i64>, Option<(u32, u32)>), (bool, BTreeMap<PriceClass, TieredRate>)>;

/// Every model with its names and its rows; rows are compared by when they apply.
fn by_name(book: &PriceBook) -> BTreeMap<Key<'_>, (String, ModelLimits, Rows)> {
    let mut models = BTreeMap::new();
    for provider in book.providers() {
        for model in provider.models() {
            let rows =
                model.rows.iter().map(|row| (when(row), (row.tier_rule == TierRule::Graduated, row.rates.clone())));
            models.insert(
                (provider.id.as_str(), model.id.as_str()),
                (model.rule.to_string(), model.limits, rows.collect()),
            );
        }
    }
    models
}

fn when(row: &PriceRow) -> (Option<i64>, Option<(u32, u32)>) {
    (row.validity.from.map(|from| from.micros()), row.validity.daily)
}

fn changes(old: &Rows, new: &Rows) -> Vec<RateChange> {
    let times: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let mut changes = Vec::new();
    for (from, daily) in times {
        let validity = Validity { from: from.map(crate::domain::time::Timestamp::from_micros), daily };
        for class in PriceClass::ALL {
            let of = |rows: &Rows| rows.get(&(from, daily)).and_then(|(_, rates)| rates.get(&class)).cloned();
            let (old, new) = (of(old), of(new));
            if old != new {
                changes.push(RateChange { class, validity, old, new });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::prices::{PriceFormat, read_prices};

    #[test]
    fn a_diff_names_what_is_new_what_is_gone_and_each_rate_that_moved() {
        let book = |text: &str| read_prices(PriceFormat::Toml, text).unwrap().book;
        let old = book(concat!(
            "[providers.p]\n[prices.p.a]\ninput = \"1\"\noutput = \"2\"\n[prices.p.b]\ninput = \"1\"\n",
            "[prices.p.same]\ninput = \"1\"\n",
        ));
        let new = book(concat!(
            "[providers.p]\n[prices.p.a]\ninput = \"1\"\noutput = \"3\"\n[prices.p.c]\ninput = \"1\"\n",
            "[prices.p.same]\ninput = \"1\"\n",
        ));
        let differences = diff(&old, &new);
        let named = |model: &str| ("p".to_owned(), model.to_owned());
        let [Difference::Changed { model, rates, .. }, removed, added] = differences.as_slice() else {
            panic!("{differences:?}")
        };
        let femtos = |rate: &Option<TieredRate>| rate.as_ref().map(|rate| rate.base.femtos());
        assert_eq!((model.as_str(), rates.len(), rates[0].class), ("a", 1, PriceClass::Output));
        assert_eq!((femtos(&rates[0].old), femtos(&rates[0].new)), (Some(2_000_000_000), Some(3_000_000_000)));
        assert_eq!(*removed, {
            let (provider, model) = named("b");
            Difference::Removed { provider, model }
        });
        assert_eq!(*added, {
            let (provider, model) = named("c");
            Difference::Added { provider, model }
        });
        assert_eq!(diff(&old, &old), []);
    }
}
