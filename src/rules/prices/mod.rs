//! The price book: what a model costs, read from price files, and what a call costs by it.
//!
//! [`PriceBook`] finds the [`PriceRow`](crate::domain::price::PriceRow) of a model at a time, [`cost`] multiplies it with
//! [`UsageCounts`](crate::domain::usage::UsageCounts), and [`OwnRates`] lays a tenant's own on top. What
//! is not known is `None` or an error, never zero.

mod book;
mod cost;
mod decimal;
mod diff;
mod file;
mod genai_file;
mod layers;
mod litellm_file;
mod matching;
mod names;
mod toml_file;

pub use book::{Found, FoundModel, ModelPrices, PriceBook, ProviderPrices};
pub use cost::{Cost, CostError, CostLine, cost, total};
pub use decimal::RateError;
pub use diff::{Difference, RateChange, diff};
pub use file::{Imported, Notice, PriceFileError, PriceFormat, read_prices};
pub use layers::{OwnFound, OwnRates};
pub use matching::{MatchRule, MatchRuleError};
pub use names::{AskedName, OwnedAskedName};
pub use toml_file::{SHIPPED_PRICES, own_rates, own_row};
