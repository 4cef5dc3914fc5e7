//! The tree over the audit log: RFC 6962 hashes, proofs, and how they are verified. Pure: nodes are asked for by place.
//!
//! Only complete subtrees are nodes: `(level, place)` covers the leaves `place << level .. (place + 1) << level`, and level 0
//! is the hashes of the leaves. The root of any size, and every proof, is made of them.

use sha2::{Digest, Sha256};

/// A SHA-256 of the tree.
pub type Hash = [u8; 32];

/// A complete subtree: its level and its place among those of the level.
pub type Place = (u8, u64);

/// The hash of a leaf's bytes. Its prefix keeps it apart from an inner node's, so that neither can stand for the other.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// The hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the empty tree.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The inner nodes that become complete with leaf `index`, lowest first, each with the places of its two children.
pub fn completed_by(index: u64) -> impl Iterator<Item = (Place, Place, Place)> {
    (1..=(index + 1).trailing_zeros() as u8).map(move |level| {
        let place = index >> level;
        ((level, place), (level - 1, 2 * place), (level - 1, 2 * place + 1))
    })
}

/// The root over the first `size` leaves.
pub fn root<E>(size: u64, node: &mut impl FnMut(Place) -> Result<Hash, E>) -> Result<Hash, E> {
    if size == 0 { Ok(empty_root()) } else { subtree(0, size, node) }
}

/// What proves that leaf `index` is under the root of `size`: siblings from the leaf upwards. `index` is below `size`.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    node: &mut impl FnMut(Place) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(subtree(middle, to, node)?);
            to = middle;
        } else {
            proof.push(subtree(from, middle, node)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// What proves that the tree of `old` leaves is the begin of the tree of `new`. `old` is at most `new`, and not 0.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    node: &mut impl FnMut(Place) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut from, mut to) = (0, new);
    let mut proof = Vec::new();
    // Whether the old root itself is the part that is left: whoever verifies has it already.
    let mut whole = true;
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(subtree(middle, to, node)?);
            to = middle;
        } else {
            proof.push(subtree(from, middle, node)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(subtree(from, to, node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `leaf` is leaf `index` under the root of `size`.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether the tree under `old_root` is the begin of the tree under `new_root`.
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new || (old == 0 && *old_root != empty_root()) {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        // Nothing is the begin of anything.
        return proof.is_empty();
    }
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    let mut rest = proof.iter();
    let first = if place == 0 { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The hash over the leaves `from..to`, where `from` is where a subtree of that size may begin.
fn subtree<E>(from: u64, to: u64, node: &mut impl FnMut(Place) -> Result<Hash, E>) -> Result<Hash, E> {
    let size = to - from;
    if size.is_power_of_two() {
        let level = size.trailing_zeros() as u8;
        return node((level, from >> level));
    }
    let middle = from + split(size);
    let left = subtree(from, middle, node)?;
    Ok(node_hash(&left, &subtree(middle, to, node)?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;

    /// RFC 6962, section 2.1, word for word, over the leaves' bytes.
    fn by_the_book(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => leaf_hash(leaf),
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&by_the_book(left), &by_the_book(right))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|n| n.to_be_bytes().to_vec()).collect()
    }

    /// Nodes as the store has them: each written once, when its last leaf is.
    fn nodes(leaves: &[Vec<u8>]) -> HashMap<Place, Hash> {
        let mut nodes = HashMap::new();
        for (index, leaf) in (0..).zip(leaves) {
            nodes.insert((0, index), leaf_hash(leaf));
            for (place, left, right) in completed_by(index) {
                let hash = node_hash(&nodes[&left], &nodes[&right]);
                assert!(nodes.insert(place, hash).is_none());
            }
        }
        nodes
    }

    #[test]
    fn the_roots_of_the_certificate_transparency_test_vectors() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<Vec<u8>> = inputs.into_iter().map(hex).collect();
        for (size, expected) in (1..).zip(roots) {
            assert_eq!(by_the_book(&leaves[..size]).to_vec(), hex(expected), "{size}");
        }
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies_and_no_other_does() {
        let leaves = leaves(33);
        let nodes = nodes(&leaves);
        let mut node = |place: Place| Ok::<_, Infallible>(nodes[&place]);
        for size in 0..=33u64 {
            let expected = by_the_book(&leaves[..size as usize]);
            assert_eq!(root(size, &mut node), Ok(expected), "{size}");
            for index in 0..size {
                let Ok(proof) = inclusion_proof(index, size, &mut node);
                let leaf = leaf_hash(&leaves[index as usize]);
                assert!(verify_inclusion(&leaf, index, size, &proof, &expected), "{index} of {size}");
                for other in (0..size).filter(|other| *other != index) {
                    assert!(!verify_inclusion(&leaf, other, size, &proof, &expected), "{index} as {other} of {size}");
                }
                assert!(!verify_inclusion(&leaf, index, size, &[&proof[..], &[leaf]].concat(), &expected));
                if let Some((_, short)) = proof.split_last() {
                    assert!(!verify_inclusion(&leaf, index, size, short, &expected));
                }
            }
            for old in 1..=size {
                let Ok(proof) = consistency_proof(old, size, &mut node);
                let old_root = by_the_book(&leaves[..old as usize]);
                assert!(verify_consistency(old, size, &old_root, &expected, &proof), "{old} of {size}");
                assert!(!verify_consistency(old, size, &leaf_hash(b"x"), &expected, &proof));
                assert!(!verify_consistency(old, size, &old_root, &leaf_hash(b"x"), &proof));
                for place in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[place][7] ^= 1;
                    assert!(!verify_consistency(old, size, &old_root, &expected, &changed), "{old} of {size}");
                }
            }
        }
        let end = by_the_book(&leaves);
        assert!(verify_consistency(0, 33, &empty_root(), &end, &[]) && !verify_consistency(0, 33, &end, &end, &[]));
        assert!(!verify_consistency(34, 33, &end, &end, &[]));
    }
}
