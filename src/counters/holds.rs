//! Holds of one tenant: open ones by name and by age, their lapse in order of time, and what is remembered afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;
use xxhash_rust::xxh3;

use super::amounts::Amounts;
use crate::domain::quota::{Charges, FinishedHold, Hold, HoldId, HoldState};
use crate::domain::time::{MICROS_PER_HOUR, Timestamp};

/// How long past its lapse a named hold is remembered.
pub const FINISHED_KEPT_MICROS: i64 = 24 * MICROS_PER_HOUR;
/// The most finished holds a tenant is remembered by, about 25 MB: three reservations a second around the clock.
/// Beyond it the older half is forgotten early.
pub const FINISHED_MAX: usize = 262_144;

/// A hold that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenHold {
    pub(super) amounts: Amounts,
    pub(super) granted_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) day_start: Timestamp,
    pub(super) month_start: Timestamp,
}

impl OpenHold {
    pub(super) fn of(hold: &Hold) -> Self {
        let &Hold { granted_at, expires_at, day_start, month_start, .. } = hold;
        Self { amounts: Amounts::sum(&hold.items), granted_at, expires_at, day_start, month_start }
    }

    pub(super) fn to_hold(self, id: HoldId) -> Hold {
        let Self { amounts, granted_at, expires_at, day_start, month_start } = self;
        Hold { id, items: amounts.items(), granted_at, expires_at, day_start, month_start }
    }
}

/// A hold's name, small: named ones by their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Named(u128),
    Anonymous(u64),
}

#[derive(Clone, Debug)]
struct Named {
    id: Box<str>,
    hold: OpenHold,
}

#[derive(Clone, Debug)]
struct Anonymous {
    number: u64,
    hold: OpenHold,
    /// Whether it lapses no earlier than the regular ones before it, as holds of one time to live do: it needs no place
    /// among the lapses then.
    regular: bool,
}

/// What is remembered of a named hold that ended.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) items_digest: u64,
    pub(super) state: HoldState,
    pub(super) granted_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) day_start: Timestamp,
    pub(super) month_start: Timestamp,
    /// Only of a lapsed one, which a late settle is compared with.
    pub(super) reserved: Option<Box<Charges>>,
}

/// All holds of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Holds {
    named: HashMap<u128, Named>,
    /// In order of their numbers, oldest first.
    anonymous: VecDeque<Anonymous>,
    /// The latest lapse of a regular anonymous hold.
    regular_until: Timestamp,
    /// Of every hold but the regular anonymous ones, which are in order already.
    lapses: BTreeSet<(Timestamp, Key)>,
    /// The earliest lapse, so that the usual case costs one comparison.
    next_lapse: Timestamp,
    finished: BTreeMap<u128, Finished>,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            named: HashMap::default(),
            anonymous: VecDeque::new(),
            regular_until: Timestamp::default(),
            lapses: BTreeSet::new(),
            next_lapse: Timestamp::MAX,
            finished: BTreeMap::new(),
        }
    }
}

/// The hash that stands for a reservation's id.
pub(super) fn hash_of(reservation_id: &str) -> u128 {
    xxh3::xxh3_128(reservation_id.as_bytes())
}

impl Holds {
    pub(super) fn key(id: &HoldId) -> Key {
        match id {
            HoldId::Named(text) => Key::Named(hash_of(text)),
            HoldId::Anonymous(number) => Key::Anonymous(*number),
        }
    }

    pub(super) fn open(&self, key: Key) -> Option<&OpenHold> {
        match key {
            Key::Named(hash) => self.named.get(&hash).map(|named| &named.hold),
            Key::Anonymous(number) => {
                let place = self.place_of(number)?;
                self.anonymous.get(place).map(|anonymous| &anonymous.hold)
            }
        }
    }

    pub(super) fn finished(&self, hash: u128, now: Timestamp) -> Option<&Finished> {
        self.finished.get(&hash).filter(|finished| now < finished.expires_at.plus_micros(FINISHED_KEPT_MICROS))
    }

    pub(super) fn insert(&mut self, id: &HoldId, hold: OpenHold) {
        let key = Self::key(id);
        match (id, key) {
            (HoldId::Named(text), Key::Named(hash)) => {
                self.finished.remove(&hash);
                self.named.insert(hash, Named { id: text.as_str().into(), hold });
            }
            (HoldId::Anonymous(number), _) => {
                if self.insert_anonymous(*number, hold) {
                    return;
                }
            }
            // `key` gives a named key for every named id.
            (HoldId::Named(_), Key::Anonymous(_)) => {}
        }
        self.lapses.insert((hold.expires_at, key));
        self.next_lapse = self.next_lapse.min(hold.expires_at);
    }

    /// True when it is a regular one.
    #[inline]
    fn insert_anonymous(&mut self, number: u64, hold: OpenHold) -> bool {
        let latest = self.anonymous.back().map(|latest| latest.number);
        // Numbers are given in order, and nearly always come in it.
        if latest.is_some_and(|latest| latest > number) {
            let place = self.anonymous.partition_point(|other| other.number <= number);
            self.anonymous.insert(place, Anonymous { number, hold, regular: false });
            return false;
        }
        let regular = latest.is_none() || self.regular_until <= hold.expires_at;
        self.anonymous.push_back(Anonymous { number, hold, regular });
        if regular {
            self.regular_until = hold.expires_at;
            self.next_lapse = self.next_lapse.min(hold.expires_at);
        }
        regular
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<OpenHold> {
        let hold = match key {
            Key::Named(hash) => {
                let hold = self.named.remove(&hash)?.hold;
                self.lapses.remove(&(hold.expires_at, key));
                hold
            }
            Key::Anonymous(number) => {
                let Anonymous { hold, regular, .. } = self.anonymous.remove(self.place_of(number)?)?;
                if !regular {
                    self.lapses.remove(&(hold.expires_at, key));
                }
                hold
            }
        };
        self.removed(&hold);
        Some(hold)
    }

    /// Takes out the anonymous hold that was granted first; gives its number, too.
    #[inline]
    pub(super) fn remove_oldest_anonymous(&mut self) -> Option<(u64, OpenHold)> {
        let Anonymous { number, hold, regular } = self.anonymous.pop_front()?;
        if !regular {
            self.lapses.remove(&(hold.expires_at, Key::Anonymous(number)));
        }
        self.removed(&hold);
        Some((number, hold))
    }

    /// What is to be done once a hold is gone.
    #[inline]
    fn removed(&mut self, hold: &OpenHold) {
        if hold.expires_at == self.next_lapse {
            self.next_lapse = self.first_lapse().map_or(Timestamp::MAX, |(time, _)| time);
        }
        if self.anonymous.is_empty() {
            // An idle tenant keeps no memory for holds it once had; the next one takes the place that was used last.
            if self.anonymous.capacity() > 64 {
                self.anonymous = VecDeque::new();
            }
            self.anonymous.clear();
        }
        if self.named.is_empty() && self.named.capacity() > 64 {
            self.named = HashMap::default();
        }
    }

    /// Whether a hold lapses by now.
    #[inline]
    pub(super) fn lapses_by(&self, now: Timestamp) -> bool {
        now >= self.next_lapse
    }

    /// Takes out one hold whose time is over, remembering a named one as lapsed; `None` when there is none.
    #[inline]
    pub(super) fn lapse_one(&mut self, now: Timestamp) -> Option<OpenHold> {
        if !self.lapses_by(now) {
            return None;
        }
        let (_, key) = self.first_lapse()?;
        let hold = self.remove(key)?;
        if let Key::Named(hash) = key {
            self.finish(hash, &hold, HoldState::Lapsed);
        }
        Some(hold)
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        match self.anonymous.front() {
            Some(oldest) if oldest.number == number => Some(0),
            _ => self.anonymous.binary_search_by_key(&number, |anonymous| anonymous.number).ok(),
        }
    }

    fn first_lapse(&self) -> Option<(Timestamp, Key)> {
        let regular = self.anonymous.iter().find(|anonymous| anonymous.regular);
        let regular = regular.map(|anonymous| (anonymous.hold.expires_at, Key::Anonymous(anonymous.number)));
        regular.into_iter().chain(self.lapses.first().copied()).min()
    }

    /// Remembers how a named hold ended.
    pub(super) fn finish(&mut self, hash: u128, hold: &OpenHold, state: HoldState) {
        if self.finished.len() >= FINISHED_MAX {
            self.forget_older_half();
        }
        let &OpenHold { amounts, granted_at, expires_at, day_start, month_start } = hold;
        let reserved = (state == HoldState::Lapsed).then(|| Box::new(amounts.of));
        let items_digest = amounts.digest();
        self.finished
            .insert(hash, Finished { items_digest, state, granted_at, expires_at, day_start, month_start, reserved });
    }

    pub(super) fn change_finished(&mut self, hash: u128, state: HoldState) {
        if let Some(finished) = self.finished.get_mut(&hash) {
            finished.state = state;
            finished.reserved = None;
        }
    }

    /// Drops what need not be remembered any more.
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        self.finished.retain(|_, finished| now < finished.expires_at.plus_micros(FINISHED_KEPT_MICROS));
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<Timestamp> = self.finished.values().map(|finished| finished.expires_at).collect();
        let middle = times.len() / 2;
        let (_, &mut median, _) = times.select_nth_unstable(middle);
        let mut ties = times.len() / 2;
        self.finished.retain(|_, finished| {
            // At most half goes, and something always does, also when all are of one instant.
            let goes = finished.expires_at <= median && ties > 0;
            ties -= usize::from(goes);
            !goes
        });
    }

    pub(super) fn open_count(&self) -> usize {
        self.named.len() + self.anonymous.len()
    }

    /// Whether a named hold of this hash is open or remembered.
    pub(super) fn knows(&self, hash: u128) -> bool {
        self.named.contains_key(&hash) || self.finished.contains_key(&hash)
    }

    /// The hashes of every named hold, open or remembered.
    pub(super) fn names(&self) -> impl Iterator<Item = u128> + '_ {
        self.named.keys().chain(self.finished.keys()).copied()
    }

    pub(super) fn save(&self) -> (Vec<Hold>, Vec<FinishedHold>) {
        let named = self.named.values().map(|named| named.hold.to_hold(HoldId::Named(named.id.to_string())));
        let anonymous = self.anonymous.iter().map(|one| one.hold.to_hold(HoldId::Anonymous(one.number)));
        let mut open: Vec<Hold> = named.chain(anonymous).collect();
        open.sort_by(|one, other| one.id.cmp(&other.id));
        let finished = self.finished.iter().map(|(&id_hash, finished)| FinishedHold {
            id_hash,
            items_digest: finished.items_digest,
            state: finished.state,
            granted_at: finished.granted_at,
            expires_at: finished.expires_at,
            day_start: finished.day_start,
            month_start: finished.month_start,
            reserved: finished.reserved.as_deref().copied(),
        });
        (open, finished.collect())
    }

    pub(super) fn restore(open: &[Hold], finished: &[FinishedHold]) -> Self {
        let mut holds = Self::default();
        for hold in open {
            holds.insert(&hold.id, OpenHold::of(hold));
        }
        for one in finished {
            let remembered = Finished {
                items_digest: one.items_digest,
                state: one.state,
                granted_at: one.granted_at,
                expires_at: one.expires_at,
                day_start: one.day_start,
                month_start: one.month_start,
                reserved: one.reserved.map(Box::new),
            };
            holds.finished.insert(one.id_hash, remembered);
        }
        holds
    }
}
