//! The documented tracker of one call: it takes the start time, and records however the call ends.

use std::sync::atomic::Ordering;

use super::UsageTracker;
use super::record_usage::PendingOutcomes;
use crate::domain::event::{STATUS_ABANDONED, UsageEvent};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;

/// What a successful call reports; everything is optional.
#[derive(Clone, Debug, Default)]
pub struct Success {
    /// Tokens consumed.
    pub tokens_used: Option<u64>,
    /// Default: the time since the tracker was made.
    pub response_time_ms: Option<u32>,
    /// Default: 200.
    pub status_code: Option<u16>,
    /// A JSON object, merged over the tracker's own.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One call being tracked. Dropped without a word, it records status 499.
///
/// Recording never fails the caller: what cannot be recorded is logged, and the receipt may be dropped.
#[must_use = "a tracker that is dropped records the call as abandoned (499)"]
pub struct Tracker {
    usage: UsageTracker,
    event: Option<UsageEvent>,
    metadata: serde_json::Map<String, serde_json::Value>,
    started: Timestamp,
}

impl UsageTracker {
    /// Starts tracking one call. `metadata` is a JSON object, or nothing.
    pub fn track_usage(
        &self,
        tenant_id: TenantId,
        event_type: &str,
        metadata: Option<serde_json::Map<String, serde_json::Value>>,
    ) -> Tracker {
        Tracker {
            usage: self.clone(),
            event: Some(UsageEvent::new(tenant_id, event_type)),
            metadata: metadata.unwrap_or_default(),
            started: self.writer.shared().clock.now(),
        }
    }
}

impl UsageTracker {
    /// Calls that trackers could not record since the start; each is in the log as well.
    pub fn recording_errors(&self) -> u64 {
        self.writer.shared().recording_errors.load(Ordering::Relaxed)
    }
}

impl Tracker {
    /// Lets the caller fill in the event's other fields (model, session, tokens apart...) before it is recorded.
    pub fn event_mut(&mut self) -> Option<&mut UsageEvent> {
        self.event.as_mut()
    }

    /// The call succeeded. `None` when it could not be queued, which has been logged.
    pub fn record_success(mut self, success: Success) -> Option<PendingOutcomes> {
        if let (Some(event), Some(tokens)) = (&mut self.event, success.tokens_used) {
            event.tokens_consumed = Some(tokens);
        }
        if let (Some(event), Some(time)) = (&mut self.event, success.response_time_ms) {
            event.api_response_time_ms = Some(time);
        }
        self.metadata.extend(success.metadata.unwrap_or_default());
        self.record(success.status_code.unwrap_or(200))
    }

    /// The call failed with `status_code` (documented default: 500); the error goes into the metadata.
    pub fn record_failure(mut self, error: &str, status_code: u16) -> Option<PendingOutcomes> {
        // Bounded, so that a long message never costs the event its place.
        let message: String = error.chars().take(500).collect();
        self.metadata.insert("error".to_owned(), message.into());
        self.record(status_code)
    }

    /// The call was refused by a rate limit: status 429.
    pub fn record_rate_limit(mut self) -> Option<PendingOutcomes> {
        self.record(429)
    }

    fn record(&mut self, status: u16) -> Option<PendingOutcomes> {
        let mut event = self.event.take()?;
        let elapsed = self.usage.writer.shared().clock.now().micros_since(self.started) / 1_000;
        event.api_status_code.get_or_insert(status);
        event.api_response_time_ms.get_or_insert(u32::try_from(elapsed).unwrap_or(u32::MAX));
        if !self.metadata.is_empty() {
            let metadata = serde_json::Value::Object(std::mem::take(&mut self.metadata));
            event.metadata = Some(metadata.to_string().into());
        }
        match self.usage.record(vec![event]) {
            Ok(pending) => Some(pending),
            Err(error) => {
                self.usage.writer.shared().recording_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a call could not be recorded");
                None
            }
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        if self.event.is_some() {
            drop(self.record(STATUS_ABANDONED));
        }
    }
}
