//! Waiting for company: a commit takes along whom it can have for a short wait.
//!
//! A commit that nobody waits for waits for others. One that is waited for waits for those who are about to come: callers
//! who wait for each commit come back as soon as they are answered, and a commit that began with the first of them would
//! keep all others waiting for a whole sync more.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::command::Command;
use super::thread::{COMMANDS_PER_COMMIT, EVENTS_PER_COMMIT, WriterThread};

/// How long a command that nobody waits for may wait for others.
const COMPANY_WAIT: Duration = Duration::from_millis(2);
/// Fewer callers than this are not waited for: what they gain is less than what one of them loses.
const CROWD_MIN: usize = 8;
/// Callers are waited for as long as a quarter of the last commit took, within these bounds.
const CROWD_WAIT_MIN: Duration = Duration::from_micros(50);
const CROWD_WAIT_MAX: Duration = Duration::from_micros(500);

/// Who waited for the last commit.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// Those it answered, and those who came meanwhile.
    callers: usize,
    /// How long it took.
    took: Duration,
}

impl Crowd {
    /// A commit that took so long answers `answered` callers, while `queued` wait for the next one.
    pub(super) const fn of(answered: usize, queued: usize, took: Duration) -> Self {
        Self { callers: answered + queued, took }
    }

    /// How many are to be there for the next one, and how long that may take; `None` when nobody is waited for.
    fn expected(&self) -> Option<(usize, Duration)> {
        let most = (self.took / 4).clamp(CROWD_WAIT_MIN, CROWD_WAIT_MAX);
        // One in ten may have gone elsewhere.
        (self.callers >= CROWD_MIN).then_some((self.callers - self.callers / 10, most))
    }
}

impl WriterThread {
    /// Lets others join a command. One whose caller does not wait for its commit waits until one comes that is waited
    /// for, and for a moment at most: so the settlement of a forwarded call does not hold up the hold of the next one.
    pub(super) fn in_company(&mut self, first: Command) -> Command {
        let until = Instant::now() + COMPANY_WAIT;
        // What a full commit left behind comes first, and may be waited for.
        let mut is_awaited = first.is_awaited() || self.waiting.iter().any(Command::is_awaited);
        while !is_awaited && !self.fills_a_commit() {
            let Ok(command) = self.commands.recv_deadline(until) else { break };
            is_awaited = command.is_awaited();
            self.waiting.push_back(command);
        }
        if let Some((callers, most)) = self.crowd.expected() {
            let until = Instant::now() + most;
            while 1 + self.waiting.len() + self.commands.len() < callers
                && !self.fills_a_commit()
                && Instant::now() < until
            {
                // They need the processor more than this thread does.
                std::thread::yield_now();
            }
        }
        first
    }

    /// Whether what is queued fills a commit by itself: then more company is no gain.
    fn fills_a_commit(&self) -> bool {
        self.waiting.len() >= COMMANDS_PER_COMMIT || self.queued_events.load(Ordering::Relaxed) >= EVENTS_PER_COMMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_not_waited_for_and_nobody_for_long() {
        let of = |answered, queued, micros| Crowd::of(answered, queued, Duration::from_micros(micros)).expected();
        assert_eq!(of(4, 3, 200), None);
        assert_eq!(of(60, 4, 150), Some((58, CROWD_WAIT_MIN)));
        assert_eq!(of(64, 0, 1_000), Some((58, Duration::from_micros(250))));
        assert_eq!(of(8, 0, 60_000_000), Some((8, CROWD_WAIT_MAX)));
    }
}
