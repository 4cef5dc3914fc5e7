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

/// Where an event stands in its run: the key lies beside the reference, so that sorting does not look at the events.
type Placed<'a> = ((u32, i64, u64), &'a StoredEvent);

/// Sorts `events` by day, tenant and time, and packs them. Pure work for a background thread.
pub fn prepare_runs<'a>(events: impl IntoIterator<Item = &'a StoredEvent>) -> Result<Vec<PreparedRun>, StoreError> {
    let mut by_day: BTreeMap<u32, Vec<Placed<'_>>> = BTreeMap::new();
    for stored in events {
        let key = (stored.tenant_no, stored.event_timestamp.micros(), stored.entry_id);
        by_day.entry(stored.event_timestamp.day()).or_default().push((key, stored));
    }
    by_day
        .into_iter()
        .map(|(day, mut placed)| {
            placed.sort_unstable_by_key(|(key, _)| *key);
            let events: Vec<&StoredEvent> = placed.into_iter().map(|(_, stored)| stored).collect();
            let entry_ids = || events.iter().map(|stored| stored.entry_id);
            let times = || events.iter().map(|stored| stored.event_timestamp.micros());
            let info = RunInfo {
                events: events.len() as u64,
                first_entry_id: entry_ids().min().unwrap_or(0),
                last_entry_id: entry_ids().max().unwrap_or(0),
                first_time: times().min().unwrap_or(0),
                last_time: times().max().unwrap_or(0),
            };
            Ok(PreparedRun { day, info, blocks: cut_into_blocks(&events)? })
        })
        .collect()
}
