//! Price rows and what a price file would change.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cost::published;
use super::scalar::{Number, number};
use crate::domain::price::{PriceClass, PriceRow, TierRule, TieredRate};
use crate::domain::tenant::TenantId;
use crate::rules::prices::Notice;
use crate::tracker::{Repriced, RepricedModel};

/// A price row.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PriceJson {
    pub provider: String,
    pub model: String,
    /// Names the row and its content.
    pub price_row: String,
    /// Null: always.
    pub effective_from: Option<String>,
    /// `16:30-00:30`, in UTC; null is all day.
    pub daily: Option<String>,
    /// `whole`: a tier prices the whole request; `graduated`: only what lies above its threshold.
    pub tiers: &'static str,
    /// By class, in dollars for a million tokens, or for a thousand requests and searches.
    pub rates: BTreeMap<&'static str, RateJson>,
}

/// A price and its tiers.
#[derive(Debug, Serialize)]
pub struct RateJson {
    /// Below every threshold.
    pub base: Number,
    /// Thresholds ascending; left out when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierJson>,
}

/// A price above a threshold.
#[derive(Debug, Serialize)]
pub struct TierJson {
    /// In tokens.
    pub above: u64,
    /// The price there.
    pub rate: Number,
}

impl From<&PriceRow> for PriceJson {
    fn from(row: &PriceRow) -> Self {
        let clock = |seconds: u32| format!("{:02}:{:02}", seconds / 3_600, seconds / 60 % 60);
        Self {
            provider: row.provider.clone(),
            model: row.model.clone(),
            price_row: row.id.clone(),
            effective_from: row.validity.from.map(|from| from.to_string()),
            daily: row.validity.daily.map(|(start, end)| format!("{}-{}", clock(start), clock(end))),
            tiers: if row.tier_rule == TierRule::Graduated { "graduated" } else { "whole" },
            rates: row.rates.iter().map(|(class, rate)| (class.name(), rate_json(*class, rate))).collect(),
        }
    }
}

fn rate_json(class: PriceClass, rate: &TieredRate) -> RateJson {
    let tiers = rate.tiers.iter().map(|tier| TierJson { above: tier.above, rate: published(class, tier.rate) });
    RateJson { base: published(class, rate.base), tiers: tiers.collect() }
}

/// A remark about an entry of a file that was not taken as it stands.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of Notice")]
pub struct NoticeJson {
    pub provider: String,
    pub model: String,
    pub field: String,
    pub remark: String,
}

impl From<&Notice> for NoticeJson {
    fn from(notice: &Notice) -> Self {
        Self {
            provider: notice.provider.clone(),
            model: notice.model.clone(),
            field: notice.field.clone(),
            remark: notice.remark.clone(),
        }
    }
}

/// What a price file changes.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PricesChangedJson {
    pub applied: bool,
    pub format: &'static str,
    pub providers: u64,
    pub models: u64,
    /// A line each, at most 1,000.
    pub differences: Vec<String>,
    pub differences_total: u64,
    /// What of the file was not taken as it stands, at most 100.
    pub notices: Vec<NoticeJson>,
    pub notices_total: u64,
}

/// What pricing again changed, or would change.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of Repriced")]
pub struct RepricedJson {
    pub applied: bool,
    pub events: u64,
    pub changed: u64,
    pub without_price: u64,
    pub differences: Vec<RepricedModelJson>,
    /// Changed events that found no place in `differences`.
    pub untold: u64,
}

/// One tenant's model.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of RepricedModel")]
pub struct RepricedModelJson {
    pub tenant_id: String,
    pub model: String,
    pub events: u64,
    pub newly_priced: u64,
    pub before: Number,
    pub after: Number,
}

impl RepricedJson {
    /// With whether it was done.
    pub fn new(repriced: &Repriced, applied: bool) -> Self {
        let difference = |((tenant_id, model), difference): (&(TenantId, String), &RepricedModel)| RepricedModelJson {
            tenant_id: tenant_id.to_string(),
            model: model.clone(),
            events: difference.events,
            newly_priced: difference.newly_priced,
            before: number(difference.before.to_string()),
            after: number(difference.after.to_string()),
        };
        Self {
            applied,
            events: repriced.events,
            changed: repriced.changed,
            without_price: repriced.without_price,
            differences: repriced.differences.iter().map(difference).collect(),
            untold: repriced.untold,
        }
    }
}
