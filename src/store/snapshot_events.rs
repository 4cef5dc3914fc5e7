//! The filed events in a snapshot: a tenant's, a block's, or those of a day.

use std::ops::{ControlFlow, RangeInclusive};

use redb::{ReadOnlyTable, TableError};

use super::block::{Block, Inflater};
use super::column_reader::FiledEvent;
use super::columns::StoredEvent;
use super::{Snapshot, StoreError, tables};
use crate::domain::event::IdKey;
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

/// A tenant's filed events of one day, in no particular order.
pub type TenantEvents = Vec<StoredEvent>;

/// Which filed events of a day are wanted.
#[derive(Clone, Debug)]
pub struct EventsWanted {
    /// Those of tenants with these numbers...
    pub tenants: RangeInclusive<u32>,
    /// ...with this entry id or a later one...
    pub first_entry: u64,
    /// ...that happened from this instant...
    pub from: Timestamp,
    /// ...up to and not including this one.
    pub to: Timestamp,
}

impl Snapshot {
    fn day_table(&self, day: u32) -> Result<Option<DayTable>, StoreError> {
        match self.read.open_table(tables::day_table(&tables::day_table_name(day))) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The blocks of a run that may hold events of the tenants.
    fn rows_of<'t>(
        table: &'t DayTable,
        run: u64,
        tenants: &RangeInclusive<u32>,
    ) -> Result<impl Iterator<Item = BlockRow<'t>>, StoreError> {
        // A block is keyed by its first tenant: the tenants may begin inside the last block that starts before them.
        let (first, last) = (*tenants.start(), *tenants.end());
        let before = table.range((run, 0, 0)..(run, first, 0))?.next_back();
        Ok(before.into_iter().chain(table.range((run, first, 0)..=(run, last, u32::MAX))?))
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
            for row in Self::rows_of(&table, run, &(tenant_no..=tenant_no))? {
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
            for row in Self::rows_of(&table, run, &(tenant_no..=tenant_no))? {
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

    /// The filed events of a day that are wanted, block by block, without their ids.
    pub fn day_events(
        &self,
        day: u32,
        wanted: &EventsWanted,
        mut see: impl FnMut(FiledEvent),
    ) -> Result<(), StoreError> {
        let EventsWanted { tenants, first_entry, from, to } = wanted;
        let Some(table) = self.day_table(day)? else { return Ok(()) };
        let mut inflater = Inflater::new()?;
        for (_, run, info) in self.runs(day..=day)? {
            if info.last_entry_id < *first_entry || info.last_time < from.micros() || info.first_time >= to.micros() {
                continue;
            }
            for row in Self::rows_of(&table, run, tenants)? {
                let (_, bytes) = row?;
                let block = Block::read(bytes.value())?;
                let places = block.places_within(tenants);
                if places.is_empty() || block.span.1 < from.micros() || block.span.0 >= to.micros() {
                    continue;
                }
                block.each_at(places, &mut inflater, &mut |event| {
                    if event.entry_id >= *first_entry && (*from..*to).contains(&event.event_timestamp) {
                        see(event);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// How many filed events of a day have a time in `from..to`. What lies within it as a whole is not read.
    pub fn count_day_events(&self, day: u32, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        let range = from.micros()..to.micros();
        let within = |first: i64, last: i64| range.contains(&first) && range.contains(&last);
        let apart = |first: i64, last: i64| last < range.start || first >= range.end;
        let mut count = 0;
        let (mut table, mut inflater) = (None, Inflater::new()?);
        for (_, run, info) in self.runs(day..=day)? {
            if apart(info.first_time, info.last_time) {
                continue;
            }
            if within(info.first_time, info.last_time) {
                count += info.events;
                continue;
            }
            if table.is_none() {
                table = self.day_table(day)?;
            }
            let Some(table) = &table else { continue };
            for row in table.range((run, 0, 0)..=(run, u32::MAX, u32::MAX))? {
                let (_, bytes) = row?;
                let block = Block::read(bytes.value())?;
                if apart(block.span.0, block.span.1) {
                    continue;
                }
                if within(block.span.0, block.span.1) {
                    count += block.len() as u64;
                    continue;
                }
                block.each_at(0..block.len(), &mut inflater, &mut |event| {
                    count += u64::from(range.contains(&event.event_timestamp.micros()));
                })?;
            }
        }
        Ok(count)
    }

    /// Every filed event of some tenants in these runs of a day, block by block.
    pub fn run_events(
        &self,
        day: u32,
        runs: &[u64],
        tenants: &RangeInclusive<u32>,
        mut see: impl FnMut(StoredEvent),
    ) -> Result<(), StoreError> {
        let Some(table) = self.day_table(day)? else { return Ok(()) };
        for &run in runs {
            for row in Self::rows_of(&table, run, tenants)? {
                let (_, bytes) = row?;
                let block = Block::read(bytes.value())?;
                let places = block.places_within(tenants);
                if !places.is_empty() {
                    block.events_at(places)?.into_iter().for_each(&mut see);
                }
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
}
