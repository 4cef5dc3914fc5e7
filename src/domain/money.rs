//! Money: integers of 10^-15 US dollars, read from decimal text and never through a float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

/// Decimal places of the unit.
pub const MONEY_PLACES: usize = 15;
const FEMTOS_PER_DOLLAR: u128 = 10u128.pow(MONEY_PLACES as u32);

/// A non-negative amount in femto-dollars (10^-15 USD): what the smallest published token price times one token still fits in.
///
/// Sums are exact. It is rounded only when shown, and shown in full by `Display`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u128);

/// Why a text is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a decimal number.
    #[error("not a decimal number of US dollars, such as 0.00125")]
    NotDecimal,
    /// Below zero.
    #[error("a cost cannot be negative")]
    Negative,
    /// Digits beyond the 15th decimal place.
    #[error("more than 15 decimal places")]
    TooPrecise,
    /// Above [`Money::MAX`].
    #[error("above 1,000,000,000 US dollars")]
    TooLarge,
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount that can be read: one billion dollars.
    pub const MAX: Self = Self(1_000_000_000 * FEMTOS_PER_DOLLAR);

    /// From femto-dollars.
    pub const fn from_femtos(femtos: u128) -> Self {
        Self(femtos)
    }

    /// In femto-dollars.
    pub const fn femtos(self) -> u128 {
        self.0
    }

    /// The nearest double, for display and ordering in formats that know nothing better.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::MAX)
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        // 2^128 femto-dollars are 3.4e23 dollars: 10^14 events of the largest amount.
        Self(self.0 + other.0)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// Plain decimal dollars without trailing zeros: `0`, `0.00125`, `12.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, femtos) = (self.0 / FEMTOS_PER_DOLLAR, self.0 % FEMTOS_PER_DOLLAR);
        if femtos == 0 {
            return write!(f, "{dollars}");
        }
        let digits = format!("{femtos:015}");
        write!(f, "{dollars}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads `12`, `0.00125` or `1.25e-3`; at most 15 decimal places after the exponent is applied.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| MoneyError::NotDecimal)?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || mantissa.len() > 64 || !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::NotDecimal);
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Ok(Self::ZERO);
        }
        if negative {
            return Err(MoneyError::Negative);
        }
        let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
        // The value is `significant` x 10^scale femto-dollars.
        let scale = i64::from(exponent) + MONEY_PLACES as i64 - fraction.len() as i64 + trailing_zeros as i64;
        if scale < 0 {
            return Err(MoneyError::TooPrecise);
        }
        if significant.len() as i64 + scale > 25 {
            return Err(MoneyError::TooLarge);
        }
        let value: u128 = significant.parse().map_err(|_| MoneyError::NotDecimal)?;
        let money = Self(value * 10u128.pow(scale as u32));
        if money > Self::MAX { Err(MoneyError::TooLarge) } else { Ok(money) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_from_their_text_and_shown_whole() {
        for (text, shown) in [
            ("0", "0"),
            ("0.000", "0"),
            ("12", "12"),
            ("0.00125", "0.00125"),
            ("1.25e-3", "0.00125"),
            ("1e3", "1000"),
            ("0.000000000000001", "0.000000000000001"),
            ("1e-15", "0.000000000000001"),
            ("100.10", "100.1"),
            ("-0.0", "0"),
            (".5", "0.5"),
        ] {
            assert_eq!(text.parse::<Money>().map(|money| money.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_money_is_refused_with_its_reason() {
        for (text, error) in [
            ("", MoneyError::NotDecimal),
            ("1,5", MoneyError::NotDecimal),
            ("NaN", MoneyError::NotDecimal),
            ("-0.01", MoneyError::Negative),
            ("1e-16", MoneyError::TooPrecise),
            ("1000000001", MoneyError::TooLarge),
            ("1e30", MoneyError::TooLarge),
        ] {
            assert_eq!(text.parse::<Money>(), Err(error), "{text}");
        }
    }
}
