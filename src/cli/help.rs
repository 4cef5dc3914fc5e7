//! `metergate help`: a command explained, or a text that comes with the program.

use clap::Args;

use super::failure::{Exit, Failure};
use super::{reference, show};

/// What an operator may meet, and what helps; `tests/documentation.rs` checks that nothing is missing.
const RUNBOOK: &str = include_str!("../../data/runbook.md");

/// Arguments of `help`.
#[derive(Args, Debug)]
pub struct HelpArgs {
    /// A command such as `quota set`; `reference`; `runbook`, or `runbook CODE` for one alarm or error code; nothing: all
    /// commands
    topic: Vec<String>,
}

impl HelpArgs {
    /// Prints it. `root` is the whole command line.
    pub fn run(&self, mut root: clap::Command) -> Result<Exit, Failure> {
        let words: Vec<&str> = self.topic.iter().map(String::as_str).collect();
        if words == ["reference"] {
            show::print(reference::text(root));
            return Ok(Exit::Ok);
        }
        if let ["runbook", code @ ..] = words.as_slice() {
            let text = match code {
                [] => RUNBOOK,
                code => section(&code.join(" ")).ok_or_else(|| {
                    Failure::usage(format!(
                        "the runbook has no section `{}`: see `metergate help runbook`",
                        code.join(" ")
                    ))
                })?,
            };
            show::print(text);
            return Ok(Exit::Ok);
        }
        root.build();
        let mut command = &mut root;
        for word in &words {
            command = command.find_subcommand_mut(word).ok_or_else(|| {
                Failure::usage(format!("there is no command or text `{}`: see `metergate help`", words.join(" ")))
            })?;
        }
        show::print(command.render_long_help());
        Ok(Exit::Ok)
    }
}

/// The section of the runbook about one code.
fn section(code: &str) -> Option<&'static str> {
    let start = RUNBOOK.find(&format!("\n## {code}\n"))? + 1;
    let length = RUNBOOK[start + 1..].find("\n#").map_or(RUNBOOK.len() - start, |length| length + 1);
    Some(RUNBOOK[start..start + length].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_found_whole_and_alone() {
        for code in ["not_ready", "clock_unconfirmed", "plan_in_use"] {
            let text = section(code).unwrap();
            assert!(
                text.starts_with(&format!("## {code}\n")) && text.contains("\nDo: ") && text.matches("# ").count() == 1
            );
        }
        assert_eq!(section("nothing"), None);
    }
}
