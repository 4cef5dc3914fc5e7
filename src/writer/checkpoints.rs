//! Signed checkpoints of the audit log: when one is due, and those on their way to the file outside the store.

use parking_lot::Mutex;

use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};
use crate::rules::checkpoint::{AuditCheckpoint, CheckpointSigner};
use crate::rules::merkle::Hash;

/// Two checkpoints are at most so many records apart, or those of one commit.
const RECORDS_BETWEEN: u64 = 1_024;
/// A record is signed for after so long at most.
const SIGNED_WITHIN_MICROS: i64 = MICROS_PER_MINUTE;

/// See the module.
pub struct Checkpoints {
    signer: CheckpointSigner,
    state: Mutex<State>,
}

struct State {
    /// Records that the last checkpoint is over.
    signed: u64,
    /// When the first record behind it was committed.
    unsigned_since: Option<Timestamp>,
    /// Notes that are in the store and not yet in the file.
    unwritten: Vec<String>,
}

impl Checkpoints {
    /// Of a log of `size` records, with the last checkpoint that the store has. The file may lack that one, if metergate
    /// ended before it was written there: it is written again, since a note that stands twice does no harm.
    pub fn new(signer: CheckpointSigner, last: Option<String>, size: u64, now: Timestamp) -> Self {
        let signed = last.as_deref().and_then(|note| AuditCheckpoint::peek(note).ok()).map_or(0, |last| last.size);
        let unsigned_since = (size > signed).then_some(now);
        Self { signer, state: Mutex::new(State { signed, unsigned_since, unwritten: last.into_iter().collect() }) }
    }

    /// Who signs.
    pub fn signer(&self) -> &CheckpointSigner {
        &self.signer
    }

    /// Whether a log of `size` records is to be signed for now; when `asked`, as soon as there is anything new.
    pub fn is_due(&self, size: u64, now: Timestamp, asked: bool) -> bool {
        let state = self.state.lock();
        let old = |since: Timestamp| now.micros_since(since) >= SIGNED_WITHIN_MICROS;
        size > state.signed
            && (asked || size - state.signed >= RECORDS_BETWEEN || state.unsigned_since.is_some_and(old))
    }

    /// The note over `size` records.
    pub fn sign(&self, size: u64, root: &Hash) -> String {
        self.signer.sign(size, root)
    }

    /// A commit at `now` made the log `size` long, and holds `note`, if any.
    pub fn committed(&self, size: u64, now: Timestamp, note: Option<String>) {
        let mut state = self.state.lock();
        match note {
            Some(note) => {
                (state.signed, state.unsigned_since) = (size, None);
                state.unwritten.push(note);
            }
            None if size > state.signed => {
                state.unsigned_since.get_or_insert(now);
            }
            None => {}
        }
    }

    /// Takes the notes that the file lacks.
    pub fn take_unwritten(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwritten)
    }

    /// Puts notes back that could not be written.
    pub fn put_back(&self, mut notes: Vec<String>) {
        let mut state = self.state.lock();
        notes.append(&mut state.unwritten);
        state.unwritten = notes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_after_a_minute_or_a_thousand_records_or_when_asked_for() {
        let start = Timestamp::from_seconds(1_800_000_000);
        let later = |seconds: i64| start.plus_micros(seconds * 1_000_000);
        let book = Checkpoints::new(CheckpointSigner::new("log", &[7; 32]), None, 0, start);
        assert!(!book.is_due(0, later(999), true), "nothing is signed of an empty log");
        book.committed(5, start, None);
        book.committed(9, later(30), None);
        assert!(
            !book.is_due(9, later(59), false) && book.is_due(9, later(59), true) && book.is_due(9, later(60), false)
        );
        assert!(book.is_due(1_024, start, false) && !book.is_due(1_023, start, false));
        book.committed(9, later(60), Some(book.sign(9, &[1; 32])));
        assert!(!book.is_due(9, later(999), true));
        book.committed(10, later(100), None);
        assert!(!book.is_due(10, later(159), false) && book.is_due(10, later(160), false));
        let unwritten = book.take_unwritten();
        assert_eq!(unwritten.len(), 1);
        let again = Checkpoints::new(CheckpointSigner::new("log", &[7; 32]), unwritten.last().cloned(), 12, start);
        assert_eq!(again.take_unwritten(), unwritten, "what a crash kept from the file");
        assert!(again.is_due(12, start, true) && !again.is_due(9, start, true));
    }
}
