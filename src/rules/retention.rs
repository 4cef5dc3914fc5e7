//! Retention: how far one run of a clean-up may go.

use crate::domain::time::{MICROS_PER_DAY, Timestamp};

/// Hourly rows are kept this many days; daily and monthly rows for good.
pub const HOURLY_ROWS_DAYS: u32 = 90;
/// Days that the records of denials are kept, and longer while the events of their day are.
pub const DENIALS_DAYS: u32 = 30;

/// The next retention cut: events strictly before it are removed.
///
/// It never passes `target` (now less the retention) nor `unfolded` (the first hour that is not aggregated), and moves at
/// most one day beyond the last cut or, where nothing older is kept, beyond the `oldest` event.
pub fn next_cut(
    last: Timestamp,
    target: Timestamp,
    oldest: Option<Timestamp>,
    unfolded: Option<Timestamp>,
) -> Timestamp {
    let Some(oldest) = oldest.filter(|oldest| *oldest < target) else {
        // Nothing is old enough to be removed: the cut only says so.
        return target.min(unfolded.unwrap_or(target)).max(last);
    };
    let step = last.max(oldest).plus_micros(MICROS_PER_DAY);
    step.min(target).min(unfolded.unwrap_or(target)).max(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_cut_moves_a_bounded_step_and_never_past_what_is_not_aggregated() {
        let day = |day: u32| at(&format!("2026-06-{day:02}T12:00:00Z"));
        for (last, target, oldest, unfolded, expected) in [
            // Nothing old: the cut follows the clock.
            (day(1), day(3), None, None, day(3)),
            (day(1), day(3), Some(day(5)), None, day(3)),
            // A day at a time, from the last cut or the oldest event.
            (day(1), day(2), Some(day(1)), None, day(2)),
            (day(1), day(20), Some(day(1)), None, day(2)),
            (Timestamp::default(), day(20), Some(day(7)), None, day(8)),
            // Never past the aggregation mark, never backwards.
            (day(1), day(2), Some(day(1)), Some(at("2026-06-01T15:00:00Z")), at("2026-06-01T15:00:00Z")),
            (day(9), day(3), Some(day(1)), None, day(9)),
        ] {
            assert_eq!(next_cut(last, target, oldest, unfolded), expected, "{last} {target}");
        }
    }

    #[test]
    fn a_clock_three_years_ahead_removes_one_day() {
        let cut =
            next_cut(at("2026-06-01T00:00:00Z"), at("2029-06-01T00:00:00Z"), Some(at("2026-06-01T00:00:00Z")), None);
        assert_eq!(cut, at("2026-06-02T00:00:00Z"));
    }
}
