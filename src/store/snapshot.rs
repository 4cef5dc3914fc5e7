//! Reading: one consistent state of the disk.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableError};

use super::journal::{self, Commit};
use super::records::{self, Checkpoint, FiledDenial, HourMark, RealtimeCut, RunInfo, StoredBook, StoredPrice};
use super::tables;
use super::{StoreError, TenantNames};
use crate::domain::job::JobRecord;
use crate::domain::key::ApiKey;
use crate::domain::quota::{Denial, Plan, QuotaSnapshot};
use crate::domain::slice::{Slice, SliceHour};
use crate::domain::tenant::{Tenant, TenantId};

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
        let mut tenants = Vec::with_capacity(table.len()? as usize);
        for row in table.iter()? {
            let (number, bytes) = row?;
            tenants.push((number.value(), records::decode_tenant(bytes.value())?));
        }
        Ok(tenants)
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

    /// Saved quota counters by tenant number, sorted.
    pub fn quota_states(&self) -> Result<Vec<(u32, QuotaSnapshot)>, StoreError> {
        let table = self.read.open_table(tables::QUOTA_STATE)?;
        // There is hardly a block that is not full, and a copy of them all is dear.
        let mut states = Vec::with_capacity(table.len()? as usize * records::STATES_PER_BLOCK as usize);
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

    /// How far each slice's hour that has events is filed and folded.
    pub fn hour_marks(&self) -> Result<Vec<(SliceHour, HourMark)>, StoreError> {
        let table = self.read.open_table(tables::HOURS)?;
        let marks = table.iter()?.map(|row| {
            let (key, mark) = row?;
            let ((hour, slice), (filed_through, folded_through)) = (key.value(), mark.value());
            Ok(((Slice(slice), hour), HourMark { filed_through, folded_through }))
        });
        marks.collect()
    }

    /// The same of these alone, as far as they have events.
    pub fn hour_marks_of(
        &self,
        hours: impl IntoIterator<Item = SliceHour>,
    ) -> Result<Vec<(SliceHour, HourMark)>, StoreError> {
        let table = self.read.open_table(tables::HOURS)?;
        let mut marks = Vec::new();
        for (slice, hour) in hours {
            if let Some(mark) = table.get((hour, slice.0))? {
                let (filed_through, folded_through) = mark.value();
                marks.push(((slice, hour), HourMark { filed_through, folded_through }));
            }
        }
        Ok(marks)
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
