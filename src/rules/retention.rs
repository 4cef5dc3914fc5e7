//! Retention: how far one run of a clean-up may go.

use crate::domain::time::{MICROS_PER_DAY, Timestamp};

/// Hourly rows are kept this many days; daily and monthly rows for good.
pub const HOURLY_ROWS_DAYS: u32 = 90;
/// Days that the records of denials are kept, and longer while the events of their day are.
pub const DENIALS_DAYS: u32 = 30;

/// Days of audit records that one run removes at most.
const AUDIT_DAYS_PER_RUN: i64 = 7;

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
    bounded_cut(last, target.min(unfolded.unwrap_or(target)), oldest.filter(|oldest| *oldest < target), 1)
}

/// The next retention cut of the audit log: records strictly before it are removed. At most seven days beyond the last
/// cut or, where nothing older is kept, beyond the `oldest` record.
pub fn next_audit_cut(last: Timestamp, target: Timestamp, oldest: Option<Timestamp>) -> Timestamp {
    bounded_cut(last, target, oldest.filter(|oldest| *oldest < target), AUDIT_DAYS_PER_RUN)
}

/// `years` calendar years before `now`; of the 29th of February, the 28th where there is no such day.
pub fn years_before(now: Timestamp, years: u32) -> Timestamp {
    let then = now.to_datetime().checked_sub_months(chrono::Months::new(years * 12));
    then.map_or(Timestamp::default(), |then| Timestamp::from_micros(then.timestamp_micros()))
}

fn bounded_cut(last: Timestamp, target: Timestamp, oldest: Option<Timestamp>, days: i64) -> Timestamp {
    // Nothing is old enough to be removed: the cut only says so.
    let Some(oldest) = oldest else { return target.max(last) };
    last.max(oldest).plus_micros(days * MICROS_PER_DAY).min(target).max(last)
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
    fn a_run_removes_seven_days_of_audit_at_most() {
        let (start, day) = (at("2026-06-01T00:00:00Z"), |days: i64| MICROS_PER_DAY * days);
        let after = |days| start.plus_micros(day(days));
        assert_eq!(next_audit_cut(start, after(900), Some(start)), after(7));
        assert_eq!(next_audit_cut(start, after(3), Some(start)), after(3));
        assert_eq!(next_audit_cut(start, after(900), None), after(900));
        assert_eq!(next_audit_cut(after(9), after(3), Some(start)), after(9), "never backwards");
        assert_eq!(years_before(at("2028-02-29T10:00:00Z"), 2), at("2026-02-28T10:00:00Z"));
        assert_eq!(years_before(at("2026-11-24T10:00:00.5Z"), 2), at("2024-11-24T10:00:00.5Z"));
    }

    #[test]
    fn a_clock_three_years_ahead_removes_one_day() {
        let cut =
            next_cut(at("2026-06-01T00:00:00Z"), at("2029-06-01T00:00:00Z"), Some(at("2026-06-01T00:00:00Z")), None);
        assert_eq!(cut, at("2026-06-02T00:00:00Z"));
    }
}
