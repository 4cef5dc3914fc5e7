//! Pure decisions: `now` is always an argument, and the same input gives the same answer.

pub mod administration;
pub mod alerts;
pub mod charges;
pub mod content;
pub mod extract;
pub mod keys;
pub mod plan_changes;
pub mod plans;
pub mod price_changes;
pub mod prices;
pub mod pricing;
pub mod retention;
pub mod rollup;
pub mod window;
