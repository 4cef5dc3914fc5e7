//! Every parser of outside bytes that the library shows, over inputs made bad by a seed: words, price and plan files,
//! settings, signed notes, providers' usage and reports; and every route over HTTP (`requests`). The parsers inside are
//! tried beside their code: `fuzz_tests.rs` in `src/http`, `src/gateway`, `src/store` and `src/cli`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod driver;
mod files;
mod mutate;
mod providers;
#[path = "../support/random.rs"]
mod random;
mod raw;
mod requests;
mod spoil;
#[path = "../support/mod.rs"]
mod support;
mod words;

/// The text, if it is one.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
