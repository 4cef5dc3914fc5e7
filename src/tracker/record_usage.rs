//! Recording: events in, receipts out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::UsageTracker;
use crate::domain::event::{EventOutcome, Rejection, UsageEvent};
use crate::writer::{Receipt, Recorded, WriteError};

/// The most events of one submission, which is one commit.
pub const MAX_EVENTS_PER_SUBMISSION: usize = 10_000;

impl UsageTracker {
    /// Records events in one commit; outcomes stand in the order given. Never waits: a full queue is an error at once.
    ///
    /// Dropping the receipt records all the same. At most 10,000 events; what goes beyond is rejected, event by event.
    pub fn record(&self, events: Vec<UsageEvent>) -> Result<PendingOutcomes, WriteError> {
        self.submit(events, false)
    }

    /// Like [`UsageTracker::record`], waiting for room and for the commit; for threads, not for async tasks.
    pub fn record_blocking(&self, events: Vec<UsageEvent>) -> Result<Vec<EventOutcome>, WriteError> {
        self.submit(events, true)?.wait()
    }

    fn submit(&self, events: Vec<UsageEvent>, wait: bool) -> Result<PendingOutcomes, WriteError> {
        let shared = self.writer.shared();
        if !events.is_empty()
            && events.len() <= MAX_EVENTS_PER_SUBMISSION
            && events.iter().all(|event| event.validate().is_ok())
        {
            let recorded = self.writer.record(shared.prepare(events)?, None, wait)?;
            return Ok(PendingOutcomes { recorded, invalid: Vec::new() });
        }
        let mut invalid = Vec::new();
        let mut valid: Vec<UsageEvent> = Vec::with_capacity(events.len());
        for (place, event) in events.into_iter().enumerate() {
            if place >= MAX_EVENTS_PER_SUBMISSION {
                let message = "a submission holds at most 10,000 events: send the rest in another".to_owned();
                invalid.push((place, Rejection { code: "batch_too_large", message }));
            } else if let Err(error) = event.validate() {
                invalid.push((place, Rejection { code: "invalid_event", message: error.to_string() }));
            } else {
                valid.push(event);
            }
        }
        shared.meter.rejected.add(invalid.len() as u64);
        let recorded = if valid.is_empty() {
            Receipt::ready(Ok(Recorded { outcomes: Vec::new(), settled: None }))
        } else {
            self.writer.record(shared.prepare(valid)?, None, wait)?
        };
        Ok(PendingOutcomes { recorded, invalid })
    }
}

/// Outcomes that are known once the commit is on disk: await it, or wait for it in a thread.
#[must_use = "it tells whether the events reached the disk; drop it on purpose with `drop`"]
#[derive(Debug)]
pub struct PendingOutcomes {
    recorded: Receipt<Recorded>,
    invalid: Vec<(usize, Rejection)>,
}

impl PendingOutcomes {
    /// Blocks this thread. Inside an async task, await it instead.
    pub fn wait(self) -> Result<Vec<EventOutcome>, WriteError> {
        Ok(weave(self.recorded.wait()?.outcomes, self.invalid))
    }
}

impl Future for PendingOutcomes {
    type Output = Result<Vec<EventOutcome>, WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let recorded = ready!(Pin::new(&mut self.recorded).poll(context));
        Poll::Ready(recorded.map(|recorded| weave(recorded.outcomes, std::mem::take(&mut self.invalid))))
    }
}

/// Puts the rejected back to their places, which are in ascending order.
fn weave(mut outcomes: Vec<EventOutcome>, invalid: Vec<(usize, Rejection)>) -> Vec<EventOutcome> {
    if invalid.is_empty() {
        return outcomes;
    }
    let total = outcomes.len() + invalid.len();
    let mut recorded = outcomes.drain(..);
    let mut invalid = invalid.into_iter().peekable();
    (0..total)
        .filter_map(|place| match invalid.next_if(|(rejected, _)| *rejected == place) {
            Some((_, rejection)) => Some(EventOutcome::Rejected(rejection)),
            None => recorded.next(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metergate;
    use crate::writer::Histogram;

    #[test]
    fn what_nobody_waits_for_shares_the_commit_of_what_comes_next() {
        let folder = tempfile::tempdir().unwrap();
        let metergate = Metergate::open(folder.path()).unwrap();
        let tracker = metergate.usage_tracker();
        let event = || vec![UsageEvent::new("acme".parse().unwrap(), "api_call")];
        tracker.record_blocking(event()).unwrap();
        let commits = || tracker.writer.shared().meter.commits.cumulative()[Histogram::BOUNDS.len()];
        let before = commits();
        for _ in 0..100 {
            drop(tracker.record(event()).unwrap());
            // Long enough for the writer to have begun with it, and shorter than it waits for company.
            let dropped = std::time::Instant::now();
            while dropped.elapsed() < std::time::Duration::from_micros(500) {
                std::hint::spin_loop();
            }
            tracker.record_blocking(event()).unwrap();
        }
        // 200 if each had its own. A machine that stops a thread for milliseconds makes some of them late.
        assert!(commits() - before < 150, "{} commits", commits() - before);
        metergate.close();
    }
}
