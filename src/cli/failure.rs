//! How a command ends: exit codes that mean something, and one line of error with its causes told once.

use std::error::Error;
use std::fmt;

/// The exit codes, as listed in `metergate --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for a check: allowed.
    Ok = 0,
    /// It failed, or some of the input was not taken.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A check says no.
    Denied = 3,
    /// `verify` found differences.
    Differences = 4,
    /// The server does not answer, or the data folder cannot be opened.
    Unreachable = 5,
}

/// Why a command could not do what it was asked. Shown as one line.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with a sentence of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A wrong command line or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure caused by an error: `what`, the error, and its causes, each once.
    pub fn caused(exit: Exit, what: impl fmt::Display, error: &dyn Error) -> Self {
        Self::new(exit, format!("{what}: {}", chain(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// An error and its causes on one line. A cause that its parent repeats already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut told = one_line(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let text = one_line(cause);
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        next = cause.source();
    }
    told
}

fn one_line(error: &dyn Error) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn the_chain_is_told_once_and_on_one_line() {
        let disk = Link { text: "disk\n  full", source: None };
        let write = Link { text: "cannot write: disk full", source: Some(Box::new(disk)) };
        let top = Link { text: "not saved", source: Some(Box::new(write)) };
        assert_eq!(chain(&top), "not saved: cannot write: disk full");
    }
}
