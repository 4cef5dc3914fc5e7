//! The times of a trace: read in the units traces use, and moved so that the first falls where it was told to.

use chrono::NaiveDateTime;

use crate::domain::time::Timestamp;

/// How a trace writes its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// RFC 3339, or else like `Naive`.
    Any,
    /// `2023-11-16 18:15:46.6805900`, meant in UTC; digits beyond the microsecond are cut off.
    Naive,
    /// Milliseconds since the start of the trace, with or without decimals.
    Milliseconds,
}

impl TimeUnit {
    /// Microseconds: since the epoch, or since the trace's start. Fails with what is expected.
    pub fn read(self, text: &str) -> Result<i64, String> {
        let shown = || text.chars().take(64).collect::<String>();
        match self {
            Self::Any => match text.parse::<Timestamp>() {
                Ok(time) => Ok(time.micros()),
                Err(error) => naive(text).ok_or_else(|| format!("event_timestamp: {error}")),
            },
            Self::Naive => naive(text)
                .ok_or_else(|| format!("event_timestamp: `{}` is not a time such as 2023-11-16 18:15:46.68", shown())),
            Self::Milliseconds => milliseconds(text)
                .ok_or_else(|| format!("event_timestamp: `{}` is not a number of milliseconds", shown())),
        }
    }
}

fn naive(text: &str) -> Option<i64> {
    let format = if text.contains('T') { "%Y-%m-%dT%H:%M:%S%.f" } else { "%Y-%m-%d %H:%M:%S%.f" };
    NaiveDateTime::parse_from_str(text, format).ok().map(|time| time.and_utc().timestamp_micros())
}

fn milliseconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let micros: i64 = format!("{:0<3.3}", fraction).parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(1_000)?.checked_add(micros)
}

/// Moves the times of one trace. The distance depends on the trace's first event alone, so every run gives the same times.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    start_at: Option<Timestamp>,
    first: Option<i64>,
}

impl Shift {
    /// Without `start_at`, times stay as they are.
    pub fn new(start_at: Option<Timestamp>) -> Self {
        Self { start_at, first: None }
    }

    /// Whether times move at all.
    pub fn moves(&self) -> bool {
        self.start_at.is_some()
    }

    /// The moved time. The first call decides the distance.
    pub fn apply(&mut self, micros: i64) -> Result<Timestamp, String> {
        let moved = match self.start_at {
            None => Some(micros),
            Some(start_at) => {
                let first = *self.first.get_or_insert(micros);
                micros.checked_sub(first).and_then(|distance| start_at.micros().checked_add(distance))
            }
        };
        moved
            .filter(|micros| (0..=Timestamp::MAX.micros()).contains(micros))
            .map(Timestamp::from_micros)
            .ok_or_else(|| "event_timestamp: the time lies outside the years 1970 to 9999".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_read_to_the_microsecond() {
        let expected: Timestamp = "2023-11-16T18:15:46.680590Z".parse().unwrap();
        assert_eq!(TimeUnit::Naive.read("2023-11-16 18:15:46.6805900"), Ok(expected.micros()));
        assert_eq!(TimeUnit::Any.read("2023-11-16T18:15:46.680590"), Ok(expected.micros()));
        assert_eq!(TimeUnit::Any.read("2023-11-16T19:15:46.680590+01:00"), Ok(expected.micros()));
        assert_eq!(TimeUnit::Milliseconds.read("563"), Ok(563_000));
        assert_eq!(TimeUnit::Milliseconds.read("563.0429"), Ok(563_042));
        for (unit, text) in [
            (TimeUnit::Naive, "2023-11-16"),
            (TimeUnit::Any, "soon"),
            (TimeUnit::Milliseconds, "-1"),
            (TimeUnit::Milliseconds, "1e3"),
            (TimeUnit::Milliseconds, ""),
        ] {
            assert!(unit.read(text).unwrap_err().starts_with("event_timestamp"), "{text}");
        }
    }

    #[test]
    fn the_first_event_falls_where_it_was_told_to_and_distances_stay() {
        let start: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
        let mut shift = Shift::new(Some(start));
        assert_eq!(shift.apply(1_700_000_000_680_590), Ok(start));
        assert_eq!(shift.apply(1_700_000_000_680_591), Ok(start.plus_micros(1)));
        assert_eq!(shift.apply(1_700_000_000_680_580), Ok(start.plus_micros(-10)));
        assert!(shift.apply(i64::MIN).is_err());
        assert_eq!(Shift::new(None).apply(5).map(Timestamp::micros), Ok(5));
    }
}
