//! Filing: journal events, sorted into runs of packed blocks, one run for each UTC day they touch.

use std::collections::BTreeMap;

use super::StoreError;
use super::block::{CutBlock, cut_full_blocks, cut_into_blocks};
use super::columns::StoredEvent;
use super::records::RunInfo;

/// A run that is ready to be written.
#[derive(Debug)]
pub struct PreparedRun {
    /// The UTC day it belongs to.
    pub day: u32,
    /// What it holds.
    pub info: RunInfo,
    /// (first tenant number, block), in key order.
    pub(super) blocks: Vec<CutBlock>,
}

/// Sorts `events` by day, tenant and time, and packs them. Pure work for a background thread.
pub fn prepare_runs<'a>(events: impl IntoIterator<Item = &'a StoredEvent>) -> Result<Vec<PreparedRun>, StoreError> {
    let mut by_day: BTreeMap<u32, Vec<Placed<'_>>> = BTreeMap::new();
    for stored in events {
        by_day.entry(stored.event_timestamp.day()).or_default().push(Placed::of(stored));
    }
    by_day
        .into_iter()
        .map(|(day, placed)| {
            let info = info_of(&placed);
            let events: Vec<&StoredEvent> = sorted(placed).into_iter().map(|placed| placed.stored).collect();
            Ok(PreparedRun { day, info, blocks: cut_into_blocks(&events)? })
        })
        .collect()
}

fn info_of(placed: &[Placed<'_>]) -> RunInfo {
    let entry_ids = || placed.iter().map(|placed| placed.entry_id);
    let times = || placed.iter().map(|placed| placed.time);
    RunInfo {
        events: placed.len() as u64,
        first_entry_id: entry_ids().min().unwrap_or(0),
        last_entry_id: entry_ids().max().unwrap_or(0),
        first_time: times().min().unwrap_or(0),
        last_time: times().max().unwrap_or(0),
    }
}

/// A run that is made of parts, so that all of its events are never in memory at once.
#[derive(Debug, Default)]
pub struct RunInParts {
    info: Option<RunInfo>,
    blocks: Vec<CutBlock>,
    /// Packed with the next part, or at the end.
    rest: Vec<StoredEvent>,
}

impl RunInParts {
    /// Adds events of one day in any order, none of a tenant with a lower number than any before.
    pub fn add(&mut self, events: Vec<StoredEvent>) -> Result<(), StoreError> {
        let rest = std::mem::take(&mut self.rest);
        let placed: Vec<Placed<'_>> = events.iter().map(Placed::of).collect();
        if placed.is_empty() {
            self.rest = rest;
            return Ok(());
        }
        let info = info_of(&placed);
        self.info = Some(self.info.take().map_or(info.clone(), |known| RunInfo {
            events: known.events + info.events,
            first_entry_id: known.first_entry_id.min(info.first_entry_id),
            last_entry_id: known.last_entry_id.max(info.last_entry_id),
            first_time: known.first_time.min(info.first_time),
            last_time: known.last_time.max(info.last_time),
        }));
        let placed: Vec<Placed<'_>> = rest.iter().chain(&events).map(Placed::of).collect();
        let sorted: Vec<&StoredEvent> = sorted(placed).into_iter().map(|placed| placed.stored).collect();
        let (blocks, left) = cut_full_blocks(&sorted)?;
        self.blocks.extend(blocks);
        self.rest = sorted[sorted.len() - left..].iter().map(|stored| (*stored).clone()).collect();
        Ok(())
    }

    /// The whole run; `None` without events.
    pub fn finish(mut self, day: u32) -> Result<Option<PreparedRun>, StoreError> {
        self.blocks.extend(cut_into_blocks(&self.rest.iter().collect::<Vec<_>>())?);
        Ok(self.info.map(|info| PreparedRun { day, info, blocks: self.blocks }))
    }
}

/// Where an event stands in its run: the key lies beside the reference, so that sorting does not look at the events.
#[derive(Clone, Copy)]
struct Placed<'a> {
    tenant_no: u32,
    time: i64,
    entry_id: u64,
    stored: &'a StoredEvent,
}

impl<'a> Placed<'a> {
    const fn of(stored: &'a StoredEvent) -> Self {
        let &StoredEvent { tenant_no, event_timestamp, entry_id, .. } = stored;
        Self { tenant_no, time: event_timestamp.micros(), entry_id, stored }
    }

    const fn key(&self) -> (u32, i64, u64) {
        (self.tenant_no, self.time, self.entry_id)
    }
}

/// By tenant, time and place in the log. They come in the order of the log, which is nearly that of time: so they are
/// counted out to their tenants, and each tenant's are sorted where they have to be.
fn sorted(mut placed: Vec<Placed<'_>>) -> Vec<Placed<'_>> {
    let numbers = || placed.iter().map(|placed| placed.tenant_no);
    let (lowest, highest) = (numbers().min().unwrap_or(0), numbers().max().unwrap_or(0));
    let tenants = (highest - lowest) as usize + 1;
    if tenants > 4 * placed.len() {
        // Few events of tenants that are far apart: counting would look at more places than there are events.
        placed.sort_unstable_by_key(Placed::key);
        return placed;
    }
    // How many are before each tenant's first, then before its next.
    let mut places = vec![0usize; tenants + 1];
    numbers().for_each(|tenant_no| places[(tenant_no - lowest) as usize + 1] += 1);
    for tenant in 1..places.len() {
        places[tenant] += places[tenant - 1];
    }
    let mut by_tenant = placed.clone();
    for event in &placed {
        let place = &mut places[(event.tenant_no - lowest) as usize];
        by_tenant[*place] = *event;
        *place += 1;
    }
    for of_tenant in by_tenant.chunk_by_mut(|one, other| one.tenant_no == other.tenant_no) {
        if !of_tenant.is_sorted_by_key(|placed| placed.key()) {
            of_tenant.sort_unstable_by_key(Placed::key);
        }
    }
    by_tenant
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::compact_event::{CompactEvent, Text};
    use crate::domain::event::EventId;
    use crate::domain::time::Timestamp;

    fn event(tenant_no: u32, time: i64, entry_id: u64) -> StoredEvent {
        StoredEvent {
            tenant_no,
            entry_id,
            created_at: Timestamp::default(),
            event_timestamp: Timestamp::from_micros(time),
            event_id: EventId::Uuid(
                uuid::Builder::from_random_bytes(u128::from(entry_id).pow(3).to_be_bytes()).into_uuid(),
            ),
            event_id_given: true,
            event: CompactEvent::new(Text::of("api_call")),
        }
    }

    #[test]
    fn a_run_in_parts_is_the_run_of_all_its_events() {
        // A tenant of many events, tenants of few, and parts without any.
        let of_part = |part: u64| -> Vec<StoredEvent> {
            let events = [3, 0, 7_000, 9_000, 1, 0][part as usize];
            let tenant = |place: u64| part as u32 * 10 + if part == 2 { 0 } else { (place % 7) as u32 };
            let time = |place: u64| (place * 7_919 % 86_400) as i64 * 1_000_000;
            (0..events).map(|place| event(tenant(place), time(place), 1 + part * 10_000 + place)).collect()
        };
        let mut in_parts = RunInParts::default();
        (0..6).for_each(|part| in_parts.add(of_part(part)).unwrap());
        let run = in_parts.finish(0).unwrap().unwrap();
        let all: Vec<StoredEvent> = (0..6).flat_map(of_part).collect();
        let whole = prepare_runs(&all).unwrap().remove(0);
        assert_eq!(run.info, whole.info);
        let read = |run: &PreparedRun| -> Vec<StoredEvent> {
            let blocks = run.blocks.iter().map(|(_, bytes)| crate::store::block::Block::read(bytes).unwrap());
            blocks.flat_map(|block| block.events().unwrap()).collect()
        };
        assert_eq!(read(&run), read(&whole));
        let firsts = |run: &PreparedRun| run.blocks.iter().map(|(first, _)| *first).collect::<Vec<_>>();
        assert!(firsts(&run).is_sorted());
        // No part ends in a small block but the last.
        assert!(run.blocks.len() > 5 && run.blocks.len() <= whole.blocks.len() + 1, "{:?}", firsts(&run));
        assert!(RunInParts::default().finish(0).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn however_far_apart_tenants_are_they_are_sorted(
            keys in prop::collection::vec((prop_oneof![0u32..4, 0..9_000_000u32], 0i64..5), 0..60),
        ) {
            let stored: Vec<StoredEvent> = keys
                .iter()
                .zip(1..)
                .map(|(&(tenant_no, time), entry_id)| event(tenant_no, time, entry_id))
                .collect();
            let keys = |placed: Vec<Placed<'_>>| placed.iter().map(Placed::key).collect::<Vec<_>>();
            let mut expected = keys(stored.iter().map(Placed::of).collect());
            expected.sort_unstable();
            prop_assert_eq!(keys(sorted(stored.iter().map(Placed::of).collect())), expected);
        }
    }
}
