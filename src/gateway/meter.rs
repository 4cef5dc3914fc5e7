//! What the door counts, for `/metrics`: by upstream and class of status, never by tenant or model.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::writer::{Counter, Histogram};

/// The calls of one upstream, by class of status; the first is for calls that got no answer.
pub const UPSTREAM_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What one upstream answered.
#[derive(Debug, Default)]
pub struct UpstreamMeter {
    /// By [`UPSTREAM_CLASSES`].
    pub classes: [Counter; UPSTREAM_CLASSES.len()],
}

impl UpstreamMeter {
    /// Notes an answer's status; `None` where there was none.
    pub(super) fn note(&self, status: Option<u16>) {
        let class = status.map_or(0, |status| usize::from(status / 100).clamp(1, 5));
        self.classes[class].add(1);
    }
}

/// What the door counts over all upstreams.
#[derive(Debug, Default)]
pub struct GatewayMeter {
    /// From a call's body to the sending of it upstream: reading, counting, and the hold on disk.
    pub before: Histogram,
    /// Calls whose usage was estimated, since the upstream did not tell it.
    pub estimated: Counter,
    /// Settlements that failed for good: their holds lapse, and what they used is in the log only.
    pub unsettled: Counter,
    open: AtomicU64,
}

impl GatewayMeter {
    /// Calls that are open: asked upstream, not settled yet.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}
