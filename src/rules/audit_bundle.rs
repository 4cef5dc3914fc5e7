//! Verifying an exported audit log without the store that it came from.

use sha2::{Digest, Sha256};

use super::merkle::{self, Hash, Place};

/// The version of the leaves' layout: version, index, time in microseconds (both big-endian), SHA-256 of the stored bytes.
pub const LEAF_VERSION: u8 = 1;
/// A leaf's length.
pub const LEAF_BYTES: usize = 1 + 8 + 8 + 32;

/// Whether this is the leaf of record `index`.
pub fn leaf_is_of(leaf: &[u8], index: u64) -> bool {
    leaf.len() == LEAF_BYTES && leaf[0] == LEAF_VERSION && leaf[1..9] == index.to_be_bytes()
}

/// Whether a leaf commits to these stored bytes.
pub fn leaf_commits_to(leaf: &[u8], stored: &[u8]) -> bool {
    let digest: [u8; 32] = Sha256::digest(stored).into();
    leaf.get(17..).is_some_and(|commitment| commitment == digest)
}

/// Roots made from leaves alone, one after the other, in memory that grows with the logarithm of their number.
#[derive(Clone, Debug, Default)]
pub struct RunningRoot {
    size: u64,
    /// Complete subtrees that wait for their sibling, largest first.
    edge: Vec<Hash>,
}

impl RunningRoot {
    /// Adds the next leaf. Gives the subtrees that it completes, lowest first.
    pub fn add(&mut self, leaf: &[u8]) -> Vec<(Place, Hash)> {
        let mut hash = merkle::leaf_hash(leaf);
        let mut completed = Vec::new();
        for (place, ..) in merkle::completed_by(self.size) {
            // A subtree that this leaf completes has its left half on the edge.
            let Some(left) = self.edge.pop() else { break };
            hash = merkle::node_hash(&left, &hash);
            completed.push((place, hash));
        }
        self.edge.push(hash);
        self.size += 1;
        completed
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        let peaks = self.edge.iter().rev().copied();
        peaks.reduce(|right, left| merkle::node_hash(&left, &right)).unwrap_or_else(merkle::empty_root)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_running_root_is_the_root_of_the_nodes_at_every_size() {
        let (mut running, mut nodes) = (RunningRoot::default(), HashMap::new());
        assert_eq!(running.root(), merkle::empty_root());
        for index in 0..70u64 {
            let leaf = index.to_be_bytes();
            nodes.insert((0, index), merkle::leaf_hash(&leaf));
            nodes.extend(running.add(&leaf));
            let Ok(root) = merkle::root(index + 1, &mut |place| Ok::<_, Infallible>(nodes[&place]));
            assert_eq!((running.size(), running.root()), (index + 1, root));
        }
    }
}
