//! Our engine and its peers, side by side: `cargo bench --bench side_by_side -- [--json] [--rounds N] [--scale F] [S1 S2 ...]`.
//!
//! Runs each row's work by ours and by the peers in turn (A B A B) on the same events, quotes medians, and checks that what
//! was counted is what was sent. Without names of rows: all of them. `--scale 0.1` takes a tenth of the events, for a look;
//! figures to quote come from a whole run on a quiet machine. `--growth` and `--memory` print their own tables instead.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures stops at the first thing that is wrong")]
// Traffic is shared with the guard, and not all of it is needed everywhere.
#![allow(dead_code)]

mod bench;
mod load_generator;
mod memory;
mod ours;
mod postgres;
mod program;
mod rows;
mod table;
#[path = "../traffic/mod.rs"]
mod traffic;

use bench::Bench;
use table::Table;
use traffic::arguments::Arguments;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("ours").is_some() {
        let work = words.next().unwrap();
        println!("{}", ours::run(&work, &Arguments::of(words)));
        return;
    }
    let (mut json, mut rounds, mut scale, mut names) = (false, 3, 1.0, Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => json = true,
            "--rounds" => rounds = words.next().and_then(|word| word.parse().ok()).unwrap_or(rounds),
            "--scale" => scale = words.next().and_then(|word| word.parse().ok()).unwrap_or(scale),
            "--growth" | "--memory" => names.push(word.trim_start_matches('-').to_owned()),
            // `cargo bench` adds it.
            "--bench" => {}
            name if rows::ALL.iter().any(|(known, _)| *known == name) => names.push(name.to_owned()),
            other => {
                let known: Vec<&str> = rows::ALL.iter().map(|(name, _)| *name).collect();
                eprintln!(
                    "`{other}` is neither --json, --rounds N, --scale F, --growth, --memory nor one of {}",
                    known.join(" ")
                );
                std::process::exit(2);
            }
        }
    }
    let table = Table { json };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    table.say(&format!(
        "{cores} cores, load {}, {rounds} rounds in turn, medians{}",
        load.split(' ').next().unwrap_or("unknown"),
        if scale < 1.0 { ", SCALED DOWN: not figures to quote" } else { "" }
    ));
    let bench = Bench::new(table, rounds, scale);
    bench.table.heading();
    for (name, run) in rows::ALL {
        let wanted = names.iter().any(|wanted| wanted == name);
        if wanted || names.is_empty() && name.starts_with('S') {
            run(&bench);
        }
    }
}
