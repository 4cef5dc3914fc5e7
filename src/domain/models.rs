//! Sums by model, beside the sums of their period.
//!
//! At most [`MODELS_MAX`] models stand apart, those first by name, and the rest together. Which models those are depends
//! on nothing but the names, and a model that stands apart in a whole stands apart in each of its parts. So tables merge in
//! any order to the same table, and a day folded from hours is the day recomputed from its events. Events without a model
//! are not kept: they are what the period has beyond its models.

use compact_str::CompactString;

use super::metrics::Rollup;
use super::money::Money;

/// Models of one tenant and period that stand apart.
pub const MODELS_MAX: usize = 64;

/// The sums of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSums {
    /// Each of [`ModelSums::NAMES`].
    pub counts: [u64; Self::NAMES.len()],
    /// Cost of the priced events.
    pub cost: Money,
}

impl ModelSums {
    /// The names of the counts, in order; the first [`ModelSums::OF_PERIOD`] of them are sums of the period too.
    pub const NAMES: [&'static str; 14] = [
        "requests",
        "total_tokens",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "embedding_tokens",
        "unpriced_events",
        "cache_write_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "image_input_tokens",
        "image_output_tokens",
        "web_searches",
    ];
    /// The place of `unpriced_events`.
    pub const UNPRICED: usize = 7;
    /// So many of [`ModelSums::NAMES`] have a sum in [`Rollup`].
    pub const OF_PERIOD: usize = 8;

    /// Adds all of `other`; a sum beyond 64 bits stays at its end.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.saturating_add(more);
        }
        self.cost += other.cost;
    }

    /// The sums of the whole period.
    pub fn of_period(rollup: &Rollup) -> Self {
        let mut counts = [0; Self::NAMES.len()];
        counts[..Self::OF_PERIOD].copy_from_slice(&[
            rollup.api_calls_total,
            rollup.total_tokens_used,
            rollup.input_tokens,
            rollup.cached_input_tokens,
            rollup.output_tokens,
            rollup.reasoning_tokens,
            rollup.embeddings_tokens_used,
            rollup.unpriced_events,
        ]);
        Self { counts, cost: rollup.cost }
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Whose sums they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelKey {
    /// A model's.
    Model(CompactString),
    /// Those of the models that do not stand apart.
    Other,
    /// Those of events that name no model.
    None,
}

/// The sums of a period by model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelTable {
    /// Sorted by name.
    models: Vec<(CompactString, ModelSums)>,
    other: Option<Box<ModelSums>>,
}

impl ModelTable {
    /// From what [`ModelTable::models`] and [`ModelTable::other`] gave; `models` sorted, and at most [`MODELS_MAX`].
    pub fn new(models: Vec<(CompactString, ModelSums)>, other: Option<ModelSums>) -> Self {
        Self { models, other: other.map(Box::new) }
    }

    /// The models that stand apart, by name.
    pub fn models(&self) -> &[(CompactString, ModelSums)] {
        &self.models
    }

    /// The rest, if there is one.
    pub fn other(&self) -> Option<&ModelSums> {
        self.other.as_deref()
    }

    /// Whether no event named a model.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The sums that hold a model's events: its own, or those of the rest.
    pub fn sums_of_mut(&mut self, model: &str) -> Option<&mut ModelSums> {
        match self.models.binary_search_by(|(known, _)| known.as_str().cmp(model)) {
            Ok(place) => Some(&mut self.models[place].1),
            Err(_) => self.other.as_deref_mut(),
        }
    }

    /// Adds to a model's sums.
    pub fn add(&mut self, model: &str, sums: &ModelSums) {
        match self.models.binary_search_by(|(known, _)| known.as_str().cmp(model)) {
            Ok(place) => self.models[place].1.add(sums),
            // The last by name: it would be the one to go.
            Err(MODELS_MAX..) => self.other.get_or_insert_default().add(sums),
            Err(place) => {
                if self.models.capacity() == 0 {
                    // Most tenants' hours have one, and there are many: a list of its own makes room for four.
                    self.models.reserve_exact(1);
                }
                self.models.insert(place, (model.into(), sums.clone()));
                if self.models.len() > MODELS_MAX
                    && let Some((_, last)) = self.models.pop()
                {
                    self.other.get_or_insert_default().add(&last);
                }
            }
        }
    }

    /// Adds every sum of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        other.models.iter().for_each(|(model, sums)| self.add(model, sums));
        if let Some(rest) = &other.other {
            self.other.get_or_insert_default().add(rest);
        }
    }
}

/// A period's sums by model: models by name, then the rest, then what names none; together they are the period's sums.
pub fn by_model(rollup: &Rollup) -> Vec<(ModelKey, ModelSums)> {
    let table = &rollup.models;
    let mut rows: Vec<_> =
        table.models().iter().map(|(model, sums)| (ModelKey::Model(model.clone()), sums.clone())).collect();
    rows.extend(table.other().map(|sums| (ModelKey::Other, sums.clone())));
    let mut none = ModelSums::of_period(rollup);
    for (_, sums) in &rows {
        for (rest, count) in none.counts[..ModelSums::OF_PERIOD].iter_mut().zip(sums.counts) {
            *rest = rest.saturating_sub(count);
        }
        none.cost = Money::from_femtos(none.cost.femtos().saturating_sub(sums.cost.femtos()));
    }
    if !none.is_nothing() {
        rows.push((ModelKey::None, none));
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(requests: u64) -> ModelSums {
        let mut counts = [0; ModelSums::NAMES.len()];
        (counts[0], counts[1], counts[8]) = (requests, requests * 7, requests * 3);
        ModelSums { counts, cost: Money::from_femtos(u128::from(requests) * 11) }
    }

    proptest! {
        #[test]
        fn tables_merge_to_the_same_in_any_order_and_lose_nothing(
            events in prop::collection::vec((0u32..200, 1u64..5), 0..400),
            parts in 1usize..9,
            shift in 0usize..9,
        ) {
            let mut whole = ModelTable::default();
            let mut split = vec![ModelTable::default(); parts];
            for (place, (model, requests)) in events.iter().enumerate() {
                let model = format!("model-{model:03}");
                whole.add(&model, &sums(*requests));
                split[place % parts].add(&model, &sums(*requests));
            }
            split.rotate_left(shift % parts);
            let mut merged = ModelTable::default();
            split.iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(&merged, &whole);
            prop_assert!(merged.models().len() <= MODELS_MAX);
            let mut all = ModelSums::default();
            merged.models().iter().for_each(|(_, sums)| all.add(sums));
            merged.other().into_iter().for_each(|sums| all.add(sums));
            prop_assert_eq!(all, sums(events.iter().map(|(_, requests)| requests).sum()));
        }
    }

    #[test]
    fn what_names_no_model_is_the_rest_of_the_period() {
        let mut rollup =
            Rollup { api_calls_total: 9, total_tokens_used: 80, cost: Money::from_femtos(50), ..Rollup::default() };
        assert_eq!(by_model(&rollup), [(ModelKey::None, ModelSums::of_period(&rollup))]);
        rollup.models.add("gpt-x", &sums(4));
        let rows = by_model(&rollup);
        assert_eq!(rows[0], (ModelKey::Model("gpt-x".into()), sums(4)));
        assert_eq!((rows[1].1.counts[0], rows[1].1.counts[1], rows[1].1.cost.femtos()), (5, 52, 6));
        assert!(by_model(&Rollup::default()).is_empty());
    }
}
