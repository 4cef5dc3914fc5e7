//! Prices: what one unit of each class of usage costs, since when, and from how large a request on.

use std::collections::BTreeMap;

use super::money::Money;
use super::time::{MICROS_PER_DAY, MICROS_PER_SECOND, Timestamp};

/// Most tiers above the base price of one class.
pub const MAX_TIERS: usize = 16;

/// What a unit of usage is, where providers charge for it apart.
///
/// The order is the order in which a cost is broken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PriceClass {
    /// Input tokens that no other class takes.
    Input,
    /// Input tokens read from the provider's cache.
    CachedInput,
    /// Input tokens written to the cache.
    CacheWrite,
    /// Input tokens written to the cache for an hour.
    CacheWrite1h,
    /// Input tokens of sound.
    AudioInput,
    /// Input tokens of sound that were read from the cache.
    CachedAudio,
    /// Input tokens of pictures and pages.
    ImageInput,
    /// Input tokens of pictures and pages that were read from the cache.
    CachedImage,
    /// Input tokens of film.
    VideoInput,
    /// Input tokens of an embedding.
    Embedding,
    /// Output tokens that no other class takes.
    Output,
    /// Output tokens of reasoning.
    Reasoning,
    /// Output tokens of sound.
    AudioOutput,
    /// Output tokens of pictures.
    ImageOutput,
    /// Output tokens of film.
    VideoOutput,
    /// Tokens of cited sources.
    Citation,
    /// The request itself.
    Request,
    /// Searches of the web that the provider made.
    WebSearch,
    /// Searches of stored files that the provider made.
    FileSearch,
}

/// On which side of the bill a class stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What was sent.
    Input,
    /// What came back.
    Output,
    /// Neither: requests and searches.
    Extra,
}

impl PriceClass {
    /// Every class, in order.
    pub const ALL: [Self; 19] = [
        Self::Input,
        Self::CachedInput,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::CachedAudio,
        Self::ImageInput,
        Self::CachedImage,
        Self::VideoInput,
        Self::Embedding,
        Self::Output,
        Self::Reasoning,
        Self::AudioOutput,
        Self::ImageOutput,
        Self::VideoOutput,
        Self::Citation,
        Self::Request,
        Self::WebSearch,
        Self::FileSearch,
    ];

    /// Its name in files and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedInput => "cached_input",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::AudioInput => "audio_input",
            Self::CachedAudio => "cached_audio",
            Self::ImageInput => "image_input",
            Self::CachedImage => "cached_image",
            Self::VideoInput => "video_input",
            Self::Embedding => "embedding",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AudioOutput => "audio_output",
            Self::ImageOutput => "image_output",
            Self::VideoOutput => "video_output",
            Self::Citation => "citation",
            Self::Request => "request",
            Self::WebSearch => "web_search",
            Self::FileSearch => "file_search",
        }
    }

    /// The class of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Which side of the bill it is on.
    pub const fn side(self) -> Side {
        match self {
            Self::Request | Self::WebSearch | Self::FileSearch => Side::Extra,
            Self::Output
            | Self::Reasoning
            | Self::AudioOutput
            | Self::ImageOutput
            | Self::VideoOutput
            | Self::Citation => Side::Output,
            _ => Side::Input,
        }
    }

    /// How many units a published price is for: a million tokens, a thousand requests or searches.
    pub const fn units_per_price(self) -> u64 {
        match self.side() {
            Side::Extra => 1_000,
            Side::Input | Side::Output => 1_000_000,
        }
    }
}

/// The price of one unit in femto-dollars (10^-15 USD); of a token, that is nano-dollars per million.
///
/// A rate times a count is exact in [`Money`], so that nothing is ever rounded on the way to a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// From femto-dollars per unit.
    pub const fn from_femtos(femtos: u64) -> Self {
        Self(femtos)
    }

    /// In femto-dollars per unit.
    pub const fn femtos(self) -> u64 {
        self.0
    }

    /// What `count` units cost, to the last digit.
    pub const fn times(self, count: u64) -> Money {
        // Two 64-bit factors always fit into 128 bits.
        Money::from_femtos(self.0 as u128 * count as u128)
    }

    /// The price as it is published for `class`: dollars for a million tokens, or for a thousand requests.
    pub const fn published(self, class: PriceClass) -> Money {
        self.times(class.units_per_price())
    }
}

/// A price that applies to larger requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tier {
    /// Applies above this many tokens.
    pub above: u64,
    /// The price there.
    pub rate: Rate,
}

/// What a tier's threshold is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TierRule {
    /// With the request's input tokens: above it every token of the request costs the tier's price.
    #[default]
    WholeRequest,
    /// With the class's own count: only the tokens above it cost the tier's price.
    Graduated,
}

/// The price of one class: a base, and tiers with ascending thresholds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TieredRate {
    /// The price below every threshold.
    pub base: Rate,
    /// At most [`MAX_TIERS`], thresholds ascending.
    pub tiers: Vec<Tier>,
}

impl From<Rate> for TieredRate {
    fn from(base: Rate) -> Self {
        Self { base, tiers: Vec::new() }
    }
}

/// One stretch of units at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// How many units.
    pub count: u64,
    /// At what price.
    pub rate: Rate,
    /// The threshold of the tier; `None` for the base price.
    pub above: Option<u64>,
}

impl TieredRate {
    /// `count` units of a request with `context` input tokens, cut into stretches of one price; their counts add up to
    /// `count`.
    pub fn stretches(&self, rule: TierRule, count: u64, context: u64) -> impl Iterator<Item = Stretch> + '_ {
        let whole = || match self.tiers.iter().rev().find(|tier| context > tier.above) {
            Some(tier) => Stretch { count, rate: tier.rate, above: Some(tier.above) },
            None => Stretch { count, rate: self.base, above: None },
        };
        let (whole, graduated) = match rule {
            TierRule::WholeRequest => (Some(whole()), 0..0),
            TierRule::Graduated => (None, 0..self.tiers.len() + 1),
        };
        let part = move |place: usize| {
            let tier = place.checked_sub(1).and_then(|below| self.tiers.get(below));
            let (from, rate) = tier.map_or((0, self.base), |tier| (tier.above, tier.rate));
            let to = self.tiers.get(place).map_or(u64::MAX, |next| next.above);
            let count = count.min(to).saturating_sub(from);
            (count > 0).then_some(Stretch { count, rate, above: tier.map(|tier| tier.above) })
        };
        whole.into_iter().chain(graduated.filter_map(part))
    }
}

/// When a price applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Validity {
    /// From this instant on; `None`: always.
    pub from: Option<Timestamp>,
    /// Each day between these seconds after midnight UTC, the end excluded; over midnight where the end is the smaller.
    pub daily: Option<(u32, u32)>,
}

impl Validity {
    /// Whether it covers an instant.
    pub fn covers(&self, at: Timestamp) -> bool {
        let second = (at.micros() % MICROS_PER_DAY / MICROS_PER_SECOND) as u32;
        let in_hours = match self.daily {
            None => true,
            Some((start, end)) if start <= end => (start..end).contains(&second),
            Some((start, end)) => second >= start || second < end,
        };
        in_hours && self.from.is_none_or(|from| at >= from)
    }
}

/// The prices of one model in force at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    /// Names the row and its content: another rate, another id. `openai/gpt-4o@2024-10-02~1f0c9a7be21d4410`.
    pub id: String,
    /// Whose price it is.
    pub provider: String,
    /// The model as the price list names it.
    pub model: String,
    /// When it applies.
    pub validity: Validity,
    /// How its tiers are read.
    pub tier_rule: TierRule,
    /// The price of each class that has one.
    pub rates: BTreeMap<PriceClass, TieredRate>,
}

/// What a model takes and gives at most, in tokens, as far as its price list says: facts beside its prices, which
/// neither name a row nor cost anything. Where a list has one entry for several names, the largest of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Input and output of one call together.
    pub context_tokens: Option<u64>,
    /// The input of one call.
    pub max_input_tokens: Option<u64>,
    /// The output of one call.
    pub max_output_tokens: Option<u64>,
}

/// The largest limit that is believed.
pub const MAX_LIMIT_TOKENS: u64 = 1_000_000_000;

impl ModelLimits {
    /// The names of its limits in files and answers.
    pub const NAMES: [&'static str; 3] = ["context_tokens", "max_input_tokens", "max_output_tokens"];

    /// Each limit by its name, in order.
    pub fn named(&self) -> [(&'static str, Option<u64>); 3] {
        let [context, input, output] = Self::NAMES;
        [(context, self.context_tokens), (input, self.max_input_tokens), (output, self.max_output_tokens)]
    }

    /// Sets a limit by its name. Gives it back where it is not from 1 to [`MAX_LIMIT_TOKENS`], or no such limit exists.
    pub fn set(&mut self, name: &str, tokens: u64) -> Result<(), u64> {
        let slot = match name {
            "context_tokens" => &mut self.context_tokens,
            "max_input_tokens" => &mut self.max_input_tokens,
            "max_output_tokens" => &mut self.max_output_tokens,
            _ => return Err(tokens),
        };
        if !(1..=MAX_LIMIT_TOKENS).contains(&tokens) {
            return Err(tokens);
        }
        *slot = Some(tokens);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rate(femtos: u64) -> Rate {
        Rate::from_femtos(femtos)
    }

    fn tiered() -> TieredRate {
        TieredRate {
            base: rate(3),
            tiers: vec![Tier { above: 100, rate: rate(6) }, Tier { above: 200, rate: rate(9) }],
        }
    }

    #[test]
    fn every_class_has_a_name_of_its_own_and_is_found_by_it() {
        for class in PriceClass::ALL {
            assert_eq!(PriceClass::from_name(class.name()), Some(class));
        }
    }

    #[test]
    fn a_threshold_itself_still_costs_the_lower_price() {
        let at = |context| tiered().stretches(TierRule::WholeRequest, 10, context).next().unwrap();
        assert_eq!(at(100), Stretch { count: 10, rate: rate(3), above: None });
        assert_eq!(at(101), Stretch { count: 10, rate: rate(6), above: Some(100) });
        assert_eq!(at(201), Stretch { count: 10, rate: rate(9), above: Some(200) });
    }

    #[test]
    fn graduated_tiers_charge_only_what_lies_above_the_threshold() {
        let of = |count| -> Vec<(u64, u64)> {
            let rate = tiered();
            let stretches = rate.stretches(TierRule::Graduated, count, 1_000_000);
            stretches.map(|stretch| (stretch.count, stretch.rate.femtos())).collect()
        };
        assert_eq!(of(100), [(100, 3)]);
        assert_eq!(of(150), [(100, 3), (50, 6)]);
        assert_eq!(of(250), [(100, 3), (100, 6), (50, 9)]);
    }

    #[test]
    fn a_price_of_the_day_may_run_over_midnight() {
        let at = |seconds: i64| Timestamp::from_seconds(20_000 * 86_400 + seconds);
        let off_peak = Validity { from: None, daily: Some((16 * 3_600, 1_800)) };
        let answers = [0, 1_799, 1_800, 57_599, 57_600, 86_399].map(|second| off_peak.covers(at(second)));
        assert_eq!(answers, [true, true, false, false, true, true]);
        let peak = Validity { from: Some(at(0)), daily: Some((1_800, 57_600)) };
        assert_eq!([-60_000, 0, 1_800, 57_600].map(|second| peak.covers(at(second))), [false, false, true, false]);
    }

    #[test]
    fn a_rate_times_a_count_loses_no_digit() {
        // 7.5 nano-dollars for a million tokens do not exist in this unit; 7 do, and one token of it is 7 femto-dollars.
        assert_eq!(rate(7).times(1).to_string(), "0.000000000000007");
        assert_eq!(rate(7).published(PriceClass::Input).to_string(), "0.000000007");
        assert_eq!(rate(u64::MAX).times(u64::MAX).femtos(), u128::from(u64::MAX).pow(2));
    }
}
