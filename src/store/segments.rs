//! Filing: journal events, sorted into runs of packed blocks, one run for each UTC day they touch.

use std::collections::BTreeMap;

use super::StoreError;
use super::block::cut_into_blocks;
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
    pub(super) blocks: Vec<(u32, Vec<u8>)>,
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
            let entry_ids = || placed.iter().map(|placed| placed.entry_id);
            let times = || placed.iter().map(|placed| placed.time);
            let info = RunInfo {
                events: placed.len() as u64,
                first_entry_id: entry_ids().min().unwrap_or(0),
                last_entry_id: entry_ids().max().unwrap_or(0),
                first_time: times().min().unwrap_or(0),
                last_time: times().max().unwrap_or(0),
            };
            let events: Vec<&StoredEvent> = sorted(placed).into_iter().map(|placed| placed.stored).collect();
            Ok(PreparedRun { day, info, blocks: cut_into_blocks(&events)? })
        })
        .collect()
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

    proptest! {
        #[test]
        fn however_far_apart_tenants_are_they_are_sorted(
            keys in prop::collection::vec((prop_oneof![0u32..4, 0..9_000_000u32], 0i64..5), 0..60),
        ) {
            let stored: Vec<StoredEvent> = keys
                .iter()
                .zip(1..)
                .map(|(&(tenant_no, time), entry_id)| StoredEvent {
                    tenant_no,
                    entry_id,
                    created_at: Timestamp::default(),
                    event_timestamp: Timestamp::from_micros(time),
                    event_id: EventId::Uuid(uuid::Uuid::nil()),
                    event_id_given: true,
                    event: CompactEvent::new(Text::of("api_call")),
                })
                .collect();
            let keys = |placed: Vec<Placed<'_>>| placed.iter().map(Placed::key).collect::<Vec<_>>();
            let mut expected = keys(stored.iter().map(Placed::of).collect());
            expected.sort_unstable();
            prop_assert_eq!(keys(sorted(stored.iter().map(Placed::of).collect())), expected);
        }
    }
}
