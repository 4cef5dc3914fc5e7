//! Waiting for company: a commit that nobody waits for takes others along.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::command::Command;
use super::thread::{COMMANDS_PER_COMMIT, EVENTS_PER_COMMIT, WriterThread};

/// How long a command that nobody waits for may wait for others.
const COMPANY_WAIT: Duration = Duration::from_millis(2);

impl WriterThread {
    /// Lets others join a command whose caller does not wait for its commit: until one comes that is waited for, and for
    /// a moment at most. So the settlement of a forwarded call does not hold up the hold of the next one.
    pub(super) fn in_company(&mut self, first: Command) -> Command {
        let until = Instant::now() + COMPANY_WAIT;
        // What a full commit left behind comes first, and may be waited for.
        let mut is_awaited = first.is_awaited() || self.waiting.iter().any(Command::is_awaited);
        while !is_awaited && !self.fills_a_commit() {
            let Ok(command) = self.commands.recv_deadline(until) else { break };
            is_awaited = command.is_awaited();
            self.waiting.push_back(command);
        }
        first
    }

    /// Whether what is queued fills a commit by itself: then more company is no gain.
    fn fills_a_commit(&self) -> bool {
        self.waiting.len() >= COMMANDS_PER_COMMIT || self.queued_events.load(Ordering::Relaxed) >= EVENTS_PER_COMMIT
    }
}
