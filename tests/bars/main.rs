//! Bars of safety that want many cases: each test is named by its number, and tells how many it ran in how long.
//!
//! `METERGATE_LONG=1` runs the full size, `METERGATE_SEED=N` another seed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod audit_filter;
mod clock_jumps;
#[path = "../support/random.rs"]
mod random;
mod repeats;
mod secrets;
mod slow_clients;
#[path = "../support/mod.rs"]
mod support;

fn is_long() -> bool {
    std::env::var("METERGATE_LONG").is_ok_and(|value| value == "1")
}

fn seed() -> u64 {
    std::env::var("METERGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
}
