//! What a day of a plan costs when every token of it is used.

use std::str::FromStr;

use crate::domain::money::Money;

/// The part of all tokens that is output, in whole percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputShare(u8);

/// A text that is not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a share is a whole percentage from 0% to 100%, such as 20%")]
pub struct OutputShareError;

impl FromStr for OutputShare {
    type Err = OutputShareError;

    /// Reads `20%`.
    fn from_str(text: &str) -> Result<Self, OutputShareError> {
        let percent = text.trim().strip_suffix('%').ok_or(OutputShareError)?.trim();
        let digits = !percent.is_empty() && percent.bytes().all(|byte| byte.is_ascii_digit());
        let share = percent.parse().ok().filter(|share| digits && *share <= 100);
        share.map(Self).ok_or(OutputShareError)
    }
}

impl OutputShare {
    /// Whether there is any output.
    pub const fn is_some(self) -> bool {
        self.0 > 0
    }
}

/// A day's tokens and their cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullDay {
    /// Input tokens.
    pub input_tokens: u128,
    /// Output tokens, rounded down to whole ones.
    pub output_tokens: u128,
    /// Exact as long as a token's price is a whole number of femto-dollars; else rounded to the nearest, once.
    pub cost: Money,
}

/// So many tokens at these prices for a million of them. `None` when the cost has no room, above 10^23 dollars.
pub fn full_day(tokens: u128, share: OutputShare, input_rate: Money, output_rate: Money) -> Option<FullDay> {
    let output_tokens = tokens.checked_mul(u128::from(share.0))? / 100;
    let input_tokens = tokens - output_tokens;
    let millionths = input_tokens.checked_mul(input_rate.femtos())?;
    let millionths = millionths.checked_add(output_tokens.checked_mul(output_rate.femtos())?)?;
    let cost = Money::from_femtos(millionths / 1_000_000 + u128::from(millionths % 1_000_000 >= 500_000));
    Some(FullDay { input_tokens, output_tokens, cost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_day_is_exact() {
        let day = |tokens, share: &str, input: &str, output: &str| {
            let day =
                full_day(tokens, share.parse().unwrap(), input.parse().unwrap(), output.parse().unwrap()).unwrap();
            (day.input_tokens, day.output_tokens, day.cost.to_string())
        };
        assert_eq!(day(10_000, "20%", "0.15", "0.6"), (8_000, 2_000, "0.0024".to_owned()));
        assert_eq!(day(500_000, "0%", "0.15", "0.6"), (500_000, 0, "0.075".to_owned()));
        assert_eq!(day(3, "50%", "0.000000001", "0.000000002"), (2, 1, "0.000000000000004".to_owned()));
        assert_eq!(full_day(u128::MAX, OutputShare(2), Money::ZERO, Money::ZERO), None);
    }

    #[test]
    fn a_share_is_a_whole_percentage() {
        assert_eq!("20 %".parse(), Ok(OutputShare(20)));
        for text in ["20", "%", "-1%", "+5%", "101%", "2.5%", "x%"] {
            assert_eq!(text.parse::<OutputShare>(), Err(OutputShareError), "{text}");
        }
    }
}
