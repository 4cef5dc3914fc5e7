//! A tenant's own prices: negotiated rates and a markup on list prices, from an instant on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::money::Money;
use super::price::PriceRow;
use super::time::Timestamp;

/// Most terms of one tenant, past and future ones together.
pub const MAX_TERMS: usize = 24;
/// Most rates of one tenant's terms.
pub const MAX_RATES: usize = 200;

/// What is put on list prices, in basis points (hundredths of a percent): 1,250 is 12.5 % more, -1,000 is 10 % less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Markup(i32);

/// A text or a number that is not a markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a markup is from -100% to 10000% with at most 2 decimal places, such as 12.5%: -10000 to 1000000 basis points"
)]
pub struct MarkupError;

impl Markup {
    /// List prices as they are.
    pub const NONE: Self = Self(0);
    const ONE: i32 = 10_000;
    const MAX: i32 = 1_000_000;

    /// From basis points, -10,000 to 1,000,000.
    pub const fn from_basis_points(points: i64) -> Result<Self, MarkupError> {
        if points < -(Self::ONE as i64) || points > Self::MAX as i64 {
            return Err(MarkupError);
        }
        // Within the bounds above.
        Ok(Self(points as i32))
    }

    /// In basis points.
    pub const fn basis_points(self) -> i32 {
        self.0
    }

    /// Whether it changes nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// An amount with the markup on it, rounded half to even to a femto-dollar: once per event, and nowhere else.
    pub const fn on(self, amount: Money) -> Money {
        if self.is_none() {
            return amount;
        }
        let one = Self::ONE as u128;
        // Never negative: a markup is -10,000 at least. At most 101 times as much: amounts up to 3 x 10^17 dollars have
        // room.
        let product = amount.femtos().saturating_mul((Self::ONE + self.0) as u128);
        let (quotient, remainder) = (product / one, product % one);
        let half = one / 2;
        let up = remainder > half || (remainder == half && quotient % 2 == 1);
        Money::from_femtos(quotient + up as u128)
    }
}

impl FromStr for Markup {
    type Err = MarkupError;

    /// Reads `15%`, `+12.5 %` or `-10%`.
    fn from_str(text: &str) -> Result<Self, MarkupError> {
        let percent = text.trim().strip_suffix('%').ok_or(MarkupError)?.trim();
        let (sign, digits) = match percent.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, percent.strip_prefix('+').unwrap_or(percent)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 5 || fraction.len() > 2 || !all_digits(whole) || !all_digits(fraction) {
            return Err(MarkupError);
        }
        // Seven digits at most.
        let points: i64 = format!("{whole}{fraction:0<2}").parse().map_err(|_| MarkupError)?;
        Self::from_basis_points(sign * points)
    }
}

impl fmt::Display for Markup {
    /// As it is read: `12.5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let fraction = format!("{:02}", points % 100);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{sign}{}%", points / 100),
            fraction => write!(f, "{sign}{}.{fraction}%", points / 100),
        }
    }
}

/// A rate of a tenant's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRate {
    /// The number of its price row in this store; `None` until it is written.
    pub price_no: Option<u32>,
    /// The price. Its model is a name, or a pattern with a star.
    pub row: PriceRow,
}

/// What a tenant pays from an instant on, until its next terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTerms {
    /// From when, by the time of the event.
    pub from: Timestamp,
    /// On list prices; its own rates carry none.
    pub markup: Markup,
    /// Its own rates, each of another model. Neither these nor a markup: list prices.
    pub rates: Vec<OwnRate>,
}

impl PriceTerms {
    /// Whether they are the list's prices.
    pub const fn is_list(&self) -> bool {
        self.markup.is_none() && self.rates.is_empty()
    }
}

/// Those of `terms`, in order of their beginnings, that are in force at an instant.
pub fn terms_at(terms: &[Arc<PriceTerms>], at: Timestamp) -> Option<&Arc<PriceTerms>> {
    terms.iter().rev().find(|terms| terms.from <= at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_markup_is_an_exact_ratio_and_rounds_half_to_even() {
        for (text, amount, expected) in [
            ("15%", 100, 115),
            ("+12.5 %", 8, 9),
            ("-10%", 1_000, 900),
            ("0.01%", 10_000, 10_001),
            ("50%", 1, 2),
            ("50%", 3, 4),
            ("-100%", 77, 0),
            ("10000%", 1, 101),
            ("0%", 77, 77),
        ] {
            let markup: Markup = text.parse().unwrap();
            assert_eq!(markup.on(Money::from_femtos(amount)).femtos(), expected, "{text} of {amount}");
        }
        for text in ["15", "%", "-100.01%", "10000.01%", "1.001%", "1e2%", "fifteen%", "--1%"] {
            assert_eq!(text.parse::<Markup>(), Err(MarkupError), "{text}");
        }
    }

    #[test]
    fn a_markup_is_shown_as_it_is_read() {
        for text in ["12.5%", "-10%", "0.01%", "0%", "-0.05%", "10000%", "3%"] {
            assert_eq!(text.parse::<Markup>().unwrap().to_string(), text);
        }
    }
}
