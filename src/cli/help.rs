//! `metergate help`: a command explained, or a text that comes with the program.

use clap::Args;

use super::failure::{Exit, Failure};
use super::{reference, show};

/// Arguments of `help`.
#[derive(Args, Debug)]
pub struct HelpArgs {
    /// A command such as `quota set`, or `reference`; nothing: all commands
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
