//! Waiting for company: a commit that nobody waits for takes others along.

use std::time::{Duration, Instant};

use super::command::Command;
use super::thread::{COMMANDS_PER_COMMIT, WriterThread};

/// How long a command that nobody waits for may wait for others.
const COMPANY_WAIT: Duration = Duration::from_millis(2);

impl WriterThread {
    /// Lets others join a command whose caller does not wait for its commit: until one comes that is waited for, and for
    /// a moment at most. So the settlement of a forwarded call does not hold up the hold of the next one.
    pub(super) fn in_company(&mut self, first: Command) -> Command {
        let until = Instant::now() + COMPANY_WAIT;
        let mut last_is_awaited = first.is_awaited();
        while !last_is_awaited && self.waiting.len() < COMMANDS_PER_COMMIT {
            let Ok(command) = self.commands.recv_deadline(until) else { break };
            last_is_awaited = command.is_awaited();
            self.waiting.push_back(command);
        }
        first
    }
}
