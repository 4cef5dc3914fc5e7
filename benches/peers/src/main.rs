//! What metergate is measured beside: `peers WORK key=value...` does one piece of work and answers one line of JSON.
#![allow(missing_docs, reason = "a program")]

mod http;
mod in_memory;
mod postgres_peer;
mod raw;
mod sqlite;

#[path = "../../traffic/arguments.rs"]
mod arguments;
#[path = "../../traffic/happening.rs"]
mod happening;

use std::io::BufRead;

use arguments::Arguments;
use happening::Happening;

/// The allocator of our binary, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut words = std::env::args().skip(1);
    let work = words.next().unwrap_or_default();
    let arguments = Arguments::of(words);
    let answer = match work.as_str() {
        "limitador" => in_memory::limitador(&arguments),
        "governor" => in_memory::governor(&arguments),
        "map" => in_memory::map(&arguments),
        "sqlite" => sqlite::record(&arguments),
        "postgres-bulk" => postgres_peer::bulk(&arguments),
        "postgres-singles" => postgres_peer::singles(&arguments),
        "postgres-function" => postgres_peer::function(&arguments),
        "postgres-usage" => postgres_peer::usage(&arguments),
        "postgres-aggregate" => postgres_peer::aggregate(&arguments),
        "raw" => raw::append(&arguments),
        "http" => http::serve(&arguments),
        other => panic!("there is no work called `{other}`"),
    };
    println!("{answer}");
}

/// The events of the file that the harness wrote.
fn happenings(arguments: &Arguments) -> Vec<Happening> {
    let file = std::fs::File::open(arguments.text("events")).expect("the event file is there");
    let lines = std::io::BufReader::new(file).lines();
    lines.map(|line| line.expect("it can be read").parse().expect("a line of ours")).collect()
}
