//! record_audit_event: entries in, receipts out.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::AuditLogger;
use crate::domain::audit::{AuditEntry, AuditOutcome, AuditSubmission, EVENT_DATA_ERASED, MAX_ENTRIES_PER_SUBMISSION};
use crate::domain::event::{MAX_AHEAD_MICROS, Rejection};
use crate::domain::time::Timestamp;
use crate::rules::content::audit_digest;
use crate::writer::{IncomingAudit, Receipt, WriteError};

impl AuditLogger {
    /// Writes one record of this type. Never waits: a full queue is an error at once. Dropping what it gives writes it all
    /// the same.
    pub fn audit_log(&self, event_type: &str, payload: AuditEntry) -> Result<PendingAudit, WriteError> {
        self.record(vec![AuditEntry { event_type: event_type.to_owned(), ..payload }.into()])
    }

    /// Writes entries in one commit; outcomes stand in the order given. At most 1,000; what goes beyond is rejected.
    pub fn record(&self, entries: Vec<AuditSubmission>) -> Result<PendingAudit, WriteError> {
        self.submit(entries, false)
    }

    /// [`Self::record`], waiting for room and for the commit; for threads, not for async tasks.
    pub fn record_blocking(&self, entries: Vec<AuditSubmission>) -> Result<Vec<AuditOutcome>, WriteError> {
        self.submit(entries, true)?.wait()
    }

    fn submit(&self, entries: Vec<AuditSubmission>, wait: bool) -> Result<PendingAudit, WriteError> {
        let shared = self.writer.shared();
        let latest = shared.clock.now().plus_micros(MAX_AHEAD_MICROS);
        let rules = &shared.policies.audit_sampling;
        let mut left_out = Vec::new();
        let (mut settled, mut valid) = (Vec::new(), Vec::with_capacity(entries.len()));
        for (place, AuditSubmission { event_id, entry }) in entries.into_iter().enumerate() {
            match refusal(&entry, place, latest) {
                Some(rejection) => settled.push((place, AuditOutcome::Rejected(rejection))),
                None if rules.concerns(&entry) && !rules.keeps(&entry, draw(event_id, shared.content_key)) => {
                    left_out.push(entry.event_type);
                    settled.push((place, AuditOutcome::SampledOut));
                }
                None => {
                    let content = audit_digest(&entry, shared.content_key);
                    valid.push(IncomingAudit { event_id, content, entry });
                }
            }
        }
        let receipt = if valid.is_empty() { Receipt::ready(Ok(Vec::new())) } else { self.writer.audit(valid, wait)? };
        // Not before the rest is taken: a full queue brings the whole submission again.
        shared.meter.sampled_out.add(left_out.len() as u64);
        left_out.iter().for_each(|event_type| shared.sampled.note(event_type, shared.clock.now()));
        Ok(PendingAudit { receipt, settled })
    }
}

fn refusal(entry: &AuditEntry, place: usize, latest: Timestamp) -> Option<Rejection> {
    if place >= MAX_ENTRIES_PER_SUBMISSION {
        let message = "a submission holds at most 1,000 audit events: send the rest in another".to_owned();
        return Some(Rejection { code: "batch_too_large", message });
    }
    if let Err(error) = entry.validate() {
        return Some(Rejection { code: "invalid_event", message: error.to_string() });
    }
    if entry.event_type == EVENT_DATA_ERASED {
        let message = format!("event_type {EVENT_DATA_ERASED} is written by an erasure alone: use another");
        return Some(Rejection { code: "invalid_event", message });
    }
    let broken = |json: &String| serde_json::from_str::<serde::de::IgnoredAny>(json).is_err();
    for (field, json) in [("old_values", &entry.old_values), ("new_values", &entry.new_values)] {
        if json.as_ref().is_some_and(broken) {
            return Some(Rejection { code: "invalid_event", message: format!("{field} are not JSON") });
        }
    }
    entry.occurred_at.filter(|time| *time > latest).map(|time| Rejection {
        code: "timestamp_in_future",
        message: format!("occurred_at {time} is more than 5 minutes ahead of the server's clock"),
    })
}

/// Outcomes that come once the entries are on disk: wait for them in a thread, await them in a task, or drop this.
#[must_use = "what was not recorded is told here; drop it on purpose with `drop`"]
#[derive(Debug)]
pub struct PendingAudit {
    receipt: Receipt<Vec<AuditOutcome>>,
    /// What needed no writing, in ascending places.
    settled: Vec<(usize, AuditOutcome)>,
}

impl PendingAudit {
    /// Blocks this thread until the outcomes are known.
    pub fn wait(self) -> Result<Vec<AuditOutcome>, WriteError> {
        Ok(merge(self.receipt.wait()?, self.settled))
    }
}

impl Future for PendingAudit {
    type Output = Result<Vec<AuditOutcome>, WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcomes = ready!(Pin::new(&mut self.receipt).poll(context));
        let settled = std::mem::take(&mut self.settled);
        Poll::Ready(outcomes.map(|outcomes| merge(outcomes, settled)))
    }
}

/// Puts what was settled before, in ascending places, back between the outcomes.
fn merge(outcomes: Vec<AuditOutcome>, settled: Vec<(usize, AuditOutcome)>) -> Vec<AuditOutcome> {
    let mut merged = outcomes;
    for (place, outcome) in settled {
        merged.insert(place.min(merged.len()), outcome);
    }
    merged
}

/// The number that decides whether an entry is kept: of its id, so that a retry fares as the first time; else any.
fn draw(event_id: Option<uuid::Uuid>, key: u64) -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let bits = event_id.map_or_else(|| u128::from(COUNT.fetch_add(1, Ordering::Relaxed)), |id| id.as_u128());
    xxh3_64_with_seed(&bits.to_le_bytes(), key)
}
