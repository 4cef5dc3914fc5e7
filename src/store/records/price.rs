//! Prices as records: the book as its file was written, and each row that an event may name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{decode, encode, instant, micros};
use crate::domain::price::{PriceClass, PriceRow, Rate, Tier, TierRule, TieredRate, Validity};
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// The price book in force, as its file was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBook {
    /// The name of the file's format.
    pub format: String,
    /// The file.
    pub text: String,
    /// When it came into force.
    pub applied_at: Timestamp,
}

/// A price row that events name by its number, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPrice {
    /// What it is.
    pub row: PriceRow,
    /// Where the price was published.
    pub source: Option<String>,
    /// When it was last compared with that, as a date.
    pub checked: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct BookV1(String, String, i64);

/// (class, base, tiers as (above, rate)), rates in femto-dollars a unit.
type RateV1 = (String, u64, Vec<(u64, u64)>);

#[derive(Serialize, Deserialize)]
struct PriceV1 {
    id: String,
    provider: String,
    model: String,
    from: Option<i64>,
    daily: Option<(u32, u32)>,
    graduated: bool,
    rates: Vec<RateV1>,
    source: Option<String>,
    checked: Option<String>,
}

pub(in crate::store) fn encode_book(book: &StoredBook) -> Result<Vec<u8>, StoreError> {
    encode(&BookV1(book.format.clone(), book.text.clone(), micros(book.applied_at)))
}

pub(in crate::store) fn decode_book(bytes: &[u8]) -> Result<StoredBook, StoreError> {
    let BookV1(format, text, applied_at) = decode(bytes)?;
    Ok(StoredBook { format, text, applied_at: instant(applied_at) })
}

pub(in crate::store) fn encode_price(price: &StoredPrice) -> Result<Vec<u8>, StoreError> {
    let StoredPrice { row, source, checked } = price;
    let rate = |(class, rate): (&PriceClass, &TieredRate)| {
        let tiers = rate.tiers.iter().map(|tier| (tier.above, tier.rate.femtos())).collect();
        (class.name().to_owned(), rate.base.femtos(), tiers)
    };
    encode(&PriceV1 {
        id: row.id.clone(),
        provider: row.provider.clone(),
        model: row.model.clone(),
        from: row.validity.from.map(micros),
        daily: row.validity.daily,
        graduated: row.tier_rule == TierRule::Graduated,
        rates: row.rates.iter().map(rate).collect(),
        source: source.clone(),
        checked: checked.clone(),
    })
}

pub(in crate::store) fn decode_price(bytes: &[u8]) -> Result<StoredPrice, StoreError> {
    let price: PriceV1 = decode(bytes)?;
    let mut rates = BTreeMap::new();
    for (class, base, tiers) in price.rates {
        let class = PriceClass::from_name(&class).ok_or(StoreError::Damaged("a price has an unknown class"))?;
        let tiers = tiers.into_iter().map(|(above, rate)| Tier { above, rate: Rate::from_femtos(rate) }).collect();
        rates.insert(class, TieredRate { base: Rate::from_femtos(base), tiers });
    }
    let row = PriceRow {
        id: price.id,
        provider: price.provider,
        model: price.model,
        validity: Validity { from: price.from.map(instant), daily: price.daily },
        tier_rule: if price.graduated { TierRule::Graduated } else { TierRule::WholeRequest },
        rates,
    };
    Ok(StoredPrice { row, source: price.source, checked: price.checked })
}
