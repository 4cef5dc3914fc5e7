//! A calendar window of one tenant: what is used and held in the current one, and used in the next.

use chrono_tz::Tz;

use super::amounts::{add, subtract};
use crate::domain::quota::{Charges, WindowSnapshot};
use crate::domain::time::Timestamp;
use crate::rules::window::{CalendarWindow, WindowSpan, window_at};

/// The counters of the current day or month.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    window: CalendarWindow,
    span: WindowSpan,
    pub(super) used: Charges,
    pub(super) held: Charges,
    /// Events may be up to five minutes ahead; rarely any is.
    next_used: Option<Box<Charges>>,
    /// The use of each type at which a threshold is reached next; `None` when no limit of this window is watched. A new
    /// window begins with those of the last one, until its owner sets them anew.
    pub(super) watched: Option<Box<Charges>>,
}

impl Calendar {
    /// One without a window yet; the first [`Calendar::roll`] gives it one.
    pub(super) fn new(window: CalendarWindow) -> Self {
        let nothing = Charges::default();
        Self { window, span: WindowSpan::default(), used: nothing, held: nothing, next_used: None, watched: None }
    }

    /// Moves to the window of `now` when the current one is over; tells whether it was. The zone is looked at only here,
    /// which is why a change of zone takes effect when the current window ends.
    #[inline]
    pub(super) fn roll(&mut self, zone: impl FnOnce() -> Tz, now: Timestamp) -> bool {
        let over = now >= self.span.end;
        if over {
            self.roll_to(zone(), now);
        }
        over
    }

    /// Whether use has reached a watched threshold.
    #[inline]
    pub(super) fn has_reached(&self) -> bool {
        let reached = |watched: &Charges| self.used.iter().zip(watched).any(|(used, watched)| used >= watched);
        self.watched.as_deref().is_some_and(reached)
    }

    #[cold]
    fn roll_to(&mut self, zone: Tz, now: Timestamp) {
        let natural = window_at(self.window, zone, now);
        // In a new zone the window may have begun before the old one ended: windows never overlap.
        let span = WindowSpan { start: natural.start.max(self.span.end), end: natural.end };
        let carried = self.next_used.take().filter(|_| span.start == self.span.end);
        self.used = carried.map_or_else(Charges::default, |used| *used);
        self.held = Charges::default();
        self.span = span;
    }

    pub(super) fn contains(&self, time: Timestamp) -> bool {
        self.span.contains(time)
    }

    pub(super) fn start(&self) -> Timestamp {
        self.span.start
    }

    pub(super) fn end(&self) -> Timestamp {
        self.span.end
    }

    /// Counts an event by its own time. One of a window that is over changes no counter.
    #[inline]
    pub(super) fn charge(&mut self, event_time: Timestamp, charges: &Charges) {
        if event_time >= self.span.end {
            add(self.next_used.get_or_insert_default(), charges);
        } else if event_time >= self.span.start {
            add(&mut self.used, charges);
        }
    }

    /// Counts what was used under a hold of the window that began at `start`, if that is not over.
    pub(super) fn charge_window(&mut self, start: Timestamp, charges: &Charges) {
        if start == self.span.start {
            add(&mut self.used, charges);
        }
    }

    pub(super) fn hold(&mut self, start: Timestamp, amounts: &Charges) {
        if start == self.span.start {
            add(&mut self.held, amounts);
        }
    }

    /// Gives a hold back; one of a window that is over went with it.
    pub(super) fn give_back(&mut self, start: Timestamp, amounts: &Charges) {
        if start == self.span.start {
            subtract(&mut self.held, amounts);
        }
    }

    pub(super) fn save(&self) -> WindowSnapshot {
        WindowSnapshot {
            start: self.span.start,
            end: self.span.end,
            used: self.used,
            held: self.held,
            next_used: self.next_used.as_deref().copied().unwrap_or_default(),
        }
    }

    pub(super) fn restore(window: CalendarWindow, saved: &WindowSnapshot) -> Self {
        let next_used = (saved.next_used != Charges::default()).then(|| Box::new(saved.next_used));
        let span = WindowSpan { start: saved.start, end: saved.end };
        Self { window, span, used: saved.used, held: saved.held, next_used, watched: None }
    }
}
