//! Reading: one consistent state of the disk.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableError};

use super::block::Block;
use super::columns::StoredEvent;
use super::journal::{self, Commit};
use super::records::{self, Checkpoint, FiledDenial, HourMark, RealtimeCut, RunInfo, StoredBook, StoredPrice};
use super::tables;
use super::{StoreError, TenantNames};
use crate::domain::event::IdKey;
use crate::domain::job::JobRecord;
use crate::domain::key::ApiKey;
use crate::domain::quota::{Denial, Plan, QuotaSnapshot};
use crate::domain::tenant::{Tenant, TenantId};
use crate::domain::time::Timestamp;

type DayTable = ReadOnlyTable<(u64, u32, u32), &'static [u8]>;
type BlockRow<'t> =
    Result<(redb::AccessGuard<'t, (u64, u32, u32)>, redb::AccessGuard<'t, &'static [u8]>), redb::StorageError>;

/// Names a segment block for as long as the store lives: a merge gives its blocks new names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// The UTC day.
    pub day: u32,
    /// The run.
    pub run: u64,
    /// The block's first tenant number.
    pub first_tenant: u32,
    /// Its place in the run.
    pub block: u32,
}

/// Saved counters that are ready to be written, in blocks of tenants.
#[derive(Debug, Default)]
pub struct StateBlocks(pub(super) Vec<(u32, Vec<u8>)>);

/// A read transaction with the product's words.
pub struct Snapshot {
    pub(super) read: ReadTransaction,
    names: TenantNames,
    /// Says that the file is still read. Behind the transaction: it goes last.
    pub(super) reader: Arc<()>,
}

/// A tenant's filed events of one day, in no particular order.
pub type TenantEvents = Vec<StoredEvent>;

impl Snapshot {
    pub(super) const fn new(read: ReadTransaction, names: TenantNames, reader: Arc<()>) -> Self {
        Self { read, names, reader }
    }

    /// The id of a tenant number that a block names.
    pub fn tenant_id(&self, number: u32) -> Result<TenantId, StoreError> {
        let known = self.names.read().get(number as usize).cloned();
        known.ok_or(StoreError::Damaged("a block names a tenant that does not exist"))
    }

    /// How far the journal is filed.
    pub fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        let meta = self.read.open_table(tables::META)?;
        let bytes = meta.get(tables::META_CHECKPOINT)?;
        bytes.map_or(Ok(Checkpoint::default()), |bytes| records::decode_checkpoint(bytes.value()))
    }

    /// The last commit of the journal, or of what was filed from it; 0 for none.
    pub fn last_seq(&self) -> Result<u64, StoreError> {
        let last = self.read.open_table(tables::JOURNAL)?.last()?.map_or(0, |(seq, _)| seq.value());
        Ok(last.max(self.checkpoint()?.filed_seq))
    }

    /// The mark of the last transaction that changed no journal; 0 for none.
    pub fn mark(&self) -> Result<u64, StoreError> {
        let meta = self.read.open_table(tables::META)?;
        meta.get(tables::META_MARK)?.map_or(Ok(0), |bytes| records::decode_mark(bytes.value()))
    }

    /// What retention has taken.
    pub fn cut(&self) -> Result<RealtimeCut, StoreError> {
        let meta = self.read.open_table(tables::META)?;
        let bytes = meta.get(tables::META_CUT)?;
        bytes.map_or(Ok(RealtimeCut::default()), |bytes| records::decode_cut(bytes.value()))
    }

    /// The commits after `seq`, oldest first, until `see` breaks.
    pub fn commits_after(&self, seq: u64, mut see: impl FnMut(Commit) -> ControlFlow<()>) -> Result<(), StoreError> {
        for row in self.read.open_table(tables::JOURNAL)?.range(seq + 1..)? {
            let (seq, bytes) = row?;
            if see(journal::decode(seq.value(), bytes.value())?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Every tenant by its number.
    pub fn tenants(&self) -> Result<Vec<(u32, Tenant)>, StoreError> {
        let table = self.read.open_table(tables::TENANTS)?;
        table
            .iter()?
            .map(|row| {
                let (number, bytes) = row?;
                Ok((number.value(), records::decode_tenant(bytes.value())?))
            })
            .collect()
    }

    /// Every plan, by name.
    pub fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        let table = self.read.open_table(tables::PLANS)?;
        table.iter()?.map(|row| records::decode_plan(row?.1.value())).collect()
    }

    /// The price book in force; `None` in a store that never had one.
    pub fn price_book(&self) -> Result<Option<StoredBook>, StoreError> {
        let table = match self.read.open_table(tables::PRICES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        table.get("book")?.map(|bytes| records::decode_book(bytes.value())).transpose()
    }

    /// Every price row that events may name, by number.
    pub fn price_rows(&self) -> Result<Vec<(u32, StoredPrice)>, StoreError> {
        let table = match self.read.open_table(tables::PRICE_ROWS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table
            .iter()?
            .map(|row| {
                let (number, bytes) = row?;
                Ok((number.value(), records::decode_price(bytes.value())?))
            })
            .collect()
    }

    /// The price row of a number.
    pub fn price_row(&self, number: u32) -> Result<Option<StoredPrice>, StoreError> {
        match self.read.open_table(tables::PRICE_ROWS) {
            Ok(table) => table.get(number)?.map(|bytes| records::decode_price(bytes.value())).transpose(),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes counters ready to be saved: (tenant number, snapshot), sorted; other tenants keep theirs.
    pub fn state_blocks(&self, changed: &[(u32, QuotaSnapshot)]) -> Result<StateBlocks, StoreError> {
        let table = self.read.open_table(tables::QUOTA_STATE)?;
        let block_of = |tenant_no: u32| tenant_no / records::STATES_PER_BLOCK;
        let groups = changed.chunk_by(|(one, _), (other, _)| block_of(*one) == block_of(*other)).map(|group| {
            let block = block_of(group[0].0);
            let old = table.get(block)?;
            Ok((block, records::merge_quota_states(old.as_ref().map(redb::AccessGuard::value), group)?))
        });
        groups.collect::<Result<_, StoreError>>().map(StateBlocks)
    }

    /// Saved quota counters by tenant number.
    pub fn quota_states(&self) -> Result<Vec<(u32, QuotaSnapshot)>, StoreError> {
        let table = self.read.open_table(tables::QUOTA_STATE)?;
        let mut states = Vec::new();
        for row in table.iter()? {
            states.extend(records::decode_quota_states(row?.1.value())?);
        }
        Ok(states)
    }

    /// The last run of every job that ever ran, by name.
    pub fn jobs(&self) -> Result<Vec<JobRecord>, StoreError> {
        let table = match self.read.open_table(tables::JOBS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table
            .iter()?
            .map(|row| {
                let (job, bytes) = row?;
                records::decode_job(job.value(), bytes.value())
            })
            .collect()
    }

    /// Every key, in order of creation.
    pub fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let table = match self.read.open_table(tables::API_KEYS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table.iter()?.map(|row| records::decode_api_key(row?.1.value())).collect()
    }

    /// Hours that have events, and how far each is filed and folded.
    pub fn hour_marks(&self, hours: std::ops::Range<u32>) -> Result<Vec<(u32, HourMark)>, StoreError> {
        let table = self.read.open_table(tables::HOURS)?;
        table
            .range(hours)?
            .map(|row| {
                let (hour, mark) = row?;
                let (filed_through, folded_through) = mark.value();
                Ok((hour.value(), HourMark { filed_through, folded_through }))
            })
            .collect()
    }

    /// The runs of the days in `days`, as (day, run, what it holds).
    pub fn runs(&self, days: RangeInclusive<u32>) -> Result<Vec<(u32, u64, RunInfo)>, StoreError> {
        let table = self.read.open_table(tables::RUNS)?;
        table
            .range((*days.start(), 0)..=(*days.end(), u64::MAX))?
            .map(|row| {
                let (key, bytes) = row?;
                let (day, run) = key.value();
                Ok((day, run, records::decode_run(bytes.value())?))
            })
            .collect()
    }

    /// The days in `range` that have filed events or denials.
    pub fn days(&self, range: RangeInclusive<u32>) -> Result<BTreeSet<u32>, StoreError> {
        let mut days: BTreeSet<u32> = self.runs(range.clone())?.into_iter().map(|(day, ..)| day).collect();
        let denials = self.read.open_table(tables::DENIALS)?;
        for row in denials.range((*range.start(), 0)..=(*range.end(), u64::MAX))? {
            days.insert(row?.0.value().0);
        }
        Ok(days)
    }

    fn day_table(&self, day: u32) -> Result<Option<DayTable>, StoreError> {
        match self.read.open_table(tables::day_table(&tables::day_table_name(day))) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The blocks of a run that may hold events of the tenant.
    fn rows_of<'t>(
        table: &'t DayTable,
        run: u64,
        tenant_no: u32,
    ) -> Result<impl Iterator<Item = BlockRow<'t>>, StoreError> {
        // A block is keyed by its first tenant: the tenant may begin inside the last block that starts before it.
        let before = table.range((run, 0, 0)..(run, tenant_no, 0))?.next_back();
        Ok(before.into_iter().chain(table.range((run, tenant_no, 0)..=(run, tenant_no, u32::MAX))?))
    }

    /// A tenant's filed events whose time is in `from..to`, all within UTC day `day`.
    pub fn tenant_events(
        &self,
        day: u32,
        tenant_no: u32,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<TenantEvents, StoreError> {
        let mut events = Vec::new();
        let seen = self.see_tenant_events(day, tenant_no, from, to, &mut |event| {
            events.push(event);
            ControlFlow::Continue(())
        });
        seen.map(|_| events)
    }

    /// [`Self::tenant_events`] one by one, until `see` breaks.
    pub fn see_tenant_events(
        &self,
        day: u32,
        tenant_no: u32,
        from: Timestamp,
        to: Timestamp,
        see: &mut dyn FnMut(StoredEvent) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let Some(table) = self.day_table(day)? else { return Ok(ControlFlow::Continue(())) };
        for (_, run, info) in self.runs(day..=day)? {
            if info.last_time < from.micros() || info.first_time >= to.micros() {
                continue;
            }
            for row in Self::rows_of(&table, run, tenant_no)? {
                let (_, bytes) = row?;
                let block = Block::read(bytes.value())?;
                let places = block.places_of(tenant_no);
                if places.is_empty() || block.span.1 < from.micros() || block.span.0 >= to.micros() {
                    continue;
                }
                for event in block.events_at(places)? {
                    if (from..to).contains(&event.event_timestamp) && see(event).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The blocks of a day that may hold events of this tenant, without looking into them.
    pub fn blocks_with_tenant(&self, day: u32, tenant_no: u32) -> Result<Vec<BlockKey>, StoreError> {
        let mut keys = Vec::new();
        let Some(table) = self.day_table(day)? else { return Ok(keys) };
        for (_, run, _) in self.runs(day..=day)? {
            for row in Self::rows_of(&table, run, tenant_no)? {
                let (run, first_tenant, block) = row?.0.value();
                keys.push(BlockKey { day, run, first_tenant, block });
            }
        }
        Ok(keys)
    }

    /// The events of a block that are the tenant's and whose ids have this key: hardly ever more than one.
    pub fn block_events_with(
        &self,
        key: BlockKey,
        tenant_no: u32,
        id: IdKey<'_>,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(table) = self.day_table(key.day)? else { return Ok(Vec::new()) };
        let Some(bytes) = table.get((key.run, key.first_tenant, key.block))? else { return Ok(Vec::new()) };
        let block = Block::read(bytes.value())?;
        let mut events = Vec::new();
        for place in block.places_with(tenant_no, id) {
            events.extend(block.events_at(place..place + 1)?);
        }
        Ok(events)
    }

    /// Every event of a block; none when it is gone.
    pub fn block_events(&self, key: BlockKey) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(table) = self.day_table(key.day)? else { return Ok(Vec::new()) };
        match table.get((key.run, key.first_tenant, key.block))? {
            Some(bytes) => Block::read(bytes.value())?.events(),
            None => Ok(Vec::new()),
        }
    }

    /// Every filed event of a day with `first_entry <= entry id` and a time in `from..to`, block by block.
    pub fn day_events(
        &self,
        day: u32,
        first_entry: u64,
        from: Timestamp,
        to: Timestamp,
        mut see: impl FnMut(StoredEvent),
    ) -> Result<(), StoreError> {
        let Some(table) = self.day_table(day)? else { return Ok(()) };
        for (_, run, info) in self.runs(day..=day)? {
            if info.last_entry_id < first_entry || info.last_time < from.micros() || info.first_time >= to.micros() {
                continue;
            }
            for row in table.range((run, 0, 0)..=(run, u32::MAX, u32::MAX))? {
                let (_, bytes) = row?;
                let block = Block::read(bytes.value())?;
                if block.span.1 < from.micros() || block.span.0 >= to.micros() {
                    continue;
                }
                let events = block.events()?.into_iter();
                events
                    .filter(|event| event.entry_id >= first_entry && (from..to).contains(&event.event_timestamp))
                    .for_each(&mut see);
            }
        }
        Ok(())
    }

    /// Every filed event of these runs of a day, block by block.
    pub fn run_events(&self, day: u32, runs: &[u64], mut see: impl FnMut(StoredEvent)) -> Result<(), StoreError> {
        let Some(table) = self.day_table(day)? else { return Ok(()) };
        for &run in runs {
            for row in table.range((run, 0, 0)..=(run, u32::MAX, u32::MAX))? {
                let (_, bytes) = row?;
                Block::read(bytes.value())?.events()?.into_iter().for_each(&mut see);
            }
        }
        Ok(())
    }

    /// The hashed part of every id of a run, with its tenant number; nothing is inflated.
    pub fn run_ids(&self, day: u32, run: u64, mut see: impl FnMut(u32, IdKey<'_>)) -> Result<(), StoreError> {
        let Some(table) = self.day_table(day)? else { return Ok(()) };
        for row in table.range((run, 0, 0)..=(run, u32::MAX, u32::MAX))? {
            let (_, bytes) = row?;
            Block::read(bytes.value())?.each_id_key(&mut see);
        }
        Ok(())
    }

    /// The filed denials of a day.
    pub fn day_denials(&self, day: u32) -> Result<Vec<FiledDenial>, StoreError> {
        let table = self.read.open_table(tables::DENIALS)?;
        let mut denials = Vec::new();
        for row in table.range((day, 0)..=(day, u64::MAX))? {
            denials.extend(records::decode_denials(row?.1.value())?);
        }
        Ok(denials)
    }

    /// The filed denials of a day, by the run that brought them.
    pub fn denial_runs(&self, day: u32) -> Result<Vec<(u64, Vec<FiledDenial>)>, StoreError> {
        let table = self.read.open_table(tables::DENIALS)?;
        let rows = table.range((day, 0)..=(day, u64::MAX))?;
        rows.map(|row| {
            let (key, bytes) = row?;
            Ok((key.value().1, records::decode_denials(bytes.value())?))
        })
        .collect()
    }

    /// One tenant's filed denials of a day, one by one.
    pub fn tenant_denials(&self, day: u32, tenant_no: u32, mut see: impl FnMut(Denial)) -> Result<(), StoreError> {
        let table = self.read.open_table(tables::DENIALS)?;
        for row in table.range((day, 0)..=(day, u64::MAX))? {
            let filed = records::decode_denials(row?.1.value())?.into_iter();
            filed.filter(|filed| filed.tenant_no == tenant_no).for_each(|filed| see(filed.denial));
        }
        Ok(())
    }
}
