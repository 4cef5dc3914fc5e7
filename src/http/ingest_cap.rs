//! How many events one key may record a second. What is refused is told, and nothing of it was recorded.
//!
//! A key owes the time that what it recorded takes at its rate. Who owes less than a second is let in, with all that it
//! brings: so a second's worth may come at once, a batch is taken whole or not at all, and over time no key passes its rate
//! by more than one submission.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use uuid::Uuid;

use super::caller::Caller;
use super::error::ApiError;
use crate::writer::Counter;

/// What a key may owe and still be let in: a second's worth.
const BURST: Duration = Duration::from_secs(1);

/// The cap of a server, and what each key owes. Cheap to clone.
#[derive(Clone)]
pub struct IngestCap(Option<Arc<Cap>>);

struct Cap {
    events_per_second: u64,
    started: Instant,
    /// When each key has paid, in time since `started`. Only keys that exist come here, so there are no more than those.
    paid_at: Mutex<HashMap<Uuid, Duration>>,
    refused: Counter,
}

impl IngestCap {
    /// So many events a second for each key; `None` for no cap.
    pub fn new(events_per_second: Option<u64>) -> Self {
        Self(events_per_second.filter(|rate| *rate > 0).map(|events_per_second| {
            let (paid_at, refused) = (Mutex::default(), Counter::default());
            Arc::new(Cap { events_per_second, started: Instant::now(), paid_at, refused })
        }))
    }

    /// Takes `events` on the caller's account, before they are recorded. Fails with 429 when it owes too much. The built-in
    /// key is the operator's own, who sets the cap, and has none.
    pub fn admit(&self, caller: &Caller, events: usize) -> Result<(), ApiError> {
        let Some((cap, key_id)) = self.of(caller) else { return Ok(()) };
        cap.admit(key_id, events, cap.started.elapsed()).map_err(|wait| cap.refusal(wait))
    }

    /// [`Self::admit`] for a stream, which is slowed down and not broken off.
    pub async fn admit_when_possible(&self, caller: &Caller, events: usize) {
        let Some((cap, key_id)) = self.of(caller) else { return };
        while let Err(wait) = cap.admit(key_id, events, cap.started.elapsed()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Submissions refused since the start.
    pub fn refused(&self) -> u64 {
        self.0.as_ref().map_or(0, |cap| cap.refused.get())
    }

    fn of(&self, caller: &Caller) -> Option<(&Arc<Cap>, Uuid)> {
        let key = &caller.entry().key;
        self.0.as_ref().filter(|_| !key.is_built_in()).map(|cap| (cap, key.key_id))
    }
}

impl Cap {
    /// Fails with how long it takes until the key owes little enough.
    fn admit(&self, key_id: Uuid, events: usize, now: Duration) -> Result<(), Duration> {
        let mut accounts = self.paid_at.lock();
        let paid_at = accounts.entry(key_id).or_default();
        let owed = paid_at.saturating_sub(now);
        if owed >= BURST {
            return Err((owed - BURST).max(Duration::from_millis(1)));
        }
        let nanos = (events as u64).saturating_mul(1_000_000_000) / self.events_per_second;
        *paid_at = now + owed + Duration::from_nanos(nanos);
        Ok(())
    }

    fn refusal(&self, wait: Duration) -> ApiError {
        self.refused.add(1);
        let (rate, seconds) = (self.events_per_second, wait.as_secs_f64().ceil().max(1.0) as u64);
        let message = format!(
            "this key may record {rate} events a second, and has recorded more: nothing of this was recorded; send it again, \
             with the same ids, in {seconds} s"
        );
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message)
            .with_details(json!({ "events_per_second": rate, "retry_after_seconds": seconds }))
            .retry_after(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cap(events_per_second: u64) -> Arc<Cap> {
        IngestCap::new(Some(events_per_second)).0.unwrap()
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_one_after_the_other() {
        let (cap, key) = (cap(10), Uuid::from_u128(1));
        let let_in = |now| (0..100).take_while(|_| cap.admit(key, 1, at(now)).is_ok()).count();
        assert_eq!(let_in(0), 10);
        assert_eq!((let_in(99), let_in(100), let_in(150), let_in(200)), (1, 0, 1, 0));
        assert_eq!(let_in(60_000), 10, "rest is not saved up");
        assert_eq!(cap.admit(Uuid::from_u128(2), 10, at(60_000)), Ok(()), "each key has its own account");
    }

    #[test]
    fn a_batch_is_taken_whole_and_paid_for_before_the_next() {
        let (cap, key) = (cap(100), Uuid::from_u128(1));
        assert_eq!(cap.admit(key, 1_000, at(0)), Ok(()));
        assert_eq!(cap.admit(key, 1, at(0)), Err(at(9_000)));
        assert_eq!(cap.admit(key, 1, at(8_500)), Err(at(500)));
        assert_eq!(cap.admit(key, 1, at(9_001)), Ok(()));
        // Whatever comes, nobody is locked out by a sum that wraps.
        assert_eq!(cap.admit(key, usize::MAX, at(20_000)), Ok(()));
        assert!(cap.admit(key, 1, at(20_000)).is_err());
    }

    #[test]
    fn over_any_time_a_key_passes_its_rate_by_no_more_than_a_second_and_a_submission() {
        let mut random = crate::random::Random::new(crate::fuzz::seed());
        for rate in [1, 7, 1_000] {
            let (cap, key) = (cap(rate), Uuid::from_u128(1));
            let (mut now, mut recorded, mut largest) = (0, 0u64, 0);
            for _ in 0..5_000 {
                now += random.below(300);
                let events = 1 + random.place(2 * rate as usize);
                if cap.admit(key, events, at(now)).is_ok() {
                    recorded += events as u64;
                    largest = largest.max(events as u64);
                }
                assert!(
                    recorded * 1_000 <= now * rate + (rate + largest) * 1_000,
                    "{recorded} of {rate} a second in {now} ms"
                );
            }
            assert!(recorded * 1_000 > now * rate * 8 / 10, "{recorded} of {rate} a second in {now} ms are too few");
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_again_and_that_nothing_was_recorded() {
        let cap = cap(100);
        let error = cap.refusal(at(1_200));
        assert_eq!((error.status().as_u16(), error.code()), (429, "rate_limited"));
        assert!(error.message().contains("nothing of this was recorded") && error.message().contains("in 2 s"));
        assert_eq!(cap.refused.get(), 1);
        assert_eq!(IngestCap::new(None).refused(), 0);
    }
}
