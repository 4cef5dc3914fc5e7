//! The names under which a model may be listed, when the one it was called by is not; and names as keys.

use compact_str::CompactString;
use hashbrown::Equivalent;

/// How often a name is simplified at most.
const MAX_STEPS: usize = 6;
/// Regions that cloud platforms put before a model's name.
const REGIONS: [&str; 10] = ["us-gov.", "us.", "eu.", "apac.", "global.", "au.", "jp.", "ca.", "sa.", "me."];

/// Provider and model, as an event names them.
pub type OwnedAskedName = (Option<CompactString>, CompactString);

/// The same, borrowed.
#[derive(Hash)]
pub struct AskedName<'a>(pub Option<&'a str>, pub &'a str);

impl Equivalent<OwnedAskedName> for AskedName<'_> {
    fn equivalent(&self, known: &OwnedAskedName) -> bool {
        (self.0, self.1) == (known.0.as_deref(), known.1.as_str())
    }
}

impl AskedName<'_> {
    /// To be kept.
    pub fn to_owned_name(&self) -> OwnedAskedName {
        (self.0.map(Into::into), self.1.into())
    }
}

/// The name itself, then ever simpler ones: without a path (`models/`), a region (`eu.`), a version of the platform
/// (`-v1:0`) and the date of a snapshot (`-2024-08-06`, `-20240806`, `@20240806`). The first that is listed is meant, so a
/// snapshot with a price of its own keeps it.
pub(super) fn candidates(lower: &str) -> Vec<String> {
    let mut names = vec![lower.to_owned()];
    for _ in 0..MAX_STEPS {
        // There is always a last one: the list starts with a name.
        let Some(simpler) = names.last().and_then(|name| simpler(name)) else { break };
        names.push(simpler.to_owned());
    }
    names
}

fn simpler(name: &str) -> Option<&str> {
    without_path(name).or_else(|| without_region(name)).or_else(|| without_version(name)).or_else(|| without_date(name))
}

fn without_path(name: &str) -> Option<&str> {
    let after = name.rfind("models/").map(|at| &name[at + "models/".len()..])?;
    (!after.is_empty()).then_some(after)
}

fn without_region(name: &str) -> Option<&str> {
    let rest = REGIONS.iter().find_map(|region| name.strip_prefix(region))?;
    // What follows is `vendor.model`.
    rest.contains('.').then_some(rest)
}

fn without_version(name: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((rest, minor)) = name.rsplit_once(':')
        && digits(minor)
        && !rest.is_empty()
    {
        return Some(rest);
    }
    let (rest, major) = name.rsplit_once("-v")?;
    (digits(major) && rest.contains('.')).then_some(rest)
}

fn without_date(name: &str) -> Option<&str> {
    let bytes = name.as_bytes();
    let ends_in = |shape: &str| {
        bytes.len() > shape.len()
            && bytes[bytes.len() - shape.len()..].iter().zip(shape.bytes()).all(|(byte, shape)| match shape {
                b'9' => byte.is_ascii_digit(),
                _ => *byte == shape,
            })
    };
    // The shapes are ASCII, so the cut falls between characters.
    let shape = ["-9999-99-99", "-99999999", "@99999999"].into_iter().find(|shape| ends_in(shape))?;
    let year = name[name.len() - shape.len() + 1..].get(..2)?;
    (year == "20").then(|| &name[..name.len() - shape.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_path_region_version_and_date_in_turn() {
        for (name, simplest) in [
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5"),
            ("publishers/anthropic/models/claude-opus-4@20250514", "claude-opus-4"),
            ("llama3-70b-8192", "llama3-70b-8192"),
            ("model-19991231", "model-19991231"),
            ("gpt-4o", "gpt-4o"),
            ("eu.", "eu."),
            ("", ""),
        ] {
            assert_eq!(candidates(name).last().map(String::as_str), Some(simplest), "{name}");
        }
    }
}
