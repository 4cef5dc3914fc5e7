//! Windows: the calendar day and month of a tenant's zone that an instant falls in.

use chrono::{Datelike, Days, LocalResult, Months, NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_SECOND, Timestamp};

/// A stretch of time; half-open: `end` belongs to the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSpan {
    /// The first instant in it.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl WindowSpan {
    /// Whether `time` falls in it.
    pub fn contains(self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }
}

/// A window that follows the calendar; the minute slides and has no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarWindow {
    /// A local date.
    Day,
    /// A local month.
    Month,
}

/// The window that `time` falls in: from the first instant of the local date (or of the month's 1st) in `zone`.
///
/// An ambiguous midnight takes the earlier, a skipped one the next instant that exists. Costs up to a microsecond
/// (25 where clocks change): callers keep the span.
pub fn window_at(window: CalendarWindow, zone: Tz, time: Timestamp) -> WindowSpan {
    if zone == Tz::UTC && window == CalendarWindow::Day {
        let start = Timestamp::of_day(time.day());
        return WindowSpan { start, end: start.plus_micros(MICROS_PER_DAY) };
    }
    let local = zone.from_utc_datetime(&time.to_datetime().naive_utc()).date_naive();
    let mut date = match window {
        CalendarWindow::Day => local,
        CalendarWindow::Month => local.with_day(1).unwrap_or(local),
    };
    let mut start = first_instant(zone, date);
    loop {
        let next = match window {
            CalendarWindow::Day => date.checked_add_days(Days::new(1)),
            CalendarWindow::Month => date.checked_add_months(Months::new(1)),
        };
        let Some(next) = next else { return WindowSpan { start, end: Timestamp::MAX } };
        let end = first_instant(zone, next);
        // Clocks put back shortly after midnight show the old date again after the new window has begun; the
        // representable range ends with an instant that is its own end.
        if time < end || end == Timestamp::MAX {
            return WindowSpan { start, end };
        }
        (date, start) = (next, end);
    }
}

/// The first instant whose local date in `zone` is `date` or later.
fn first_instant(zone: Tz, date: NaiveDate) -> Timestamp {
    let midnight = date.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        LocalResult::Single(instant) => Timestamp::from_micros(instant.timestamp_micros()),
        LocalResult::Ambiguous(earlier, _) => Timestamp::from_micros(earlier.timestamp_micros()),
        LocalResult::None => {
            // The clocks skip it (Apia once skipped a whole day): search the second from which local time is past it.
            let middle = midnight.and_utc().timestamp_micros();
            let mut before = (middle - 27 * MICROS_PER_HOUR) / MICROS_PER_SECOND;
            let mut after = (middle + 27 * MICROS_PER_HOUR) / MICROS_PER_SECOND;
            while after - before > 1 {
                let probe = before + (after - before) / 2;
                let local = zone.from_utc_datetime(&Timestamp::from_seconds(probe).to_datetime().naive_utc());
                if local.naive_local() >= midnight { after = probe } else { before = probe }
            }
            Timestamp::from_seconds(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hours(span: WindowSpan) -> f64 {
        span.end.micros_since(span.start) as f64 / MICROS_PER_HOUR as f64
    }

    /// Zone, an instant, the start of its day, the hours of that day.
    #[test]
    fn days_are_as_long_as_the_clocks_of_the_zone_make_them() {
        for (zone, time, start, length) in [
            // Clocks go from 24:00 to 01:00: midnight does not exist.
            ("America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", 23.0),
            ("America/Santiago", "2026-09-06T03:59:59.999999Z", "2026-09-05T04:00:00Z", 24.0),
            // Clocks go from 24:00 back to 23:00: the Saturday has 25 hours.
            ("America/Santiago", "2026-04-05T03:30:00Z", "2026-04-04T03:00:00Z", 25.0),
            ("America/Santiago", "2026-04-05T04:00:00Z", "2026-04-05T04:00:00Z", 24.0),
            ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", 23.0),
            ("Africa/Cairo", "2026-10-29T12:00:00Z", "2026-10-28T21:00:00Z", 25.0),
            // Clocks go from 01:00 back to 00:00: the earlier midnight begins the day.
            ("America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", 25.0),
            ("America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", 25.0),
            ("America/Havana", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", 23.0),
            ("Asia/Kathmandu", "2026-11-24T18:14:59.999999Z", "2026-11-23T18:15:00Z", 24.0),
            ("Asia/Kathmandu", "2026-11-24T18:15:00Z", "2026-11-24T18:15:00Z", 24.0),
            // Asia/Kathmandu went from +5:30 to +5:45 at the first midnight of 1986.
            ("Asia/Kathmandu", "1986-01-01T12:00:00Z", "1985-12-31T18:30:00Z", 23.75),
            // There was no 30 December.
            ("Pacific/Apia", "2011-12-30T09:59:59.999999Z", "2011-12-29T10:00:00Z", 24.0),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", 24.0),
            // Clocks went from 00:01 back to 23:01: two midnights, the first counts.
            ("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z", 25.0),
            ("UTC", "2028-02-29T23:59:59.999999Z", "2028-02-29T00:00:00Z", 24.0),
            ("UTC", "2028-03-01T00:00:00Z", "2028-03-01T00:00:00Z", 24.0),
        ] {
            let span = window_at(CalendarWindow::Day, zone.parse().unwrap(), at(time));
            assert_eq!((span.start.to_string(), hours(span)), (start.to_owned(), length), "{zone} at {time}");
        }
    }

    #[test]
    fn months_begin_with_the_first_day_of_the_zone() {
        for (zone, time, start, end) in [
            ("UTC", "2028-02-29T23:59:59.999999Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("Asia/Kathmandu", "2026-11-30T18:15:00Z", "2026-11-30T18:15:00Z", "2026-12-31T18:15:00Z"),
            ("America/Havana", "2026-11-01T03:59:59Z", "2026-10-01T04:00:00Z", "2026-11-01T04:00:00Z"),
            ("America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"),
        ] {
            let span = window_at(CalendarWindow::Month, zone.parse().unwrap(), at(time));
            assert_eq!((span.start.to_string(), span.end.to_string()), (start.to_owned(), end.to_owned()), "{zone}");
        }
    }

    proptest! {
        #[test]
        fn windows_tile_time_without_gap_or_overlap(
            zone in proptest::sample::select(vec![
                "America/Santiago", "Africa/Cairo", "America/Havana", "Asia/Kathmandu", "Pacific/Apia",
                "America/St_Johns", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Gaza", "UTC",
            ]),
            micros in 86_400_000_000_i64..4_000_000_000_000_000,
            monthly in any::<bool>(),
        ) {
            let zone: Tz = zone.parse().unwrap();
            let window = if monthly { CalendarWindow::Month } else { CalendarWindow::Day };
            let time = Timestamp::from_micros(micros);
            let span = window_at(window, zone, time);
            prop_assert!(span.contains(time));
            prop_assert_eq!(window_at(window, zone, span.start), span);
            prop_assert_eq!(window_at(window, zone, span.end.plus_micros(-1)), span);
            let next = window_at(window, zone, span.end);
            prop_assert_eq!(next.start, span.end);
            prop_assert!(next.end > next.start);
        }
    }
}
