//! When a job is due: cron text in UTC, as times.

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds};

use super::time::Timestamp;

/// Cron text, read in UTC: `minute hour day month weekday`, or six fields with the seconds in front.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a cron schedule of five or six fields in UTC, such as `5 * * * *`: {reason}")]
pub struct ScheduleError {
    text: String,
    reason: String,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = |reason: String| ScheduleError { text: text.to_owned(), reason };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let six = match fields.len() {
            5 => format!("0 {}", fields.join(" ")),
            6 => fields.join(" "),
            found => return Err(wrong(format!("it has {found} fields"))),
        };
        let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
        let cron = parser.parse(&six).map_err(|error| wrong(error.to_string()))?;
        let schedule = Self { text: six, cron };
        // Such as the 30th of February.
        match schedule.next_after(Timestamp::from_seconds(1_700_000_000)) {
            Some(_) => Ok(schedule),
            None => Err(wrong("it never comes".to_owned())),
        }
    }
}

impl Schedule {
    /// Five minutes past every hour.
    pub fn hourly() -> Self {
        #[expect(clippy::expect_used, reason = "a constant that the test below parses")]
        "5 * * * *".parse().expect("five minutes past every hour")
    }

    /// The six fields.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time strictly after `time`; `None` when there is none.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        // The parser keeps fractions of a second: no schedule has any.
        let second = Timestamp::from_seconds(time.seconds());
        let next = self.cron.find_next_occurrence(&second.to_datetime(), false).ok()?;
        Some(Timestamp::from_micros(next.timestamp_micros()))
    }

    /// How many times came after `from` up to and with `to`, counted no further than `max`.
    pub fn times_between(&self, from: Timestamp, to: Timestamp, max: usize) -> usize {
        let mut last = from;
        let mut times = 0;
        while times < max
            && let Some(next) = self.next_after(last)
            && next <= to
        {
            (last, times) = (next, times + 1);
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_comes_at_its_times_in_utc() {
        for (text, after, next) in [
            ("5 * * * *", "2026-11-24T12:05:00Z", "2026-11-24T13:05:00Z"),
            ("5 * * * *", "2026-11-24T12:04:59.999999Z", "2026-11-24T12:05:00Z"),
            ("20 3 * * *", "2026-11-24T12:00:00Z", "2026-11-25T03:20:00Z"),
            ("* * * * * *", "2026-11-24T12:00:00.5Z", "2026-11-24T12:00:01Z"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.next_after(at(after)), Some(at(next)), "{text}");
        }
        let hourly: Schedule = "5 * * * *".parse().unwrap();
        let noon = at("2026-11-24T12:00:00Z");
        assert_eq!(hourly.times_between(noon, noon.plus_micros(3 * super::super::time::MICROS_PER_HOUR), 60), 3);
        assert_eq!(hourly.times_between(noon, at("2027-11-24T12:00:00Z"), 60), 60);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "* * * *", "61 * * * *", "a b c d e", "0 0 30 2 *", "* * * * * * *"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }
}
