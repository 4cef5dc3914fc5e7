//! Keeps the house in shape: reads `src/` as text and fails where a module imports upward, sideways or in a circle,
//! or uses what belongs into another room.
//!
//! The text is cut into tokens without comments, literals and `#[cfg(test)]` items; what is left of it that reads as a
//! path (`crate::store::Store`, `use super::{a, b}`, `Utc::now`) is compared with the rules below.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

#[path = "floors/reading.rs"]
mod reading;

use reading::{Mention, Source, read_sources};

/// The floors, bottom up. A module imports only from floors below its own; those on one floor do not know each other.
const FLOORS: [&[&str]; 10] = [
    &["domain"],
    &["rules", "clock", "ids", "config"],
    &["counters", "store", "live"],
    &["writer"],
    &["tracker", "enforcer", "tenants", "keys", "audit", "export", "backup", "erasure"],
    &["engine", "jobs", "gateway"],
    &["http"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Crates that only one module may name.
const CRATES_OF_ONE_ROOM: [(&str, &str); 4] =
    [("redb", "store"), ("bincode", "store"), ("axum", "http"), ("tokio_cron_scheduler", "jobs")];

/// Paths that only some modules may use: each reads the outside world.
const PATHS_OF_SOME_ROOMS: [(&[&str], &[&str]); 9] = [
    // `main` and `cli` get at their arguments; every variable is read in `config`.
    (&["std", "env", "args"], &["main", "cli"]),
    (&["std", "env", "args_os"], &["main", "cli"]),
    (&["std", "env"], &["config"]),
    (&["SystemTime", "now"], &["clock"]),
    (&["Utc", "now"], &["clock"]),
    (&["Local", "now"], &["clock"]),
    // Durations only: requests, progress bars, and the writer's short wait for company.
    (&["Instant", "now"], &["clock", "http", "cli", "writer"]),
    (&["Uuid", "new_v4"], &["ids"]),
    (&["Uuid", "now_v7"], &["ids"]),
];

/// Modules without side effects, and the crates and modules that would give them one.
const PURE: [&str; 2] = ["domain", "rules"];
const IMPURE: [&[&str]; 6] =
    [&["std", "fs"], &["std", "net"], &["std", "thread"], &["std", "process"], &["tracing"], &["tokio"]];

/// Names that attract everything: each module owns its error and its helpers.
const BANNED_NAMES: [&str; 7] = ["error", "errors", "util", "utils", "common", "helpers", "prelude"];

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    line: usize,
    rule: &'static str,
    detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.detail)
    }
}

/// Every violation in these files, given as (path such as `src/store/mod.rs`, text), in order of files and lines.
fn check(files: &[(&str, &str)]) -> Vec<Violation> {
    let sources = read_sources(files);
    let top_level: BTreeSet<&str> =
        sources.iter().filter_map(|source| source.module.first()).map(String::as_str).collect();
    let reexports = root_reexports(&sources);
    let mut violations = Vec::new();
    let mut edges: BTreeMap<(&str, &str), (&str, usize)> = BTreeMap::new();

    for source in &sources {
        let mut report =
            |line, rule, detail| violations.push(Violation { file: source.file.clone(), line, rule, detail });
        let room = source.module.first().map_or("lib", String::as_str);
        if room != "lib" && floor_of(room).is_none() && is_entry(source) {
            let rule = if BANNED_NAMES.contains(&room) { "banned name" } else { "module without a floor" };
            report(1, rule, format!("`{room}` has no place in the list of floors in tests/floors.rs"));
        }
        for Mention { line, path, .. } in &source.mentions {
            for (krate, owner) in CRATES_OF_ONE_ROOM {
                if room != owner && path.iter().any(|name| name == krate) {
                    report(*line, "crate outside its room", format!("only `{owner}` may name `{krate}`"));
                }
            }
            // The first, most special line that fits decides.
            if let Some((names, owners)) = PATHS_OF_SOME_ROOMS.iter().find(|(names, _)| mentions_path(path, names))
                && !owners.contains(&room)
            {
                let detail = format!("`{}` belongs into {}", names.join("::"), owners.join(", "));
                report(*line, "outside world outside its room", detail);
            }
            if PURE.contains(&room) && IMPURE.iter().any(|names| starts_with(path, names)) {
                report(*line, "side effect in a pure module", format!("`{room}` uses `{}`", path.join("::")));
            }
            if room == "lib" || path.first().is_none_or(|name| name != "crate") {
                continue;
            }
            let Some(name) = path.get(1) else { continue };
            let target = match top_level.get(name.as_str()) {
                Some(module) => *module,
                None => match reexports.get(name.as_str()) {
                    Some(module) => module.as_str(),
                    None => {
                        let detail = format!("`crate::{name}` is not a module: import from the module that owns it");
                        report(*line, "import from the crate's root", detail);
                        continue;
                    }
                },
            };
            if target == room {
                continue;
            }
            edges.entry((room, target)).or_insert((&source.file, *line));
            let (Some(own), Some(theirs)) = (floor_of(room), floor_of(target)) else { continue };
            if theirs > own {
                let detail =
                    format!("`{room}` (floor {own}) imports `{}` of `{target}` (floor {theirs})", path.join("::"));
                report(*line, "import upward", detail);
            } else if theirs == own {
                let detail =
                    format!("`{room}` and `{target}` are both on floor {own}: what they share goes down a floor");
                report(*line, "import between siblings", detail);
            }
        }
    }
    violations.extend(circles(&edges));
    violations.sort();
    violations.dedup();
    violations
}

/// The floor of a top-level module, counted from 1.
fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module)).map(|index| index + 1)
}

/// Whether this is the file a top-level module starts in.
fn is_entry(source: &Source) -> bool {
    source.module.len() == 1
}

fn starts_with(path: &[String], names: &[&str]) -> bool {
    path.len() >= names.len() && path.iter().zip(names).all(|(a, b)| a == b)
}

fn mentions_path(path: &[String], names: &[&str]) -> bool {
    // `std::env` is a beginning; `Utc::now` may follow `chrono::`.
    if names[0] == "std" {
        starts_with(path, names)
    } else {
        path.windows(names.len()).any(|part| starts_with(part, names))
    }
}

/// One violation for each module from which imports lead back to itself.
fn circles(edges: &BTreeMap<(&str, &str), (&str, usize)>) -> Vec<Violation> {
    let reach = |from: &str, to: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = open.pop() {
            for (_, next) in edges.keys().filter(|(source, _)| *source == module) {
                if *next == to {
                    return true;
                }
                if seen.insert((*next).to_owned()) {
                    open.push((*next).to_owned());
                }
            }
        }
        false
    };
    edges
        .iter()
        .filter(|((from, to), _)| reach(to, from))
        .map(|((from, to), (file, line))| Violation {
            file: (*file).to_owned(),
            line: *line,
            rule: "circle",
            detail: format!("`{from}` imports `{to}`, which leads back to `{from}`"),
        })
        .collect()
}

/// What `lib.rs` hands out under the crate's own name, and which module it comes from.
fn root_reexports(sources: &[Source]) -> BTreeMap<String, String> {
    let root = sources.iter().filter(|source| source.module.is_empty());
    root.flat_map(|source| &source.mentions)
        .filter_map(|mention| {
            let path: Vec<&String> = mention.path.iter().filter(|name| *name != "crate").collect();
            let name = mention.alias.as_ref().or(path.last().copied())?;
            (path.len() > 1).then(|| (name.clone(), path[0].clone()))
        })
        .collect()
}

// ---- The house itself, and whether the checker can fail -----------------------------------------------------------

fn rust_files(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_string_lossy().replace('\\', "/");
            into.push((file, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The rules broken by these files, as `file:line rule`.
fn rules_broken(files: &[(&str, &str)]) -> Vec<String> {
    check(files).into_iter().map(|found| format!("{}:{} {}", found.file, found.line, found.rule)).collect()
}

#[test]
fn the_house_stands_on_its_floors() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.iter().any(|(file, _)| file == "src/lib.rs"), "src/ was not found");
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let violations = check(&files);
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} broken rules of the house:\n{}", list.len(), list.join("\n"));
}

#[test]
fn imports_downward_are_fine() {
    let engine = "use crate::{config, tracker::UsageTracker};\nuse crate::domain::time::Timestamp;\n";
    let files = [
        ("src/lib.rs", "pub mod engine;\npub use engine::Metergate;\n"),
        ("src/engine.rs", engine),
        ("src/config.rs", "fn read() { std::env::var(\"X\"); }"),
        ("src/tracker/mod.rs", "mod read;\nuse self::read::X;\nuse super::tracker::read::Y;"),
        ("src/tracker/read.rs", "use super::UsageTracker;\nuse crate::domain::time;"),
        ("src/domain/mod.rs", "pub mod time;"),
        ("src/domain/time.rs", ""),
        ("src/cli/mod.rs", "use crate::Metergate; fn f() { Instant::now(); }"),
        ("src/main.rs", "fn main() { metergate::cli::run(std::env::args_os()) }"),
    ];
    assert_eq!(rules_broken(&files), Vec::<String>::new());
}

#[test]
fn an_import_upward_is_found_in_every_spelling() {
    for text in [
        "use crate::store::Store;",
        "use crate::{domain::time, store::Store};",
        "fn f() -> crate::store::Store {}",
        "use super::super::store;",
        "pub(crate) use crate::store as below;",
        "mod inner { use super::super::super::store::Store; }",
        "use crate::Store;",
    ] {
        let files = [
            ("src/lib.rs", "pub use store::Database as Store;"),
            ("src/domain/time.rs", text),
            ("src/store/mod.rs", ""),
            ("src/domain/mod.rs", ""),
        ];
        assert_eq!(rules_broken(&files), ["src/domain/time.rs:1 import upward"], "{text}");
    }
}

#[test]
fn siblings_that_import_each_other_are_two_faults_and_a_circle() {
    let files =
        [("src/tracker/mod.rs", "\nuse crate::enforcer::X;"), ("src/enforcer/mod.rs", "use crate::tracker::Y;")];
    let expected = [
        "src/enforcer/mod.rs:1 circle",
        "src/enforcer/mod.rs:1 import between siblings",
        "src/tracker/mod.rs:2 circle",
        "src/tracker/mod.rs:2 import between siblings",
    ];
    assert_eq!(rules_broken(&files), expected);
}

#[test]
fn a_circle_is_found_even_among_modules_without_a_floor() {
    let files = [("src/x.rs", "use crate::y::Y;"), ("src/y.rs", "use crate::z::Z;"), ("src/z.rs", "use crate::x::X;")];
    assert_eq!(rules_broken(&files).iter().filter(|found| found.ends_with("circle")).count(), 3);
}

#[test]
fn unknown_and_banned_modules_are_refused() {
    let files = [("src/misc.rs", ""), ("src/error.rs", ""), ("src/prelude/mod.rs", ""), ("src/http/error.rs", "")];
    let expected =
        ["src/error.rs:1 banned name", "src/misc.rs:1 module without a floor", "src/prelude/mod.rs:1 banned name"];
    assert_eq!(rules_broken(&files), expected);
}

#[test]
fn crates_and_the_outside_world_stay_in_their_rooms() {
    for (file, text, rule) in [
        ("src/writer/mod.rs", "use redb::Database;", "crate outside its room"),
        ("src/counters/mod.rs", "#[derive(bincode::Encode)] struct X;", "crate outside its room"),
        ("src/app.rs", "async fn f(router: axum::Router) {}", "crate outside its room"),
        ("src/app.rs", "use tokio_cron_scheduler::JobScheduler;", "crate outside its room"),
        ("src/store/mod.rs", "fn f() { std::env::var(\"HOME\"); }", "outside world outside its room"),
        ("src/main.rs", "use std::{env, fs};", "outside world outside its room"),
        ("src/http/mod.rs", "fn f() { let now = std::time::SystemTime::now(); }", "outside world outside its room"),
        ("src/tracker/mod.rs", "fn f() { chrono::Utc::now(); }", "outside world outside its room"),
        ("src/enforcer/mod.rs", "fn f() { Instant::now(); }", "outside world outside its room"),
        ("src/writer/mod.rs", "fn f() { Uuid::now_v7(); }", "outside world outside its room"),
        ("src/rules/mod.rs", "fn f() { tracing::info!(\"x\"); }", "side effect in a pure module"),
        ("src/domain/time.rs", "use std::fs;", "side effect in a pure module"),
        ("src/writer/mod.rs", "use crate::VERSION;", "import from the crate's root"),
    ] {
        assert_eq!(rules_broken(&[(file, text)]), [format!("{file}:1 {rule}")], "{text}");
    }
}

#[test]
fn comments_literals_and_tests_do_not_count() {
    let text = r##"
//! Only redb would know.
/* use axum; /* nested */ use redb; */
const A: &str = "redb::Database \" axum";
const B: &str = r#"use "redb""#;
const C: (char, u8, &'static str) = ('"', b'\'', "redb");
#[cfg(test)]
mod tests {
    use crate::http::Router;
    fn f() { let _ = redb::Database; }
}
#[cfg(test)]
mod model;
fn after() { Utc::now(); }
"##;
    let files = [("src/writer/mod.rs", text), ("src/writer/model.rs", "use redb::X;"), ("src/http/mod.rs", "")];
    assert_eq!(rules_broken(&files), ["src/writer/mod.rs:14 outside world outside its room"]);
}
