//! The price book in force: prices events on their caller's thread, and knows the number of each row on disk.

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::{Equivalent, HashMap};
use parking_lot::{Mutex, RwLock};

use crate::domain::event::{Estimate, UsageEvent};
use crate::domain::price::{PriceRow, Side};
use crate::domain::time::Timestamp;
use crate::rules::price_changes::format_named;
use crate::rules::prices::{PriceBook, PriceFileError, read_prices};
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
    /// By row id, of every book there ever was.
    numbers: HashMap<String, u32>,
    remembered: RwLock<HashMap<OwnedName, Option<Arc<KnownModel>>>>,
}

/// A table that comes into force, and the rows that are new with it, by number.
pub(super) type StagedPrices = (Arc<PriceTable>, Vec<(u32, StoredPrice)>);

/// What a name means.
#[derive(Debug)]
struct KnownModel {
    rows: Vec<(PriceRow, u32)>,
}

/// Provider and model, as an event names them.
type OwnedName = (Option<CompactString>, CompactString);

/// The same, borrowed.
#[derive(Hash)]
struct Name<'a>(Option<&'a str>, &'a str);

impl Equivalent<OwnedName> for Name<'_> {
    fn equivalent(&self, known: &OwnedName) -> bool {
        (self.0, self.1) == (known.0.as_deref(), known.1.as_str())
    }
}

impl PriceTable {
    /// The book that the store has. A file that this version cannot read is damage: an older one wrote it, and every
    /// version reads what older ones took.
    pub(super) fn load(snapshot: &Snapshot) -> Result<Self, StoreError> {
        let numbers = snapshot.price_rows()?.into_iter().map(|(number, price)| (price.row.id, number)).collect();
        let nothing =
            || StoredBook { format: "metergate".to_owned(), text: String::new(), applied_at: Timestamp::default() };
        let file = snapshot.price_book()?.unwrap_or_else(nothing);
        let book = match read_book(&file) {
            Ok(book) => book,
            Err(_) => return Err(StoreError::Damaged("the price book cannot be read")),
        };
        Ok(Self { book, file, numbers, remembered: RwLock::default() })
    }

    /// Of another book: the table, and the rows that get a number by it.
    pub(super) fn with(&self, book: PriceBook, file: StoredBook) -> (Self, Vec<(u32, StoredPrice)>) {
        let mut numbers = self.numbers.clone();
        let mut added = Vec::new();
        for provider in book.providers() {
            let rows = provider.models().iter().flat_map(|model| &model.rows);
            for row in rows.flat_map(|row| std::iter::once(row.clone()).chain(tokens_only(row))) {
                // Numbers are given without gaps, and fewer than 2^32 rows fit on any disk.
                let next = numbers.len() as u32;
                if !numbers.contains_key(&row.id) {
                    numbers.insert(row.id.clone(), next);
                    let (source, checked) = (provider.source.clone(), provider.checked.clone());
                    added.push((next, StoredPrice { row, source, checked }));
                }
            }
        }
        (Self { book, file, numbers, remembered: RwLock::default() }, added)
    }

    /// What an event that happened `at` costs by the book.
    pub fn estimate(&self, event: &UsageEvent, at: Timestamp) -> Result<Estimate, Unpriced> {
        let model = event.model.as_deref().ok_or(Unpriced::NoModel)?;
        let known = self.known(event.provider.as_deref(), model).ok_or(Unpriced::UnknownModel)?;
        let row = known.rows.iter().rev().find(|(row, _)| row.validity.covers(at));
        let (row, price_no) = row.ok_or(Unpriced::UnknownModel)?;
        Ok(Estimate { cost: total_of(event, row)?, price_no: *price_no })
    }

    /// Whether a model has a price at this time.
    pub fn has_price(&self, provider: Option<&str>, model: &str, at: Timestamp) -> bool {
        self.known(provider, model).is_some_and(|known| known.rows.iter().any(|(row, _)| row.validity.covers(at)))
    }

    fn known(&self, provider: Option<&str>, model: &str) -> Option<Arc<KnownModel>> {
        if let Some(known) = self.remembered.read().get(&Name(provider, model)) {
            return known.clone();
        }
        let found = self.book.find_model(provider, model).map(|found| {
            let number = |row: PriceRow| self.numbers.get(&row.id).map(|number| (row, *number));
            let meant = |row: &PriceRow| match tokens_only(row) {
                Some(row) if found.borrowed => row,
                _ => row.clone(),
            };
            Arc::new(KnownModel { rows: found.model.rows.iter().filter_map(|row| number(meant(row))).collect() })
        });
        let mut remembered = self.remembered.write();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert((provider.map(Into::into), model.into()), found.clone());
        found
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
