//! Looks ids up among the filed events, on the caller's thread, so that the writer need not.
//!
//! A hit in the fingerprint table names a day; the blocks of that day that may hold the tenant are read once and then
//! remembered as hash and content, since repeats come in company: a client sends a whole batch again, an import runs twice.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::domain::tenant::TenantId;
use crate::live::{IdHash, Identity};
use crate::rules::content::content_digest;
use crate::store::{BlockKey, Snapshot, StoreError};

/// Blocks remembered: about 32 KiB each when full of small events.
const BLOCKS_MAX: usize = 512;

/// What a block holds: its ids, sorted, and the content digest of each.
struct BlockIds {
    hashes: Vec<IdHash>,
    contents: Vec<u64>,
}

impl BlockIds {
    fn content_of(&self, hash: IdHash) -> Option<u64> {
        let place = self.hashes.binary_search(&hash).ok()?;
        Some(self.contents[place])
    }
}

/// The blocks looked into last.
#[derive(Default)]
pub struct FiledIds {
    blocks: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    blocks: HashMap<BlockKey, (Arc<BlockIds>, u64)>,
    clock: u64,
}

impl FiledIds {
    /// The content under which the tenant's id was filed on one of `days`.
    pub(super) fn content_of(
        &self,
        snapshot: &Snapshot,
        tenant: (u32, &TenantId),
        hash: IdHash,
        days: Vec<u32>,
        keys: (&Identity, u64),
    ) -> Result<Option<u64>, StoreError> {
        for day in days {
            for block in snapshot.blocks_with_tenant(day, tenant.0)? {
                let ids = match self.remembered(block) {
                    Some(ids) => ids,
                    None => self.read(snapshot, block, keys)?,
                };
                if let Some(content) = ids.content_of(hash) {
                    return Ok(Some(content));
                }
            }
        }
        Ok(None)
    }

    fn remembered(&self, block: BlockKey) -> Option<Arc<BlockIds>> {
        let mut remembered = self.blocks.lock();
        remembered.clock += 1;
        let clock = remembered.clock;
        let (ids, used) = remembered.blocks.get_mut(&block)?;
        *used = clock;
        Some(Arc::clone(ids))
    }

    fn read(
        &self,
        snapshot: &Snapshot,
        block: BlockKey,
        (identity, content_key): (&Identity, u64),
    ) -> Result<Arc<BlockIds>, StoreError> {
        let mut ids: Vec<(IdHash, u64)> = Vec::new();
        let mut tenant: Option<(u32, TenantId)> = None;
        for stored in snapshot.block_events(block)? {
            let (no, id) = match tenant.take() {
                Some(same) if same.0 == stored.tenant_no => same,
                _ => (stored.tenant_no, snapshot.tenant_id(stored.tenant_no)?),
            };
            ids.push((identity.hash(&id, &stored.event_id), content_digest(&stored.to_usage(id.clone()), content_key)));
            tenant = Some((no, id));
        }
        ids.sort_unstable();
        let (hashes, contents) = ids.into_iter().unzip();
        let ids = Arc::new(BlockIds { hashes, contents });
        let mut remembered = self.blocks.lock();
        if remembered.blocks.len() >= BLOCKS_MAX {
            let oldest = remembered.blocks.iter().min_by_key(|(_, (_, used))| *used).map(|(block, _)| *block);
            oldest.map(|block| remembered.blocks.remove(&block));
        }
        let clock = remembered.clock;
        remembered.blocks.insert(block, (Arc::clone(&ids), clock));
        Ok(ids)
    }
}
