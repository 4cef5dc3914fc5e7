//! A tenant's own prices, ready to be found by the names that events bring.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::domain::price::PriceRow;
use crate::domain::price_terms::{Markup, PriceTerms};
use crate::domain::time::Timestamp;
use crate::rules::prices::{AskedName, OwnRates, OwnedAskedName, PriceBook};

/// Names remembered with what they mean; beyond it they are forgotten and looked up again.
const REMEMBERED_MAX: usize = 256;

/// See the module. Never changed: other terms are another value.
#[derive(Debug)]
pub struct OwnPrices {
    terms: Vec<(Arc<PriceTerms>, OwnRates)>,
    remembered: RwLock<Remembered>,
}

/// What a name means under each of the terms: the place of a rate.
#[derive(Debug, Default)]
struct Remembered {
    /// Of the price list that names were looked up in.
    list: u64,
    names: HashMap<OwnedAskedName, Arc<[Option<usize>]>>,
}

/// What a tenant pays for a model at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OwnPrice<'a> {
    /// By a rate of its own, with its number.
    Rate(&'a PriceRow, u32),
    /// By the list's, with this markup.
    List(Markup),
}

impl OwnPrices {
    pub(super) fn new(terms: &[Arc<PriceTerms>]) -> Self {
        let ready =
            |terms: &Arc<PriceTerms>| (Arc::clone(terms), OwnRates::new(terms.rates.iter().map(|rate| &rate.row)));
        Self { terms: terms.iter().map(ready).collect(), remembered: RwLock::default() }
    }

    /// Whether these are the terms they were made of.
    pub(super) fn are_of(&self, terms: &[Arc<PriceTerms>]) -> bool {
        let same = |((own, _), other): (&(Arc<PriceTerms>, OwnRates), &Arc<PriceTerms>)| Arc::ptr_eq(own, other);
        self.terms.len() == terms.len() && self.terms.iter().zip(terms).all(same)
    }

    /// What holds for a model `at`. `list` is the price list, and `list_no` another number for another list.
    pub fn find(
        &self,
        (list, list_no): (&PriceBook, u64),
        provider: Option<&str>,
        model: &str,
        at: Timestamp,
    ) -> OwnPrice<'_> {
        let Some(place) = self.terms.iter().rposition(|(terms, _)| terms.from <= at) else {
            return OwnPrice::List(Markup::NONE);
        };
        let (terms, _) = &self.terms[place];
        if !terms.rates.is_empty() {
            let rate = self.meaning((list, list_no), provider, model)[place].map(|rate| &terms.rates[rate]);
            if let Some(rate) = rate
                && let Some(price_no) = rate.price_no
            {
                return OwnPrice::Rate(&rate.row, price_no);
            }
        }
        OwnPrice::List(terms.markup)
    }

    fn meaning(&self, (list, list_no): (&PriceBook, u64), provider: Option<&str>, model: &str) -> Arc<[Option<usize>]> {
        let name = AskedName(provider, model);
        {
            let remembered = self.remembered.read();
            if remembered.list == list_no
                && let Some(meaning) = remembered.names.get(&name)
            {
                return Arc::clone(meaning);
            }
        }
        let of_terms = |(terms, rates): &(Arc<PriceTerms>, OwnRates)| {
            let found = rates.find(list, provider, model)?;
            terms.rates.iter().position(|rate| rate.row.id == found.row.id)
        };
        let meaning: Arc<[Option<usize>]> = self.terms.iter().map(of_terms).collect();
        let mut remembered = self.remembered.write();
        if remembered.list != list_no || remembered.names.len() >= REMEMBERED_MAX {
            *remembered = Remembered { list: list_no, names: HashMap::new() };
        }
        remembered.names.insert(name.to_owned_name(), Arc::clone(&meaning));
        meaning
    }

    /// The name by which a rate of this id is found now, whenever it held; `None` when it is none of these terms.
    pub fn alias(&self, list: &PriceBook, provider: Option<&str>, model: &str, row_id: &str) -> Option<String> {
        let found = self.terms.iter().filter_map(|(_, rates)| rates.find(list, provider, model));
        found.into_iter().find(|found| found.row.id == row_id).map(|found| found.alias)
    }
}
