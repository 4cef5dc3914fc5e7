//! Events as columns: the part that journal blocks and segment blocks share.
//!
//! A set of events becomes byte planes, one column behind the other, ready for a general compressor. Texts that repeat
//! (types, methods, endpoints, models, sessions) are numbered in a dictionary of the block's own, so that a block can be
//! read without anything else. Optional fields cost one bit in `flags` and nothing more when absent, and what was
//! absent reads back as absent: a retry is compared with what its caller gave. `column_reader` reads them.

use hashbrown::HashMap;

use super::bytes::{put_planes, put_text, put_varint, put_varint_u128, zigzag};
use crate::domain::compact_event::{COUNTS, CompactEvent};
use crate::domain::event::{EventId, UsageEvent};
use crate::domain::price_terms::Markup;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;

/// An event as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The tenant's number in this store.
    pub tenant_no: u32,
    /// Its place in the log.
    pub entry_id: u64,
    /// When its commit was made.
    pub created_at: Timestamp,
    /// When it happened, after defaults.
    pub event_timestamp: Timestamp,
    /// The caller's id, or the server's.
    pub event_id: EventId,
    /// Whether the caller gave the id.
    pub event_id_given: bool,
    /// What the caller gave beside.
    pub event: CompactEvent,
}

impl StoredEvent {
    /// What the caller gave, with its tenant; the id only where the caller gave it.
    pub fn to_usage(&self, tenant_id: TenantId) -> UsageEvent {
        let event_id = self.event_id_given.then(|| self.event_id.clone());
        self.event.to_usage(tenant_id, event_id, self.event_timestamp)
    }
}

/// The most events one block may claim to hold.
pub(super) const MAX_EVENTS_IN_BLOCK: usize = 1 << 20;

/// The version of blocks without, and with, columns for the fields that came later.
pub(super) const FIRST: u8 = 1;
pub(super) const WITH_LATER: u8 = 2;

// Bits of `flags`, in the order of the columns.
pub(super) const ID_GIVEN: u64 = 1;
pub(super) const TIME_GIVEN: u64 = 1 << 1;
pub(super) const METHOD: u64 = 1 << 2;
pub(super) const ENDPOINT: u64 = 1 << 3;
pub(super) const SESSION: u64 = 1 << 4;
pub(super) const MODEL: u64 = 1 << 5;
pub(super) const COST: u64 = 1 << 6;
pub(super) const METADATA: u64 = 1 << 7;
pub(super) const FIRST_NUMBER: u32 = 8;
// Behind the numbers: fields that came later. Their columns stand at the end, and only where an event has one, so that
// other blocks are byte for byte what they were.
pub(super) const PROVIDER: u64 = 1 << 18;
pub(super) const USAGE: u64 = 1 << 19;
pub(super) const ESTIMATE: u64 = 1 << 20;
pub(super) const LATER: u64 = PROVIDER | USAGE | ESTIMATE;

/// The optional numbers of an event, in column order.
pub(super) const NUMBERS: usize = 2 + COUNTS;

/// The columns of a set of events, gathered in one pass: an event is a few hundred bytes, and is looked at once.
#[derive(Default)]
struct Columns<'a> {
    flags: Vec<u64>,
    times: Vec<i64>,
    created: Vec<i64>,
    entries: Vec<i64>,
    event_types: Dictionary<'a>,
    methods: Dictionary<'a>,
    endpoints: Dictionary<'a>,
    sessions: Dictionary<'a>,
    models: Dictionary<'a>,
    numbers: [Vec<u64>; NUMBERS],
    costs: Vec<u128>,
    metadata: Dictionary<'a>,
    later: Later<'a>,
}

/// The columns of the fields that came later.
#[derive(Default)]
struct Later<'a> {
    providers: Dictionary<'a>,
    usages: Vec<&'a UsageCounts>,
    price_nos: Vec<u64>,
    estimates: Vec<u128>,
}

impl<'a> Later<'a> {
    /// The flags of what the event has.
    fn add(&mut self, event: &'a CompactEvent) -> u64 {
        let mut flags = if self.providers.add_some(event.provider()) { PROVIDER } else { 0 };
        if let Some(usage) = event.usage() {
            self.usages.push(usage);
            flags |= USAGE;
        }
        if let Some(estimate) = event.estimate() {
            self.price_nos.push(u64::from(estimate.price_no) | above_number(estimate.markup));
            self.estimates.push(estimate.cost.femtos());
            flags |= ESTIMATE;
        }
        flags
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.providers.put(out);
        let given = |usage: &UsageCounts| {
            let fields = usage.all().into_iter().enumerate();
            fields.fold(0, |bits, (place, (_, count))| bits | u64::from(count.is_some()) << place)
        };
        put_planes(out, &self.usages.iter().map(|usage| given(usage)).collect::<Vec<_>>());
        for place in 0..UsageCounts::FIELDS {
            let counts: Vec<u64> = self.usages.iter().filter_map(|usage| usage.all()[place].1).collect();
            if place < UsageCounts::FIRST_FIELDS || !counts.is_empty() {
                put_planes(out, &counts);
            }
        }
        put_planes(out, &self.price_nos);
        put_costs(out, &self.estimates);
    }
}

/// A markup above the number of its price row: nothing where there is none, so that such columns are what they always were.
const fn above_number(markup: Markup) -> u64 {
    zigzag(markup.basis_points() as i64) << 32
}

impl<'a> Columns<'a> {
    fn add(&mut self, stored: &'a StoredEvent) {
        let event = &stored.event;
        let bit = |present: bool, bit: u64| if present { bit } else { 0 };
        let mut flags = bit(stored.event_id_given, ID_GIVEN) | bit(event.time_given(), TIME_GIVEN);
        self.times.push(stored.event_timestamp.micros());
        self.created.push(stored.created_at.micros());
        self.entries.push(stored.entry_id as i64);
        self.event_types.add(event.event_type());
        flags |= bit(self.methods.add_some(event.api_method()), METHOD);
        flags |= bit(self.endpoints.add_some(event.api_endpoint()), ENDPOINT);
        flags |= bit(self.sessions.add_some(event.chat_session_id()), SESSION);
        flags |= bit(self.models.add_some(event.model()), MODEL);
        let mut number = |column: usize, number: Option<u64>| {
            if let Some(number) = number {
                self.numbers[column].push(number);
                flags |= 1 << (FIRST_NUMBER + column as u32);
            }
        };
        number(0, event.api_status_code().map(u64::from));
        number(1, event.api_response_time_ms().map(u64::from));
        for place in 0..COUNTS {
            number(2 + place, event.count(place));
        }
        if let Some(cost) = event.cost_usd() {
            self.costs.push(cost.femtos());
            flags |= COST;
        }
        flags |= bit(self.metadata.add_some(event.metadata()), METADATA);
        flags |= self.later.add(event);
        self.flags.push(flags);
    }

    fn put(&self, out: &mut Vec<u8>, with_entry: bool) -> bool {
        let with_later = self.flags.iter().any(|flags| flags & LATER != 0);
        put_planes(out, &self.flags);
        put_times(out, &self.times);
        if with_entry {
            put_times(out, &self.created);
            put_deltas(out, self.entries.iter().copied());
        }
        for dictionary in [&self.event_types, &self.methods, &self.endpoints, &self.sessions, &self.models] {
            dictionary.put(out);
        }
        self.numbers.iter().for_each(|numbers| put_planes(out, numbers));
        put_costs(out, &self.costs);
        self.metadata.put(out);
        if with_later {
            self.later.put(out);
        }
        with_later
    }
}

/// Appends the columns of `events` in the order given. `with_entry` adds entry ids and commit times, which the journal
/// keeps once for a whole commit instead. Gives the version of what was written: [`FIRST`] unless an event has a field
/// that came later.
pub(super) fn put_events<'a>(out: &mut Vec<u8>, events: impl Iterator<Item = &'a StoredEvent>, with_entry: bool) -> u8 {
    let mut columns = Columns::default();
    events.for_each(|stored| columns.add(stored));
    if columns.put(out, with_entry) { WITH_LATER } else { FIRST }
}

/// Instants as differences in the largest of microsecond, millisecond and second that loses nothing.
fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    let unit = [1_000_000, 1_000].into_iter().find(|unit| times.iter().all(|time| time % unit == 0)).unwrap_or(1);
    put_varint(out, unit as u64);
    put_deltas(out, times.iter().map(|time| time / unit));
}

fn put_deltas(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let mut numbers = numbers.peekable();
    let mut last = numbers.peek().copied().unwrap_or(0);
    put_varint(out, zigzag(last));
    let deltas: Vec<u64> = numbers
        .map(|number| {
            let delta = number.wrapping_sub(last);
            last = number;
            zigzag(delta)
        })
        .collect();
    put_planes(out, &deltas);
}

/// Whether they are equal; a kept name is so at a glance.
fn same(one: &str, other: &str) -> bool {
    std::ptr::eq(one, other) || one == other
}

/// Texts, each distinct one once, then their numbers.
#[derive(Default)]
struct Dictionary<'a> {
    known: HashMap<&'a str, u64>,
    distinct: Vec<&'a str>,
    numbers: Vec<u64>,
}

impl<'a> Dictionary<'a> {
    /// So many distinct texts are compared one by one before they are hashed.
    const FEW: usize = 6;

    fn add(&mut self, text: &'a str) {
        let few = self.distinct.len() <= Self::FEW;
        let number = match self.distinct.iter().take(Self::FEW).position(|known| same(known, text)) {
            Some(place) => place as u64,
            None if few => self.insert(text),
            None => match self.known.get(text) {
                Some(number) => *number,
                None => self.insert(text),
            },
        };
        self.numbers.push(number);
    }

    fn insert(&mut self, text: &'a str) -> u64 {
        let number = self.distinct.len() as u64;
        self.distinct.push(text);
        self.known.insert(text, number);
        number
    }

    /// Whether there was one.
    fn add_some(&mut self, text: Option<&'a str>) -> bool {
        text.map(|text| self.add(text)).is_some()
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.distinct.len() as u64);
        self.distinct.iter().for_each(|text| put_text(out, text));
        put_planes(out, &self.numbers);
    }
}

/// Amounts in the largest power of ten femto-dollars that loses nothing.
fn put_costs(out: &mut Vec<u8>, costs: &[u128]) {
    let mut zeros = 15;
    let mut unit = 10u128.pow(zeros);
    for cost in costs {
        while zeros > 0 && !cost.is_multiple_of(unit) {
            zeros -= 1;
            unit /= 10;
        }
    }
    if costs.iter().all(|cost| cost / unit <= u128::from(u64::MAX)) {
        out.push(zeros as u8);
        let costs: Vec<u64> = costs.iter().map(|cost| (cost / unit) as u64).collect();
        put_planes(out, &costs);
    } else {
        out.push(u8::MAX);
        costs.iter().for_each(|cost| put_varint_u128(out, *cost));
    }
}
