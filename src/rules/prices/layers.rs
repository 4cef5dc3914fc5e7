//! A tenant's own prices and markup, laid on top of the price list.

use std::str::FromStr;

use super::book::PriceBook;
use super::cost::{Cost, CostError};
use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::domain::usage::UsageCounts;

/// A factor on list prices, as an exact ratio: `15%` is 1.15, `-10%` is 0.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Markup {
    /// The factor times [`Markup::DENOMINATOR`].
    numerator: u128,
}

/// A text that is not a markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a markup is a percentage from -100% to 10000% with at most 6 decimal places, such as 12.5%")]
pub struct MarkupError;

impl Markup {
    const DENOMINATOR: u128 = 100_000_000;

    /// An amount with the markup on it, rounded half to even to a femto-dollar: once per event, and nowhere else.
    pub fn on(self, amount: Money) -> Money {
        // A factor is at most 101: amounts up to 3 x 10^12 dollars have room.
        let product = amount.femtos().saturating_mul(self.numerator);
        let (quotient, remainder) = (product / Self::DENOMINATOR, product % Self::DENOMINATOR);
        let half = Self::DENOMINATOR / 2;
        let up = remainder > half || (remainder == half && quotient % 2 == 1);
        Money::from_femtos(quotient + u128::from(up))
    }
}

impl FromStr for Markup {
    type Err = MarkupError;

    /// Reads `15%`, `+12.5 %` or `-10%`.
    fn from_str(text: &str) -> Result<Self, MarkupError> {
        let percent = text.trim().strip_suffix('%').ok_or(MarkupError)?.trim();
        let (negative, digits) = match percent.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, percent.strip_prefix('+').unwrap_or(percent)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 5 || fraction.len() > 6 || !all_digits(whole) || !all_digits(fraction) {
            return Err(MarkupError);
        }
        // Eleven digits at most.
        let millionths: u128 = format!("{whole}{fraction:0<6}").parse().map_err(|_| MarkupError)?;
        let one = Self::DENOMINATOR;
        let numerator = if negative { one.checked_sub(millionths).ok_or(MarkupError)? } else { one + millionths };
        if numerator > 101 * one { Err(MarkupError) } else { Ok(Self { numerator }) }
    }
}

/// The prices that hold for one tenant: its own where it has one, else the list's with the markup.
#[derive(Clone, Copy, Debug)]
pub struct Pricing<'a> {
    /// The tenant's own prices, which carry no markup.
    pub own: Option<&'a PriceBook>,
    /// The price list.
    pub list: &'a PriceBook,
    /// On list prices.
    pub markup: Option<Markup>,
}

/// What a call costs a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// By the price row alone, with its breakdown.
    pub cost: Cost,
    /// The name by which the model was found.
    pub alias: String,
    /// Whether the row is the tenant's own.
    pub own: bool,
    /// What the tenant is charged: [`Cost::total`], with the markup where one applies.
    pub charged: Money,
}

impl Pricing<'_> {
    /// Prices a call. `None` is a model without a price, which is never free.
    pub fn price(
        &self,
        provider: Option<&str>,
        model: &str,
        counts: &UsageCounts,
        at: Timestamp,
    ) -> Option<Result<Priced, CostError>> {
        let own = self.own.and_then(|own| own.find(provider, model, at));
        let is_own = own.is_some();
        let found = own.or_else(|| self.list.find(provider, model, at))?;
        Some(found.cost(counts).map(|cost| {
            let marked = |markup: Markup| markup.on(cost.total);
            let charged = self.markup.filter(|_| !is_own).map_or(cost.total, marked);
            Priced { cost, alias: found.alias, own: is_own, charged }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::prices::{PriceFormat, read_prices};

    #[test]
    fn a_markup_is_an_exact_ratio_and_rounds_half_to_even() {
        for (text, amount, expected) in [
            ("15%", 100, 115),
            ("+12.5 %", 8, 9),
            ("-10%", 1_000, 900),
            ("0.000001%", 100_000_000, 100_000_001),
            ("50%", 1, 2),
            ("50%", 3, 4),
            ("-100%", 77, 0),
            ("10000%", 1, 101),
        ] {
            let markup: Markup = text.parse().unwrap();
            assert_eq!(markup.on(Money::from_femtos(amount)).femtos(), expected, "{text} of {amount}");
        }
        for text in ["15", "%", "-100.1%", "10001%", "1.0000001%", "1e2%", "fifteen%"] {
            assert_eq!(text.parse::<Markup>(), Err(MarkupError), "{text}");
        }
    }

    #[test]
    fn a_tenants_own_price_beats_the_list_and_carries_no_markup() {
        let book = |price: &str, model: &str| {
            let text =
                format!("[providers.here]\nspeaks_for = [\"*m*\"]\n[prices.here.{model}]\ninput = \"{price}\"\n");
            read_prices(PriceFormat::Toml, &text).unwrap().book
        };
        let (list, own) = (book("2", "\"m*\""), book("1", "m1"));
        let pricing = Pricing { own: Some(&own), list: &list, markup: Some("10%".parse().unwrap()) };
        let counts = UsageCounts { input_tokens: Some(1_000_000), ..UsageCounts::default() };
        let charged = |model: &str| {
            let priced = pricing.price(Some("here"), model, &counts, Timestamp::default());
            priced.map(|priced| priced.unwrap().charged.to_string())
        };
        assert_eq!(charged("m1").as_deref(), Some("1"));
        assert_eq!(charged("m2").as_deref(), Some("2.2"));
        assert_eq!(charged("other"), None);
    }
}
