//! A fixed piece of work for counting instructions: `guard decide|record ROUNDS`. `benches/guard/run.sh` counts two sizes and
//! takes the difference, so that starting and stopping do not count.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures stops at the first thing that is wrong")]
// Shared with the harness, and not all of it is needed here.
#![allow(dead_code, unused_imports)]

#[path = "../side_by_side/ours/decide.rs"]
mod decide;
#[path = "../traffic/mod.rs"]
mod traffic;

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::time::Timestamp;
use traffic::{Templates, Traffic, Wanted, tenants, usage_event};

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: u32 = 1_000;
const BATCH: usize = 1_000;
/// 2026-11-24T12:30:00Z
const NOW: i64 = 1_795_523_400_000_000;
/// All within the open hour: ended hours are folded by a timer, which counts instructions by the wall clock.
const SPAN: i64 = 30 * 60_000_000;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let (work, rounds) = (words.next(), words.next().and_then(|word| word.parse().ok()));
    match (work.as_deref(), rounds) {
        (Some("decide"), Some(rounds)) => decide(rounds),
        (Some("record"), Some(rounds)) => record(rounds),
        _ => println!("guard decide|record ROUNDS: counted by benches/guard/run.sh"),
    }
}

/// Four limits of a tenant, decided, taken and charged.
fn decide(rounds: usize) {
    // A clock of its own: how many seconds pass must not depend on how busy the machine is.
    let clock = Clock::manual(Timestamp::from_micros(NOW));
    let gate = decide::Gate::at(clock.clone(), TENANTS, 1_000_000_000_000);
    for round in 0..rounds {
        clock.advance(100);
        assert!(gate.take(round as u64));
    }
}

/// Events in batches of a thousand: journaled, counted, filed.
fn record(events: usize) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_micros(NOW));
    // A plan whose limits are far away: the audit records of crossings are not what is counted.
    let plans = folder.path().join("plans.toml");
    let far = "[plans.far]\ntokens_per_day = 1000000000000\napi_calls_per_minute = 1000000000000\n\
               chat_messages_per_day = 1000000000000\nembeddings_per_day = 1000000000000\n";
    std::fs::write(&plans, far).unwrap();
    let settings = EngineSettings {
        default_plan: "far".to_owned(),
        plans_file: Some(plans),
        ..EngineSettings::new(folder.path())
    };
    let engine = Metergate::open_at(settings, |_| clock).unwrap();
    let (tracker, names, templates) = (engine.usage_tracker(), tenants(TENANTS), Templates::made_up());
    let wanted = Wanted { events, tenants: TENANTS, end: NOW, span: SPAN, v7: true, seed: 1 };
    let mut traffic = Traffic::new(&templates, wanted);
    loop {
        let batch: Vec<UsageEvent> = traffic.by_ref().take(BATCH).map(|event| usage_event(&event, &names)).collect();
        if batch.is_empty() {
            break;
        }
        let outcomes = tracker.record_blocking(batch).unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == EventOutcome::Accepted));
    }
    engine.close();
}
