//! Prices as records: the book as its file was written, and each row that an event may name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{SECOND_VERSION, decode, decode_body, decode_either, encode, encode_as, instant, micros};
use crate::domain::price::{PriceClass, PriceRow, Rate, Tier, TierRule, TieredRate, Validity};
use crate::domain::tenant::TenantId;
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
    /// Whose own rate it is; `None`: the price list's.
    pub tenant_id: Option<TenantId>,
}

#[derive(Serialize, Deserialize)]
struct BookV1(String, String, i64);

/// (class, base, tiers as (above, rate)), rates in femto-dollars a unit.
type RateV1 = (String, u64, Vec<(u64, u64)>);

#[derive(Serialize, Deserialize)]
pub(super) struct PriceV1 {
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

/// The first version and whose own rate it is; only of those.
#[derive(Serialize, Deserialize)]
struct PriceV2(PriceV1, Option<String>);

pub(in crate::store) fn encode_book(book: &StoredBook) -> Result<Vec<u8>, StoreError> {
    encode(&BookV1(book.format.clone(), book.text.clone(), micros(book.applied_at)))
}

pub(in crate::store) fn decode_book(bytes: &[u8]) -> Result<StoredBook, StoreError> {
    let BookV1(format, text, applied_at) = decode(bytes)?;
    Ok(StoredBook { format, text, applied_at: instant(applied_at) })
}

pub(in crate::store) fn encode_price(price: &StoredPrice) -> Result<Vec<u8>, StoreError> {
    let StoredPrice { row, source, checked, tenant_id } = price;
    let record = PriceV1::of(row, source.clone(), checked.clone());
    match tenant_id {
        None => encode(&record),
        Some(tenant_id) => encode_as(SECOND_VERSION, &PriceV2(record, Some(tenant_id.to_string()))),
    }
}

impl PriceV1 {
    pub(super) fn of(row: &PriceRow, source: Option<String>, checked: Option<String>) -> Self {
        let rate = |(class, rate): (&PriceClass, &TieredRate)| {
            let tiers = rate.tiers.iter().map(|tier| (tier.above, tier.rate.femtos())).collect();
            (class.name().to_owned(), rate.base.femtos(), tiers)
        };
        Self {
            id: row.id.clone(),
            provider: row.provider.clone(),
            model: row.model.clone(),
            from: row.validity.from.map(micros),
            daily: row.validity.daily,
            graduated: row.tier_rule == TierRule::Graduated,
            rates: row.rates.iter().map(rate).collect(),
            source,
            checked,
        }
    }

    /// The row, its source, and when it was compared with that.
    pub(super) fn read(self) -> Result<(PriceRow, Option<String>, Option<String>), StoreError> {
        let price = self;

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
        Ok((row, price.source, price.checked))
    }
}

pub(in crate::store) fn decode_price(bytes: &[u8]) -> Result<StoredPrice, StoreError> {
    let PriceV2(record, tenant_id) = decode_either(bytes, |body| Ok(PriceV2(decode_body(body)?, None)), decode_body)?;
    let (row, source, checked) = record.read()?;
    let tenant_id = tenant_id.map(|id| id.parse().map_err(|_| StoreError::Damaged("a price has no valid tenant")));
    Ok(StoredPrice { row, source, checked, tenant_id: tenant_id.transpose()? })
}
