//! `--parts`: what each part of the engine takes by itself.

use serde_json::Value;

use crate::bench::Bench;
use crate::program::{Program, median};
use crate::table::{Bar, Row};

/// One row for each part.
pub fn parts(bench: &Bench) {
    let program = Program::ours("parts").with("tenants", 1_000);
    let answers: Vec<Value> = (0..bench.rounds).map(|_| program.run()).collect();
    for name in answers[0].as_object().unwrap().keys() {
        bench.row(Row::alone("part", name, median(&answers, name).unwrap(), "ns", 50_000, Bar::None));
    }
}
