//! The commits that are on disk and not filed, as they were made, so that the filer need not read the journal again.
//!
//! What does not fit is left out: the filer then reads that generation from the journal. Nothing depends on what is here
//! but time.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::live::IdHash;
use crate::store::{Commit, StoredEvent};

/// About how much memory they may take.
const BYTES_MAX: usize = 32 << 20;
/// An operation with its names, about.
const OPERATION_BYTES: usize = 400;

/// See the module.
#[derive(Debug, Default)]
pub struct Unfiled(Mutex<Kept>);

/// A commit to be filed.
#[derive(Debug)]
pub(super) struct UnfiledCommit {
    pub(super) commit: Commit,
    /// The hash and content of each event that has an id of its caller's, by its place; `None` when the commit was read.
    pub(super) ids: Option<Vec<Option<(IdHash, u64)>>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// In order, with about how many bytes each takes; with a gap where one did not fit.
    commits: VecDeque<(UnfiledCommit, usize)>,
    bytes: usize,
}

impl Unfiled {
    /// Keeps a commit that is on disk, if there is room.
    pub(super) fn keep(&self, commit: Commit, ids: Vec<Option<(IdHash, u64)>>) {
        let bytes = bytes_of(&commit);
        let mut kept = self.0.lock();
        if kept.bytes + bytes <= BYTES_MAX {
            kept.bytes += bytes;
            kept.commits.push_back((UnfiledCommit { commit, ids: Some(ids) }, bytes));
        }
    }

    /// The commits from `first` to `last`, if each of them is here. They and what came before are forgotten.
    pub(super) fn take(&self, first: u64, last: u64) -> Option<Vec<UnfiledCommit>> {
        let mut taken = Vec::new();
        let mut kept = self.0.lock();
        let due = kept.commits.partition_point(|(unfiled, _)| unfiled.commit.seq <= last);
        let Kept { commits, bytes } = &mut *kept;
        for (unfiled, size) in commits.drain(..due) {
            *bytes -= size;
            taken.push(unfiled);
        }
        drop(kept);
        taken.retain(|unfiled: &UnfiledCommit| unfiled.commit.seq >= first);
        let wanted = usize::try_from(last + 1 - first).ok()?;
        (taken.len() == wanted).then_some(taken)
    }
}

fn bytes_of(commit: &Commit) -> usize {
    let texts = |stored: &StoredEvent| {
        let event = &stored.event;
        event.metadata().map_or(0, str::len) + event.chat_session_id().map_or(0, str::len)
    };
    let texts: usize = commit.events.iter().map(texts).sum();
    let each = size_of::<StoredEvent>() + size_of::<Option<(IdHash, u64)>>();
    texts + commit.events.len() * each + commit.operations.len() * OPERATION_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn commit(seq: u64) -> Commit {
        let committed_at = Timestamp::default();
        Commit { seq, committed_at, first_entry_id: 1, entries: 0, events: Vec::new(), operations: Vec::new() }
    }

    #[test]
    fn they_are_all_there_or_the_journal_is_read() {
        let unfiled = Unfiled::default();
        (1..=5).chain(7..=9).for_each(|seq| unfiled.keep(commit(seq), Vec::new()));
        let seqs = |first, last| {
            unfiled
                .take(first, last)
                .map(|commits| commits.iter().map(|unfiled| unfiled.commit.seq).collect::<Vec<_>>())
        };
        assert_eq!(seqs(2, 3), Some(vec![2, 3]));
        assert_eq!(seqs(2, 3), None, "what is tried again is read from the journal");
        assert_eq!(seqs(4, 7), None, "one is missing");
        assert_eq!(seqs(8, 9), Some(vec![8, 9]));
        assert_eq!(unfiled.0.lock().bytes, 0);
    }
}
