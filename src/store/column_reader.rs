//! Reading what `columns` wrote: some events of a block, or all.

use std::ops::Range;

use super::StoreError;
use super::bytes::{Reader, unzigzag};
use super::columns::{
    COST, ENDPOINT, ESTIMATE, FIRST_NUMBER, ID_GIVEN, LATER, METADATA, METHOD, MODEL, NUMBERS, PROVIDER, SESSION,
    StoredEvent, TIME_GIVEN, USAGE,
};
use crate::domain::compact_event::{COUNTS, CompactEvent, Text};
use crate::domain::event::{Estimate, EventId};
use crate::domain::money::Money;
use crate::domain::price_terms::Markup;
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;

/// A filed event without its id, which nothing that is counted needs.
#[derive(Clone, Debug)]
pub struct FiledEvent {
    /// The tenant's number in this store.
    pub tenant_no: u32,
    /// Its place in the log.
    pub entry_id: u64,
    /// When its commit was made.
    pub created_at: Timestamp,
    /// When it happened, after defaults.
    pub event_timestamp: Timestamp,
    /// What the caller gave beside.
    pub event: CompactEvent,
}

/// How many events have a field, told by their flags.
struct Present<'a> {
    flags: &'a [u64],
    /// The events that are wanted.
    places: Range<usize>,
    /// The bits that all have, and those that any has: most fields are had by all or by none.
    all: u64,
    any: u64,
}

impl<'a> Present<'a> {
    fn of(flags: &'a [u64], places: Range<usize>) -> Self {
        let (all, any) = flags.iter().fold((u64::MAX, 0), |(all, any), flags| (all & flags, any | flags));
        Self { flags, places, all, any }
    }

    fn among(&self, places: Range<usize>, bit: u64) -> usize {
        if self.any & bit == 0 {
            0
        } else if self.all & bit != 0 {
            places.len()
        } else {
            self.flags[places].iter().filter(|&&flags| flags & bit != 0).count()
        }
    }

    /// So many have it.
    fn with(&self, bit: u64) -> usize {
        self.among(0..self.flags.len(), bit)
    }

    /// The wanted ones among those that have it.
    fn wanted(&self, bit: u64) -> Range<usize> {
        let start = self.among(0..self.places.start, bit);
        start..start + self.among(self.places.clone(), bit)
    }
}

type Each<T> = std::vec::IntoIter<T>;

/// The columns of a block, of which some events are wanted.
pub(super) struct EventColumns {
    flags: Vec<u64>,
    places: Range<usize>,
    /// Of every event, in microseconds.
    pub(super) times: Vec<i64>,
    /// `None` where they are the commit's.
    created: Option<Vec<i64>>,
    entry_ids: Option<Vec<i64>>,
    event_types: Each<Text>,
    methods: Each<Text>,
    endpoints: Each<Text>,
    sessions: Each<Box<str>>,
    models: Each<Text>,
    numbers: Vec<Each<u64>>,
    costs: Each<Money>,
    metadata: Each<Box<str>>,
    later: LaterFields,
}

impl EventColumns {
    /// Those of `count` events, of which the ones at `places` are wanted. `with_entry` as they were put.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        count: usize,
        places: Range<usize>,
        with_entry: bool,
    ) -> Result<Self, StoreError> {
        let flags = reader.planes(count)?;
        let present = Present::of(&flags, places.clone());
        let times = read_times(reader, count)?;
        let created = if with_entry { Some(read_times(reader, count)?) } else { None };
        let entry_ids = if with_entry { Some(read_deltas(reader, count)?) } else { None };
        let names = |reader: &mut Reader<'_>, bit: u64| {
            Ok::<_, StoreError>(read_dictionary(reader, present.with(bit), present.wanted(bit), Text::of)?.into_iter())
        };
        let texts = |reader: &mut Reader<'_>, bit: u64| {
            Ok::<_, StoreError>(read_dictionary(reader, present.with(bit), present.wanted(bit), boxed)?.into_iter())
        };
        let event_types = read_dictionary(reader, count, places.clone(), Text::of)?.into_iter();
        let methods = names(reader, METHOD)?;
        let endpoints = names(reader, ENDPOINT)?;
        let sessions = texts(reader, SESSION)?;
        let models = names(reader, MODEL)?;
        let mut numbers = Vec::with_capacity(NUMBERS);
        for number in 0..NUMBERS {
            let bit = 1 << (FIRST_NUMBER + number as u32);
            numbers.push(reader.planes_in(present.with(bit), present.wanted(bit))?.into_iter());
        }
        let costs = read_costs(reader, present.with(COST), present.wanted(COST))?.into_iter();
        let metadata = texts(reader, METADATA)?;
        let later = if present.with(LATER) > 0 { LaterFields::read(reader, &present)? } else { LaterFields::default() };
        Ok(Self {
            places,
            times,
            created,
            entry_ids,
            event_types,
            methods,
            endpoints,
            sessions,
            models,
            numbers,
            costs,
            metadata,
            later,
            flags,
        })
    }

    /// Hands out each wanted event with the bits that it has. `tenants` gives the number of each event's tenant, `commit` the
    /// first entry id and the commit time where the columns do not hold them.
    pub(super) fn each(
        mut self,
        tenants: &[u32],
        (first_entry_id, committed_at): (u64, Timestamp),
        mut see: impl FnMut(FiledEvent, u64),
    ) {
        for (place, event_type) in self.places.clone().zip(self.event_types) {
            let flags = self.flags[place];
            let has = |bit: u64| flags & bit != 0;
            let mut number = |column: usize| {
                if has(1 << (FIRST_NUMBER + column as u32)) { self.numbers[column].next() } else { None }
            };
            let mut event = CompactEvent::new(event_type);
            event.set_texts([
                if has(METHOD) { self.methods.next() } else { None },
                if has(ENDPOINT) { self.endpoints.next() } else { None },
                if has(MODEL) { self.models.next() } else { None },
                if has(PROVIDER) { self.later.providers.next() } else { None },
            ]);
            event.set_time_given(has(TIME_GIVEN));
            // Wider than its type only in a damaged block that passed its checksum.
            event.set_status(number(0).map(|value| value as u16));
            event.set_response_time(number(1).map(|value| value as u32));
            for place in 0..COUNTS {
                event.set_count(place, number(2 + place));
            }
            event.set_session(if has(SESSION) { self.sessions.next() } else { None });
            event.set_metadata(if has(METADATA) { self.metadata.next() } else { None });
            if has(USAGE)
                && let Some(usage) = self.later.usages.next()
            {
                event.set_usage(usage);
            }
            if has(ESTIMATE)
                && let Some(estimate) = self.later.estimates.next()
            {
                event.set_estimate(estimate);
            }
            if has(COST)
                && let Some(cost) = self.costs.next()
            {
                event.set_given_cost(cost);
            }
            let entry_id = self.entry_ids.as_ref().map_or(first_entry_id + place as u64, |ids| ids[place] as u64);
            let created = self.created.as_ref().map_or(committed_at, |created| Timestamp::from_micros(created[place]));
            let event_timestamp = Timestamp::from_micros(self.times[place]);
            see(FiledEvent { tenant_no: tenants[place], entry_id, created_at: created, event_timestamp, event }, flags);
        }
    }
}

/// Reads what [`put_events`](super::columns::put_events) wrote: the events at `places`. `tenants` gives the number of each
/// event's tenant, `entries` the entry id and commit time where the columns do not hold them, `ids` the ids at `places`.
pub(super) fn read_events(
    reader: &mut Reader<'_>,
    (tenants, places): (&[u32], Range<usize>),
    entries: Option<(u64, Timestamp)>,
    ids: impl FnOnce(&[i64]) -> Result<Vec<EventId>, StoreError>,
) -> Result<Vec<StoredEvent>, StoreError> {
    let columns = EventColumns::read(reader, tenants.len(), places.clone(), entries.is_none())?;
    let ids = ids(&columns.times)?;
    if ids.len() != places.len() {
        return Err(StoreError::Damaged("a block has another number of ids than of events"));
    }
    let mut events = Vec::with_capacity(places.len());
    let mut ids = ids.into_iter();
    columns.each(tenants, entries.unwrap_or_default(), |filed, flags| {
        let FiledEvent { tenant_no, entry_id, created_at, event_timestamp, event } = filed;
        let event_id_given = flags & ID_GIVEN != 0;
        events.extend(ids.next().map(|event_id| StoredEvent {
            tenant_no,
            entry_id,
            created_at,
            event_timestamp,
            event_id,
            event_id_given,
            event,
        }));
    });
    Ok(events)
}

/// The fields that came later, event by event.
#[derive(Default)]
struct LaterFields {
    providers: std::vec::IntoIter<Text>,
    usages: std::vec::IntoIter<UsageCounts>,
    estimates: std::vec::IntoIter<Estimate>,
}

impl LaterFields {
    fn read(reader: &mut Reader<'_>, present: &Present<'_>) -> Result<Self, StoreError> {
        let (with, wanted) = (|bit| present.with(bit), |bit| present.wanted(bit));
        let providers = read_dictionary(reader, with(PROVIDER), wanted(PROVIDER), Text::of)?;
        let given = reader.planes(with(USAGE))?;
        let mut usages = vec![UsageCounts::default(); given.len()];
        for place in 0..UsageCounts::FIELDS {
            let has = |given: &u64| given >> place & 1 == 1;
            let count = given.iter().filter(|given| has(given)).count();
            if place >= UsageCounts::FIRST_FIELDS && count == 0 {
                continue;
            }
            let mut counts = reader.planes(count)?.into_iter();
            for (usage, _) in usages.iter_mut().zip(&given).filter(|(_, given)| has(given)) {
                *usage.all_mut()[place] = counts.next();
            }
        }
        usages.truncate(wanted(USAGE).end);
        usages.drain(..wanted(USAGE).start);
        let price_nos = reader.planes_in(with(ESTIMATE), wanted(ESTIMATE))?;
        let costs = read_costs(reader, with(ESTIMATE), wanted(ESTIMATE))?;
        let estimates = price_nos.into_iter().zip(costs);
        let estimates = estimates
            .map(|(price_no, cost)| Ok(Estimate { cost, price_no: price_no as u32, markup: markup_above(price_no)? }));
        Ok(Self {
            providers: providers.into_iter(),
            usages: usages.into_iter(),
            estimates: estimates.collect::<Result<Vec<_>, StoreError>>()?.into_iter(),
        })
    }
}

fn markup_above(price_no: u64) -> Result<Markup, StoreError> {
    let points = unzigzag(price_no >> 32);
    Markup::from_basis_points(points).map_err(|_| StoreError::Damaged("an event has an impossible markup"))
}

fn read_times(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, StoreError> {
    let unit = reader.varint()?;
    if ![1, 1_000, 1_000_000].contains(&unit) {
        return Err(StoreError::Damaged("a time column has no known unit"));
    }
    let mut times = read_deltas(reader, count)?;
    times.iter_mut().for_each(|time| *time = time.wrapping_mul(unit as i64));
    Ok(times)
}

fn read_deltas(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, StoreError> {
    let mut last = unzigzag(reader.varint()?);
    let deltas = reader.planes(count)?;
    Ok(deltas
        .into_iter()
        .map(|delta| {
            last = last.wrapping_add(unzigzag(delta));
            last
        })
        .collect())
}

fn boxed(text: &str) -> Box<str> {
    text.into()
}

/// The `wanted` ones of `count` texts, each distinct one made by `keep` once.
fn read_dictionary<T: Clone>(
    reader: &mut Reader<'_>,
    count: usize,
    wanted: Range<usize>,
    keep: impl Fn(&str) -> T,
) -> Result<Vec<T>, StoreError> {
    let distinct = reader.count(count)?;
    let mut texts = Vec::with_capacity(distinct);
    for _ in 0..distinct {
        texts.push(keep(reader.text()?));
    }
    reader
        .planes_in(count, wanted)?
        .into_iter()
        .map(|number| texts.get(number as usize).cloned().ok_or(StoreError::Damaged("a text has no dictionary entry")))
        .collect()
}

/// The `wanted` ones of `count` amounts.
fn read_costs(reader: &mut Reader<'_>, count: usize, wanted: Range<usize>) -> Result<Vec<Money>, StoreError> {
    match reader.byte()? {
        u8::MAX => {
            let all: Vec<u128> = (0..count).map(|_| reader.varint_u128()).collect::<Result<_, _>>()?;
            Ok(all[wanted].iter().copied().map(Money::from_femtos).collect())
        }
        zeros @ 0..=15 => {
            let unit = 10u128.pow(u32::from(zeros));
            let costs = reader.planes_in(count, wanted)?;
            Ok(costs.into_iter().map(|value| Money::from_femtos(u128::from(value) * unit)).collect())
        }
        _ => Err(StoreError::Damaged("a cost column has no known unit")),
    }
}
