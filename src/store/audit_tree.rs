//! The tree over the audit log in the store: nodes written with the record that completes them, and read for proofs.

use hashbrown::HashMap;
use redb::{ReadableTable, Table, WriteTransaction};

use super::StoreError;
use super::tables;
use crate::rules::merkle::{self, Hash, Place};

const MISSING: StoreError = StoreError::Damaged("the audit tree has a gap");

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
