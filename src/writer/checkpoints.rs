//! Signed checkpoints of the audit log: when one is due, and those on their way to the file outside the store.

use parking_lot::Mutex;

use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};
use crate::rules::checkpoint::{AuditCheckpoint, CheckpointSigner};
use crate::rules::merkle::Hash;

/// Two checkpoints are at most so many records apart.
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

    /// The sizes of a log of `size` records that are to be signed for now, ascending; when `asked`, the whole as soon as
    /// there is anything new.
    pub fn due(&self, size: u64, now: Timestamp, asked: bool) -> Vec<u64> {
        let state = self.state.lock();
        let old = |since: Timestamp| now.micros_since(since) >= SIGNED_WITHIN_MICROS;
        let steps = size.saturating_sub(state.signed) / RECORDS_BETWEEN;
        let mut sizes: Vec<u64> = (1..=steps).map(|step| state.signed + step * RECORDS_BETWEEN).collect();
        let rest = size > sizes.last().copied().unwrap_or(state.signed);
        if rest && (asked || state.unsigned_since.is_some_and(old)) {
            sizes.push(size);
        }
        sizes
    }

    /// The note over `size` records.
    pub fn sign(&self, size: u64, root: &Hash) -> String {
        self.signer.sign(size, root)
    }

    /// A commit at `now` made the log `size` long, and holds these notes, each with the size it is over.
    pub fn committed(&self, size: u64, now: Timestamp, notes: Vec<(u64, String)>) {
        let mut state = self.state.lock();
        for (signed, note) in notes {
            (state.signed, state.unsigned_since) = (signed, None);
            state.unwritten.push(note);
        }
        if size > state.signed {
            state.unsigned_since.get_or_insert(now);
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
        let none: [u64; 0] = [];
        assert_eq!(book.due(0, later(999), true), none, "nothing is signed of an empty log");
        book.committed(5, start, Vec::new());
        book.committed(9, later(30), Vec::new());
        assert_eq!(book.due(9, later(59), false), none);
        assert_eq!((book.due(9, later(59), true), book.due(9, later(60), false)), (vec![9], vec![9]));
        assert_eq!(book.due(1_023, start, false), none);
        assert_eq!(book.due(2_050, start, false), [1_024, 2_048], "no two are further apart, however large a commit");
        assert_eq!(book.due(2_050, start, true), [1_024, 2_048, 2_050]);
        assert_eq!(book.due(2_048, start, true), [1_024, 2_048]);
        book.committed(9, later(60), vec![(9, book.sign(9, &[1; 32]))]);
        assert_eq!(book.due(9, later(999), true), none);
        book.committed(10, later(100), Vec::new());
        assert_eq!((book.due(10, later(159), false), book.due(10, later(160), false)), (vec![], vec![10]));
        let unwritten = book.take_unwritten();
        assert_eq!(unwritten.len(), 1);
        let again = Checkpoints::new(CheckpointSigner::new("log", &[7; 32]), unwritten.last().cloned(), 12, start);
        assert_eq!(again.take_unwritten(), unwritten, "what a crash kept from the file");
        assert_eq!((again.due(12, start, true), again.due(9, start, true)), (vec![12], vec![]));
        again.committed(1_040, later(5), vec![(1_033, again.sign(1_033, &[1; 32]))]);
        assert_eq!(again.due(1_040, later(65), false), [1_040], "the rest of a commit waits a minute at most");
    }
}
