//! The metrics rows in a snapshot: one tenant's, some tenants', or all of a period; and rows made ready to be written.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use redb::{AccessGuard, ReadOnlyTable};

use super::metrics_rows::{MetricsRow, RowBlocks, RowTotals, RowsBlock, merge_blocks};
use super::{Snapshot, StoreError, records, tables};
use crate::domain::time::{Period, PeriodType};

/// The rows of a snapshot. It is cheap to keep, and not for nothing to get.
pub struct MetricsReader {
    table: ReadOnlyTable<(u8, u32, u32), &'static [u8]>,
    /// It reads for as long as this is here, like its snapshot.
    _reader: Arc<()>,
}

/// A block, and its first tenant.
type Block = (u32, AccessGuard<'static, &'static [u8]>);

impl Snapshot {
    /// Reads metrics rows.
    pub fn metrics(&self) -> Result<MetricsReader, StoreError> {
        let table = self.read.open_table(tables::METRICS)?;
        Ok(MetricsReader { table, _reader: Arc::clone(&self.reader) })
    }
}

impl MetricsReader {
    /// The block that holds the tenant's row of a period, if it has one.
    fn block_of(&self, kind: u8, index: u32, tenant_no: u32) -> Result<Option<Block>, StoreError> {
        let block = self.table.range((kind, index, 0)..=(kind, index, tenant_no))?.next_back().transpose()?;
        Ok(block.map(|(key, bytes)| (key.value().2, bytes)))
    }

    /// One tenant's stored row of a period.
    pub fn row(&self, period: Period, tenant_no: u32) -> Result<Option<MetricsRow>, StoreError> {
        let block = self.block_of(records::period_code(period.period_type), period.index, tenant_no)?;
        block.map_or(Ok(None), |(_, bytes)| RowsBlock::read(bytes.value())?.row(tenant_no))
    }

    /// One tenant's stored rows of the periods of these numbers, by number.
    pub fn rows_of_tenant(
        &self,
        period_type: PeriodType,
        periods: Range<u32>,
        tenant_no: u32,
    ) -> Result<Vec<(u32, MetricsRow)>, StoreError> {
        let kind = records::period_code(period_type);
        let (mut rows, mut index) = (Vec::new(), periods.start);
        while index < periods.end {
            match self.block_of(kind, index, tenant_no)? {
                Some((_, bytes)) => {
                    rows.extend(RowsBlock::read(bytes.value())?.row(tenant_no)?.map(|row| (index, row)));
                    index += 1;
                }
                // Many periods may have nothing at all.
                None => match self.next_period(period_type, index + 1, periods.end)? {
                    Some(next) => index = next,
                    None => break,
                },
            }
        }
        Ok(rows)
    }

    /// The stored rows of some tenants in a period, by tenant number; `tenants` are sorted.
    pub fn rows_of(&self, period: Period, tenants: &[u32]) -> Result<Vec<(u32, MetricsRow)>, StoreError> {
        let kind = records::period_code(period.period_type);
        let (mut rows, mut rest, mut last) = (Vec::new(), tenants, None);
        while let Some(&tenant) = rest.first() {
            let block = self.block_of(kind, period.index, tenant)?;
            let Some((first, bytes)) = block.filter(|(first, _)| last != Some(*first)) else {
                // It has none, and would stand before, between or behind the blocks that there are.
                rest = &rest[1..];
                continue;
            };
            last = Some(first);
            rest = &rest[RowsBlock::read(bytes.value())?.rows_of(rest, |tenant, row| rows.push((tenant, row)))?..];
        }
        Ok(rows)
    }

    /// Makes rows of one period, sorted by tenant number, ready to be written; each replaces the tenant's old one.
    pub fn row_blocks(&self, period: Period, rows: &[(u32, &MetricsRow)]) -> Result<RowBlocks, StoreError> {
        let kind = records::period_code(period.period_type);
        let mut ready = RowBlocks { period, rows: rows.len(), gone: Vec::new(), blocks: Vec::new() };
        let mut rest = rows;
        while let Some(&(tenant, _)) = rest.first() {
            // The block that the tenant belongs to, and the first tenant of the one behind it.
            let here = self.block_of(kind, period.index, tenant)?;
            let behind = (kind, period.index, tenant.saturating_add(1))..=(kind, period.index, u32::MAX);
            let next = self.table.range(behind)?.next().transpose()?.map_or(u32::MAX, |(key, _)| key.value().2);
            let of_block = rest.iter().take_while(|(tenant, _)| *tenant < next).count().max(1);
            let old = here.as_ref().map(|(_, bytes)| bytes.value());
            ready.blocks.extend(merge_blocks(old, &rest[..of_block])?);
            ready.gone.extend(here.as_ref().map(|(first, _)| *first));
            rest = &rest[of_block..];
        }
        // What is written again under the same key need not be removed before.
        let written: HashSet<u32> = ready.blocks.iter().map(|(first, _)| *first).collect();
        ready.gone.retain(|first| !written.contains(first));
        Ok(ready)
    }

    /// The stored rows of a period of all tenants with these numbers, by number.
    pub fn rows_within(
        &self,
        period: Period,
        tenants: &RangeInclusive<u32>,
    ) -> Result<Vec<(u32, MetricsRow)>, StoreError> {
        let kind = records::period_code(period.period_type);
        let mut rows = Vec::new();
        // A block is keyed by its first tenant: the first of these may stand in one that begins before it.
        let first = self.block_of(kind, period.index, *tenants.start())?.map_or(*tenants.start(), |(first, _)| first);
        for block in self.table.range((kind, period.index, first)..=(kind, period.index, *tenants.end()))? {
            rows.extend(RowsBlock::read(block?.1.value())?.rows_within(tenants)?);
        }
        Ok(rows)
    }

    /// The totals of every stored row of a period, by tenant number.
    pub fn totals(&self, period: Period, mut see: impl FnMut(u32, RowTotals)) -> Result<(), StoreError> {
        let kind = records::period_code(period.period_type);
        for block in self.table.range((kind, period.index, 0)..=(kind, period.index, u32::MAX))? {
            RowsBlock::read(block?.1.value())?.totals(&mut see)?;
        }
        Ok(())
    }

    /// The first period at or after `from` (before `to`) that has stored rows.
    pub fn next_period(&self, period_type: PeriodType, from: u32, to: u32) -> Result<Option<u32>, StoreError> {
        if to <= from {
            return Ok(None);
        }
        let kind = records::period_code(period_type);
        let first = self.table.range((kind, from, 0)..(kind, to, 0))?.next().transpose()?;
        Ok(first.map(|(key, _)| key.value().1))
    }
}
