//! Audit sampling: which share of an event type is kept. Failures are always kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::domain::audit::{AuditEntry, AuditResult};

/// The parts that a share is counted in.
const PARTS: u32 = 1_000_000;
/// Types that may have a share of their own.
const MAX_TYPES: usize = 100;

/// The share of each event type that is kept; a type that is not named is kept whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SamplingRules(BTreeMap<String, u32>);

impl SamplingRules {
    /// Whether an entry may be left out at all.
    pub fn concerns(&self, entry: &AuditEntry) -> bool {
        entry.result == AuditResult::Success && self.0.contains_key(&entry.event_type)
    }

    /// Whether an entry is kept, by a number drawn for it: the same number gives the same answer.
    pub fn keeps(&self, entry: &AuditEntry, drawn: u64) -> bool {
        let parts = self.0.get(&entry.event_type).copied().unwrap_or(PARTS);
        entry.result != AuditResult::Success || (drawn % u64::from(PARTS)) < u64::from(parts)
    }

    /// The share of a type, as it was given.
    pub fn share(&self, event_type: &str) -> String {
        show(self.0.get(event_type).copied().unwrap_or(PARTS))
    }
}

impl FromStr for SamplingRules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules = BTreeMap::new();
        for rule in text.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
            let (event_type, share) = rule.split_once('=').ok_or_else(|| format!("`{rule}` is not TYPE=SHARE"))?;
            let (event_type, share) = (event_type.trim(), share.trim());
            if event_type.is_empty() || event_type.chars().count() > 100 {
                return Err(format!("`{rule}` has no event type of 1 to 100 characters"));
            }
            let parts =
                read(share).ok_or_else(|| format!("`{share}` is no share from 0 to 1 with at most 6 places"))?;
            if rules.insert(event_type.to_owned(), parts).is_some() {
                return Err(format!("`{event_type}` stands twice"));
            }
        }
        if rules.len() > MAX_TYPES {
            return Err(format!("more than {MAX_TYPES} event types"));
        }
        Ok(Self(rules))
    }
}

impl fmt::Display for SamplingRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (event_type, parts)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{event_type}={}", show(*parts))?;
        }
        Ok(())
    }
}

/// Read from its text: a share is a decimal, and a float is none.
fn read(text: &str) -> Option<u32> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(places) || whole.len() > 1 || places.len() > 6 {
        return None;
    }
    let parts = whole.parse::<u32>().ok()? * PARTS + format!("{places:0<6}").parse::<u32>().ok()?;
    (parts <= PARTS).then_some(parts)
}

fn show(parts: u32) -> String {
    let text = format!("{}.{:06}", parts / PARTS, parts % PARTS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::AuditAction;

    fn entry(event_type: &str) -> AuditEntry {
        AuditEntry::system(None, event_type, "chat_session", AuditAction::Access)
    }

    #[test]
    fn shares_are_read_exactly_and_shown_as_they_were_given() {
        let rules: SamplingRules =
            " chat_message_received=0.1, chat_response_sent = 0.000001,kb_crawled=0".parse().unwrap();
        assert_eq!(rules.to_string(), "chat_message_received=0.1, chat_response_sent=0.000001, kb_crawled=0");
        assert_eq!(rules.to_string().parse(), Ok(rules.clone()));
        assert_eq!((rules.share("chat_message_received"), rules.share("other")), ("0.1".to_owned(), "1".to_owned()));
        for bad in ["a", "a=", "a=1.1", "a=-0", "a=.5", "a=0.0000001", "a=1e-3", "=1", "a=1,a=1", "a=2"] {
            assert!(bad.parse::<SamplingRules>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_kept_and_a_failure_always() {
        let rules: SamplingRules = "chat=0.25,never=0".parse().unwrap();
        let kept = (0..1_000_000u64).step_by(7).filter(|drawn| rules.keeps(&entry("chat"), *drawn)).count();
        assert!(kept.abs_diff(1_000_000 / 7 / 4) <= 1, "{kept}");
        let failed = AuditEntry { result: AuditResult::Failure, ..entry("never") };
        assert!((0..9).all(|drawn| !rules.keeps(&entry("never"), drawn) && rules.keeps(&failed, drawn)));
        assert!(rules.keeps(&entry("other"), u64::MAX) && !rules.concerns(&entry("other")) && !rules.concerns(&failed));
    }
}
