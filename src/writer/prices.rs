//! The price book in force: prices events on their caller's thread, and knows the number of each row on disk.

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::counters::{OwnPrice, OwnPrices};
use crate::domain::event::{Estimate, UsageEvent};
use crate::domain::price::{ModelLimits, PriceRow, Side};
use crate::domain::price_terms::Markup;
use crate::domain::time::Timestamp;
use crate::rules::price_changes::format_named;
use crate::rules::prices::{AskedName, OwnedAskedName, PriceBook, PriceFileError, read_prices};
use crate::rules::pricing::{Unpriced, total_of};
use crate::store::{Snapshot, StoreError, StoredBook, StoredPrice};

/// Names remembered with what they mean; beyond it they are forgotten and looked up again.
const REMEMBERED_MAX: usize = 1_024;
/// Models without a price that are listed; events of further ones are only counted.
const UNPRICED_MAX: usize = 256;

/// A price book, its file, and the numbers of its rows. Never changed: a new book is a new table.
#[derive(Debug)]
pub struct PriceTable {
    /// What models cost.
    pub book: PriceBook,
    /// The file it was read from.
    pub file: StoredBook,
    /// Another number for another book, as long as the engine is open.
    book_no: u64,
    /// By row id, of every book there ever was.
    numbers: HashMap<String, u32>,
    remembered: RwLock<HashMap<OwnedAskedName, Option<Arc<KnownModel>>>>,
}

/// What a name means.
#[derive(Debug)]
struct KnownModel {
    limits: ModelLimits,
    rows: Vec<(PriceRow, u32)>,
}

impl PriceTable {
    /// The book that the store has. A file that this version cannot read is damage: an older one wrote it, and every
    /// version reads what older ones took. With it, the number of the next price row.
    pub(super) fn load(snapshot: &Snapshot) -> Result<(Self, u32), StoreError> {
        let rows = snapshot.price_rows()?;
        let next_no = rows.last().map_or(0, |(number, _)| number + 1);
        // A tenant's own have their numbers in its terms.
        let listed = rows.into_iter().filter(|(_, price)| price.tenant_id.is_none());
        let numbers = listed.map(|(number, price)| (price.row.id, number)).collect();
        let nothing =
            || StoredBook { format: "metergate".to_owned(), text: String::new(), applied_at: Timestamp::default() };
        let file = snapshot.price_book()?.unwrap_or_else(nothing);
        let book = match read_book(&file) {
            Ok(book) => book,
            Err(_) => return Err(StoreError::Damaged("the price book cannot be read")),
        };
        Ok((Self { book, file, book_no: 0, numbers, remembered: RwLock::default() }, next_no))
    }

    /// Of another book: the table, and the rows that get a number by it, from `next_no` on.
    pub(super) fn with(&self, book: PriceBook, file: StoredBook, next_no: &mut u32) -> (Self, Vec<(u32, StoredPrice)>) {
        let mut numbers = self.numbers.clone();
        let mut added = Vec::new();
        for provider in book.providers() {
            let rows = provider.models().iter().flat_map(|model| &model.rows);
            for row in rows.flat_map(|row| std::iter::once(row.clone()).chain(tokens_only(row))) {
                if !numbers.contains_key(&row.id) {
                    let price_no = *next_no;
                    // Fewer than 2^32 rows fit on any disk.
                    *next_no += 1;
                    numbers.insert(row.id.clone(), price_no);
                    let (source, checked) = (provider.source.clone(), provider.checked.clone());
                    added.push((price_no, StoredPrice { row, source, checked, tenant_id: None }));
                }
            }
        }
        (Self { book, file, book_no: self.book_no + 1, numbers, remembered: RwLock::default() }, added)
    }

    fn estimate(&self, recent: &mut RecentModels, event: &UsageEvent, at: Timestamp) -> Result<Estimate, Unpriced> {
        let model = event.model.as_deref().ok_or(Unpriced::NoModel)?;
        let known = recent.known(self, event.provider.as_deref(), model).ok_or(Unpriced::UnknownModel)?;
        let row = known.rows.iter().rev().find(|(row, _)| row.validity.covers(at));
        let (row, price_no) = row.ok_or(Unpriced::UnknownModel)?;
        Ok(Estimate { cost: total_of(event, row)?, price_no: *price_no, markup: Markup::NONE })
    }

    /// What an event that happened `at` costs a tenant with prices of its own, if it has any.
    pub fn estimate_for(
        &self,
        own: Option<&OwnPrices>,
        event: &UsageEvent,
        at: Timestamp,
    ) -> Result<Estimate, Unpriced> {
        self.estimate_among(&mut RecentModels::default(), own, event, at)
    }

    /// [`PriceTable::estimate_for`] for one of many events, which name the same models.
    pub fn estimate_among(
        &self,
        recent: &mut RecentModels,
        own: Option<&OwnPrices>,
        event: &UsageEvent,
        at: Timestamp,
    ) -> Result<Estimate, Unpriced> {
        let Some(own) = own else { return self.estimate(recent, event, at) };
        let model = event.model.as_deref().ok_or(Unpriced::NoModel)?;
        match own.find((&self.book, self.book_no), event.provider.as_deref(), model, at) {
            OwnPrice::Rate(row, price_no) => {
                Ok(Estimate { cost: total_of(event, row)?, price_no, markup: Markup::NONE })
            }
            OwnPrice::List(markup) => {
                let estimate = self.estimate(recent, event, at)?;
                Ok(Estimate { cost: markup.on(estimate.cost), markup, ..estimate })
            }
        }
    }

    /// What a tenant pays for a model at this time: by a rate of its own, or by the list's with a markup.
    pub fn own_price<'a>(
        &self,
        own: &'a OwnPrices,
        provider: Option<&str>,
        model: &str,
        at: Timestamp,
    ) -> OwnPrice<'a> {
        own.find((&self.book, self.book_no), provider, model, at)
    }

    /// Whether a model has a price for a tenant at this time.
    pub fn has_price_for(&self, own: Option<&OwnPrices>, provider: Option<&str>, model: &str, at: Timestamp) -> bool {
        let by_own = || matches!(own.map(|own| self.own_price(own, provider, model, at)), Some(OwnPrice::Rate(..)));
        self.has_price(provider, model, at) || by_own()
    }

    /// Whether a model has a price at this time.
    pub fn has_price(&self, provider: Option<&str>, model: &str, at: Timestamp) -> bool {
        self.known(provider, model).is_some_and(|known| known.rows.iter().any(|(row, _)| row.validity.covers(at)))
    }

    /// What a model takes and gives at most, as far as the book says.
    pub fn limits(&self, provider: Option<&str>, model: &str) -> ModelLimits {
        self.known(provider, model).map_or_else(ModelLimits::default, |known| known.limits)
    }

    fn known(&self, provider: Option<&str>, model: &str) -> Option<Arc<KnownModel>> {
        if let Some(known) = self.remembered.read().get(&AskedName(provider, model)) {
            return known.clone();
        }
        let found = self.book.find_model(provider, model).map(|found| {
            let number = |row: PriceRow| self.numbers.get(&row.id).map(|number| (row, *number));
            let meant = |row: &PriceRow| match tokens_only(row) {
                Some(row) if found.borrowed => row,
                _ => row.clone(),
            };
            Arc::new(KnownModel {
                limits: found.model.limits,
                rows: found.model.rows.iter().filter_map(|row| number(meant(row))).collect(),
            })
        });
        let mut remembered = self.remembered.write();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(AskedName(provider, model).to_owned_name(), found.clone());
        found
    }
}

/// What the names of a batch mean: they repeat, and are looked up once.
#[derive(Debug, Default)]
pub struct RecentModels(Vec<Recent>);

#[derive(Debug)]
struct Recent {
    provider: Option<CompactString>,
    model: CompactString,
    known: Option<Arc<KnownModel>>,
}

impl RecentModels {
    /// So many are compared one by one.
    const MOST: usize = 16;

    fn known(&mut self, table: &PriceTable, provider: Option<&str>, model: &str) -> Option<&KnownModel> {
        let is_it = |recent: &Recent| recent.model == model && recent.provider.as_deref() == provider;
        let place = match self.0.iter().position(is_it) {
            Some(place) => place,
            None => {
                let known = table.known(provider, model);
                let recent = Recent { provider: provider.map(Into::into), model: model.into(), known };
                if self.0.len() < Self::MOST {
                    self.0.push(recent)
                } else {
                    self.0[Self::MOST - 1] = recent
                }
                self.0.len() - 1
            }
        };
        self.0[place].known.as_deref()
    }
}

/// A row as another provider takes it over: without what its own charges by request and by search. `None` where that is
/// the row itself.
fn tokens_only(row: &PriceRow) -> Option<PriceRow> {
    let mut taken = row.clone();
    taken.rates.retain(|class, _| class.side() != Side::Extra);
    taken.id.push_str("+tokens");
    (taken.rates.len() < row.rates.len()).then_some(taken)
}

/// Reads a book's file in its format.
pub(crate) fn read_book(file: &StoredBook) -> Result<PriceBook, PriceFileError> {
    let unknown = || PriceFileError::Syntax(format!("the format `{}` is not known", file.format));
    let format = format_named(&file.format).ok_or_else(unknown)?;
    read_prices(format, &file.text).map(|imported| imported.book)
}

/// Models that were used and have no price, since the start: what the alarm names.
#[derive(Debug, Default)]
pub struct UnpricedModels(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    models: std::collections::BTreeMap<(CompactString, Option<CompactString>), UnpricedModel>,
    /// Events of models that found no place in the list.
    unlisted_events: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpricedModel {
    /// As events named it.
    pub model: CompactString,
    /// As events named it.
    pub provider: Option<CompactString>,
    /// Events without a cost, repeats and refused ones among them.
    pub events: u64,
    /// The reason of the first one.
    pub reason: String,
}

impl UnpricedModels {
    pub(super) fn note(&self, event: &UsageEvent, reason: &Unpriced) {
        let Some(model) = &event.model else { return };
        let mut listed = self.0.lock();
        let key = (model.clone(), event.provider.clone());
        let full = listed.models.len() >= UNPRICED_MAX;
        match listed.models.get_mut(&key) {
            Some(known) => known.events += 1,
            None if full => listed.unlisted_events += 1,
            None => {
                let (model, provider) = key.clone();
                let first = UnpricedModel { model, provider, events: 1, reason: reason.to_string() };
                listed.models.insert(key, first);
            }
        }
    }

    /// Those listed, by name, and the events of models that found no place in the list.
    pub fn listed(&self) -> (Vec<UnpricedModel>, u64) {
        let listed = self.0.lock();
        (listed.models.values().cloned().collect(), listed.unlisted_events)
    }

    /// A new book: what still has no price is named again by its next event.
    pub(super) fn clear(&self) {
        *self.0.lock() = Listed::default();
    }
}
