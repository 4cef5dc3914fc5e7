//! Pure decisions: `now` is always an argument, and the same input gives the same answer.

pub mod administration;
pub mod alerts;
pub mod audit_bundle;
pub mod charges;
pub mod checkpoint;
pub mod content;
pub mod erasure;
pub mod extract;
pub mod keys;
pub mod memory;
pub mod merkle;
pub mod plan_changes;
pub mod plan_costs;
pub mod plans;
pub mod price_changes;
pub mod price_terms;
pub mod prices;
pub mod pricing;
pub mod reconcile;
pub mod retention;
pub mod rollup;
pub mod window;
