//! The rows of the table, by the numbers of the bars.

mod decide;
mod door;
mod growth;
mod memory;
mod reads;
mod record;
mod retention;

use serde_json::Value;

use crate::bench::Bench;
use crate::program::Program;

/// A row and what measures it.
pub type Entry = (&'static str, fn(&Bench));

/// All rows, in order.
pub const ALL: [Entry; 16] = [
    ("S1", decide::s1),
    ("S2", record::s2),
    ("S3", record::s3),
    ("S4", record::s4),
    ("S5", door::s5),
    ("S6", door::s6),
    ("S7", door::s7),
    ("S8", reads::s8),
    ("S9", retention::s9),
    ("S10", reads::s10),
    ("S11", memory::s11),
    ("S12", retention::s12),
    ("S14", reads::s14),
    ("S15", record::s15),
    ("growth", growth::growth),
    ("memory", memory::soak),
];

/// Runs it in a folder of its own, which is gone afterwards; an absent program answers nothing.
fn in_a_folder(bench: &Bench, program: Option<&Program>) -> Value {
    let Some(program) = program else { return Value::Null };
    let folder = bench.folder();
    program.clone().with("folder", folder.path().display()).run()
}

/// Runs it as it is.
fn run(program: Option<&Program>) -> Value {
    program.map_or(Value::Null, Program::run)
}
