//! Prices change while running: the book in force, what another would change, and the change.

use std::sync::Arc;

use super::{AdminError, Tenants};
use crate::counters::OwnPrice;
use crate::domain::actor::Actor;
use crate::domain::price::PriceRow;
use crate::domain::price_terms::Markup;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::rules::price_changes::{format_name, price_differences};
use crate::rules::prices::{Imported, PriceFormat, read_prices};
use crate::writer::{PriceTable, PricesChange, UnpricedModel};

/// A price file, read, and what it would change.
#[derive(Debug)]
pub struct PricesDiff {
    /// What was read, with remarks.
    pub imported: Imported,
    /// A line for each model or rate that differs from the book in force.
    pub differences: Vec<String>,
}

/// A provider whose prices were last compared with their source long ago, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleProvider {
    /// Which.
    pub provider: String,
    /// When, as a date; `None` is never, as far as the file says.
    pub checked: Option<String>,
    /// Days since then.
    pub days: Option<i64>,
}

/// What a tenant pays for a model now.
#[derive(Clone, Debug, PartialEq)]
pub enum TenantPrice {
    /// By a rate of its own, found by this name.
    Own(Box<PriceRow>, Option<String>),
    /// By the list's, with this markup.
    List(Markup),
}

impl Tenants {
    /// What a tenant pays for a model now; a deleted one is unknown.
    pub fn price_for(
        &self,
        tenant_id: &TenantId,
        provider: Option<&str>,
        model: &str,
    ) -> Result<TenantPrice, AdminError> {
        self.get(tenant_id)?;
        let (shared, prices) = (self.writer.shared(), self.prices());
        let Some(own) = shared.own_prices(tenant_id) else { return Ok(TenantPrice::List(Markup::NONE)) };
        Ok(match prices.own_price(&own, provider, model, shared.clock.now()) {
            OwnPrice::List(markup) => TenantPrice::List(markup),
            OwnPrice::Rate(row, _) => {
                TenantPrice::Own(Box::new(row.clone()), own.alias(&prices.book, provider, model, &row.id))
            }
        })
    }

    /// The price book in force.
    pub fn prices(&self) -> Arc<PriceTable> {
        self.writer.shared().prices.load_full()
    }

    /// Reads a price file and compares it with the book in force. Changes nothing.
    pub fn prices_diff(&self, format: PriceFormat, text: &str) -> Result<PricesDiff, AdminError> {
        let invalid = |error: crate::rules::prices::PriceFileError| AdminError::InvalidPrices(error.to_string());
        let imported = read_prices(format, text).map_err(invalid)?;
        if imported.book.models() == 0 {
            return Err(AdminError::InvalidPrices("the file has no prices".to_owned()));
        }
        let differences = price_differences(&self.prices().book, &imported.book);
        Ok(PricesDiff { imported, differences })
    }

    /// Puts a price file in force, in one transaction with its audit record. What events cost so far stays.
    pub async fn change_prices(&self, format: PriceFormat, text: String, actor: &Actor) -> Result<(), AdminError> {
        Ok(self.writer.change_prices(prices_change(format, text)?, actor)?.await?)
    }

    /// [`Self::change_prices`] for threads.
    pub fn change_prices_blocking(&self, format: PriceFormat, text: String, actor: &Actor) -> Result<(), AdminError> {
        Ok(self.writer.change_prices(prices_change(format, text)?, actor)?.wait()?)
    }

    /// Models that were used since the start and had no price, by name; and the events of models beyond those listed.
    pub fn unpriced_models(&self) -> (Vec<UnpricedModel>, u64) {
        self.writer.shared().unpriced.listed()
    }

    /// Providers whose prices were last compared with their source more than `days` before `now`, or never.
    pub fn stale_prices(&self, days: i64, now: Timestamp) -> Vec<StaleProvider> {
        let prices = self.prices();
        let stale = prices.book.providers().iter().filter_map(|provider| {
            let checked = provider.checked.as_ref();
            let on: Option<Timestamp> = checked.and_then(|date| format!("{date}T00:00:00Z").parse().ok());
            let since = on.map(|on| i64::from(now.day()) - i64::from(on.day()));
            let is_stale = since.is_none_or(|since| since > days);
            is_stale.then(|| StaleProvider { provider: provider.id.clone(), checked: checked.cloned(), days: since })
        });
        stale.collect()
    }
}

fn prices_change(format: PriceFormat, text: String) -> Result<PricesChange, AdminError> {
    let imported = read_prices(format, &text).map_err(|error| AdminError::InvalidPrices(error.to_string()))?;
    Ok(PricesChange { book: imported.book, format: format_name(format).to_owned(), text })
}
