//! What a call costs: counts times rates, with the way to the sum.

use crate::domain::money::Money;
use crate::domain::price::{PriceClass, PriceRow, Rate, Side};
use crate::domain::usage::{PartsExceedWhole, UsageCounts};

/// What a call costs by one price row. All sums are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The row it was priced by.
    pub price_id: String,
    /// What was sent.
    pub input: Money,
    /// What came back.
    pub output: Money,
    /// Input, output, and what is charged by request and by search.
    pub total: Money,
    /// How it adds up; classes of which there was nothing are left out.
    pub lines: Vec<CostLine>,
    /// Calls of hosted tools (searches among them) that there is no price for, which are therefore not in the total.
    pub unpriced_calls: u64,
}

/// `count` x `rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostLine {
    /// What was counted.
    pub class: PriceClass,
    /// By which class's price; another where the row does not price `class` apart.
    pub priced_as: PriceClass,
    /// How many units.
    pub count: u64,
    /// The price of one.
    pub rate: Rate,
    /// The product.
    pub amount: Money,
    /// The threshold of the tier that applied; `None` for the base price.
    pub above: Option<u64>,
}

/// Why counts have no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// The row has no price for tokens of this class, nor for a wider one.
    #[error("the price list has no price for {} tokens of this model", .0.name())]
    NoRate(PriceClass),
    /// Parts are more than their whole.
    #[error(transparent)]
    Inconsistent(#[from] PartsExceedWhole),
    /// Parts that are priced apart overlap by an amount that the counts do not tell.
    #[error("the {} tokens that are priced apart are more than all of them", if *.0 == Side::Input { "input" } else { "output" })]
    Overlap(Side),
}

/// Prices counts by a row.
///
/// Each token is counted once, in the narrowest class that the row prices; a class without a price of its own is charged
/// as the next wider one (cached sound as cached input, reasoning as output). Tiers of [`PriceRow::tier_rule`] look at all
/// input tokens. A request counts as one where the counts do not say.
pub fn cost(row: &PriceRow, counts: &UsageCounts) -> Result<Cost, CostError> {
    price(row, counts, true)
}

/// The sum of [`cost`] alone, and the calls of hosted tools that are not in it: for every event that is recorded,
/// without a list of how it adds up.
pub fn total(row: &PriceRow, counts: &UsageCounts) -> Result<(Money, u64), CostError> {
    let bill = Bill::of(row, counts, true, None)?;
    Ok((bill.total, bill.unpriced_calls))
}

/// `with_extras`: whether the row's prices of requests and searches hold.
pub(super) fn price(row: &PriceRow, counts: &UsageCounts, with_extras: bool) -> Result<Cost, CostError> {
    let Bill { input, output, total, lines, unpriced_calls, .. } =
        Bill::of(row, counts, with_extras, Some(Vec::new()))?;
    let lines = lines.unwrap_or_default();
    Ok(Cost { price_id: row.id.clone(), input, output, total, lines, unpriced_calls })
}

/// The classes that a row prices, a bit each: asked for twenty times an event.
#[derive(Clone, Copy)]
struct Priced(u32);

impl Priced {
    fn by(row: &PriceRow) -> Self {
        Self(row.rates.keys().fold(0, |all, class| all | 1 << *class as u32))
    }

    const fn has(self, class: PriceClass) -> bool {
        self.0 >> class as u32 & 1 == 1
    }
}

struct Bill<'a> {
    row: &'a PriceRow,
    context: u64,
    input: Money,
    output: Money,
    total: Money,
    /// `None` where nobody asks how it adds up.
    lines: Option<Vec<CostLine>>,
    unpriced_calls: u64,
}

impl<'a> Bill<'a> {
    fn of(
        row: &'a PriceRow,
        counts: &UsageCounts,
        with_extras: bool,
        lines: Option<Vec<CostLine>>,
    ) -> Result<Self, CostError> {
        counts.check()?;
        let nothing = Money::ZERO;
        let context = counts.input_tokens.unwrap_or(0);
        let mut bill = Self { row, context, input: nothing, output: nothing, total: nothing, lines, unpriced_calls: 0 };
        let priced = Priced::by(row);
        for (class, count) in input_cells(priced, counts)? {
            bill.charge(class, count)?;
        }
        for (class, count) in output_cells(priced, counts)? {
            bill.charge(class, count)?;
        }
        if with_extras && priced.has(PriceClass::Request) {
            bill.charge(PriceClass::Request, counts.requests.unwrap_or(1))?;
        }
        let searches = [(PriceClass::WebSearch, counts.web_searches), (PriceClass::FileSearch, counts.file_searches)];
        bill.unpriced_calls = counts.tool_calls.unwrap_or(0);
        for (class, count) in searches.map(|(class, count)| (class, count.unwrap_or(0))) {
            if with_extras && priced.has(class) {
                bill.charge(class, count)?;
            } else {
                bill.unpriced_calls = bill.unpriced_calls.saturating_add(count);
            }
        }
        Ok(bill)
    }

    fn charge(&mut self, class: PriceClass, count: u64) -> Result<(), CostError> {
        if count == 0 {
            return Ok(());
        }
        let known = wider(class).iter().find_map(|class| Some((*class, self.row.rates.get(class)?)));
        let (priced_as, rate) = known.ok_or(CostError::NoRate(class))?;
        for stretch in rate.stretches(self.row.tier_rule, count, self.context) {
            let amount = stretch.rate.times(stretch.count);
            match class.side() {
                Side::Input => self.input += amount,
                Side::Output => self.output += amount,
                Side::Extra => {}
            }
            self.total += amount;
            if let Some(lines) = &mut self.lines {
                let (count, rate, above) = (stretch.count, stretch.rate, stretch.above);
                lines.push(CostLine { class, priced_as, count, rate, amount, above });
            }
        }
        Ok(())
    }
}

/// A class, and what it is charged as where it has no price of its own, in order.
const fn wider(class: PriceClass) -> &'static [PriceClass] {
    use PriceClass::{
        AudioInput, AudioOutput, CacheWrite, CacheWrite1h, CachedAudio, CachedImage, CachedInput, Citation, Embedding,
        FileSearch, ImageInput, ImageOutput, Input, Output, Reasoning, Request, VideoInput, VideoOutput, WebSearch,
    };
    match class {
        Input => &[Input, Embedding],
        CachedInput => &[CachedInput, Input],
        CacheWrite => &[CacheWrite, Input],
        CacheWrite1h => &[CacheWrite1h, CacheWrite, Input],
        AudioInput => &[AudioInput, Input],
        CachedAudio => &[CachedAudio, CachedInput, AudioInput, Input],
        ImageInput => &[ImageInput, Input],
        CachedImage => &[CachedImage, CachedInput, ImageInput, Input],
        VideoInput => &[VideoInput, Input],
        Embedding => &[Embedding, Input],
        Output => &[Output],
        Reasoning => &[Reasoning, Output],
        AudioOutput => &[AudioOutput, Output],
        ImageOutput => &[ImageOutput, Output],
        VideoOutput => &[VideoOutput, Output],
        Citation => &[Citation, Output],
        Request => &[Request],
        WebSearch => &[WebSearch],
        FileSearch => &[FileSearch],
    }
}

/// The input cut into classes that do not overlap; what the row does not price apart stays in the wider class.
fn input_cells(priced: Priced, counts: &UsageCounts) -> Result<[(PriceClass, u64); 10], CostError> {
    use PriceClass as Class;
    let apart = |class: Class| priced.has(class);
    let of = |priced: bool, count: Option<u64>| if priced { count.unwrap_or(0) } else { 0 };
    let overlap = |both: Option<Class>, medium: Class, count: Option<u64>| {
        of(both.is_some_and(apart) || (apart(Class::CachedInput) && apart(medium)), count)
    };
    let cached_audio = overlap(Some(Class::CachedAudio), Class::AudioInput, counts.cached_audio_tokens);
    let cached_image = overlap(Some(Class::CachedImage), Class::ImageInput, counts.cached_image_tokens);
    let cached_video = overlap(None, Class::VideoInput, counts.cached_video_tokens);
    // A medium whose cached part is priced apart is cut even where the medium itself is not.
    let less = |whole: u64, part: u64| whole.saturating_sub(part);
    let audio = less(of(apart(Class::AudioInput), counts.audio_input_tokens), cached_audio);
    let image = less(of(apart(Class::ImageInput), counts.image_input_tokens), cached_image);
    let video = less(of(apart(Class::VideoInput), counts.video_input_tokens), cached_video);
    let cached_media = cached_audio.saturating_add(cached_image).saturating_add(cached_video);
    let cached = less(of(apart(Class::CachedInput), counts.cached_input_tokens), cached_media);
    let hour = of(apart(Class::CacheWrite1h), counts.cache_write_1h_tokens);
    let write = of(apart(Class::CacheWrite), counts.cache_write_tokens.map(|all| less(all, hour)));
    let embedding = of(apart(Class::Embedding), counts.embedding_tokens);
    let taken = [cached_media, audio, image, video, cached, hour, write, embedding];
    let taken = taken.into_iter().fold(0, u64::saturating_add);
    let rest = counts.input_tokens.unwrap_or(0).checked_sub(taken).ok_or(CostError::Overlap(Side::Input))?;
    Ok([
        (Class::Input, rest),
        (Class::CachedInput, cached.saturating_add(cached_video)),
        (Class::CacheWrite, write),
        (Class::CacheWrite1h, hour),
        (Class::AudioInput, audio),
        (Class::CachedAudio, cached_audio),
        (Class::ImageInput, image),
        (Class::CachedImage, cached_image),
        (Class::VideoInput, video),
        (Class::Embedding, embedding),
    ])
}

/// The output cut into classes that do not overlap.
fn output_cells(priced: Priced, counts: &UsageCounts) -> Result<[(PriceClass, u64); 6], CostError> {
    use PriceClass as Class;
    let of = |class: Class, count: Option<u64>| {
        let count = if priced.has(class) { count.unwrap_or(0) } else { 0 };
        (class, count)
    };
    let parts = [
        of(Class::Reasoning, counts.reasoning_tokens),
        of(Class::AudioOutput, counts.audio_output_tokens),
        of(Class::ImageOutput, counts.image_output_tokens),
        of(Class::VideoOutput, counts.video_output_tokens),
        of(Class::Citation, counts.citation_tokens),
    ];
    let taken = parts.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
    let rest = counts.output_tokens.unwrap_or(0).checked_sub(taken).ok_or(CostError::Overlap(Side::Output))?;
    let [reasoning, audio, image, video, citation] = parts;
    Ok([(Class::Output, rest), reasoning, audio, image, video, citation])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::price::{Tier, TierRule, TieredRate, Validity};

    fn row(rates: &[(PriceClass, u64)]) -> PriceRow {
        let rates = rates.iter().map(|(class, femtos)| (*class, Rate::from_femtos(*femtos).into())).collect();
        PriceRow {
            id: "here/model@start".to_owned(),
            provider: "here".to_owned(),
            model: "model".to_owned(),
            validity: Validity::default(),
            tier_rule: TierRule::WholeRequest,
            rates,
        }
    }

    const USAGE: UsageCounts = UsageCounts {
        input_tokens: Some(1_000),
        cached_input_tokens: Some(400),
        cache_write_tokens: Some(100),
        cache_write_1h_tokens: Some(30),
        audio_input_tokens: Some(300),
        cached_audio_tokens: Some(50),
        image_input_tokens: None,
        cached_image_tokens: None,
        video_input_tokens: None,
        cached_video_tokens: None,
        tool_input_tokens: None,
        embedding_tokens: None,
        output_tokens: Some(200),
        reasoning_tokens: Some(120),
        audio_output_tokens: None,
        image_output_tokens: None,
        video_output_tokens: None,
        citation_tokens: None,
        requests: None,
        web_searches: Some(2),
        file_searches: None,
        tool_calls: None,
    };

    fn lines(cost: &Cost) -> Vec<(PriceClass, u64)> {
        cost.lines.iter().map(|line| (line.class, line.count)).collect()
    }

    #[test]
    fn calls_of_hosted_tools_are_charged_or_told_to_be_missing() {
        use PriceClass as Class;
        let counts = UsageCounts { web_searches: Some(3), file_searches: Some(2), ..UsageCounts::default() };
        let both = row(&[(Class::Input, 1), (Class::WebSearch, 100), (Class::FileSearch, 10)]);
        let priced = |row, counts: &UsageCounts, extras| {
            price(row, counts, extras).map(|cost| (cost.total.femtos(), cost.unpriced_calls))
        };
        assert_eq!(priced(&both, &counts, true), Ok((320, 0)));
        assert_eq!(priced(&both, &counts, false), Ok((0, 5)));
        let web = row(&[(Class::Input, 1), (Class::WebSearch, 100)]);
        assert_eq!(priced(&web, &counts, true), Ok((300, 2)));
        let other = UsageCounts { tool_calls: Some(4), ..counts };
        assert_eq!(priced(&both, &other, true), Ok((320, 4)));
    }

    #[test]
    fn every_token_is_charged_once_in_the_narrowest_class_that_has_a_price() {
        use PriceClass as Class;
        let wide = row(&[(Class::Input, 10), (Class::Output, 1_000)]);
        let cost_wide = cost(&wide, &USAGE).unwrap();
        assert_eq!(lines(&cost_wide), [(Class::Input, 1_000), (Class::Output, 200)]);
        assert_eq!((cost_wide.total.femtos(), cost_wide.unpriced_calls), (210_000, 2));

        let narrow = row(&[
            (Class::Input, 10),
            (Class::CachedInput, 1),
            (Class::CacheWrite, 20),
            (Class::CacheWrite1h, 30),
            (Class::AudioInput, 100),
            (Class::Output, 1_000),
            (Class::Reasoning, 2_000),
            (Class::Request, 7),
            (Class::WebSearch, 5),
        ]);
        let cost = cost(&narrow, &USAGE).unwrap();
        let expected = [
            (Class::Input, 250),
            (Class::CachedInput, 350),
            (Class::CacheWrite, 70),
            (Class::CacheWrite1h, 30),
            (Class::AudioInput, 250),
            (Class::CachedAudio, 50),
            (Class::Output, 80),
            (Class::Reasoning, 120),
            (Class::Request, 1),
            (Class::WebSearch, 2),
        ];
        assert_eq!(lines(&cost), expected);
        assert_eq!(cost.lines[5].priced_as, Class::CachedInput);
        assert_eq!(cost.input.femtos(), 2_500 + 350 + 1_400 + 900 + 25_000 + 50);
        assert_eq!(cost.output.femtos(), 80_000 + 240_000);
        assert_eq!(cost.total.femtos(), cost.input.femtos() + cost.output.femtos() + 7 + 10);
        assert_eq!(cost.lines.iter().map(|line| line.amount).sum::<Money>(), cost.total);
    }

    #[test]
    fn a_token_without_a_price_is_an_error_and_never_free() {
        use PriceClass as Class;
        assert_eq!(cost(&row(&[(Class::Input, 10)]), &USAGE), Err(CostError::NoRate(Class::Output)));
        assert_eq!(cost(&row(&[]), &USAGE), Err(CostError::NoRate(Class::Input)));
        let embedding = UsageCounts { input_tokens: Some(9), ..UsageCounts::default() };
        assert_eq!(cost(&row(&[(Class::Embedding, 2)]), &embedding).map(|cost| cost.total.femtos()), Ok(18));
    }

    #[test]
    fn counts_that_contradict_each_other_are_not_priced() {
        use PriceClass as Class;
        let too_many = UsageCounts { cached_input_tokens: Some(1_001), ..USAGE };
        let priced = row(&[(Class::Input, 10), (Class::CachedInput, 1), (Class::AudioInput, 9), (Class::Output, 1)]);
        assert!(matches!(cost(&priced, &too_many), Err(CostError::Inconsistent(_))));
        // 900 cached and 300 of sound in 1,000 overlap, by how much is not said.
        let unclear = UsageCounts {
            cached_input_tokens: Some(900),
            cached_audio_tokens: None,
            cache_write_tokens: None,
            cache_write_1h_tokens: None,
            ..USAGE
        };
        assert_eq!(cost(&priced, &unclear), Err(CostError::Overlap(Side::Input)));
    }

    #[test]
    fn a_tier_prices_the_whole_request_or_what_lies_above_it() {
        use PriceClass as Class;
        let mut tiered = row(&[(Class::Output, 4)]);
        let rate =
            TieredRate { base: Rate::from_femtos(1), tiers: vec![Tier { above: 200, rate: Rate::from_femtos(2) }] };
        tiered.rates.insert(Class::Input, rate);
        let usage = UsageCounts { input_tokens: Some(201), output_tokens: Some(1), ..UsageCounts::default() };
        let whole = cost(&tiered, &usage).unwrap();
        assert_eq!((whole.total.femtos(), whole.lines[0].above), (402 + 4, Some(200)));
        tiered.tier_rule = TierRule::Graduated;
        let graduated = cost(&tiered, &usage).unwrap();
        assert_eq!((graduated.total.femtos(), graduated.lines.len()), (200 + 2 + 4, 3));
    }

    #[test]
    fn the_total_alone_is_the_sum_of_the_lines() {
        use PriceClass::{AudioInput, CacheWrite, CachedInput, Input, Output, Reasoning, Request, WebSearch};
        let rates = [Input, CachedInput, CacheWrite, AudioInput, Output, Reasoning, Request, WebSearch];
        for count in 1..=rates.len() {
            let row = row(&rates[..count].iter().zip(3..).map(|(class, rate)| (*class, rate)).collect::<Vec<_>>());
            let told = cost(&row, &USAGE).map(|cost| {
                let sum = cost.lines.iter().fold(Money::ZERO, |sum, line| sum + line.amount);
                assert_eq!(sum, cost.total);
                (cost.total, cost.unpriced_calls)
            });
            assert_eq!(total(&row, &USAGE), told, "{count} classes");
        }
    }
}
