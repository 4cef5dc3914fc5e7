//! The audit log in the store: appended with everything it is found by, read by any filter without scanning it, cut from
//! its old end.
//!
//! An index is given at commit and the server's time never runs backwards, so the order of indices is the order of times:
//! keys need no time, and a range of times is a range of indices.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, WriteTransaction};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::StoreError;
use super::audit_tree::TreeWriter;
use super::records::{self, AuditCut};
use super::tables;
use crate::domain::audit::{
    AuditAction, AuditEntry, AuditFilter, AuditRecord, AuditResult, ENTITY_AUDIT_EVENT, EVENT_RESOLVED, ResultFilter,
};
use crate::domain::key::TenantScope;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;

/// Looks into the keys that one page may take: a page that finds too little by then says where to go on.
const STEPS_PER_PAGE: usize = 20_000;

/// More tenants than this are not looked up one by one at every step: the records are read instead.
const TENANTS_BY_KEY_MAX: usize = 32;

/// A field that records are found by. Its number is on disk: append, never reorder.
#[derive(Clone, Copy)]
enum Field {
    Tenant = 1,
    EventType,
    EntityType,
    EntityId,
    Action,
    ActorType,
    ActorId,
    Result,
    IpAddress,
    UserAgent,
    RequestId,
}

/// What stands for a field's value in the keys. Two values may share it: what is found is compared with what was asked.
fn hash(field: Field, value: &str) -> u64 {
    xxh3_64_with_seed(value.as_bytes(), field as u64)
}

pub(super) const RESOLVED: &str = "resolved";

/// What a resolved record is found by.
pub(super) fn resolved_hash(resolved: &str) -> u64 {
    hash(Field::Result, resolved)
}

/// An id is its tenant's own: what another tenant calls its records is nobody else's business.
pub(super) fn id_key(event_id: uuid::Uuid, tenant_id: Option<&TenantId>) -> (u128, u64) {
    (event_id.as_u128(), tenant_id.map_or(0, |tenant| hash(Field::Tenant, tenant.as_str())))
}

/// The hashes an entry is found by. Success is not among them: nearly everything is one.
pub(super) fn hashes_of(entry: &AuditEntry) -> impl Iterator<Item = u64> {
    let failed = (entry.result != AuditResult::Success).then(|| entry.result.name());
    [
        (Field::Tenant, entry.tenant_id.as_ref().map(|id| id.as_str())),
        (Field::EventType, Some(entry.event_type.as_str())),
        (Field::EntityType, Some(entry.entity_type.as_str())),
        (Field::EntityId, entry.entity_id.as_deref()),
        (Field::Action, Some(entry.action.name())),
        (Field::ActorType, Some(entry.actor_type.name())),
        (Field::ActorId, entry.actor_id.as_deref()),
        (Field::Result, failed),
        (Field::IpAddress, entry.ip_address.as_deref()),
        (Field::UserAgent, entry.user_agent.as_deref()),
        (Field::RequestId, entry.request_id.as_deref()),
    ]
    .into_iter()
    .filter_map(|(field, value)| value.map(|value| hash(field, value)))
}

/// The hashes that every wanted record has: of each group at least one.
fn groups_of(filter: &AuditFilter) -> Vec<Vec<u64>> {
    let result = match filter.result {
        None | Some(ResultFilter::Original(AuditResult::Success)) => None,
        Some(ResultFilter::Original(result)) => Some(result.name()),
        Some(ResultFilter::Resolved) => Some(RESOLVED),
    };
    let single = [
        (Field::Tenant, filter.tenant_id.as_ref().map(|id| id.as_str())),
        (Field::EntityType, filter.entity_type.as_deref()),
        (Field::EntityId, filter.entity_id.as_deref()),
        (Field::Action, filter.action.map(|action| action.name())),
        (Field::ActorType, filter.actor_type.map(|actor| actor.name())),
        (Field::ActorId, filter.actor_id.as_deref()),
        (Field::Result, result),
        (Field::IpAddress, filter.ip_address.as_deref()),
        (Field::UserAgent, filter.user_agent.as_deref()),
        (Field::RequestId, filter.request_id.as_deref()),
    ];
    let single = single.into_iter().filter_map(|(field, value)| value.map(|value| vec![hash(field, value)]));
    let types: Vec<u64> = filter.event_types.iter().map(|name| hash(Field::EventType, name)).collect();
    let tenants: Vec<u64> = match &filter.within {
        TenantScope::Only(some) if some.len() <= TENANTS_BY_KEY_MAX && filter.tenant_id.is_none() => {
            some.iter().map(|id| hash(Field::Tenant, id.as_str())).collect()
        }
        _ => Vec::new(),
    };
    single.chain([types, tenants].into_iter().filter(|group| !group.is_empty())).collect()
}

/// A record and what became of it, as they stand in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRecord {
    /// The record.
    pub record: AuditRecord,
    /// The record of its resolution.
    pub resolution: Option<AuditRecord>,
}

/// A page of the log, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedPage {
    /// The records. May be fewer than asked for although more follow.
    pub records: Vec<LoggedRecord>,
    /// Go on before this index; `None` at the end.
    pub before: Option<u64>,
}

/// Writing, within the transaction of whatever the records are about.
pub(super) struct AuditWriter<'t>(pub(super) &'t WriteTransaction);

impl AuditWriter<'_> {
    /// Appends records, each with the digest of its caller's fields: payloads, leaves, ids and keys.
    pub(super) fn append(&self, added: &[(AuditRecord, u64)]) -> Result<(), StoreError> {
        if added.is_empty() {
            return Ok(());
        }
        let mut payloads = self.0.open_table(tables::AUDIT)?;
        let mut leaves = self.0.open_table(tables::AUDIT_LEAVES)?;
        let mut tree = TreeWriter::open(self.0)?;
        let mut ids = self.0.open_table(tables::AUDIT_IDS)?;
        let mut keys = self.0.open_table(tables::AUDIT_KEYS)?;
        for (record, content) in added {
            let payload = records::encode_audit(record, &crate::ids::random_bytes())?;
            let leaf = records::audit_leaf(record, &payload);
            payloads.insert(record.index, payload.as_slice())?;
            leaves.insert(record.index, leaf.as_slice())?;
            tree.add(record.index, &leaf, &leaves)?;
            ids.insert(id_key(record.event_id, record.entry.tenant_id.as_ref()), (record.index, *content))?;
        }
        // In their order, neighbours share their pages while they are at hand.
        let mut sorted: Vec<(u64, u64)> =
            added.iter().flat_map(|(record, _)| hashes_of(&record.entry).map(|hash| (hash, record.index))).collect();
        sorted.sort_unstable();
        for key in sorted {
            keys.insert(key, ())?;
        }
        Ok(())
    }

    /// Notes that the record at `original` is resolved by the one at `resolution`.
    pub(super) fn resolve(&self, original: u64, resolution: u64) -> Result<(), StoreError> {
        self.0.open_table(tables::AUDIT_RESOLUTIONS)?.insert(original, resolution)?;
        self.0.open_table(tables::AUDIT_KEYS)?.insert((hash(Field::Result, RESOLVED), original), ())?;
        Ok(())
    }

    /// Frees at most `limit` records below `min_index`, which nobody sees any more. Their leaves stay: they hold nothing of
    /// anybody, and proofs of what is kept are made from them.
    pub(super) fn free_below(&self, min_index: u64, limit: usize) -> Result<(), StoreError> {
        let mut payloads = self.0.open_table(tables::AUDIT)?;
        let mut ids = self.0.open_table(tables::AUDIT_IDS)?;
        let mut keys = self.0.open_table(tables::AUDIT_KEYS)?;
        let mut resolutions = self.0.open_table(tables::AUDIT_RESOLUTIONS)?;
        let old: Vec<AuditRecord> = payloads
            .range(..min_index)?
            .take(limit)
            .map(|row| records::decode_audit(row?.1.value()))
            .collect::<Result<_, StoreError>>()?;
        for record in old {
            for hash in hashes_of(&record.entry) {
                keys.remove((hash, record.index))?;
            }
            keys.remove((hash(Field::Result, RESOLVED), record.index))?;
            let id = id_key(record.event_id, record.entry.tenant_id.as_ref());
            // The id may stand for a newer record by now: this one was out of sight already.
            if ids.get(id)?.is_some_and(|found| found.value().0 == record.index) {
                ids.remove(id)?;
            }
            resolutions.remove(record.index)?;
            payloads.remove(record.index)?;
        }
        drop((payloads, ids, keys, resolutions));
        self.free_erased_below(min_index, limit)
    }

    /// Gives the records of before there were leaves their leaves, ids and keys.
    pub(super) fn give_leaves(&self) -> Result<(), StoreError> {
        let (records, leaves) = (self.0.open_table(tables::AUDIT)?, self.0.open_table(tables::AUDIT_LEAVES)?);
        let first_without = leaves.last()?.map_or(0, |(index, _)| index.value() + 1);
        let old: Vec<u64> =
            records.range(first_without..)?.map(|row| Ok(row?.0.value())).collect::<Result<_, StoreError>>()?;
        drop((records, leaves));
        for index in old {
            let record = {
                let records = self.0.open_table(tables::AUDIT)?;
                records.get(index)?.map(|bytes| records::decode_audit(bytes.value())).transpose()?
            };
            if let Some(record) = record {
                self.append(&[(record, 0)])?;
            }
        }
        Ok(())
    }

    /// Makes the ids of format 1 their tenants' own.
    pub(super) fn give_ids_to_tenants(&self) -> Result<(), StoreError> {
        {
            let old = self.0.open_table(tables::AUDIT_IDS_1)?;
            let mut new = self.0.open_table(tables::AUDIT_IDS)?;
            let payloads = self.0.open_table(tables::AUDIT)?;
            for row in old.iter()? {
                let (id, place) = row?;
                let Some(bytes) = payloads.get(place.value().0)? else { continue };
                let record = records::decode_audit(bytes.value())?;
                new.insert(id_key(uuid::Uuid::from_u128(id.value()), record.entry.tenant_id.as_ref()), place.value())?;
            }
        }
        self.0.delete_table(tables::AUDIT_IDS_1)?;
        Ok(())
    }
}

type Payloads = ReadOnlyTable<u64, &'static [u8]>;
type Keys = ReadOnlyTable<(u64, u64), ()>;

/// Reading, from one consistent state.
pub(super) struct AuditReader<'t>(pub(super) &'t ReadTransaction);

impl AuditReader<'_> {
    pub(super) fn cut(&self) -> Result<AuditCut, StoreError> {
        let meta = self.0.open_table(tables::META)?;
        let bytes = meta.get(tables::META_AUDIT_CUT)?;
        bytes.map_or(Ok(AuditCut::default()), |bytes| records::decode_audit_cut(bytes.value()))
    }

    /// The next free index: leaves have no gaps and are never removed.
    pub(super) fn next_index(&self) -> Result<u64, StoreError> {
        let leaves = self.0.open_table(tables::AUDIT_LEAVES)?;
        Ok(leaves.last()?.map_or(0, |(index, _)| index.value() + 1))
    }

    /// The first index recorded at or after `time`.
    pub(super) fn index_at(&self, time: Timestamp) -> Result<u64, StoreError> {
        let leaves = self.0.open_table(tables::AUDIT_LEAVES)?;
        let (mut low, mut high) = (self.cut()?.min_index, self.next_index()?);
        while low < high {
            let middle = low + (high - low) / 2;
            let leaf = leaves.get(middle)?.ok_or(StoreError::Damaged("the audit log has a gap"))?;
            if records::recorded_at(leaf.value())? < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// When the record at this index was recorded.
    pub(super) fn recorded_at(&self, index: u64) -> Result<Option<Timestamp>, StoreError> {
        let leaves = self.0.open_table(tables::AUDIT_LEAVES)?;
        leaves.get(index)?.map(|leaf| records::recorded_at(leaf.value())).transpose()
    }

    /// Where a tenant's id stands and with which content, unless retention has taken it.
    pub(super) fn find(
        &self,
        event_id: uuid::Uuid,
        tenant_id: Option<&TenantId>,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let ids = self.0.open_table(tables::AUDIT_IDS)?;
        let found = ids.get(id_key(event_id, tenant_id))?.map(|found| found.value());
        let min_index = self.cut()?.min_index;
        Ok(found.filter(|(index, _)| *index >= min_index))
    }

    /// Where this id stands, of whichever tenants: usually of one, and of at most `limit`.
    pub(super) fn find_all(&self, event_id: uuid::Uuid, limit: usize) -> Result<Vec<u64>, StoreError> {
        let ids = self.0.open_table(tables::AUDIT_IDS)?;
        let min_index = self.cut()?.min_index;
        let id = event_id.as_u128();
        let mut found = Vec::new();
        for row in ids.range((id, 0)..=(id, u64::MAX))? {
            let (index, _) = row?.1.value();
            if index >= min_index && found.len() < limit {
                found.push(index);
            }
        }
        Ok(found)
    }

    pub(super) fn is_resolved(&self, index: u64) -> Result<bool, StoreError> {
        Ok(self.0.open_table(tables::AUDIT_RESOLUTIONS)?.get(index)?.is_some())
    }

    /// Whether there are records to be freed below `min_index`.
    pub(super) fn has_below(&self, min_index: u64) -> Result<bool, StoreError> {
        if self.0.open_table(tables::AUDIT)?.first()?.is_some_and(|(index, _)| index.value() < min_index) {
            return Ok(true);
        }
        match self.0.open_table(tables::AUDIT_ERASED) {
            Ok(erased) => Ok(erased.first()?.is_some_and(|(index, _)| index.value() < min_index)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// One record and its resolution.
    pub(super) fn logged(&self, index: u64) -> Result<Option<LoggedRecord>, StoreError> {
        let payloads = self.0.open_table(tables::AUDIT)?;
        let Some(record) = read(&payloads, index)? else { return Ok(None) };
        let resolution = self.0.open_table(tables::AUDIT_RESOLUTIONS)?.get(index)?.map(|found| found.value());
        let resolution = match resolution {
            None => None,
            Some(resolution) => match read(&payloads, resolution)? {
                Some(record) => Some(record),
                None => self.erased_resolution(resolution)?,
            },
        };
        Ok(Some(LoggedRecord { record, resolution }))
    }

    /// What is left of a resolution that was erased: that it was one, and when.
    fn erased_resolution(&self, index: u64) -> Result<Option<AuditRecord>, StoreError> {
        let Some(timestamp) = self.recorded_at(index)? else { return Ok(None) };
        let entry = AuditEntry::system(None, EVENT_RESOLVED, ENTITY_AUDIT_EVENT, AuditAction::Update);
        Ok(Some(AuditRecord { index, event_id: uuid::Uuid::nil(), timestamp, entry }))
    }

    /// The newest records below `before` that agree with the filter, at most `limit`.
    pub(super) fn page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LoggedPage, StoreError> {
        let mut floor = self.cut()?.min_index;
        if let Some(from) = filter.from {
            floor = floor.max(self.index_at(from)?);
        }
        let mut end = match filter.to {
            Some(to) => self.index_at(to)?,
            None => self.next_index()?,
        };
        end = end.min(before.unwrap_or(u64::MAX));

        let keys = self.0.open_table(tables::AUDIT_KEYS)?;
        let groups = groups_of(filter);
        let mut page = LoggedPage::default();
        let mut steps = 0;
        while end > floor {
            // One more than asked for tells whether there are more.
            if page.records.len() > limit {
                break;
            }
            if steps >= STEPS_PER_PAGE {
                page.before = Some(end);
                break;
            }
            let Some(index) = last_agreed(&keys, &groups, floor, end - 1, &mut steps)? else { break };
            if let Some(logged) = self.logged(index)?
                && filter.agrees(&logged.record.entry)
                && (filter.result != Some(ResultFilter::Resolved) || logged.resolution.is_some())
            {
                page.records.push(logged);
            }
            steps += 1;
            end = index;
        }
        if page.records.len() > limit {
            page.records.truncate(limit);
            page.before = page.records.last().map(|last| last.record.index);
        }
        Ok(page)
    }
}

fn read(payloads: &Payloads, index: u64) -> Result<Option<AuditRecord>, StoreError> {
    payloads.get(index)?.map(|bytes| records::decode_audit(bytes.value())).transpose()
}

/// The highest index in `floor..=top` that is in every group. Each group jumps over what the others rule out.
fn last_agreed(
    keys: &Keys,
    groups: &[Vec<u64>],
    floor: u64,
    top: u64,
    steps: &mut usize,
) -> Result<Option<u64>, StoreError> {
    let mut candidate = top;
    let mut agreed = 0;
    let mut place = 0;
    while agreed < groups.len() {
        let group = &groups[place];
        let mut found = None;
        for &hash in group {
            let last = keys.range((hash, floor)..=(hash, candidate))?.next_back().transpose()?;
            found = found.max(last.map(|(key, _)| key.value().1));
            *steps += 1;
        }
        match found {
            None => return Ok(None),
            Some(found) if found == candidate => agreed += 1,
            Some(found) => (candidate, agreed) = (found, 1),
        }
        place = (place + 1) % groups.len();
        if *steps >= STEPS_PER_PAGE && agreed < groups.len() {
            // Not known to agree: whoever reads the record finds out, and the page ends there.
            break;
        }
    }
    Ok(Some(candidate))
}
