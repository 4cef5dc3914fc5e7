//! Thresholds: percentages of a limit whose crossing is told once a window.

use uuid::Uuid;

use super::quota::{QuotaType, Window};
use super::tenant::TenantId;
use super::time::Timestamp;

/// The percentages of a plan that names none.
pub const DEFAULT_THRESHOLDS: [u16; 3] = [80, 95, 100];
/// The most percentages of one plan or tenant.
pub const MAX_THRESHOLDS: usize = 10;
/// The highest percentage: ten times a limit, which recording can pass.
pub const MAX_PERCENT: u16 = 1_000;

/// Percentages that cannot be thresholds: the rest of a sentence that begins with their field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidThresholds(String);

/// The percentages in order. Empty is allowed: nothing is told.
pub fn checked_thresholds(percents: &[u16]) -> Result<Vec<u16>, InvalidThresholds> {
    let mut sorted = percents.to_vec();
    sorted.sort_unstable();
    if sorted.len() > MAX_THRESHOLDS {
        return Err(InvalidThresholds(format!("are more than {MAX_THRESHOLDS} percentages")));
    }
    if sorted.iter().any(|percent| !(1..=MAX_PERCENT).contains(percent)) {
        return Err(InvalidThresholds(format!("are percentages from 1 to {MAX_PERCENT}")));
    }
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(InvalidThresholds(format!("name {} twice", pair[0]))),
        None => Ok(sorted),
    }
}

/// The least use that is `percent` of `limit`.
pub const fn threshold_amount(percent: u16, limit: u128) -> u128 {
    // The largest limit is far below a thousandth of what fits.
    limit.saturating_mul(percent as u128).div_ceil(100)
}

/// Use that reached a threshold of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Of what.
    pub quota_type: QuotaType,
    /// Over which time: a day or a month.
    pub window: Window,
    /// When that day or month began.
    pub window_start: Timestamp,
    /// The threshold, in percent of the limit.
    pub percent: u16,
    /// The limit then.
    pub limit: u128,
    /// What was used when it was noticed: at least that percentage.
    pub used: u128,
    /// Whether the limit only observes.
    pub observed: bool,
    /// When it was noticed.
    pub at: Timestamp,
}

/// A crossing that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The id of its audit record.
    pub event_id: Uuid,
    /// Whose limit.
    pub tenant_id: TenantId,
    /// What was crossed.
    pub crossing: Crossing,
}

/// A limit's thresholds, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdState {
    /// Of what.
    pub quota_type: QuotaType,
    /// Over which time.
    pub window: Window,
    /// The percentages that are told.
    pub percents: Vec<u16>,
    /// Those that use has reached in the current window.
    pub crossed: Vec<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_put_in_order_and_bounded() {
        assert_eq!(checked_thresholds(&[100, 1, 1_000]), Ok(vec![1, 100, 1_000]));
        assert_eq!(checked_thresholds(&[]), Ok(vec![]));
        for (wrong, told) in [
            (vec![0], "are percentages from 1 to 1000"),
            (vec![1_001], "are percentages from 1 to 1000"),
            (vec![80, 95, 80], "name 80 twice"),
            ((1..=11).collect(), "are more than 10 percentages"),
        ] {
            assert_eq!(checked_thresholds(&wrong).unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn a_threshold_is_reached_by_its_percentage_and_never_before() {
        for (percent, limit, amount) in [(80, 10_000, 8_000), (95, 50, 48), (1, 1, 1), (100, 7, 7), (1_000, 7, 70)] {
            assert_eq!(threshold_amount(percent, limit), amount, "{percent} % of {limit}");
        }
    }
}
