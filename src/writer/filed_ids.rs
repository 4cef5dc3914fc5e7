//! Looks ids up among the filed events, on the caller's thread, so that the writer need not.
//!
//! A hit in the fingerprint table names a day; the blocks of that day that may hold the tenant are asked for the id. At
//! first a block is asked for this one event, which is a fraction of the work. When a second id is found in it, all of them
//! are remembered with their contents, since repeats come in company: a client sends a whole batch again, an import runs twice.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::domain::event::EventId;
use crate::domain::tenant::TenantId;
use crate::live::{IdHash, Identity};
use crate::rules::content::content_digest;
use crate::store::{BlockKey, Snapshot, StoreError, StoredEvent};

/// Ids remembered: about 16 MB of them.
const IDS_MAX: usize = 1_000_000;
/// Blocks in which one id was found.
const ANSWERED_ONCE_MAX: usize = 4_096;

/// What a block holds: its ids, sorted, and the content digest of each.
struct BlockIds(Vec<(u64, u64)>);

impl BlockIds {
    fn content_of(&self, hash: IdHash) -> Option<u64> {
        let place = self.0.binary_search_by_key(&short(hash), |(known, _)| *known).ok()?;
        Some(self.0[place].1)
    }
}

/// 64 bits of a keyed hash, the clock of a UUIDv7 among them.
const fn short(hash: IdHash) -> u64 {
    (hash.0 >> 64) as u64 ^ hash.0 as u64
}

/// The blocks looked into last.
#[derive(Default)]
pub struct FiledIds {
    blocks: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    blocks: HashMap<BlockKey, (Arc<BlockIds>, u64)>,
    ids: usize,
    clock: u64,
    answered_once: HashSet<BlockKey>,
}

/// The key of one store's hashes.
#[derive(Clone, Copy)]
pub(super) struct Digests<'a> {
    pub(super) identity: &'a Identity,
    pub(super) content_key: u64,
}

impl Digests<'_> {
    fn of(&self, stored: &StoredEvent, tenant_id: &TenantId) -> (IdHash, u64) {
        let content = content_digest(&stored.to_usage(tenant_id.clone()), self.content_key);
        (self.identity.hash(tenant_id, &stored.event_id), content)
    }
}

impl FiledIds {
    /// The content under which the tenant's id was filed on one of `days`.
    pub(super) fn content_of(
        &self,
        snapshot: &Snapshot,
        tenant: (u32, &TenantId),
        (id, hash): (&EventId, IdHash),
        days: Vec<u32>,
        digests: Digests<'_>,
    ) -> Result<Option<u64>, StoreError> {
        for day in days {
            for block in snapshot.blocks_with_tenant(day, tenant.0)? {
                let found = match self.remembered(block) {
                    Some(ids) => ids.content_of(hash),
                    None => {
                        let events = snapshot.block_events_with(block, tenant.0, id.key())?;
                        let mut events = events.iter().map(|stored| digests.of(stored, tenant.1));
                        let found = events.find(|(of, _)| *of == hash).map(|(_, content)| content);
                        if found.is_some() && self.has_answered(block) {
                            self.remember(snapshot, block, digests)?;
                        }
                        found
                    }
                };
                if found.is_some() {
                    return Ok(found);
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

    /// Whether an id was found in the block before; from now on one was.
    fn has_answered(&self, block: BlockKey) -> bool {
        let mut remembered = self.blocks.lock();
        if remembered.answered_once.len() >= ANSWERED_ONCE_MAX {
            remembered.answered_once.clear();
        }
        !remembered.answered_once.insert(block)
    }

    fn remember(&self, snapshot: &Snapshot, block: BlockKey, digests: Digests<'_>) -> Result<(), StoreError> {
        let mut ids: Vec<(u64, u64)> = Vec::new();
        let mut tenant: Option<(u32, TenantId)> = None;
        for stored in snapshot.block_events(block)? {
            let (no, id) = match tenant.take() {
                Some(same) if same.0 == stored.tenant_no => same,
                _ => (stored.tenant_no, snapshot.tenant_id(stored.tenant_no)?),
            };
            let (hash, content) = digests.of(&stored, &id);
            ids.push((short(hash), content));
            tenant = Some((no, id));
        }
        ids.sort_unstable();
        let mut remembered = self.blocks.lock();
        while remembered.ids + ids.len() > IDS_MAX && !remembered.blocks.is_empty() {
            let oldest = remembered.blocks.iter().min_by_key(|(_, (_, used))| *used).map(|(block, _)| *block);
            if let Some((gone, _)) = oldest.and_then(|block| remembered.blocks.remove(&block)) {
                remembered.ids -= gone.0.len();
            }
        }
        let clock = remembered.clock;
        remembered.ids += ids.len();
        if let Some((twice, _)) = remembered.blocks.insert(block, (Arc::new(BlockIds(ids)), clock)) {
            remembered.ids -= twice.0.len();
        }
        remembered.answered_once.remove(&block);
        Ok(())
    }
}
