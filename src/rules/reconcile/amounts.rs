//! Dollars as providers write them, and how far two amounts may be apart.

use std::str::FromStr;

use crate::domain::money::{MONEY_PLACES, Money, MoneyError};

/// A text that is not an amount or a tolerance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct AmountError {
    text: String,
    reason: &'static str,
}

fn wrong(text: &str, reason: &'static str) -> AmountError {
    AmountError { text: text.chars().take(64).collect(), reason }
}

/// Dollars such as `0.06`, `$1.25` or `6e-5`; digits beyond the 15th place, which come from a provider's floats, are
/// rounded to the nearest. `None` is an amount below zero: a credit.
pub fn read_dollars(text: &str) -> Result<Option<Money>, AmountError> {
    let plain = text.trim().trim_start_matches('$');
    let not_decimal = || wrong(text, "not a decimal number of US dollars, such as 0.06");
    match plain.parse::<Money>() {
        Ok(money) => Ok(Some(money)),
        Err(MoneyError::Negative) => Ok(None),
        Err(MoneyError::NotDecimal) => Err(not_decimal()),
        Err(MoneyError::TooLarge) => Err(wrong(text, "above 1,000,000,000 US dollars")),
        Err(MoneyError::TooPrecise) => rounded(plain).map(Some).ok_or_else(not_decimal),
    }
}

/// The text is a decimal with too many places: `Money` has looked at it.
fn rounded(text: &str) -> Option<Money> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // So many digits are whole femto-dollars; the one after them rounds.
    let kept = whole.len() as i64 + exponent.parse::<i64>().ok()? + MONEY_PLACES as i64;
    let kept = if kept < 0 { return Some(Money::ZERO) } else { usize::try_from(kept).ok()? };
    let femtos: u128 = if kept == 0 { 0 } else { digits.get(..kept)?.parse().ok()? };
    let up = digits.as_bytes().get(kept).is_some_and(|digit| *digit >= b'5');
    Some(Money::from_femtos(femtos + u128::from(up)))
}

/// How far metered may be from reported, as a part of what is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    millionths: u128,
}

impl Tolerance {
    /// Whether the difference is not larger.
    pub fn allows(self, metered: u128, reported: u128) -> bool {
        // Amounts stay below 10^30: a product with at most 10^7 has room.
        metered.abs_diff(reported).saturating_mul(1_000_000) <= reported.saturating_mul(self.millionths)
    }
}

impl FromStr for Tolerance {
    type Err = AmountError;

    /// Reads `2%` or `0.05%`.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let refused = || wrong(text, "a tolerance is a percentage from 0% to 1000% with at most 4 places, such as 2%");
        let percent = text.trim().strip_suffix('%').ok_or_else(refused)?.trim();
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 4 || fraction.len() > 4 || !all_digits(whole) || !all_digits(fraction) {
            return Err(refused());
        }
        let millionths: u128 = format!("{whole}{fraction:0<4}").parse().map_err(|_| refused())?;
        if millionths > 10_000_000 { Err(refused()) } else { Ok(Self { millionths }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_to_the_femto_and_floats_are_rounded_there() {
        for (text, femtos) in [
            ("0.06", Some(60_000_000_000_000)),
            ("$1.5", Some(1_500_000_000_000_000)),
            ("0.13080438340307526", Some(130_804_383_403_075)),
            ("0.00000000000000051", Some(1)),
            ("4e-17", Some(0)),
            ("1.23456789012345678e-3", Some(1_234_567_890_123)),
            ("-0.5", None),
            ("-0.0", Some(0)),
        ] {
            assert_eq!(read_dollars(text).map(|money| money.map(Money::femtos)), Ok(femtos), "{text}");
        }
        for text in ["", "1,5", "free", "2000000000"] {
            assert!(read_dollars(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tolerance_is_an_exact_part() {
        let allows = |text: &str, own, theirs| text.parse::<Tolerance>().unwrap().allows(own, theirs);
        assert!(allows("2%", 102, 100) && !allows("2%", 103, 100) && allows("0%", 7, 7) && !allows("0%", 8, 7));
        assert!(allows("0.05%", 10_005, 10_000) && !allows("0.05%", 10_006, 10_000));
        assert!(allows("2%", 10u128.pow(30), 10u128.pow(30)));
        for text in ["2", "%", "-1%", "1001%", "0.00001%", "1e2%"] {
            assert!(text.parse::<Tolerance>().is_err(), "{text}");
        }
    }
}
