//! Metered usage against what a provider reports of its own: by UTC day and model, in exact integers.
//!
//! What the report does not say is not compared; what only one side has is a line of its own.

mod amounts;
mod openai;

use std::collections::{BTreeMap, BTreeSet};

pub use amounts::{AmountError, Tolerance, read_dollars};
pub use openai::read_openai;

use crate::domain::money::Money;

/// The most days of one report.
pub const DAYS_MAX: usize = 1_000;
/// The most lines of a day and a model in one report.
const LINES_MAX: usize = 100_000;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Input tokens, the cached ones included.
    InputTokens,
    /// The input tokens that came from a cache.
    CachedInputTokens,
    /// Output tokens.
    OutputTokens,
    /// Requests. Metered ones have failures and denials among them, which a provider may not count.
    Requests,
    /// US dollars, in femto-dollars.
    Cost,
}

impl Measure {
    /// Every one, in the order of [`Figures`].
    pub const ALL: [Self; 5] =
        [Self::InputTokens, Self::CachedInputTokens, Self::OutputTokens, Self::Requests, Self::Cost];

    /// Its name, as `--map` and the JSON have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InputTokens => "input_tokens",
            Self::CachedInputTokens => "cached_input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Requests => "requests",
            Self::Cost => "cost_usd",
        }
    }

    /// An amount of it as plain decimal text.
    pub fn show(self, amount: u128) -> String {
        if self == Self::Cost { Money::from_femtos(amount).to_string() } else { amount.to_string() }
    }
}

/// One amount for each of [`Measure::ALL`]; `None` where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures([Option<u128>; 5]);

impl Figures {
    /// The amount of a measure.
    pub const fn get(&self, measure: Measure) -> Option<u128> {
        self.0[measure as usize]
    }

    /// Adds to a measure.
    pub fn add(&mut self, measure: Measure, amount: u128) {
        let sum = &mut self.0[measure as usize];
        *sum = Some(sum.unwrap_or(0).saturating_add(amount));
    }

    /// Adds every amount of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for measure in Measure::ALL {
            if let Some(amount) = other.get(measure) {
                self.add(measure, amount);
            }
        }
    }

    /// Whether tokens or dollars are in it.
    fn is_use(&self) -> bool {
        Measure::ALL.into_iter().any(|measure| measure != Measure::Requests && self.get(measure).unwrap_or(0) > 0)
    }
}

/// Why a report is not one, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReportError(pub String);

/// What the provider says.
#[derive(Clone, Debug, Default)]
pub struct Report {
    lines: BTreeMap<(u32, Option<String>), Figures>,
    days: BTreeSet<u32>,
    /// Amounts below zero, which are not use, and were left out.
    pub credits: u64,
    /// Of each kind of page, whether the last one said that more follow.
    more: BTreeMap<String, bool>,
}

impl Report {
    /// Says that the report covers this day (days since 1970), also when it has nothing of it.
    pub fn cover(&mut self, day: u32) -> Result<(), ReportError> {
        self.days.insert(day);
        let span = self.days.last().zip(self.days.first()).map_or(0, |(last, first)| last - first);
        if span as usize >= DAYS_MAX {
            return Err(ReportError(format!("it spans more than {DAYS_MAX} days: split it")));
        }
        Ok(())
    }

    /// Adds to a day and model; without a model it is of all models of that day.
    pub fn add(&mut self, day: u32, model: Option<&str>, figures: &Figures) -> Result<(), ReportError> {
        self.cover(day)?;
        self.lines.entry((day, model.map(str::to_owned))).or_default().add_all(figures);
        if self.lines.len() > LINES_MAX {
            return Err(ReportError(format!("it has more than {LINES_MAX} days and models: split it")));
        }
        Ok(())
    }

    /// The first and the last day; `None` when it is empty.
    pub fn span(&self) -> Option<(u32, u32)> {
        self.days.first().copied().zip(self.days.last().copied())
    }

    /// Whether pages are missing at its end.
    pub fn has_more(&self) -> bool {
        self.more.values().any(|more| *more)
    }

    /// The models that it names.
    pub fn models(&self) -> BTreeSet<&str> {
        self.lines.keys().filter_map(|(_, model)| model.as_deref()).collect()
    }
}

/// What was metered of a day and a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// How much.
    pub figures: Figures,
    /// Events without a price: the cost lacks them.
    pub unpriced: u64,
}

/// One measure of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which.
    pub measure: Measure,
    /// What metergate has; `None`: nothing of that day and model.
    pub metered: Option<u128>,
    /// What the provider has; `None`: nothing of that day and model.
    pub reported: Option<u128>,
    /// Whether it is beyond the tolerance, and counts.
    pub beyond: bool,
}

impl Compared {
    /// The difference in hundredths of a percent of what is reported, to the nearest, as text such as `-3.00`;
    /// `None` where nothing is reported but something metered.
    pub fn percent(&self) -> Option<String> {
        let (metered, reported) = (self.metered.unwrap_or(0), self.reported.unwrap_or(0));
        let difference = metered.abs_diff(reported);
        if difference == 0 {
            return Some("0.00".to_owned());
        }
        let hundredths = (difference.checked_mul(10_000)? + reported / 2).checked_div(reported)?;
        let sign = if metered < reported { "-" } else { "" };
        Some(format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100))
    }
}

/// A day and a model, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Days since 1970.
    pub day: u32,
    /// The model, as the price book calls it; `None` is all models of the day.
    pub model: Option<String>,
    /// Each measure that the report has; of a line that it lacks, those with an amount.
    pub compared: Vec<Compared>,
    /// Metered events without a price.
    pub unpriced: u64,
}

impl Line {
    /// Whether one of its measures is beyond the tolerance.
    pub fn is_beyond(&self) -> bool {
        self.compared.iter().any(|compared| compared.beyond)
    }
}

/// Both sides of a day and a model.
#[derive(Default)]
struct Sides {
    reported: Option<Figures>,
    metered: Option<Metered>,
}

/// Compares. `metered` is by day and model as events name it; `canonical` gives the one name that aliases and dated names
/// of a model share; `requests_decide` says whether the number of requests can be beyond the tolerance.
pub fn reconcile(
    report: &Report,
    metered: &BTreeMap<(u32, String), Metered>,
    canonical: impl Fn(&str) -> String,
    tolerance: Tolerance,
    requests_decide: bool,
) -> Vec<Line> {
    let mut lines: BTreeMap<(u32, Option<String>), Sides> = BTreeMap::new();
    for ((day, model), figures) in &report.lines {
        let sides = lines.entry((*day, model.as_deref().map(&canonical))).or_default();
        sides.reported.get_or_insert_default().add_all(figures);
    }
    // A day that is only told as a whole is compared as a whole, and no model of it is missing.
    let days = |whole: bool| -> BTreeSet<u32> {
        report.lines.keys().filter(|(_, model)| model.is_none() == whole).map(|(day, _)| *day).collect()
    };
    let (of_all, by_model) = (days(true), days(false));
    for ((day, model), sums) in metered {
        let whole = of_all.contains(day).then_some(None);
        let own = (by_model.contains(day) || whole.is_none()).then(|| Some(canonical(model)));
        for name in whole.into_iter().chain(own) {
            let line = lines.entry((*day, name)).or_default().metered.get_or_insert_default();
            line.figures.add_all(&sums.figures);
            line.unpriced += sums.unpriced;
        }
    }
    let decides = |measure: Measure| requests_decide || measure != Measure::Requests;
    let compared = |((day, model), sides): ((u32, Option<String>), Sides)| {
        let compared = sides.compared(|measure, metered, reported| {
            decides(measure) && !tolerance.allows(metered.unwrap_or(0), reported.unwrap_or(0))
        });
        let unpriced = sides.metered.map_or(0, |metered| metered.unpriced);
        (!compared.is_empty()).then_some(Line { day, model, compared, unpriced })
    };
    lines.into_iter().filter_map(compared).collect()
}

impl Sides {
    /// What can be compared; empty when nothing is reported and what is metered are failures that cost nothing.
    fn compared(&self, beyond: impl Fn(Measure, Option<u128>, Option<u128>) -> bool) -> Vec<Compared> {
        let metered = |measure: Measure| self.metered.as_ref().map(|own| own.figures.get(measure).unwrap_or(0));
        let of = |measure: Measure| {
            let (metered, reported) = match &self.reported {
                Some(reported) => (metered(measure), Some(reported.get(measure)?)),
                None => (Some(metered(measure).filter(|amount| *amount > 0)?), None),
            };
            Some(Compared { measure, metered, reported, beyond: beyond(measure, metered, reported) })
        };
        let is_use = self.reported.is_some() || self.metered.as_ref().is_some_and(|metered| metered.figures.is_use());
        Measure::ALL.into_iter().filter(|_| is_use).filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(amounts: [u128; 5]) -> Figures {
        Figures(amounts.map(Some))
    }

    fn metered(rows: &[(u32, &str, [u128; 5])]) -> BTreeMap<(u32, String), Metered> {
        let one = |(day, model, amounts): &(u32, &str, [u128; 5])| {
            ((*day, (*model).to_owned()), Metered { figures: figures(*amounts), unpriced: 0 })
        };
        rows.iter().map(one).collect()
    }

    /// Dated names are their model.
    fn undated(name: &str) -> String {
        name.split("-20").next().unwrap_or(name).to_lowercase()
    }

    fn two_percent() -> Tolerance {
        "2%".parse().unwrap()
    }

    #[test]
    fn dated_names_are_one_model_and_equal_sums_are_within() {
        let mut report = Report::default();
        report.add(7, Some("gpt-4o-2024-08-06"), &figures([600, 100, 50, 2, 900])).unwrap();
        report.add(7, Some("gpt-4o-2024-05-13"), &figures([400, 0, 50, 1, 100])).unwrap();
        let metered = metered(&[(7, "gpt-4o", [1_000, 100, 100, 3, 1_000])]);
        let lines = reconcile(&report, &metered, undated, two_percent(), true);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (lines[0].model.as_deref(), lines[0].is_beyond(), lines[0].compared.len()),
            (Some("gpt-4o"), false, 5)
        );
    }

    #[test]
    fn three_percent_is_beyond_two_and_the_tolerance_itself_is_within() {
        for (own, theirs, beyond, percent) in [
            (103, 100, true, Some("3.00")),
            (97, 100, true, Some("-3.00")),
            (102, 100, false, Some("2.00")),
            (98, 100, false, Some("-2.00")),
            (0, 0, false, Some("0.00")),
            (1, 0, true, None),
            (0, 1, true, Some("-100.00")),
        ] {
            let mut report = Report::default();
            report.add(7, Some("m"), &figures([theirs, 0, 0, 0, 0])).unwrap();
            let lines = reconcile(&report, &metered(&[(7, "m", [own, 0, 0, 0, 0])]), undated, two_percent(), false);
            assert_eq!((lines[0].is_beyond(), lines[0].compared[0].percent().as_deref()), (beyond, percent), "{own}");
        }
    }

    #[test]
    fn what_only_one_side_has_is_shown_and_beyond() {
        let mut report = Report::default();
        report.add(7, Some("a"), &figures([10, 0, 0, 1, 0])).unwrap();
        report.cover(9).unwrap();
        let own = metered(&[(7, "b", [10, 0, 0, 1, 0]), (8, "a", [5, 0, 0, 1, 0]), (9, "c", [0, 0, 0, 4, 0])]);
        let lines = reconcile(&report, &own, undated, two_percent(), false);
        let told: Vec<_> = lines.iter().map(|line| (line.day, line.model.clone().unwrap(), line.is_beyond())).collect();
        // Four failures without a token are no difference.
        assert_eq!(told, [(7, "a".to_owned(), true), (7, "b".to_owned(), true), (8, "a".to_owned(), true)]);
        assert_eq!((lines[0].compared[0].metered, lines[1].compared[0].reported), (None, None));
    }

    #[test]
    fn a_report_without_models_is_compared_with_the_whole_day_and_only_in_what_it_says() {
        let mut report = Report::default();
        let mut cost = Figures::default();
        cost.add(Measure::Cost, 300);
        report.add(7, None, &cost).unwrap();
        let own = metered(&[(7, "a", [10, 0, 0, 1, 100]), (7, "b", [10, 0, 0, 1, 200])]);
        let lines = reconcile(&report, &own, undated, two_percent(), false);
        assert_eq!((lines.len(), lines[0].model.clone(), lines[0].compared.len()), (1, None, 1));
        assert_eq!((lines[0].compared[0].metered, lines[0].is_beyond()), (Some(300), false));
    }

    #[test]
    fn requests_decide_only_when_asked_to() {
        let mut report = Report::default();
        report.add(7, Some("m"), &figures([10, 0, 0, 1, 0])).unwrap();
        let own = metered(&[(7, "m", [10, 0, 0, 2, 0])]);
        let beyond = |decide| reconcile(&report, &own, undated, two_percent(), decide)[0].is_beyond();
        assert_eq!((beyond(false), beyond(true)), (false, true));
    }

    #[test]
    fn a_report_has_an_end() {
        let mut report = Report::default();
        report.cover(0).unwrap();
        assert!(report.cover(DAYS_MAX as u32).is_err());
    }
}
