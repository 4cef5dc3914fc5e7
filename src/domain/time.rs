//! Instants and periods, in UTC and whole microseconds.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};

/// Microseconds in one second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds in one minute.
pub const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
/// Microseconds in one hour.
pub const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
/// Microseconds in one UTC day.
pub const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// An instant: whole microseconds since 1970-01-01T00:00:00Z, between the years 1970 and 9999.
///
/// Shown as RFC 3339 in UTC with as many fractional digits (0, 3 or 6) as it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-11-24T09:30:00Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// The last instant that can be represented, in the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the epoch. Values outside 1970..=9999 are clamped to its ends.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < 0 {
            Self(0)
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// From whole seconds since the epoch, clamped like [`Timestamp::from_micros`].
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0 / MICROS_PER_SECOND
    }

    /// The instant `micros` later (earlier when negative), clamped to the representable range.
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to `self`; negative when `self` is before it.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The hour it falls in, counted from the epoch.
    pub const fn hour(self) -> u32 {
        (self.0 / MICROS_PER_HOUR) as u32
    }

    /// The UTC day it falls in, counted from the epoch.
    pub const fn day(self) -> u32 {
        (self.0 / MICROS_PER_DAY) as u32
    }

    /// The first instant of UTC day `day`.
    pub const fn of_day(day: u32) -> Self {
        Self::from_micros(day as i64 * MICROS_PER_DAY)
    }

    /// The same instant as a chrono value.
    pub fn to_datetime(self) -> DateTime<Utc> {
        // The range of `Timestamp` is inside chrono's.
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_micros(time.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Reads RFC 3339 with any offset. Digits beyond the microsecond are cut off.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.timestamp_micros())
            .filter(|micros| (0..=Self::MAX.0).contains(micros))
            .map(Self)
            .ok_or_else(|| TimestampError(text.chars().take(64).collect()))
    }
}

/// The length of the periods that metrics are folded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeriodType {
    /// One UTC hour.
    Hourly,
    /// One UTC day.
    Daily,
    /// One UTC calendar month.
    Monthly,
}

impl PeriodType {
    /// Every period type, shortest first.
    pub const ALL: [Self; 3] = [Self::Hourly, Self::Daily, Self::Monthly];

    /// Its documented name: `hourly`, `daily` or `monthly`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Monthly => "monthly",
        }
    }

    /// The period of this type that `time` falls in.
    pub fn containing(self, time: Timestamp) -> Period {
        let index = match self {
            Self::Hourly => time.hour(),
            Self::Daily => time.day(),
            Self::Monthly => {
                let date = time.to_datetime();
                // Years are 1970..=9999.
                (date.year() as u32 - 1970) * 12 + date.month0()
            }
        };
        Period { period_type: self, index }
    }
}

impl FromStr for PeriodType {
    type Err = UnknownPeriodType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|period| period.name() == text).ok_or_else(|| UnknownPeriodType(text.to_owned()))
    }
}

/// A text that names no period type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a period: use hourly, daily or monthly")]
pub struct UnknownPeriodType(String);

/// One hour, UTC day or UTC month; half-open: its end belongs to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// Which kind of period.
    pub period_type: PeriodType,
    /// Hours or days since the epoch, or months since January 1970.
    pub index: u32,
}

impl Period {
    /// The hour with this index.
    pub const fn hour(index: u32) -> Self {
        Self { period_type: PeriodType::Hourly, index }
    }

    /// The UTC day with this index.
    pub const fn day(index: u32) -> Self {
        Self { period_type: PeriodType::Daily, index }
    }

    /// The first instant in it.
    pub fn start(self) -> Timestamp {
        match self.period_type {
            PeriodType::Hourly => Timestamp::from_micros(i64::from(self.index) * MICROS_PER_HOUR),
            PeriodType::Daily => Timestamp::of_day(self.index),
            PeriodType::Monthly => {
                let (year, month0) = (1970 + (self.index / 12) as i32, self.index % 12);
                NaiveDate::from_ymd_opt(year, month0 + 1, 1)
                    .and_then(|date| date.and_hms_opt(0, 0, 0))
                    .map_or(Timestamp::MAX, |first| first.and_utc().into())
            }
        }
    }

    /// The first instant after it.
    pub fn end(self) -> Timestamp {
        self.next().start()
    }

    /// The period that follows it.
    pub const fn next(self) -> Self {
        Self { period_type: self.period_type, index: self.index + 1 }
    }

    /// Whether `time` falls in it.
    pub fn contains(self, time: Timestamp) -> bool {
        self.period_type.containing(time) == self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_belongs_to_the_new_day_and_february_29_exists() {
        let last: Timestamp = "2028-02-29T23:59:59.999Z".parse().unwrap();
        let midnight: Timestamp = "2028-03-01T00:00:00Z".parse().unwrap();
        assert_eq!(PeriodType::Daily.containing(last).end(), midnight);
        assert_eq!(PeriodType::Monthly.containing(last).end(), midnight);
        assert!(PeriodType::Monthly.containing(midnight).contains(midnight));
        assert_eq!(PeriodType::Monthly.containing(last).start().to_string(), "2028-02-01T00:00:00Z");
    }

    #[test]
    fn offsets_are_read_and_nonsense_is_refused() {
        let time: Timestamp = "2026-11-24T01:30:00.1234567+05:45".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-23T19:45:00.123456Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
    }
}
