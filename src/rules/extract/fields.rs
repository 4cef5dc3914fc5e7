//! Whole numbers out of JSON objects, with errors that name the field.

use serde_json::{Map, Value};

use super::ExtractError;
use crate::domain::event::MAX_COUNT_PER_EVENT;

/// A field that is a whole number, below the most that one event may count; `None` where it is missing or null.
pub(super) fn count(object: &Map<String, Value>, path: &str, field: &str) -> Result<Option<u64>, ExtractError> {
    let Some(value) = object.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
    let wrong = |reason| ExtractError::Field { field: format!("{path}{field}"), reason };
    let Value::Number(number) = value else { return Err(wrong("is not a number")) };
    // Cohere writes whole numbers as 5.0; that is read from its text.
    let text = number.to_string();
    let whole = text.strip_suffix(".0").unwrap_or(&text);
    let count: u64 = whole.parse().map_err(|_| wrong("is not a whole number of zero or more"))?;
    if count > MAX_COUNT_PER_EVENT { Err(wrong("is above 1,000,000,000,000")) } else { Ok(Some(count)) }
}

/// A field that is an object; `None` where it is missing or null.
pub(super) fn object<'a>(
    object: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a Map<String, Value>>, ExtractError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(ExtractError::Field { field: field.to_owned(), reason: "is not an object" }),
    }
}

/// A field that is a list; empty where it is missing or null.
pub(super) fn list<'a>(object: &'a Map<String, Value>, field: &'static str) -> Result<&'a [Value], ExtractError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(ExtractError::Field { field: field.to_owned(), reason: "is not a list" }),
    }
}

/// The sum of counts that are known; `None` where none is.
pub(super) fn sum<const N: usize>(counts: [Option<u64>; N]) -> Option<u64> {
    // Each is below 10^12, and there are few.
    counts.into_iter().flatten().reduce(u64::saturating_add)
}
