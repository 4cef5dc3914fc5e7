//! `key=value` words, and the one line of JSON that a measured program answers with.

use std::str::FromStr;

/// What a program was asked.
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// From the words of a command line; others are passed over.
    pub fn of(words: impl Iterator<Item = String>) -> Self {
        let pairs =
            words.filter_map(|word| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
        Self(pairs.collect())
    }

    /// A text, if it was given.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// A text that must be there.
    pub fn text(&self, key: &str) -> &str {
        self.find(key).unwrap_or_else(|| panic!("{key}=... is missing"))
    }

    /// A number that must be there.
    pub fn number<T: FromStr>(&self, key: &str) -> T {
        let text = self.text(key);
        text.parse().unwrap_or_else(|_| panic!("{key}={text} is no such number"))
    }
}

/// Percentiles in milliseconds of times in nanoseconds.
pub fn percentiles(nanos: &mut [u64]) -> [f64; 4] {
    nanos.sort_unstable();
    let at = |share: f64| {
        let place = ((nanos.len() as f64 * share).ceil() as usize).clamp(1, nanos.len().max(1)) - 1;
        nanos.get(place).map_or(0.0, |nanos| *nanos as f64 / 1e6)
    };
    [at(0.5), at(0.99), at(0.999), at(1.0)]
}
