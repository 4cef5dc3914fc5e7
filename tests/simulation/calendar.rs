//! Days and months of a zone by asking for the local date, second by second: slow, and sure.

use chrono::{Datelike, TimeZone};
use chrono_tz::Tz;
use metergate::domain::time::Timestamp;

const HOUR: i64 = 3_600;

/// From its first second up to and not including the second after its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Span {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// The span after this one that `now` is in, where it is over. The zone may have changed: they never overlap.
    pub fn roll(&mut self, now: Timestamp, natural: impl Fn(Timestamp) -> Self) {
        if now >= self.end {
            let next = natural(now);
            *self = Self { start: next.start.max(self.end), end: next.end };
        }
    }
}

pub fn day_of(zone: Tz, at: Timestamp) -> Span {
    let day = |second: i64| local(zone, second).num_days_from_ce();
    around(at, 27 * HOUR, day)
}

pub fn month_of(zone: Tz, at: Timestamp) -> Span {
    let month = |second: i64| {
        let date = local(zone, second);
        date.year() * 12 + date.month0() as i32
    };
    around(at, 33 * 24 * HOUR, month)
}

fn local(zone: Tz, second: i64) -> chrono::NaiveDate {
    zone.from_utc_datetime(&Timestamp::from_seconds(second).to_datetime().naive_utc()).date_naive()
}

/// The seconds around `at` with the same number, which never falls.
fn around(at: Timestamp, reach: i64, number: impl Fn(i64) -> i32) -> Span {
    let second = at.seconds();
    let own = number(second);
    let first = |mut before: i64, mut from: i64, reached: &dyn Fn(i32) -> bool| {
        while from - before > 1 {
            let middle = before + (from - before) / 2;
            if reached(number(middle)) { from = middle } else { before = middle }
        }
        Timestamp::from_seconds(from)
    };
    Span {
        start: first(second - reach, second, &|number| number >= own),
        end: first(second, second + reach, &|number| number > own),
    }
}
