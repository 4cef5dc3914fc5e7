//! What one tenant's hour has gained since its row was last folded.

use crate::domain::compact_event::CompactEvent;
use crate::domain::event::event_types;
use crate::domain::metrics::Rollup;
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};
use crate::rules::erasure::erased_session_hash;
use crate::rules::rollup::count_event;

/// Sums and the count of events in each second, from which the peak follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HourDelta {
    rollup: Rollup,
    /// (second of the hour, events), sorted.
    seconds: Vec<(u16, u32)>,
    /// When the first and the last of what is in it were committed.
    written: Option<(Timestamp, Timestamp)>,
}

/// What a chat session is counted by: a keyed hash, which outlives the session's name where that was erased.
pub fn session_hash(session: &str, session_key: u64) -> u64 {
    let kept = erased_session_hash(session);
    kept.unwrap_or_else(|| xxhash_rust::xxh3::xxh3_64_with_seed(session.as_bytes(), session_key))
}

impl HourDelta {
    /// Adds one event that happened `at`. `session_key` keys the hash of its chat session.
    pub fn add(&mut self, event: &CompactEvent, at: Timestamp, created_at: Timestamp, session_key: u64) {
        self.note_written(created_at, created_at);
        let session = match event.chat_session_id() {
            Some(session) if event.event_type() == event_types::CHAT_MESSAGE => {
                Some(session_hash(session, session_key))
            }
            _ => None,
        };
        count_event(&mut self.rollup, event, session);
        self.add_second((at.micros() / MICROS_PER_SECOND % 3_600) as u16, 1);
    }

    /// Adds quota denials.
    pub fn add_denials(&mut self, count: u64, at: Timestamp) {
        self.note_written(at, at);
        self.rollup.quota_exceeded_count = self.rollup.quota_exceeded_count.saturating_add(count);
    }

    /// Adds all of `other`, which is of the same tenant and hour.
    pub fn merge(&mut self, other: &Self) {
        self.rollup.merge(&other.rollup);
        if let Some((first, last)) = other.written {
            self.note_written(first, last);
        }
        for &(second, count) in &other.seconds {
            self.add_second(second, count);
        }
    }

    fn note_written(&mut self, first: Timestamp, last: Timestamp) {
        let (known_first, known_last) = self.written.unwrap_or((first, last));
        self.written = Some((known_first.min(first), known_last.max(last)));
    }

    /// When the first and the last of what is in it were committed.
    pub fn written(&self) -> (Timestamp, Timestamp) {
        self.written.unwrap_or_default()
    }

    /// Events in each second of the hour, sorted.
    pub fn seconds(&self) -> &[(u16, u32)] {
        &self.seconds
    }

    /// Counts events of a second towards the peak only.
    pub fn add_second(&mut self, second: u16, count: u32) {
        // Events mostly come in order: look at the end first.
        match self.seconds.last_mut() {
            Some((last, sum)) if *last == second => *sum += count,
            Some((last, _)) if *last > second => {
                match self.seconds.binary_search_by_key(&second, |&(second, _)| second) {
                    Ok(place) => self.seconds[place].1 += count,
                    Err(place) => self.seconds.insert(place, (second, count)),
                }
            }
            _ => self.seconds.push((second, count)),
        }
    }

    /// Events in it.
    pub const fn events(&self) -> u64 {
        self.rollup.api_calls_total
    }

    /// The sums, with the peak of the seconds seen here.
    pub fn rollup(&self) -> Rollup {
        Rollup { peak_qps: self.peak(), ..self.rollup.clone() }
    }

    /// The most events in any one second.
    pub fn peak(&self) -> u64 {
        u64::from(self.seconds.iter().map(|&(_, count)| count).max().unwrap_or(0))
    }

    /// The sums without their peak, borrowed.
    pub const fn sums(&self) -> &Rollup {
        &self.rollup
    }
}
