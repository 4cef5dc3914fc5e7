//! Times as people type them: a day, or an RFC 3339 time.

use crate::domain::time::Timestamp;

/// Reads `2026-11-24` (its first instant in UTC) or an RFC 3339 time. Fails with an example of each.
pub fn read(text: &str) -> Result<Timestamp, String> {
    let as_day = format!("{text}T00:00:00Z");
    let whole = if text.len() == 10 { as_day.parse() } else { text.parse::<Timestamp>() };
    whole.map_err(|_| "it must be a day such as 2026-11-24, or a time such as 2026-11-24T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_starts_at_midnight_utc() {
        assert_eq!(read("2026-11-24"), read("2026-11-24T00:00:00Z"));
        assert_eq!(read("2026-11-24T01:00:00+01:00"), read("2026-11-24"));
        assert!(read("yesterday").is_err() && read("2026-13-01").is_err());
    }
}
