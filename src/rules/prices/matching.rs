//! Which names a price is for.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

/// Most rules inside one rule.
const MAX_PARTS: usize = 1_000;
/// Longest text of one rule.
const MAX_TEXT: usize = 256;
/// How deep rules may be nested.
pub(super) const MAX_DEPTH: usize = 8;

/// A rule over names. Names are compared in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchRule {
    /// The name itself.
    Equals(String),
    /// Names that begin so.
    StartsWith(String),
    /// Names that end so.
    EndsWith(String),
    /// Names that contain it.
    Contains(String),
    /// Names in which the expression is found.
    Regex(Expression),
    /// Any of these rules.
    AnyOf(Vec<MatchRule>),
    /// All of these rules.
    AllOf(Vec<MatchRule>),
}

/// Why a rule cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchRuleError {
    /// The text of a rule is empty or too long.
    #[error("the text of a rule has 1 to 256 bytes")]
    Text,
    /// Too many rules in one, or nested too deeply.
    #[error("more than 1,000 rules in one, or nested more than 8 deep")]
    TooMany,
    /// Not a regular expression.
    #[error("`{0}` is not a regular expression that can be used here")]
    Regex(String),
    /// A star in the middle.
    #[error("`{0}`: a * may only stand at the beginning and the end")]
    Star(String),
}

/// A regular expression, compared by its text. Matching takes time linear in the name.
#[derive(Clone)]
pub struct Expression(Regex);

impl Expression {
    fn new(text: &str) -> Result<Self, MatchRuleError> {
        let built = RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build();
        built.map(Self).map_err(|_| MatchRuleError::Regex(text.to_owned()))
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

impl MatchRule {
    /// From a name in which a star at the beginning or the end stands for anything: `gpt-4o`, `gpt-4o-*`, `*claude*`.
    pub fn from_pattern(pattern: &str) -> Result<Self, MatchRuleError> {
        let lower = checked(pattern)?;
        let (open_start, open_end) = (lower.starts_with('*'), lower.len() > 1 && lower.ends_with('*'));
        let text = lower.trim_start_matches('*').trim_end_matches('*').to_owned();
        if text.contains('*') || text.is_empty() {
            return Err(MatchRuleError::Star(pattern.to_owned()));
        }
        Ok(match (open_start, open_end) {
            (false, false) => Self::Equals(text),
            (false, true) => Self::StartsWith(text),
            (true, false) => Self::EndsWith(text),
            (true, true) => Self::Contains(text),
        })
    }

    /// From the kind that genai-prices writes (`equals`, `starts_with`, `ends_with`, `contains`, `regex`) and its text;
    /// `None` for another kind.
    pub(super) fn of_kind(kind: &str, text: &str) -> Option<Result<Self, MatchRuleError>> {
        let wrap = match kind {
            "equals" => Self::Equals,
            "starts_with" => Self::StartsWith,
            "ends_with" => Self::EndsWith,
            "contains" => Self::Contains,
            "regex" => {
                return Some(checked(text).and_then(|_| Expression::new(text)).map(Self::Regex));
            }
            _ => return None,
        };
        Some(checked(text).map(wrap))
    }

    /// Any of several; one alone is itself.
    pub fn any_of(mut rules: Vec<Self>) -> Result<Self, MatchRuleError> {
        match rules.len() {
            1 => Ok(rules.remove(0)),
            0 | MAX_PARTS.. => Err(MatchRuleError::TooMany),
            _ => Ok(Self::AnyOf(rules)),
        }
    }

    /// All of several.
    pub(super) fn all_of(rules: Vec<Self>) -> Result<Self, MatchRuleError> {
        if rules.is_empty() || rules.len() > MAX_PARTS { Err(MatchRuleError::TooMany) } else { Ok(Self::AllOf(rules)) }
    }

    /// Whether a name, already in lower case, is meant.
    pub fn matches(&self, lower: &str) -> bool {
        match self {
            Self::Equals(text) => lower == text,
            Self::StartsWith(text) => lower.starts_with(text.as_str()),
            Self::EndsWith(text) => lower.ends_with(text.as_str()),
            Self::Contains(text) => lower.contains(text.as_str()),
            Self::Regex(expression) => expression.0.is_match(lower),
            Self::AnyOf(rules) => rules.iter().any(|rule| rule.matches(lower)),
            Self::AllOf(rules) => rules.iter().all(|rule| rule.matches(lower)),
        }
    }

    /// The names that it means word for word.
    pub(super) fn exact_names(&self) -> Vec<&str> {
        match self {
            Self::Equals(text) => vec![text],
            Self::AnyOf(rules) => rules.iter().flat_map(Self::exact_names).collect(),
            _ => Vec::new(),
        }
    }

    /// The rules of which it is made, without those of [`MatchRule::exact_names`].
    pub(super) fn patterns(&self) -> Vec<&Self> {
        match self {
            Self::Equals(_) => Vec::new(),
            Self::AnyOf(rules) => rules.iter().flat_map(Self::patterns).collect(),
            _ => vec![self],
        }
    }

    /// The length of its fixed text, by which patterns that overlap are ordered.
    pub(super) fn fixed_length(&self) -> usize {
        match self {
            Self::Equals(text) | Self::StartsWith(text) | Self::EndsWith(text) | Self::Contains(text) => text.len(),
            Self::Regex(_) => 0,
            Self::AnyOf(rules) | Self::AllOf(rules) => rules.iter().map(Self::fixed_length).max().unwrap_or(0),
        }
    }
}

impl fmt::Display for MatchRule {
    /// As patterns, the alternatives with a comma between them: `gpt-4o, gpt-4o-*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, rules: &[Self], between: &str| {
            rules.iter().enumerate().try_for_each(|(index, rule)| {
                if index > 0 {
                    f.write_str(between)?;
                }
                rule.fmt(f)
            })
        };
        match self {
            Self::Equals(text) => f.write_str(text),
            Self::StartsWith(text) => write!(f, "{text}*"),
            Self::EndsWith(text) => write!(f, "*{text}"),
            Self::Contains(text) => write!(f, "*{text}*"),
            Self::Regex(expression) => write!(f, "/{}/", expression.0.as_str()),
            Self::AnyOf(rules) => joined(f, rules, ", "),
            Self::AllOf(rules) => joined(f, rules, " and "),
        }
    }
}

fn checked(text: &str) -> Result<String, MatchRuleError> {
    if text.is_empty() || text.len() > MAX_TEXT { Err(MatchRuleError::Text) } else { Ok(text.to_lowercase()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_at_the_ends() {
        for (pattern, name, expected) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("GPT-4o-*", "gpt-4o-mini", true),
            ("*-latest", "mistral-large-latest", true),
            ("*claude*", "us.anthropic.claude-v2", true),
        ] {
            let rule = MatchRule::from_pattern(pattern).unwrap();
            assert_eq!((rule.matches(name), rule.to_string()), (expected, pattern.to_lowercase()));
        }
        for pattern in ["", "*", "**", "a*b"] {
            assert!(MatchRule::from_pattern(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_expression_is_searched_for_without_regard_to_case() {
        let rule = MatchRule::of_kind("regex", "^O[134]").unwrap().unwrap();
        assert!(rule.matches("o3-mini") && !rule.matches("gpt-o3"));
        assert!(matches!(MatchRule::of_kind("regex", "(").unwrap(), Err(MatchRuleError::Regex(_))));
        assert!(MatchRule::of_kind("sounds_like", "x").is_none());
    }
}
