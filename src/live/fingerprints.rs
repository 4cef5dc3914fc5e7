//! Which event ids were filed, for as long as their events are kept: a few bytes an id, and a day to look in on a hit.
//!
//! 256 partitions of 64-byte lines; a line holds 16 entries of 32 bits: a 6-bit day slot and the low 26 bits of the id's
//! 43-bit hash. The line's place gives the other bits back, so a partition grows without its ids being read again. A hit
//! is only a hint (about 1 in 4 million is wrong): the id itself is looked up in the segments of the slot's day.
//! Seven slot values more than the 60 + 2 days that can be in use keep neighbouring days apart.

use hashbrown::HashMap;
use parking_lot::RwLock;

const PARTITIONS: usize = 256;
const LINE: usize = 16;
/// A partition grows when more of its entries than this are in use; lines that are full by chance spill.
const LOAD_PERCENT: usize = 80;
const SLOT_BITS: u32 = 6;
const LOW_BITS: u32 = 32 - SLOT_BITS;
/// Bits of the hash inside a partition.
const HASH_BITS: u32 = 35;
/// From here on the line and the low bits together give the whole hash back: 2^35 / 2^26 lines.
const MIN_LINES: usize = 1 << (HASH_BITS - LOW_BITS);
/// An entry of zero is empty, so a slot is kept as itself + 1 in 6 bits: 63 slots.
const SLOTS: u32 = (1 << SLOT_BITS) - 1;

/// The table; probes and inserts lock one partition each.
pub struct Fingerprints {
    partitions: Box<[RwLock<Partition>]>,
}

struct Partition {
    lines: Vec<[u32; LINE]>,
    /// Entries whose line was full, a few in a hundred: a bit for each slot, by hash.
    spill: HashMap<u64, u64>,
    entries: usize,
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self { partitions: (0..PARTITIONS).map(|_| RwLock::new(Partition::new(MIN_LINES))).collect() }
    }
}

impl Fingerprints {
    /// With room for so many ids, so that filling it moves nothing.
    pub fn with_room_for(ids: usize) -> Self {
        let lines = (ids * 100 / (PARTITIONS * LINE * LOAD_PERCENT) + 1).max(MIN_LINES);
        Self { partitions: (0..PARTITIONS).map(|_| RwLock::new(Partition::new(lines))).collect() }
    }
}

/// The slot of a UTC day.
const fn slot_of(day: u32) -> u32 {
    day % SLOTS + 1
}

const fn parts(hash: u64) -> (usize, u64) {
    ((hash >> 56) as usize, hash >> (56 - HASH_BITS) & ((1 << HASH_BITS) - 1))
}

impl Fingerprints {
    /// Notes ids by their 64-bit keyed hashes, each with its day; in any order.
    ///
    /// They are brought together by partition first: each is locked once, and is small enough to stay in the cache while
    /// its ids are put into it.
    pub fn insert_all(&self, ids: &[(u64, u32)]) {
        let mut ends = [0usize; PARTITIONS];
        ids.iter().for_each(|(hash, _)| ends[parts(*hash).0] += 1);
        let mut start = 0;
        for end in &mut ends {
            (*end, start) = (start, start + *end);
        }
        let mut together = vec![(0, 0); ids.len()];
        for &(hash, day) in ids {
            let (partition, hash) = parts(hash);
            together[ends[partition]] = (hash, slot_of(day));
            ends[partition] += 1;
        }
        let mut start = 0;
        for (partition, end) in self.partitions.iter().zip(ends) {
            if start < end {
                partition.write().insert_all(&together[start..end]);
            }
            start = end;
        }
    }

    /// Whether an id of this hash may have been filed on any day; usually not.
    pub fn has(&self, hash: u64) -> bool {
        let (partition, hash) = parts(hash);
        self.partitions[partition].read().slots_of(hash) != 0
    }

    /// The days in `days` on which an id of this hash may have been filed; usually none.
    pub fn days_of(&self, hash: u64, days: std::ops::RangeInclusive<u32>) -> Vec<u32> {
        let (partition, hash) = parts(hash);
        let slots = self.partitions[partition].read().slots_of(hash);
        days.filter(|&day| slots >> slot_of(day) & 1 == 1).collect()
    }

    /// Forgets a day's ids, partition by partition; unless a day of `kept` has the same slot, whose ids would go with
    /// them. What is left of the day then is a wrong hint at worst.
    pub fn forget(&self, day: u32, kept: impl IntoIterator<Item = u32>) {
        if kept.into_iter().any(|kept| slot_of(kept) == slot_of(day)) {
            return;
        }
        for partition in &self.partitions {
            partition.write().forget(slot_of(day));
        }
    }

    /// Ids known.
    pub fn len(&self) -> usize {
        self.partitions.iter().map(|partition| partition.read().entries).sum()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes used by the lines.
    pub fn bytes(&self) -> usize {
        self.partitions.iter().map(|partition| partition.read().lines.capacity() * LINE * 4).sum()
    }
}

impl Partition {
    fn new(lines: usize) -> Self {
        Self { lines: vec![[0; LINE]; lines], spill: HashMap::new(), entries: 0 }
    }

    fn line_of(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> HASH_BITS) as usize
    }

    /// The hash of an entry, from the line it stands in.
    fn hash_of(&self, line: usize, entry: u32) -> u64 {
        // The lowest hash of the line; the entry's low bits say how far above it, in less than 2^26 steps.
        let lowest = ((line as u128) << HASH_BITS).div_ceil(self.lines.len() as u128) as u64;
        let low_mask = (1u64 << LOW_BITS) - 1;
        let low = u64::from(entry) & low_mask;
        lowest + (low.wrapping_sub(lowest) & low_mask)
    }

    fn insert_all(&mut self, ids: &[(u64, u32)]) {
        // Each line is far away. Asked for in a loop that does nothing else, many of them are on their way at once.
        let ahead = ids.iter().fold(0, |all, (hash, _)| all | self.lines[self.line_of(*hash)][0]);
        std::hint::black_box(ahead);
        ids.iter().for_each(|(hash, slot)| self.insert(*hash, *slot));
    }

    fn insert(&mut self, hash: u64, slot: u32) {
        if (self.entries + 1) * 100 > self.lines.len() * LINE * LOAD_PERCENT {
            self.grow();
        }
        self.entries += 1;
        self.place(hash, slot);
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let line = self.line_of(hash);
        let entry = slot << LOW_BITS | (hash as u32 & ((1 << LOW_BITS) - 1));
        let entries = &mut self.lines[line];
        // A bit for each free place: looked for without a branch that nobody could predict.
        let free = (0..LINE).fold(0u32, |free, place| free | u32::from(entries[place] == 0) << place);
        match entries.get_mut(free.trailing_zeros() as usize) {
            Some(free) => *free = entry,
            None => *self.spill.entry(hash).or_default() |= 1 << slot,
        }
    }

    fn grow(&mut self) {
        let lines = self.lines.len() * 5 / 4;
        let mut larger = Self::new(lines);
        larger.entries = self.entries;
        for line in 0..self.lines.len() {
            for entry in self.lines[line].into_iter().filter(|&entry| entry != 0) {
                larger.place(self.hash_of(line, entry), entry >> LOW_BITS);
            }
        }
        for (hash, slots) in std::mem::take(&mut self.spill) {
            (1..=SLOTS).filter(|slot| slots >> slot & 1 == 1).for_each(|slot| larger.place(hash, slot));
        }
        *self = larger;
    }

    /// A bit for each slot that an entry of this hash stands in.
    fn slots_of(&self, hash: u64) -> u64 {
        let low = hash as u32 & ((1 << LOW_BITS) - 1);
        let line = &self.lines[self.line_of(hash)];
        // Hardly ever is there one: then nothing has to be looked at one by one.
        let is_it = |entry: &u32| (*entry != 0) & (entry & ((1 << LOW_BITS) - 1) == low);
        let mut slots = 0;
        if line.iter().fold(false, |found, entry| found | is_it(entry)) {
            line.iter().filter(|entry| is_it(entry)).for_each(|entry| slots |= 1 << (entry >> LOW_BITS));
        }
        // What was spilled was spilled from a full line.
        if line[LINE - 1] != 0 && !self.spill.is_empty() {
            slots |= self.spill.get(&hash).copied().unwrap_or(0);
        }
        slots
    }

    fn forget(&mut self, slot: u32) {
        let mut gone = 0;
        for entry in self.lines.iter_mut().flatten() {
            if *entry >> LOW_BITS == slot && *entry != 0 {
                *entry = 0;
                gone += 1;
            }
        }
        self.spill.retain(|_, slots| {
            gone += usize::try_from(*slots >> slot & 1).unwrap_or(0);
            *slots &= !(1 << slot);
            *slots != 0
        });
        // An id that spilled twice on one day is one entry of it.
        self.entries = self.entries.saturating_sub(gone);
        // What is spilled is looked for only where a line is full: what finds room in its line now goes there.
        for (hash, slots) in std::mem::take(&mut self.spill) {
            (1..=SLOTS).filter(|slot| slots >> slot & 1 == 1).for_each(|slot| self.place(hash, slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes())
    }

    #[test]
    fn every_id_is_found_on_its_day_through_growth_and_forgetting() {
        let table = Fingerprints::default();
        let count = 3_000_000u64;
        let ids: Vec<(u64, u32)> = (0..count).map(|n| (hash(n), 20_000 + (n % 5) as u32)).collect();
        ids.chunks(70_000).for_each(|some| table.insert_all(some));
        assert_eq!(table.len(), count as usize);
        for n in 0..count {
            assert!(table.days_of(hash(n), 19_990..=20_010).contains(&(20_000 + (n % 5) as u32)), "{n}");
        }
        let wrong = (count..count + 1_000_000).filter(|&n| !table.days_of(hash(n), 19_990..=20_010).is_empty()).count();
        assert!(wrong < 50, "{wrong} wrong hits in a million");
        assert!(table.bytes() < count as usize * 9, "{} bytes", table.bytes());

        table.forget(20_002, [20_001, 20_002 + SLOTS]);
        assert_eq!(table.len(), count as usize, "another day has its slot");
        table.forget(20_002, [20_001]);
        assert_eq!(table.len(), (count - count / 5) as usize);
        let left = (0..count).filter(|&n| n % 5 == 2 && table.days_of(hash(n), 20_002..=20_002) == [20_002]).count();
        assert_eq!(left, 0);
        assert!(table.days_of(hash(3), 20_000..=20_004).contains(&20_003));
    }
}
