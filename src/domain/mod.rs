//! The words of the trade: tenants, events, quotas, metrics, audit, money and time.
//!
//! Plain values, but for [`names`], which the process keeps once. Nothing here reads a clock, a disk or the environment, and
//! nothing here knows JSON or the file format.

pub mod actor;
pub mod audit;
pub mod backup;
pub mod compact_event;
pub mod event;
mod hold;
pub mod job;
pub mod key;
pub mod metrics;
pub mod models;
pub mod money;
pub mod names;
pub mod price;
pub mod price_terms;
pub mod quota;
pub mod sampling;
pub mod schedule;
pub mod sketch;
pub mod slice;
pub mod tenant;
pub mod threshold;
pub mod time;
pub mod usage;
mod usage_fields;
