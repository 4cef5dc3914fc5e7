//! Metrics rows: many tenants' rows of one period packed into a block, sorted by tenant.
//!
//! A block is `version · checksum · rows`; a row is `tenant (as a step) · length · bytes`, so that a scan steps over the
//! rows it does not want. A row's bytes begin with the totals that overviews need; a reader of totals stops there.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::StoreError;
use super::bytes::{Reader, put_text, put_varint, put_varint_u128};
use crate::domain::metrics::Rollup;
use crate::domain::models::{MODELS_MAX, ModelSums, ModelTable};
use crate::domain::money::Money;
use crate::domain::sketch::Sketch;
use crate::domain::time::{Period, Timestamp};

const VERSION: u8 = 2;
/// Rows of this version have no sums by model.
const VERSION_WITHOUT_MODELS: u8 = 1;
const HEADER: usize = 9;
/// A block of rows stays just below a page run of 8 KiB: one row is read at the cost of its block, and an overview at the
/// cost of as many reads as there are blocks. Stores of before have blocks of 32 KiB, which are cut when they change.
pub(super) const ROWS_BYTES: usize = 8 * 1024 - 96;
/// A sketch has at most this many bins.
const MAX_BINS: usize = 2_048;

/// A stored row: the sums of one tenant and period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsRow {
    /// The sums.
    pub rollup: Rollup,
    /// When the row was first written.
    pub created_at: Timestamp,
    /// When its sums last changed.
    pub updated_at: Timestamp,
}

/// The part of a row that overviews over all tenants need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTotals {
    /// api_calls_total
    pub api_calls: u64,
    /// total_tokens_used
    pub tokens: u64,
    /// Milliseconds over `latency_count` events.
    pub latency_sum_ms: u64,
    /// Events that name a response time.
    pub latency_count: u64,
    /// Quota denials.
    pub quota_exceeded_count: u64,
    /// Events without a known cost.
    pub unpriced_events: u64,
    /// Cost of the priced events.
    pub cost: Money,
}

impl RowTotals {
    /// The totals of a rollup.
    pub fn of(rollup: &Rollup) -> Self {
        Self {
            api_calls: rollup.api_calls_total,
            tokens: rollup.total_tokens_used,
            latency_sum_ms: rollup.latency_sum_ms,
            latency_count: rollup.latency_count,
            quota_exceeded_count: rollup.quota_exceeded_count,
            unpriced_events: rollup.unpriced_events,
            cost: rollup.cost,
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.api_calls += other.api_calls;
        self.tokens += other.tokens;
        self.latency_sum_ms += other.latency_sum_ms;
        self.latency_count += other.latency_count;
        self.quota_exceeded_count += other.quota_exceeded_count;
        self.unpriced_events += other.unpriced_events;
        self.cost += other.cost;
    }
}

/// The sums that come after the totals; most are 0 in most rows, so a bit set says which are there.
fn details(rollup: &Rollup) -> [u64; 17] {
    [
        rollup.api_calls_successful,
        rollup.api_calls_failed,
        rollup.api_calls_rate_limited,
        rollup.chat_messages_sent,
        rollup.chat_messages_received,
        rollup.chat_latency_sum_ms,
        rollup.chat_latency_count,
        rollup.embeddings_generated,
        rollup.embeddings_tokens_used,
        rollup.semantic_searches_performed,
        rollup.kb_documents_ingested,
        rollup.kb_documents_failed,
        rollup.input_tokens,
        rollup.cached_input_tokens,
        rollup.output_tokens,
        rollup.reasoning_tokens,
        rollup.peak_qps,
    ]
}

fn details_mut(rollup: &mut Rollup) -> [&mut u64; 17] {
    [
        &mut rollup.api_calls_successful,
        &mut rollup.api_calls_failed,
        &mut rollup.api_calls_rate_limited,
        &mut rollup.chat_messages_sent,
        &mut rollup.chat_messages_received,
        &mut rollup.chat_latency_sum_ms,
        &mut rollup.chat_latency_count,
        &mut rollup.embeddings_generated,
        &mut rollup.embeddings_tokens_used,
        &mut rollup.semantic_searches_performed,
        &mut rollup.kb_documents_ingested,
        &mut rollup.kb_documents_failed,
        &mut rollup.input_tokens,
        &mut rollup.cached_input_tokens,
        &mut rollup.output_tokens,
        &mut rollup.reasoning_tokens,
        &mut rollup.peak_qps,
    ]
}

fn encode_row(row: &MetricsRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    let totals = RowTotals::of(&row.rollup);
    for number in [
        totals.api_calls,
        totals.tokens,
        totals.latency_sum_ms,
        totals.latency_count,
        totals.quota_exceeded_count,
        totals.unpriced_events,
    ] {
        put_varint(&mut out, number);
    }
    put_varint_u128(&mut out, totals.cost.femtos());

    let details = details(&row.rollup);
    let present = details.iter().enumerate().fold(0, |bits, (place, &value)| bits | (u64::from(value != 0) << place));
    put_varint(&mut out, present);
    details.iter().filter(|&&value| value != 0).for_each(|&value| put_varint(&mut out, value));

    put_varint(&mut out, row.created_at.micros() as u64);
    put_varint(&mut out, row.updated_at.micros_since(row.created_at).max(0) as u64);

    put_varint(&mut out, row.rollup.latency.bins().len() as u64);
    let mut last = 0;
    for &(bin, count) in row.rollup.latency.bins() {
        put_varint(&mut out, u64::from(bin - last));
        put_varint(&mut out, count);
        last = bin;
    }
    put_varint(&mut out, row.rollup.chat_sessions.len() as u64);
    row.rollup.chat_sessions.iter().for_each(|session| out.extend_from_slice(&session.to_le_bytes()));
    put_models(&mut out, &row.rollup.models);
    out
}

/// Nothing at all where no event named a model, so that such a row is as long as it was in version 1.
fn put_models(out: &mut Vec<u8>, table: &ModelTable) {
    if table.is_empty() {
        return;
    }
    put_varint(out, table.models().len() as u64);
    for (model, sums) in table.models() {
        put_text(out, model);
        put_sums(out, sums);
    }
    out.push(u8::from(table.other().is_some()));
    table.other().into_iter().for_each(|sums| put_sums(out, sums));
}

fn put_sums(out: &mut Vec<u8>, sums: &ModelSums) {
    let present =
        sums.counts.iter().enumerate().fold(0, |bits, (place, &count)| bits | (u64::from(count != 0) << place));
    put_varint(out, present);
    sums.counts.iter().filter(|&&count| count != 0).for_each(|&count| put_varint(out, count));
    put_varint_u128(out, sums.cost.femtos());
}

fn read_models(reader: &mut Reader<'_>) -> Result<ModelTable, StoreError> {
    if reader.rest().is_empty() {
        return Ok(ModelTable::default());
    }
    let count = reader.count(MODELS_MAX)?;
    let mut models = Vec::with_capacity(count);
    for _ in 0..count {
        models.push((reader.text()?.into(), read_sums(reader)?));
    }
    let other = if reader.byte()? == 1 { Some(read_sums(reader)?) } else { None };
    Ok(ModelTable::new(models, other))
}

fn read_sums(reader: &mut Reader<'_>) -> Result<ModelSums, StoreError> {
    let present = reader.varint()?;
    let mut sums = ModelSums::default();
    for (place, count) in sums.counts.iter_mut().enumerate() {
        if present >> place & 1 == 1 {
            *count = reader.varint()?;
        }
    }
    sums.cost = Money::from_femtos(reader.varint_u128()?);
    Ok(sums)
}

fn decode_totals(reader: &mut Reader<'_>) -> Result<RowTotals, StoreError> {
    Ok(RowTotals {
        api_calls: reader.varint()?,
        tokens: reader.varint()?,
        latency_sum_ms: reader.varint()?,
        latency_count: reader.varint()?,
        quota_exceeded_count: reader.varint()?,
        unpriced_events: reader.varint()?,
        cost: Money::from_femtos(reader.varint_u128()?),
    })
}

fn decode_row(bytes: &[u8]) -> Result<MetricsRow, StoreError> {
    let mut reader = Reader::new(bytes);
    let totals = decode_totals(&mut reader)?;
    let mut rollup = Rollup {
        api_calls_total: totals.api_calls,
        total_tokens_used: totals.tokens,
        latency_sum_ms: totals.latency_sum_ms,
        latency_count: totals.latency_count,
        quota_exceeded_count: totals.quota_exceeded_count,
        unpriced_events: totals.unpriced_events,
        cost: totals.cost,
        ..Rollup::default()
    };
    let present = reader.varint()?;
    for (place, value) in details_mut(&mut rollup).into_iter().enumerate() {
        if present >> place & 1 == 1 {
            *value = reader.varint()?;
        }
    }
    let created_at = Timestamp::from_micros(reader.varint()? as i64);
    let updated_at = created_at.plus_micros(reader.varint()? as i64);
    let bins = reader.count(MAX_BINS)?;
    let mut sketch = Vec::with_capacity(bins);
    let mut last = 0u16;
    for _ in 0..bins {
        last = last.wrapping_add(reader.varint()? as u16);
        sketch.push((last, reader.varint()?));
    }
    rollup.latency = Sketch::from_bins(sketch);
    let sessions = reader.count(reader.rest().len() / 8)?;
    for _ in 0..sessions {
        rollup.chat_sessions.push(reader.u64_le()?);
    }
    rollup.models = read_models(&mut reader)?;
    Ok(MetricsRow { rollup, created_at, updated_at })
}

/// One block of rows, as raw bytes a row.
pub(super) struct RowsBlock<'a> {
    rows: Reader<'a>,
}

impl<'a> RowsBlock<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes);
        if ![VERSION, VERSION_WITHOUT_MODELS].contains(&reader.byte()?) {
            return Err(StoreError::Damaged("a metrics block has an unknown version"));
        }
        if reader.u64_le()? != xxhash_rust::xxh3::xxh3_64(reader.rest()) {
            return Err(StoreError::Damaged("a metrics block fails its checksum"));
        }
        Ok(Self { rows: reader })
    }

    /// Calls `see` with each tenant number and row bytes until it says false.
    fn each(mut self, mut see: impl FnMut(u32, &'a [u8]) -> Result<bool, StoreError>) -> Result<(), StoreError> {
        let mut tenant = 0u32;
        while !self.rows.rest().is_empty() {
            tenant = tenant.wrapping_add(self.rows.varint()? as u32);
            let length = self.rows.count(self.rows.rest().len())?;
            if !see(tenant, self.rows.take(length)?)? {
                break;
            }
        }
        Ok(())
    }

    /// The row of one tenant.
    pub(super) fn row(self, tenant_no: u32) -> Result<Option<MetricsRow>, StoreError> {
        let mut found = None;
        self.each(|tenant, bytes| {
            if tenant == tenant_no {
                found = Some(decode_row(bytes)?);
            }
            Ok(tenant < tenant_no)
        })?;
        Ok(found)
    }

    /// The rows of some of these tenants, which are sorted, and how many of the tenants come before the block's end.
    pub(super) fn rows_of(self, tenants: &[u32], mut see: impl FnMut(u32, MetricsRow)) -> Result<usize, StoreError> {
        let mut passed = 0;
        self.each(|tenant, bytes| {
            passed += tenants[passed..].iter().take_while(|wanted| **wanted < tenant).count();
            if tenants.get(passed) == Some(&tenant) {
                see(tenant, decode_row(bytes)?);
                passed += 1;
            }
            Ok(passed < tenants.len())
        })?;
        Ok(passed)
    }

    /// The rows of all tenants with these numbers.
    pub(super) fn rows_within(self, tenants: &RangeInclusive<u32>) -> Result<Vec<(u32, MetricsRow)>, StoreError> {
        let mut rows = Vec::new();
        self.each(|tenant, bytes| {
            if tenants.contains(&tenant) {
                rows.push((tenant, decode_row(bytes)?));
            }
            Ok(tenant < *tenants.end())
        })?;
        Ok(rows)
    }

    /// The totals of every row.
    pub(super) fn totals(self, mut see: impl FnMut(u32, RowTotals)) -> Result<(), StoreError> {
        self.each(|tenant, bytes| {
            see(tenant, decode_totals(&mut Reader::new(bytes))?);
            Ok(true)
        })
    }

    fn raw(self) -> Result<Vec<(u32, &'a [u8])>, StoreError> {
        let mut rows = Vec::new();
        self.each(|tenant, bytes| {
            rows.push((tenant, bytes));
            Ok(true)
        })?;
        Ok(rows)
    }
}

/// Rows of one period that are ready to be written: whole blocks, and the first tenants of those that they replace.
#[derive(Debug)]
pub struct RowBlocks {
    /// The period.
    pub period: Period,
    /// Rows that are new or changed.
    pub rows: usize,
    pub(super) gone: Vec<u32>,
    pub(super) blocks: Vec<(u32, Vec<u8>)>,
}

/// Puts `changed` (sorted by tenant) into the rows of the `old` block, each changed row replacing the tenant's old one.
///
/// Gives new blocks as (first tenant number, bytes), each filled before the next is begun.
pub(super) fn merge_blocks(
    old: Option<&[u8]>,
    changed: &[(u32, &MetricsRow)],
) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
    let old = old.map(|bytes| RowsBlock::read(bytes)?.raw()).transpose()?.unwrap_or_default();
    let mut rows: Vec<(u32, Cow<'_, [u8]>)> = Vec::with_capacity(old.len() + changed.len());
    let mut old = old.into_iter().peekable();
    for (tenant, row) in changed {
        while let Some((before, bytes)) = old.next_if(|(number, _)| number < tenant) {
            rows.push((before, Cow::Borrowed(bytes)));
        }
        old.next_if(|(number, _)| number == tenant);
        rows.push((*tenant, Cow::Owned(encode_row(row))));
    }
    rows.extend(old.map(|(tenant, bytes)| (tenant, Cow::Borrowed(bytes))));

    let mut blocks: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut last = 0;
    for (tenant, row) in rows {
        let fits = blocks.last().is_some_and(|(_, block)| block.len() + row.len() + 10 <= ROWS_BYTES);
        if !fits {
            let mut block = Vec::with_capacity(ROWS_BYTES);
            block.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0, 0]);
            blocks.push((tenant, block));
            last = 0;
        }
        if let Some((_, block)) = blocks.last_mut() {
            put_varint(block, u64::from(tenant - last));
            put_varint(block, row.len() as u64);
            block.extend_from_slice(&row);
            last = tenant;
        }
    }
    for (_, block) in &mut blocks {
        let checksum = xxhash_rust::xxh3::xxh3_64(&block[HEADER..]);
        block[1..HEADER].copy_from_slice(&checksum.to_le_bytes());
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u64) -> MetricsRow {
        let mut rollup = Rollup {
            api_calls_total: seed,
            api_calls_failed: seed % 3,
            total_tokens_used: seed * 1_000_003,
            cost: Money::from_femtos(u128::from(seed) << 70),
            peak_qps: seed % 5,
            quota_exceeded_count: seed % 2,
            ..Rollup::default()
        };
        (0..seed % 40).for_each(|value| rollup.latency.add((value * 977) as u32));
        for model in 0..seed % 70 {
            let mut sums = ModelSums { cost: Money::from_femtos(u128::from(seed)), ..ModelSums::default() };
            (sums.counts[0], sums.counts[(model % 14) as usize]) = (model, seed);
            rollup.models.add(&format!("model-{model}"), &sums);
        }
        (0..seed % 4).for_each(|session| rollup.add_session(session.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        MetricsRow {
            rollup,
            created_at: Timestamp::from_micros(seed as i64 * 77),
            updated_at: Timestamp::from_micros(seed as i64 * 78),
        }
    }

    #[test]
    fn rows_read_back_from_blocks_that_stay_within_their_page_run() {
        let rows: Vec<(u32, MetricsRow)> = (0..3_000u32).map(|no| (no * 3, row(u64::from(no)))).collect();
        let refs: Vec<(u32, &MetricsRow)> = rows.iter().map(|(no, row)| (*no, row)).collect();
        let blocks = merge_blocks(None, &refs).unwrap();
        assert!(blocks.len() > 2 && blocks.iter().all(|(_, block)| block.len() <= ROWS_BYTES));
        let read: Vec<(u32, MetricsRow)> = blocks
            .iter()
            .flat_map(|(_, block)| RowsBlock::read(block).unwrap().rows_within(&(0..=u32::MAX)).unwrap())
            .collect();
        assert_eq!(read, rows);

        let (first, block) = &blocks[1];
        assert_eq!(RowsBlock::read(block).unwrap().row(*first).unwrap(), Some(row(u64::from(first / 3))));
        assert_eq!(RowsBlock::read(block).unwrap().row(first + 1).unwrap(), None);

        let (changed, new) = (row(7_777), row(8_888));
        let merged = merge_blocks(Some(block), &[(*first, &changed), (first + 1, &new)]).unwrap();
        let read: Vec<(u32, MetricsRow)> = merged
            .iter()
            .flat_map(|(_, block)| RowsBlock::read(block).unwrap().rows_within(&(0..=u32::MAX)).unwrap())
            .collect();
        assert_eq!(&read[..2], &[(*first, changed), (first + 1, new)]);
    }

    #[test]
    fn rows_of_before_there_were_models_are_read_and_no_longer_than_they_were() {
        let plain = row(70);
        assert!(plain.rollup.models.is_empty());
        let mut block = merge_blocks(None, &[(1, &plain)]).unwrap().remove(0).1;
        // The checksum does not cover the version, and nothing else has changed.
        block[0] = VERSION_WITHOUT_MODELS;
        assert_eq!(RowsBlock::read(&block).unwrap().rows_within(&(0..=u32::MAX)).unwrap(), [(1, plain)]);
        let with = row(69);
        let merged = merge_blocks(Some(&block), &[(2, &with)]).unwrap();
        assert_eq!(
            RowsBlock::read(&merged[0].1).unwrap().rows_within(&(0..=u32::MAX)).unwrap(),
            [(1, row(70)), (2, with)]
        );
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let (row, mut blocks) = (row(9), Vec::new());
        blocks.extend(merge_blocks(None, &[(1, &row)]).unwrap());
        let last = blocks[0].1.len() - 1;
        blocks[0].1[last] ^= 1;
        assert!(RowsBlock::read(&blocks[0].1).is_err());
    }
}
