//! One event with its cost explained.

use serde::Serialize;

use super::scalar::{Number, number};
use super::usage::EventRow;
use crate::domain::price::{PriceClass, Rate};
use crate::rules::prices::CostLine;
use crate::tracker::{EstimatedCost, ExplainedCost, ExplainedEvent};

/// An event, and why it costs what it costs.
#[derive(Debug, Serialize)]
pub struct EventCostJson {
    /// The event.
    pub event: EventRow,
    /// Where its cost comes from.
    pub cost: CostJson,
}

/// Where a cost comes from.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CostJson {
    /// The caller's own `cost_usd`, which wins over any price.
    Given {
        /// In dollars.
        amount: Number,
    },
    /// By a price row.
    Estimated(Box<EstimateJson>),
    /// Unknown, which is not free.
    Unpriced {
        /// Why.
        reason: String,
    },
}

/// How an estimate adds up.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct EstimateJson {
    /// The sum, in dollars.
    pub amount: Number,
    /// What priced it: `list`, `list_with_markup`, or `own`, a rate of the tenant's own.
    pub layer: &'static str,
    /// What is put on the list's price, in basis points.
    pub markup_bp: i32,
    /// Without the markup, in dollars; null where today's reckoning no longer comes to `amount`.
    pub before_markup: Option<Number>,
    /// The number of the price row; a row never changes.
    pub price_no: u32,
    /// Names the row and its content.
    pub price_row: String,
    pub provider: String,
    pub model: String,
    /// The name by which the model is found in the book of now; null when it means another by now.
    pub alias: Option<String>,
    /// Null: always.
    pub effective_from: Option<String>,
    /// Where the price was published, and when it was last compared with that.
    pub source: Option<String>,
    pub checked: Option<String>,
    /// The highest threshold that applied; null is the base price.
    pub tier_above: Option<u64>,
    /// They add up to `before_markup`; empty where today's reckoning no longer comes to `amount`, which stays.
    pub lines: Vec<LineJson>,
}

/// Count x rate.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LineJson {
    pub class: &'static str,
    /// By which class's price; another where the row does not price `class` apart.
    pub priced_as: &'static str,
    pub count: u64,
    /// Dollars for a million tokens, or for a thousand requests and searches.
    pub rate: Number,
    /// What `rate` is for.
    pub per: u64,
    pub tier_above: Option<u64>,
    pub amount: Number,
}

impl From<ExplainedEvent> for EventCostJson {
    fn from(explained: ExplainedEvent) -> Self {
        let cost = match explained.cost {
            ExplainedCost::Given => {
                let given = explained.event.event.cost_usd.unwrap_or_default();
                CostJson::Given { amount: number(given.to_string()) }
            }
            ExplainedCost::Estimated(estimated) => CostJson::Estimated(Box::new((*estimated).into())),
            ExplainedCost::Unpriced(reason) => CostJson::Unpriced { reason },
        };
        Self { event: explained.event.into(), cost }
    }
}

impl From<EstimatedCost> for EstimateJson {
    fn from(estimated: EstimatedCost) -> Self {
        let EstimatedCost { price_no, price, alias, markup, amount, cost } = estimated;
        let before_markup = cost.as_ref().map(|cost| number(cost.total.to_string()));
        let lines = cost.map_or_else(Vec::new, |cost| cost.lines);
        Self {
            amount: number(amount.to_string()),
            layer: match (&price.tenant_id, markup.is_none()) {
                (Some(_), _) => "own",
                (None, true) => "list",
                (None, false) => "list_with_markup",
            },
            markup_bp: markup.basis_points(),
            before_markup,
            price_no,
            price_row: price.row.id,
            provider: price.row.provider,
            model: price.row.model,
            alias,
            effective_from: price.row.validity.from.map(|from| from.to_string()),
            source: price.source,
            checked: price.checked,
            tier_above: lines.iter().filter_map(|line| line.above).max(),
            lines: lines.iter().map(LineJson::from).collect(),
        }
    }
}

impl From<&CostLine> for LineJson {
    fn from(line: &CostLine) -> Self {
        Self {
            class: line.class.name(),
            priced_as: line.priced_as.name(),
            count: line.count,
            rate: published(line.class, line.rate),
            per: line.class.units_per_price(),
            tier_above: line.above,
            amount: number(line.amount.to_string()),
        }
    }
}

/// A rate as it is published, with all its digits.
pub fn published(class: PriceClass, rate: Rate) -> Number {
    number(rate.published(class).to_string())
}
