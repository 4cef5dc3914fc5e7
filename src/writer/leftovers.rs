//! What nobody will ever take from the queue: commands that arrive when the writer's thread has ended.
//!
//! A channel keeps its messages for as long as anybody may send, and with them the promises that callers wait for. So the
//! thread empties the queue when it ends, and whoever sends looks afterwards whether it has: one of the two sees a command.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;

use super::command::Command;

/// See the module.
pub(super) struct Leftovers {
    commands: Receiver<Command>,
    ended: AtomicBool,
}

impl Leftovers {
    pub(super) const fn new(commands: Receiver<Command>) -> Self {
        Self { commands, ended: AtomicBool::new(false) }
    }

    /// The writer's thread has ended: what waits is given up, and so is what still comes.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.give_up();
    }

    /// To be called behind each command sent.
    pub(super) fn after_sending(&self) {
        if self.ended.load(Ordering::SeqCst) {
            self.give_up();
        }
    }

    /// A promise that is dropped reads as unavailable.
    fn give_up(&self) {
        self.commands.try_iter().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::Receipt;

    #[test]
    fn a_command_sent_before_or_behind_the_end_is_given_up() {
        let (sender, commands) = crossbeam_channel::bounded(1);
        let leftovers = Leftovers::new(commands);
        let send = || {
            let (promise, receipt) = Receipt::<()>::new();
            sender.send(Command::CloseGeneration { promise }).unwrap();
            leftovers.after_sending();
            receipt
        };
        let before = send();
        leftovers.end();
        assert!(before.wait().is_err());
        assert!(send().wait().is_err() && send().wait().is_err());
    }
}
