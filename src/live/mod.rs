//! What memory knows beyond the folded rows: the hours still moving, and the ids already seen.
//!
//! Events pass through in generations. The open one takes commits; a closed one is filed to disk as a whole, and then its
//! hours join the filed layer, where they stay until their rows are folded. Stored row + filed layer + generations is the
//! exact usage at any instant. The writer alone changes this, under the write lock; a publication that moves something
//! from here to the disk commits under the same lock, so that a reader (lock, then snapshot) sees it once and not twice.

mod fingerprints;
mod hour_delta;
mod identity;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

pub use fingerprints::Fingerprints;
pub use hour_delta::{HourDelta, session_hash};
pub use identity::{IdHash, Identity, TenantIdentity};

use crate::domain::compact_event::CompactEvent;
use crate::domain::slice::{Slice, SliceHour};
use crate::domain::time::Timestamp;

/// The hours still moving, behind the lock that orders readers and publications.
pub type Live = RwLock<LiveState>;

/// One tenant's hour: (hour, tenant number).
type HourKey = (u32, u32);

/// Commits that are filed together.
#[derive(Debug, Default)]
pub struct Generation {
    /// Its last commit.
    pub last_seq: u64,
    /// Events and operations in it: what its filing has to read.
    pub weight: usize,
    /// Boxed: a table has room for twice as many as there are, and is moved when it grows.
    hours: HashMap<HourKey, Box<HourDelta>>,
    ids: HashMap<IdHash, u64>,
}

impl Generation {
    /// The hours and tenants it touches.
    pub fn hours(&self) -> impl Iterator<Item = (HourKey, &HourDelta)> {
        self.hours.iter().map(|(key, delta)| (*key, &**delta))
    }
}

/// The deltas of a slice's hour that are filed but not folded.
#[derive(Clone, Debug, Default)]
pub struct HourLayer {
    /// By tenant number.
    pub tenants: HashMap<u32, Box<HourDelta>>,
}

/// See the module.
#[derive(Debug)]
pub struct LiveState {
    generations: VecDeque<Generation>,
    filed: BTreeMap<SliceHour, Arc<HourLayer>>,
    /// Tenant hours in it.
    filed_deltas: usize,
    session_key: u64,
}

impl LiveState {
    /// Nothing yet; `session_key` keys the hashes of chat sessions.
    pub fn new(session_key: u64) -> Self {
        let generations = VecDeque::from([Generation::default()]);
        Self { generations, filed: BTreeMap::new(), filed_deltas: 0, session_key }
    }

    fn open(&mut self) -> &mut Generation {
        if self.generations.is_empty() {
            self.generations.push_back(Generation::default());
        }
        let last = self.generations.len() - 1;
        &mut self.generations[last]
    }

    /// Counts one committed event that happened `at` and was committed at `created_at`.
    pub fn add_event(
        &mut self,
        tenant_no: u32,
        event: &CompactEvent,
        at: Timestamp,
        created_at: Timestamp,
        id: Option<(IdHash, u64)>,
    ) {
        let session_key = self.session_key;
        let open = self.open();
        open.weight += 1;
        open.hours.entry((at.hour(), tenant_no)).or_default().add(event, at, created_at, session_key);
        if let Some((hash, content)) = id {
            open.ids.insert(hash, content);
        }
    }

    /// Counts committed denials; none of them leaves no trace.
    pub fn add_denials(&mut self, tenant_no: u32, at: Timestamp, count: u64) {
        if count == 0 {
            return;
        }
        self.open().hours.entry((at.hour(), tenant_no)).or_default().add_denials(count, at);
    }

    /// Notes that commit `seq` is in, with so many operations beside its events.
    pub fn end_commit(&mut self, seq: u64, operations: usize) {
        let open = self.open();
        open.last_seq = seq;
        open.weight += operations;
    }

    /// The content digest of an unfiled id.
    pub fn content_of(&self, hash: &IdHash) -> Option<u64> {
        self.generations.iter().rev().find_map(|generation| generation.ids.get(hash).copied())
    }

    /// Events and operations in the open generation.
    pub fn open_weight(&self) -> usize {
        self.generations.back().map_or(0, |open| open.weight)
    }

    /// Closes the open generation if it has a commit, so that it can be filed.
    pub fn close_generation(&mut self) {
        let open = self.open();
        if open.last_seq != 0 {
            // The next one will be about as large: it need not grow step by step.
            let ids = HashMap::with_capacity(open.ids.len());
            self.generations.push_back(Generation { ids, ..Generation::default() });
        }
    }

    /// Generations that wait to be filed.
    pub fn closed_generations(&self) -> usize {
        self.generations.len().saturating_sub(1)
    }

    /// The last commit of the oldest closed generation.
    pub fn oldest_closed(&self) -> Option<u64> {
        if self.generations.len() < 2 { None } else { self.generations.front().map(|oldest| oldest.last_seq) }
    }

    /// The last commit of the newest closed generation.
    pub fn newest_closed(&self) -> Option<u64> {
        let newest = self.generations.len().checked_sub(2)?;
        self.generations.get(newest).map(|closed| closed.last_seq)
    }

    /// The oldest closed generation is on disk: its hours join the filed layer. Its ids are in the fingerprints already.
    pub fn publish_filing(&mut self) {
        if self.generations.len() < 2 {
            return;
        }
        let Some(filed) = self.generations.pop_front() else { return };
        for ((hour, tenant_no), delta) in filed.hours {
            self.add_filed(hour, tenant_no, delta);
        }
    }

    /// Adds to the filed layer; at start, from the segments.
    pub fn add_filed(&mut self, hour: u32, tenant_no: u32, delta: Box<HourDelta>) {
        let tenants = &mut Arc::make_mut(self.filed.entry((Slice::of(tenant_no), hour)).or_default()).tenants;
        match tenants.get_mut(&tenant_no) {
            Some(known) => known.merge(&delta),
            None => {
                tenants.insert(tenant_no, delta);
                self.filed_deltas += 1;
            }
        }
    }

    /// Counts one filed event into the filed layer; at start, from the segments.
    pub fn add_filed_event(&mut self, tenant_no: u32, event: &CompactEvent, at: Timestamp, created_at: Timestamp) {
        let session_key = self.session_key;
        let tenants = &mut Arc::make_mut(self.filed.entry((Slice::of(tenant_no), at.hour())).or_default()).tenants;
        let before = tenants.len();
        tenants.entry(tenant_no).or_default().add(event, at, created_at, session_key);
        self.filed_deltas += tenants.len() - before;
    }

    /// The filed layer by slice and hour, oldest first. Whoever folds them keeps them until they are published: so the writer
    /// need not free them.
    pub fn filed_layers(&self) -> impl Iterator<Item = (SliceHour, &Arc<HourLayer>)> {
        self.filed.iter().map(|(of, layer)| (*of, layer))
    }

    /// Tenant hours in the filed layer.
    pub const fn filed_deltas(&self) -> usize {
        self.filed_deltas
    }

    /// Tenant hours that wait for their fold: those filed, and those of closed generations.
    pub fn waiting_deltas(&self) -> usize {
        let closed = self.generations.iter().take(self.closed_generations());
        self.filed_deltas + closed.map(|generation| generation.hours.len()).sum::<usize>()
    }

    /// These hours' rows are folded: their filed layer is in the rows.
    pub fn publish_fold(&mut self, hours: &[SliceHour]) {
        for hour in hours {
            self.filed_deltas -= self.filed.remove(hour).map_or(0, |layer| layer.tenants.len());
        }
    }

    /// The key of chat session hashes.
    pub const fn session_key(&self) -> u64 {
        self.session_key
    }

    /// What `tenant_no` has in `hour` beyond the stored row.
    pub fn delta(&self, hour: u32, tenant_no: u32) -> Option<HourDelta> {
        let mut sum: Option<HourDelta> = None;
        let filed = self.filed.get(&(Slice::of(tenant_no), hour)).and_then(|layer| layer.tenants.get(&tenant_no));
        let unfiled = self.generations.iter().filter_map(|generation| generation.hours.get(&(hour, tenant_no)));
        for delta in filed.into_iter().chain(unfiled) {
            match &mut sum {
                Some(sum) => sum.merge(delta),
                None => sum = Some((**delta).clone()),
            }
        }
        sum
    }

    /// The part of it that is not filed.
    pub fn unfiled_delta(&self, hour: u32, tenant_no: u32) -> HourDelta {
        let mut sum = HourDelta::default();
        let unfiled = self.generations.iter().filter_map(|generation| generation.hours.get(&(hour, tenant_no)));
        unfiled.for_each(|delta| sum.merge(delta));
        sum
    }

    /// The first hour that has anything unfolded.
    pub fn first_moving_hour(&self) -> Option<u32> {
        let filed = self.filed.keys().map(|(_, hour)| *hour).min();
        let unfiled = self.generations.iter().flat_map(|generation| generation.hours.keys().map(|(hour, _)| *hour));
        filed.into_iter().chain(unfiled).min()
    }

    /// The hours in `hours` for which `tenant_no` has a delta, sorted.
    pub fn hours_of(&self, tenant_no: u32, hours: std::ops::Range<u32>) -> Vec<u32> {
        let slice = Slice::of(tenant_no);
        let mut found: Vec<u32> = self
            .filed
            .range((slice, hours.start)..(slice, hours.end.max(hours.start)))
            .filter(|(_, layer)| layer.tenants.contains_key(&tenant_no))
            .map(|((_, hour), _)| *hour)
            .collect();
        for generation in &self.generations {
            // A generation touches few hours in live traffic and few tenants in an import: look up the shorter way.
            if generation.hours.len() < hours.len() {
                let of_tenant = generation.hours.keys().filter(|(hour, no)| *no == tenant_no && hours.contains(hour));
                found.extend(of_tenant.map(|(hour, _)| *hour));
            } else {
                found.extend(hours.clone().filter(|hour| generation.hours.contains_key(&(*hour, tenant_no))));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Every delta in `hours`, as (hour, tenant number, sums); a tenant's hour may come more than once.
    pub fn deltas(&self, hours: std::ops::Range<u32>) -> impl Iterator<Item = (u32, u32, &HourDelta)> {
        let wanted = hours.clone();
        let layers = self.filed.iter().filter(move |((_, hour), _)| wanted.contains(hour));
        let filed = layers.flat_map(|((_, hour), layer)| {
            layer.tenants.iter().map(move |(tenant_no, delta)| (*hour, *tenant_no, &**delta))
        });
        let unfiled = self.generations.iter().flat_map(move |generation| {
            let hours = hours.clone();
            generation
                .hours
                .iter()
                .filter(move |((hour, _), _)| hours.contains(hour))
                .map(|((hour, tenant_no), delta)| (*hour, *tenant_no, &**delta))
        });
        filed.chain(unfiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::compact_event::Text;
    use crate::domain::time::MICROS_PER_HOUR;

    #[test]
    fn what_waits_for_its_fold_is_counted_until_it_is_folded() {
        let mut live = LiveState::new(7);
        let event = CompactEvent::new(Text::of("api_call"));
        let commit = |live: &mut LiveState, seq, places: &[(i64, u32)]| {
            for &(hour, tenant_no) in places {
                let at = Timestamp::from_micros(hour * MICROS_PER_HOUR);
                live.add_event(tenant_no, &event, at, at, None);
            }
            live.end_commit(seq, 0);
            live.close_generation();
        };
        commit(&mut live, 1, &[(1, 1), (1, 1), (1, 2), (2, 1)]);
        commit(&mut live, 2, &[(2, 1), (3, 3)]);
        assert_eq!((live.filed_deltas(), live.waiting_deltas()), (0, 5));
        live.publish_filing();
        assert_eq!((live.filed_deltas(), live.waiting_deltas()), (3, 5));
        live.publish_filing();
        // Of (2, 1) both generations had something.
        assert_eq!((live.filed_deltas(), live.waiting_deltas()), (4, 4));
        live.add_filed_event(1, &event, Timestamp::from_micros(MICROS_PER_HOUR), Timestamp::default());
        live.add_filed_event(9, &event, Timestamp::from_micros(MICROS_PER_HOUR), Timestamp::default());
        assert_eq!((live.filed_deltas(), live.waiting_deltas()), (5, 5));
        live.publish_fold(&[(Slice(0), 1), (Slice(0), 7), (Slice(1), 2)]);
        assert_eq!((live.filed_deltas(), live.waiting_deltas()), (2, 2));
        live.publish_fold(&[(Slice(0), 2), (Slice(0), 3)]);
        assert_eq!((live.filed_deltas(), live.waiting_deltas()), (0, 0));
    }
}
