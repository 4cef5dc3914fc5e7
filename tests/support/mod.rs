//! What the black-box tests share: a server of their own, its client, the command line and the real traces.
//!
//! They use nothing of metergate but its binary and its documented interface.
#![allow(dead_code, unused_imports, reason = "each test file is a crate of its own and uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it must be"
)]

pub mod bars;
pub mod client;
pub mod command;
pub mod connection;
pub mod frames;
pub mod rows;
pub mod server;
pub mod traces;
pub mod upstream;

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};

pub use client::Answer;
pub use command::{cli, cli_ok, metergate};
pub use rows::{NEVER_SAME, Totals, count, dollars, number, period_rows, usage_rows, without};
pub use server::{ADMIN_KEY, CRON_SECRET, Server};

/// Asks until the answer is `Some`, every few milliseconds, at most `seconds` long.
pub fn wait_for<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Midnight UTC so many days ago.
pub fn midnight_days_ago(days: i64) -> DateTime<Utc> {
    let day = Utc::now().date_naive() - chrono::Duration::days(days);
    day.and_hms_opt(0, 0, 0).expect("every day has a midnight in UTC").and_utc()
}

/// An instant as JSON and the command line write it, with milliseconds.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
