//! UsageTracker: records what happened, and reads what it adds up to.

mod aggregate_usage_metrics;
mod by_model;
mod cleanup_old_realtime_events;
mod event_cost;
mod events;
mod export_usage;
mod fold;
mod overview;
mod recompute;
mod record_usage;
mod reprice;
mod rows;
mod track_usage;
mod types;
mod verify;

pub use by_model::ByModel;
pub use event_cost::{EstimatedCost, ExplainedCost, ExplainedEvent};
pub use export_usage::ExportedUsage;
pub use record_usage::PendingOutcomes;
pub use reprice::{RepriceRequest, Repriced, RepricedModel};
pub use track_usage::{Success, Tracker};
pub use types::*;

use std::sync::Arc;

use crate::writer::Writer;

/// Records usage and reads it back. Cheap to clone; clones share one engine.
#[derive(Clone)]
pub struct UsageTracker {
    writer: Arc<Writer>,
}

impl UsageTracker {
    pub(crate) const fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }
}
