//! Tables for people: values of the API's JSON in columns, numbers to the right.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// A table with a heading line and no lines drawn.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    table
}

/// Adds a row; cells that look like numbers stand to the right.
pub fn row(table: &mut Table, cells: Vec<String>) {
    let cells = cells.into_iter().map(|text| {
        let number = text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '.'));
        let cell = comfy_table::Cell::new(text);
        if number { cell.set_alignment(CellAlignment::Right) } else { cell }
    });
    table.add_row(cells.collect::<Vec<_>>());
}

/// The table as text, its first column at the edge.
pub fn draw(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.to_string()
}

/// Prints to standard output; a reader that went away is not an error.
pub fn print(text: impl std::fmt::Display) {
    let shown = text.to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let _ = writeln!(std::io::stdout().lock(), "{}", lines.join("\n"));
}

/// Says something beside the answer, on standard error.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A field as text for people: whole numbers in groups, null and absent as `-`.
pub fn field(value: &Value, name: &str) -> String {
    text(&value[name])
}

/// A limit: null is `unlimited`.
pub fn limit(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "unlimited".to_owned(),
        Value::Number(number) if number.as_i64() == Some(-1) => "unlimited".to_owned(),
        other => text(other),
    }
}

/// A cost in dollars: null is `unpriced`, because an unknown price is never free.
pub fn cost(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "unpriced".to_owned(),
        // All its digits, never an exponent: a cost may be far below a cent.
        Value::Number(number) if !number.is_u64() => {
            number.as_f64().map_or_else(|| number.to_string(), |cost| cost.to_string())
        }
        other => text(other),
    }
}

/// A value as text for people.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => grouped(whole),
            None => number.as_f64().filter(|_| !number.is_i64()).map_or_else(|| number.to_string(), decimal),
        },
        other => other.to_string(),
    }
}

fn decimal(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_grouped_and_the_unknown_is_named() {
        let value = json!({"a": 1234567, "b": null, "c": 0.25, "d": "x", "e": -1, "f": 12, "g": 1e-15});
        assert_eq!(field(&value, "a"), "1,234,567");
        assert_eq!((field(&value, "b").as_str(), limit(&value, "b").as_str()), ("-", "unlimited"));
        assert_eq!((cost(&value, "b").as_str(), cost(&value, "c").as_str()), ("unpriced", "0.25"));
        assert_eq!(cost(&value, "g"), "0.000000000000001");
        assert_eq!((limit(&value, "e").as_str(), field(&value, "f").as_str()), ("unlimited", "12"));
    }

    #[test]
    fn a_table_has_a_heading_and_its_numbers_to_the_right() {
        let mut table = table(&["tenant", "tokens"]);
        row(&mut table, vec!["acme".to_owned(), "7".to_owned()]);
        row(&mut table, vec!["b".to_owned(), "1,000".to_owned()]);
        let lines: Vec<String> = draw(table).lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(lines, ["TENANT  TOKENS", "acme         7", "b        1,000"]);
    }
}
