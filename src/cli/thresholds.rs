//! Thresholds as they are typed and shown: percentages with commas between them.

use serde_json::Value;

use super::failure::Failure;
use crate::domain::threshold::checked_thresholds;

/// Reads `80,95,100`, or `none`.
pub fn read(text: &str) -> Result<Vec<u16>, Failure> {
    let wrong = || Failure::usage(format!("`{text}`: write percentages such as 80,95,100, or none"));
    if text == "none" {
        return Ok(Vec::new());
    }
    let percents: Result<Vec<u16>, _> = text.split(',').map(|percent| percent.trim().parse()).collect();
    checked_thresholds(&percents.map_err(|_| wrong())?).map_err(|error| Failure::usage(format!("thresholds {error}")))
}

/// The API's list of percentages in one cell.
pub fn shown(percents: &Value) -> String {
    let shown: Vec<String> = percents.as_array().into_iter().flatten().map(|percent| format!("{percent}%")).collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_as_typed_and_what_is_none_is_refused() {
        assert_eq!(read("100, 50").unwrap(), [50, 100]);
        assert_eq!(read("none").unwrap(), Vec::<u16>::new());
        for text in ["", "80;95", "0", "80,80", "many"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(shown(&serde_json::json!([80, 100])), "80% 100%");
    }
}
