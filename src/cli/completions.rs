//! `metergate completions`: a script for a shell.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::failure::Exit;

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints it. `root` is the whole command line.
    pub fn run(&self, root: clap::Command) -> Exit {
        // A reader that went away is not an error.
        let _ = std::io::stdout().lock().write_all(&script(self.shell, root));
        Exit::Ok
    }
}

fn script(shell: Shell, mut root: clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root, "metergate", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    #[test]
    fn each_script_names_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let script = String::from_utf8(script(shell, Cli::command())).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
            assert!(script.contains("data-dir"), "{shell} knows no flags");
        }
    }
}
