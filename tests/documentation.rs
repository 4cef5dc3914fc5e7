//! Keeps README.md true: what the program has is in it, and what it shows exists.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use metergate::{cli, config, http};

const README: &str = include_str!("../README.md");

/// Variables that only the tests know.
const TEST_VARIABLES: [&str; 2] = ["METERGATE_TEST_DATA", "METERGATE_SKIP_LOG"];

/// Whether `text` contains `word` with nothing of a longer name on either side.
fn mentions(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part_of_name)
            && !text[at + word.len()..].chars().next().is_some_and(part_of_name)
    })
}

/// What stands between single back ticks on one line.
fn inline_code(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|code| !code.is_empty()).collect()
}

/// The lines of all fenced blocks of a language.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let (mut lines, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(info) => inside = !inside && info.split(',').next() == Some(language),
            None if inside => lines.push(line),
            None => {}
        }
    }
    lines
}

/// Names that start with `METERGATE_` in every file below `folder`.
fn variables_below(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            variables_below(&path, into);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            let names = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            into.extend(names.filter(|name| name.starts_with("METERGATE_") && name.len() > 10).map(str::to_owned));
        }
    }
}

/// Fails with everything that is missing, not with the first of it.
fn assert_none_missing(what: &str, missing: &[String]) {
    assert!(missing.is_empty(), "README.md does not mention these {what}:\n  {}", missing.join("\n  "));
}

#[test]
fn every_route_is_in_the_readme() {
    let routes = http::route_table();
    assert!(!routes.is_empty());
    let code = inline_code(README);
    let missing: Vec<String> = routes
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .filter(|route| !code.contains(&route.as_str()))
        .collect();
    assert_none_missing("routes", &missing);
}

#[test]
fn every_route_of_the_readme_exists() {
    let routes: Vec<String> =
        http::route_table().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    let methods = ["GET ", "POST ", "PUT ", "DELETE ", "PATCH "];
    let shown = inline_code(README).into_iter().filter(|code| methods.iter().any(|method| code.starts_with(method)));
    let unknown: Vec<&str> = shown.filter(|code| !routes.iter().any(|route| route == code)).collect();
    assert!(unknown.is_empty(), "README.md shows routes that do not exist: {unknown:?}");
}

#[test]
fn every_setting_is_in_the_readme() {
    let settings = config::settings_table();
    assert!(!settings.is_empty());
    let code = inline_code(README);
    let missing: Vec<String> =
        settings.iter().filter(|setting| !code.contains(&setting.key)).map(|setting| setting.key.to_string()).collect();
    assert_none_missing("settings", &missing);
}

#[test]
fn every_environment_variable_is_in_the_readme() {
    let mut names = BTreeSet::new();
    variables_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
        .extend(config::settings_table().iter().map(|setting| setting.env.to_string()).filter(|name| !name.is_empty()));
    assert!(names.contains("METERGATE_DATA_DIR"), "no variables were found");
    let missing: Vec<String> =
        names.into_iter().filter(|name| !TEST_VARIABLES.contains(&name.as_str()) && !mentions(README, name)).collect();
    assert_none_missing("variables", &missing);
}

#[test]
fn every_command_is_in_the_readme() {
    let commands = cli::command_table();
    assert!(!commands.is_empty());
    let missing: Vec<String> = commands
        .iter()
        .map(|(name, _about)| format!("metergate {name}"))
        .filter(|command| !mentions(README, command))
        .collect();
    assert_none_missing("commands", &missing);
}

#[test]
fn every_command_of_the_readme_exists() {
    let commands: BTreeSet<String> = cli::command_table()
        .into_iter()
        .filter_map(|(name, _about)| name.split_whitespace().next().map(str::to_owned))
        .collect();
    let shell = fenced(README, "sh");
    assert!(shell.iter().any(|line| line.starts_with("cargo run --release -- serve")), "the first command is gone");
    let typed = shell.into_iter().chain(inline_code(README)).filter_map(|line| {
        let rest = line
            .strip_prefix("cargo run --release -- ")
            .or_else(|| line.strip_prefix("target/release/metergate "))
            .or_else(|| line.strip_prefix("metergate "))?;
        rest.split_whitespace().next()
    });
    // `metergate COMMAND --help` stands for any of them.
    let unknown: Vec<&str> = typed.filter(|word| *word != "COMMAND" && !commands.contains(*word)).collect();
    assert!(unknown.is_empty(), "README.md shows commands that do not exist: {unknown:?}");
}

#[test]
fn files_that_the_readme_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["tests/run.sh", ".ci/run", "LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md", "data/plans.toml"] {
        assert!(root.join(file).is_file(), "{file} is missing");
    }
    let length = README.lines().count();
    assert!(length <= 340, "README.md is a page for users, at most 340 lines: it has {length}");
}

#[cfg(unix)]
#[test]
fn the_test_command_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    for file in ["tests/run.sh", ".ci/run"] {
        let mode = fs::metadata(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap().permissions().mode();
        assert_ne!(mode & 0o100, 0, "{file} is not executable");
    }
}

#[test]
fn a_longer_name_is_not_a_mention() {
    assert!(mentions("use `metergate quota set` now", "metergate quota set"));
    assert!(!mentions("METERGATE_KEYS", "METERGATE_KEY"));
    assert_eq!(inline_code("a `b` c `d e`"), ["b", "d e"]);
    assert_eq!(fenced("```sh\nx\n```\ny\n```rust,no_run\nz\n```", "rust"), ["z"]);
}
