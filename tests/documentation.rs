//! Keeps the documents true: the reference is what the program prints, and what README.md shows exists.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use metergate::{cli, config, http};

const README: &str = include_str!("../README.md");
const REFERENCE: &str = include_str!("../data/reference.md");
const RUNBOOK: &str = include_str!("../data/runbook.md");
const REWRITE: &str = "rewrite it: cargo run -- help reference > data/reference.md";

/// Variables that only the tests know.
const TEST_VARIABLES: [&str; 4] = ["METERGATE_TEST_DATA", "METERGATE_SKIP_LOG", "METERGATE_LONG", "METERGATE_SEED"];

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
    for (_, text) in sources_below(folder) {
        let names = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        into.extend(names.filter(|name| name.starts_with("METERGATE_") && name.len() > 10).map(str::to_owned));
    }
}

/// Every file below a folder with its text, in any order.
fn sources_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources_below(&path));
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push((path, text));
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_reference_is_what_the_program_prints() {
    let generated = cli::reference();
    if let Some((line, (stored, now))) =
        REFERENCE.lines().zip(generated.lines()).enumerate().find(|(_, (stored, now))| stored != now)
    {
        panic!("data/reference.md differs at line {}:\n- {stored}\n+ {now}\n{REWRITE}", line + 1);
    }
    assert_eq!(REFERENCE.lines().count(), generated.lines().count(), "data/reference.md differs in length: {REWRITE}");
}

#[test]
fn the_reference_names_everything_there_is() {
    let code = inline_code(REFERENCE);
    let mut missing: Vec<String> =
        http::route_table().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    missing.extend(config::settings_table().iter().flat_map(|info| [info.key.to_owned(), info.env.to_owned()]));
    missing.extend(http::error_table().iter().map(|info| info.code.to_owned()));
    missing.extend(http::metrics_table().iter().map(|info| info.name.to_owned()));
    missing.retain(|name| !code.contains(&name.as_str()));
    let commands = cli::command_table().into_iter().map(|(name, _about)| format!("metergate {name}"));
    missing.extend(commands.filter(|command| !mentions(REFERENCE, command)));
    assert!(missing.is_empty(), "data/reference.md does not name:\n  {}", missing.join("\n  "));
}

#[test]
fn every_environment_variable_is_in_the_reference() {
    let mut names = BTreeSet::new();
    variables_below(&root().join("src"), &mut names);
    assert!(names.contains("METERGATE_DATA_DIR"), "no variables were found");
    let known = |name: &String| TEST_VARIABLES.contains(&name.as_str()) || mentions(REFERENCE, name);
    let missing: Vec<String> = names.into_iter().filter(|name| !known(name)).collect();
    assert!(missing.is_empty(), "data/reference.md does not name these variables: {missing:?}");
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
fn every_setting_of_the_readme_exists() {
    let rows = README.lines().skip_while(|line| *line != "| setting | default | |").skip(2);
    let shown: Vec<&str> =
        rows.take_while(|line| line.starts_with('|')).filter_map(|row| row.split('`').nth(1)).collect();
    assert!(!shown.is_empty(), "the table of settings is gone");
    let unknown: Vec<&&str> =
        shown.iter().filter(|key| !config::settings_table().iter().any(|info| info.key == **key)).collect();
    assert!(unknown.is_empty(), "README.md shows settings that do not exist: {unknown:?}");
}

/// The pieces of a source text, code and string literals in turn; comments are left out of the code.
fn code_and_literals(text: &str) -> Vec<String> {
    let (mut pieces, mut rest) = (vec![String::new()], text);
    let mut last = String::new();
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("'\"'").or_else(|| rest.strip_prefix("b'\"'")) {
            rest = after;
            continue;
        }
        if c != '"' {
            last.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        // A raw literal ends by a quote and as many hashes as it began with.
        let hashes = last.len() - last.trim_end_matches('#').len();
        let raw = last.trim_end_matches('#').ends_with('r') && (hashes > 0 || !last.ends_with("_r"));
        rest = &rest[1..];
        let end = format!("\"{}", "#".repeat(hashes));
        let mut length = 0;
        while length < rest.len() && !rest[length..].starts_with(&end) {
            let escaped = !raw && rest[length..].starts_with('\\');
            length += rest[length..].chars().take(1 + usize::from(escaped)).map(char::len_utf8).sum::<usize>();
        }
        pieces.push(std::mem::take(&mut last));
        pieces.push(rest[..length].to_owned());
        rest = rest.get(length + end.len()..).unwrap_or_default();
    }
    pieces.push(last);
    pieces.remove(0);
    pieces
}

/// The codes that a source file can answer with: string literals that stand where only a code stands.
fn codes_in(text: &str) -> Vec<String> {
    // A module of tests is the last of its file.
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut codes = Vec::new();
    let pieces = code_and_literals(text);
    for (index, literal) in pieces.iter().enumerate().skip(1).step_by(2) {
        let before = pieces[index - 1].trim_end();
        let ends = |word: &str| before.ends_with(word);
        let after_status = before
            .strip_suffix(',')
            .and_then(|rest| rest.rsplit("StatusCode::").next().filter(|status| status.len() < rest.len()))
            .is_some_and(|status| status.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        let after_index =
            before.strip_suffix(',').and_then(|rest| rest.rsplit_once("reject(")).is_some_and(|(_, argument)| {
                !argument.is_empty() && argument.chars().all(|c| c.is_alphanumeric() || c == '_')
            });
        let constant = ends("&str =") && before.lines().next_back().is_some_and(|line| line.contains("const INVALID_"));
        // `parsed_as(field, code)`: the field is the literal before.
        let second = ends(",") && index >= 3 && pieces[index - 3].ends_with("parsed_as(") && before == ",";
        let named = ["code:", "Fault::field(", "Fault::whole(", "unavailable(", "code = Some("].iter().any(|w| ends(w));
        let is_name = !literal.is_empty() && literal.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_name && (after_status || after_index || constant || second || named) {
            codes.push(literal.clone());
        }
    }
    codes
}

#[test]
fn an_error_code_comes_from_the_table_and_every_code_of_the_table_is_answered() {
    let sources = sources_below(&root().join("src"));
    let of_code = sources.iter().filter(|(path, _)| !path.ends_with("http/error_table.rs"));
    let used: BTreeSet<String> = of_code.flat_map(|(_, text)| codes_in(text)).collect();
    let known: BTreeSet<String> = http::error_table().iter().map(|info| info.code.to_owned()).collect();
    let unlisted: Vec<&String> = used.difference(&known).collect();
    assert!(unlisted.is_empty(), "give these codes a row in src/http/error_table.rs: {unlisted:?}");
    let unused: Vec<&String> = known.difference(&used).collect();
    assert!(unused.is_empty(), "nothing answers with these codes of src/http/error_table.rs: {unused:?}");
}

#[test]
fn a_code_is_found_where_only_a_code_stands() {
    let text = r##"x(StatusCode::CONFLICT, "a_b", "text"); Fault::field("c", "field", "is d"); Rejection { code: "e" }
        tally.reject(index, "f", "g"); const INVALID_X: &str = "h"; o.parsed_as("i", "j"); new(StatusCode::OK,
        "k"); unavailable("l"); get("m"); say("\\"", '"');
        code: "o"; // code: "p"
#[cfg(test)]
mod tests { code: "n" }"##;
    assert_eq!(codes_in(text), ["a_b", "c", "e", "f", "h", "j", "k", "l", "o"]);
}

#[test]
fn the_runbook_has_a_section_for_everything_an_operator_meets() {
    let alarms = fs::read_to_string(root().join("src/jobs/alarms.rs")).unwrap();
    let pieces = code_and_literals(alarms.split("#[cfg(test)]\nmod ").next().unwrap());
    let raised = pieces.chunks(2).filter(|pair| pair.len() == 2 && pair[0].trim_end().ends_with("raise("));
    let mut met: Vec<String> = raised.map(|pair| pair[1].clone()).collect();
    assert!(met.len() > 4, "no alarms were found: {met:?}");
    let answered =
        http::error_table().iter().filter(|info| info.status >= 500 || [403, 409, 429].contains(&info.status));
    met.extend(answered.map(|info| info.code.to_owned()));
    met.push("storage_full".to_owned());
    let sections: Vec<(&str, &str)> =
        RUNBOOK.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let missing: Vec<&String> = met.iter().filter(|code| !sections.iter().any(|(title, _)| title == code)).collect();
    assert!(missing.is_empty(), "data/runbook.md has no section for {missing:?}");
    for (title, text) in sections {
        let commands = inline_code(text).into_iter().filter(|code| code.starts_with("metergate ")).count();
        assert!(text.contains("\nCause") && text.contains("\nDo: ") && commands > 0, "{title}: cause, and what helps");
    }
}

#[test]
fn every_command_of_the_runbook_can_be_typed() {
    let commands: Vec<&str> = inline_code(RUNBOOK).into_iter().filter(|code| code.starts_with("metergate ")).collect();
    let wrong: Vec<&&str> = commands.iter().filter(|line| !cli::can_be_typed(line)).collect();
    assert!(!commands.is_empty() && wrong.is_empty(), "data/runbook.md shows what cannot be typed: {wrong:?}");
    assert!(!cli::can_be_typed("metergate quota show acme") && !cli::can_be_typed("metergate status --colour"));
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
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = links.filter(|link| !link.starts_with("http") && !link.starts_with('#'));
    let broken: Vec<&str> = local.filter(|link| !root.join(link).is_file()).collect();
    assert!(broken.is_empty(), "README.md links to files that are missing: {broken:?}");
    assert!(README.contains("](data/reference.md)"), "README.md does not link to the reference");
    let length = README.lines().count();
    assert!(length <= 300, "README.md is a page for users, at most 300 lines: it has {length}");
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
