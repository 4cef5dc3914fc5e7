//! The tree over the audit log in the store: nodes written with the record that completes them, and read for proofs.

use hashbrown::HashMap;
use redb::{ReadableTable, Table, WriteTransaction};

use super::audit_log::{AuditReader, AuditWriter};
use super::{StoreError, records, tables};
use crate::rules::audit_bundle::{RunningRoot, leaf_commits_to, leaf_is_of};
use crate::rules::erasure::{add_to_ranges, covered, erased_by, uncovered};
use crate::rules::merkle::{self, Hash, Place};

const MISSING: StoreError = StoreError::Damaged("the audit tree has a gap");

/// Faults that are listed.
const FAULTS_MAX: usize = 100;

/// Hashes of one transaction that are kept at hand.
const HASHED_MAX: usize = 10_000;

/// Writing, within the transaction that appends the leaves.
pub(super) struct TreeWriter<'t> {
    nodes: Table<'t, (u8, u64), [u8; 32]>,
    /// What this transaction has hashed: the next leaf's sibling is mostly among it.
    hashed: HashMap<Place, Hash>,
}

impl<'t> TreeWriter<'t> {
    pub(super) fn open(write: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { nodes: write.open_table(tables::AUDIT_NODES)?, hashed: HashMap::new() })
    }

    /// Adds leaf `index`, which follows the last one; writes the subtrees that it completes.
    pub(super) fn add(
        &mut self,
        index: u64,
        leaf: &[u8],
        leaves: &impl ReadableTable<u64, &'static [u8]>,
    ) -> Result<(), StoreError> {
        if self.hashed.len() > HASHED_MAX {
            self.hashed.clear();
        }
        self.hashed.insert((0, index), merkle::leaf_hash(leaf));
        for (place, left, right) in merkle::completed_by(index) {
            let hash = merkle::node_hash(&self.node(left, leaves)?, &self.node(right, leaves)?);
            self.nodes.insert(place, hash)?;
            self.hashed.insert(place, hash);
        }
        Ok(())
    }

    fn node(&self, place: Place, leaves: &impl ReadableTable<u64, &'static [u8]>) -> Result<Hash, StoreError> {
        match self.hashed.get(&place) {
            Some(hash) => Ok(*hash),
            None => node(place, &self.nodes, leaves),
        }
    }
}

/// A node by its place; a leaf's hash is made from the leaf.
pub(super) fn node(
    place: Place,
    nodes: &impl ReadableTable<(u8, u64), [u8; 32]>,
    leaves: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Hash, StoreError> {
    let (level, index) = place;
    if level == 0 {
        let leaf = leaves.get(index)?.ok_or(MISSING)?;
        return Ok(merkle::leaf_hash(leaf.value()));
    }
    nodes.get(place)?.map(|hash| hash.value()).ok_or(MISSING)
}

/// What a check of the whole log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditCheck {
    /// Records that the root is over.
    pub size: u64,
    /// The root, made from the leaves.
    pub root: Hash,
    /// The root over the records of a kept checkpoint; `None` without one, and when there are fewer.
    pub root_at_kept: Option<Hash>,
    /// Records whose stored bytes are there and are what their leaves commit to.
    pub records: u64,
    /// Records whose bytes retention has freed.
    pub freed: u64,
    /// Records above the retention cut whose bytes were erased, as a record of the log says.
    pub erased: u64,
    /// Records above the retention cut whose bytes are not there, and of which no record says why: ranges of indices, both ends included.
    pub missing: Vec<(u64, u64)>,
    /// What is not as it was written, by index; at most 100.
    pub faults: Vec<(u64, &'static str)>,
}

impl AuditCheck {
    fn fault(&mut self, index: u64, what: &'static str) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push((index, what));
        }
    }
}

impl AuditWriter<'_> {
    /// The tree over the leaves of before there was one.
    pub(super) fn grow_tree(&self) -> Result<(), StoreError> {
        let leaves = self.0.open_table(tables::AUDIT_LEAVES)?;
        let mut tree = TreeWriter::open(self.0)?;
        for row in leaves.iter()? {
            let (index, leaf) = row?;
            tree.add(index.value(), leaf.value(), &leaves)?;
        }
        Ok(())
    }

    /// The root over the first `size` records.
    pub(super) fn root(&self, size: u64) -> Result<Hash, StoreError> {
        let (nodes, leaves) = (self.0.open_table(tables::AUDIT_NODES)?, self.0.open_table(tables::AUDIT_LEAVES)?);
        merkle::root(size, &mut |place| node(place, &nodes, &leaves))
    }

    /// Keeps the last signed checkpoint.
    pub(super) fn put_checkpoint(&self, note: &str) -> Result<(), StoreError> {
        self.0.open_table(tables::META)?.insert(tables::META_AUDIT_CHECKPOINT, note.as_bytes())?;
        Ok(())
    }

    /// Keeps the verifier key of who signs.
    pub(super) fn put_verifier(&self, verifier: &str) -> Result<(), StoreError> {
        self.0.open_table(tables::META)?.insert(tables::META_AUDIT_VERIFIER, verifier.as_bytes())?;
        Ok(())
    }
}

impl AuditReader<'_> {
    /// The leaf at this index, as it is hashed.
    pub(super) fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let leaves = self.0.open_table(tables::AUDIT_LEAVES)?;
        Ok(leaves.get(index)?.map(|leaf| leaf.value().to_vec()))
    }

    /// The stored bytes of a record, as its leaf commits to them; `None` once they are freed or erased.
    pub(super) fn payload(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.open_table(tables::AUDIT)?.get(index)?.map(|bytes| bytes.value().to_vec()))
    }

    /// The root over the first `size` records.
    pub(super) fn root(&self, size: u64) -> Result<Hash, StoreError> {
        let (nodes, leaves) = (self.0.open_table(tables::AUDIT_NODES)?, self.0.open_table(tables::AUDIT_LEAVES)?);
        merkle::root(size, &mut |place| node(place, &nodes, &leaves))
    }

    /// That record `index` is under the root of `size`.
    pub(super) fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let (nodes, leaves) = (self.0.open_table(tables::AUDIT_NODES)?, self.0.open_table(tables::AUDIT_LEAVES)?);
        merkle::inclusion_proof(index, size, &mut |place| node(place, &nodes, &leaves))
    }

    /// That the log of `old` records is the begin of that of `new`.
    pub(super) fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        let (nodes, leaves) = (self.0.open_table(tables::AUDIT_NODES)?, self.0.open_table(tables::AUDIT_LEAVES)?);
        merkle::consistency_proof(old, new, &mut |place| node(place, &nodes, &leaves))
    }

    /// The last signed checkpoint, and the verifier key of who signs.
    pub(super) fn checkpoint(&self) -> Result<(Option<String>, Option<String>), StoreError> {
        let meta = self.0.open_table(tables::META)?;
        let text = |name| -> Result<Option<String>, StoreError> {
            let bytes = meta.get(name)?.map(|bytes| bytes.value().to_vec());
            let text = bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| StoreError::Damaged("a text is none")));
            text.transpose()
        };
        Ok((text(tables::META_AUDIT_CHECKPOINT)?, text(tables::META_AUDIT_VERIFIER)?))
    }

    /// Every leaf and subtree from the leaves up: the root over the first `size`, and the first index whose leaf, stored
    /// bytes or nodes are not what they were hashed as. With the root over the first `kept` records, if there are so many.
    pub(super) fn check(&self, size: u64, kept: Option<u64>) -> Result<AuditCheck, StoreError> {
        let (nodes, leaves) = (self.0.open_table(tables::AUDIT_NODES)?, self.0.open_table(tables::AUDIT_LEAVES)?);
        let payloads = self.0.open_table(tables::AUDIT)?;
        let min_index = self.cut()?.min_index;
        let mut check = AuditCheck { size, ..AuditCheck::default() };
        let mut running = RunningRoot::default();
        let (mut without, mut present, mut erasures) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..size {
            if kept == Some(index) {
                check.root_at_kept = Some(running.root());
            }
            let Some(leaf) = leaves.get(index)? else {
                check.fault(index, "its leaf is missing");
                return Ok(check);
            };
            let leaf = leaf.value();
            if !leaf_is_of(leaf, index) {
                check.fault(index, "its leaf is another record's");
            }
            match payloads.get(index)? {
                Some(payload) if !leaf_commits_to(leaf, payload.value()) => {
                    check.fault(index, "its stored bytes are not what its leaf commits to");
                }
                Some(payload) => match records::decode_audit(payload.value()) {
                    Ok(record) if record.index == index => {
                        check.records += 1;
                        add_to_ranges(&mut present, index);
                        // What is recorded later is not erased by it.
                        let before = |(from, to): (u64, u64)| (from < index).then(|| (from, to.min(index - 1)));
                        let said = erased_by(&record.entry).into_iter().flatten();
                        erasures.extend(said.filter_map(before));
                    }
                    _ => check.fault(index, "its stored bytes are no record of this index"),
                },
                None if index >= min_index => add_to_ranges(&mut without, index),
                None => check.freed += 1,
            }
            for (place, hash) in running.add(leaf) {
                if nodes.get(place)?.map(|stored| stored.value()) != Some(hash) {
                    check.fault(index, "a node of the tree above it is missing or changed");
                }
            }
        }
        for (from, to) in covered(&present, &erasures) {
            (from..=to).take(FAULTS_MAX).for_each(|index| check.fault(index, "it was erased, and its bytes are back"));
        }
        check.missing = uncovered(&without, erasures);
        let count = |ranges: &[(u64, u64)]| ranges.iter().map(|(from, to)| to - from + 1).sum::<u64>();
        check.erased = count(&without) - count(&check.missing);
        check.root = running.root();
        if kept == Some(size) {
            check.root_at_kept = Some(check.root);
        }
        Ok(check)
    }
}
