//! Raw events of one tenant, newest first, by position.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{EventPage, EventPosition, EventQuery, ReadError, UsageTracker};
use crate::domain::event::RecordedEvent;
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};
use crate::store::{Snapshot, StoreError, StoredEvent};

/// The most events of one page.
pub const MAX_EVENTS_PER_PAGE: usize = 10_000;

impl UsageTracker {
    /// Events of one tenant, newest first by (time, entry).
    ///
    /// Pages go on by position: what was there at the first page is neither skipped nor repeated, what came later is not
    /// shown. Fails for a limit outside 1 to 10,000 and for an unknown tenant.
    pub fn get_tenant_events(&self, tenant_id: &TenantId, query: &EventQuery) -> Result<EventPage, ReadError> {
        if !(1..=MAX_EVENTS_PER_PAGE).contains(&query.limit) {
            return Err(ReadError::InvalidRange { field: "limit", reason: "must be from 1 to 10,000".to_owned() });
        }
        let tenant_no = self.known(tenant_id)?.no;
        let snapshot = self.writer.shared().store.snapshot()?;
        let from = query.from.max(snapshot.cut()?.cut);
        // Nothing lies further ahead than the clock allows: an open end need not be searched.
        let ahead = self.writer.shared().clock.now().plus_micros(600 * MICROS_PER_SECOND);
        let to = query.to.min(ahead);
        let tail = Tail::read(&snapshot, tenant_no)?;
        let horizon = query.after.map_or(tail.last_entry_id, |after| after.horizon);
        let wanted = |stored: &StoredEvent| {
            let position = (stored.event_timestamp, stored.entry_id);
            stored.entry_id <= horizon
                && query.event_type.as_ref().is_none_or(|wanted| stored.event.event_type() == wanted.as_str())
                && query.after.is_none_or(|after| position < (after.event_timestamp, after.entry_id))
        };

        let mut events: Vec<StoredEvent> = Vec::new();
        let newest = query.after.map_or(to, |after| to.min(after.event_timestamp.plus_micros(1)));
        if from < newest {
            for day in days_with_events(&snapshot, &tail, from, newest)? {
                let mut of_day = snapshot.tenant_events(day, tenant_no, from, newest)?;
                let unfiled = tail.by_day.get(&day).into_iter().flatten();
                of_day.extend(unfiled.filter(|stored| (from..newest).contains(&stored.event_timestamp)).cloned());
                of_day.retain(|stored| wanted(stored));
                of_day.sort_unstable_by_key(|stored| std::cmp::Reverse((stored.event_timestamp, stored.entry_id)));
                events.append(&mut of_day);
                if events.len() > query.limit {
                    break;
                }
            }
        }
        let more = events.len() > query.limit;
        events.truncate(query.limit);
        let next = events.last().filter(|_| more).map(|last| EventPosition {
            event_timestamp: last.event_timestamp,
            entry_id: last.entry_id,
            horizon,
        });
        Ok(EventPage { events: events.into_iter().map(|stored| recorded(stored, tenant_id)).collect(), next })
    }
}

/// A stored event of `tenant_id` as callers see it.
pub(super) fn recorded(stored: StoredEvent, tenant_id: &TenantId) -> RecordedEvent {
    RecordedEvent {
        entry_id: stored.entry_id,
        created_at: stored.created_at,
        event_timestamp: stored.event_timestamp,
        event_id: stored.event_id,
        event_id_given: stored.event_id_given,
        event: stored.event.to_usage(tenant_id.clone(), None, stored.event_timestamp),
    }
}

/// A tenant's events that are still in the journal.
pub(super) struct Tail {
    pub(super) by_day: BTreeMap<u32, Vec<StoredEvent>>,
    /// The last entry of any tenant.
    pub(super) last_entry_id: u64,
}

impl Tail {
    pub(super) fn read(snapshot: &Snapshot, tenant_no: u32) -> Result<Self, StoreError> {
        let checkpoint = snapshot.checkpoint()?;
        let mut tail =
            Self { by_day: BTreeMap::new(), last_entry_id: checkpoint.filed_next_entry_id.saturating_sub(1) };
        snapshot.commits_after(checkpoint.filed_seq, |commit| {
            tail.last_entry_id = (commit.first_entry_id + commit.entries).saturating_sub(1);
            for stored in commit.events.into_iter().filter(|stored| stored.tenant_no == tenant_no) {
                tail.by_day.entry(stored.event_timestamp.day()).or_default().push(stored);
            }
            ControlFlow::Continue(())
        })?;
        Ok(tail)
    }
}

/// Newest first.
pub(super) fn days_with_events(
    snapshot: &Snapshot,
    tail: &Tail,
    from: Timestamp,
    to: Timestamp,
) -> Result<impl Iterator<Item = u32> + use<>, StoreError> {
    let range = from.day()..=to.day();
    let mut days: Vec<u32> = snapshot.runs(range.clone())?.into_iter().map(|(day, ..)| day).collect();
    days.extend(tail.by_day.range(range).map(|(day, _)| *day));
    days.sort_unstable();
    days.dedup();
    Ok(days.into_iter().rev())
}

/// A tenant's events in `from..to`, filed or not, in no particular order.
pub(super) fn tenant_events(
    snapshot: &Snapshot,
    tenant_no: u32,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<StoredEvent>, StoreError> {
    let tail = Tail::read(snapshot, tenant_no)?;
    let mut events = Vec::new();
    for day in days_with_events(snapshot, &tail, from, to)? {
        events.extend(snapshot.tenant_events(day, tenant_no, from, to)?);
        let unfiled = tail.by_day.get(&day).into_iter().flatten();
        events.extend(unfiled.filter(|stored| (from..to).contains(&stored.event_timestamp)).cloned());
    }
    Ok(events)
}
