//! Rates from the text of a decimal number, never through a float.

use crate::domain::price::Rate;

/// Why a text is not a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a decimal number.
    #[error("not a decimal number of US dollars, such as 0.15")]
    NotDecimal,
    /// Below zero.
    #[error("a price cannot be negative")]
    Negative,
    /// Finer than a femto-dollar a unit.
    #[error("finer than 15 decimal places of a dollar a unit")]
    TooPrecise,
    /// Above what a rate can hold.
    #[error("above 10,000 US dollars a unit")]
    TooLarge,
}

/// What becomes of digits below a femto-dollar a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// [`RateError::TooPrecise`].
    Refuse,
    /// Rounded half to even: in files that were written from doubles, such digits are the double's noise.
    Round,
}

const LARGEST_FEMTOS: u128 = 10_000 * 10u128.pow(15);

/// The rate of a price in dollars for 10^`units_exponent` units, and whether it was rounded.
pub(super) fn read_rate(text: &str, units_exponent: u32, excess: Excess) -> Result<(Rate, bool), RateError> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().map_err(|_| RateError::NotDecimal)?),
        None => (text, 0),
    };
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || mantissa.len() > 64 || !all_digits(whole) || !all_digits(fraction) {
        return Err(RateError::NotDecimal);
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Ok((Rate::default(), false));
    }
    if negative {
        return Err(RateError::Negative);
    }
    if significant.len() > 38 {
        return Err(RateError::TooPrecise);
    }
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    // The rate is `significant` x 10^scale femto-dollars a unit.
    let scale = i64::from(exponent) + 15 - i64::from(units_exponent) - fraction.len() as i64 + trailing_zeros as i64;
    // 38 digits are below 2^127.
    let value: u128 = significant.parse().map_err(|_| RateError::NotDecimal)?;
    let (femtos, rounded) = if scale >= 0 {
        if significant.len() as i64 + scale > 20 {
            return Err(RateError::TooLarge);
        }
        (value * 10u128.pow(scale as u32), false)
    } else if excess == Excess::Refuse {
        return Err(RateError::TooPrecise);
    } else if scale < -38 {
        (0, true)
    } else {
        let unit = 10u128.pow(scale.unsigned_abs() as u32);
        let (quotient, remainder) = (value / unit, value % unit);
        let up = match (remainder).cmp(&(unit - remainder)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => quotient % 2 == 1,
            std::cmp::Ordering::Greater => true,
        };
        (quotient + u128::from(up), true)
    };
    if femtos > LARGEST_FEMTOS {
        return Err(RateError::TooLarge);
    }
    let femtos = u64::try_from(femtos).map_err(|_| RateError::TooLarge)?;
    Ok((Rate::from_femtos(femtos), rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn femtos(text: &str, units_exponent: u32, excess: Excess) -> Result<u64, RateError> {
        read_rate(text, units_exponent, excess).map(|(rate, _)| rate.femtos())
    }

    #[test]
    fn a_price_keeps_every_digit_of_its_text() {
        for (text, units_exponent, expected) in [
            ("2.50", 6, 2_500_000_000),
            ("0.000000001", 6, 1),
            ("1e-15", 0, 1),
            ("3.4375", 6, 3_437_500_000),
            ("1.5e-07", 0, 150_000_000),
            ("10", 3, 10_000_000_000_000),
            ("0.10000000000000000000", 6, 100_000_000),
            ("0", 6, 0),
            ("-0.0", 6, 0),
        ] {
            assert_eq!(femtos(text, units_exponent, Excess::Refuse), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_price_is_refused_with_its_reason() {
        for (text, error) in [
            ("", RateError::NotDecimal),
            ("free", RateError::NotDecimal),
            ("1,5", RateError::NotDecimal),
            ("1e99999", RateError::NotDecimal),
            ("-1", RateError::Negative),
            ("0.0000000001", RateError::TooPrecise),
            ("1e30", RateError::TooLarge),
            ("20000000000", RateError::TooLarge),
        ] {
            assert_eq!(femtos(text, 6, Excess::Refuse), Err(error), "{text}");
        }
    }

    #[test]
    fn the_noise_of_a_double_is_rounded_away_half_to_even() {
        for (text, expected) in [
            ("9.499999999999999e-07", 950_000_000),
            ("2.9999900000000002e-06", 2_999_990_000),
            ("2.5e-15", 2),
            ("3.5e-15", 4),
            ("1e-60", 0),
        ] {
            assert_eq!(femtos(text, 0, Excess::Round), Ok(expected), "{text}");
        }
        assert_eq!(read_rate("1.5e-07", 0, Excess::Round), Ok((Rate::from_femtos(150_000_000), false)));
    }
}
