//! Metrics rows: where they stand in an answer, and what they add up to.

use serde_json::Value;

use super::{Server, midnight_days_ago};

/// What real input and metrics rows are compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// api_calls_total
    pub requests: u64,
    /// input_tokens
    pub input: u64,
    /// output_tokens
    pub output: u64,
    /// reasoning_tokens
    pub reasoning: u64,
}

impl Totals {
    /// The sums over rows; total_tokens_used must be input + output in each.
    #[track_caller]
    pub fn of_rows(rows: &[Value]) -> Self {
        let mut totals = Self::default();
        for row in rows {
            let (input, output) = (count(row, "input_tokens"), count(row, "output_tokens"));
            assert_eq!(count(row, "total_tokens_used"), input + output, "{row}");
            totals += Self {
                requests: count(row, "api_calls_total"),
                input,
                output,
                reasoning: count(row, "reasoning_tokens"),
            };
        }
        totals
    }

    /// Input and output tokens; reasoning is part of the output.
    pub fn tokens(self) -> u64 {
        self.input + self.output
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.input += other.input;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }
}

/// The only column that may differ when the same rows are written again.
pub const NEVER_SAME: &str = "updated_at";

/// The tenant's rows of the last 40 days as `GET /api/admin/usage` shows them, newest first.
#[track_caller]
pub fn period_rows(server: &Server, tenant: &str, period: &str) -> Vec<Value> {
    let (from, to) = (midnight_days_ago(40).date_naive(), midnight_days_ago(0).date_naive());
    let query = format!("tenantId={tenant}&period={period}&startDate={from}&endDate={to}");
    let body = server.get(&format!("/api/admin/usage?{query}")).expect(200);
    let rows = body["usage"].as_array().unwrap_or_else(|| panic!("no `usage` in {body}")).clone();
    let starts: Vec<&str> = rows.iter().filter_map(|row| row["period_start"].as_str()).collect();
    assert!(
        starts.len() == rows.len() && starts.is_sorted_by(|newer, older| newer > older),
        "newest first: {starts:?}"
    );
    rows
}

/// The rows in an answer of `GET /api/usage/{tenant}` or `usage TENANT --json`: the list itself, or the one in it.
#[track_caller]
pub fn usage_rows(body: &Value) -> Vec<Value> {
    let named = ["usage", "rows", "metrics", "items"].iter().find_map(|name| body.get(name)).unwrap_or(body);
    named.as_array().unwrap_or_else(|| panic!("no rows in {body}")).clone()
}

/// A count of a row.
#[track_caller]
pub fn count(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("`{column}` is no count in {row}"))
}

/// A double of a row.
#[track_caller]
pub fn number(row: &Value, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("`{column}` is no number in {row}"))
}

/// An amount of money, as a number or as a decimal text; `None` for null.
#[track_caller]
pub fn dollars(row: &Value, column: &str) -> Option<f64> {
    match &row[column] {
        Value::Null if row.get(column).is_some() => None,
        Value::String(text) => Some(text.parse().unwrap_or_else(|_| panic!("`{column}` is no amount in {row}"))),
        _ => Some(number(row, column)),
    }
}

/// The rows as text without this column, to be compared byte by byte.
pub fn without(column: &str, rows: &[Value]) -> Vec<String> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        row.as_object_mut().and_then(|row| row.remove(column));
    }
    rows.iter().map(Value::to_string).collect()
}
