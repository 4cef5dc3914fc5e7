//! A measured piece of work is a program of its own: arguments in, one line of JSON out. So each round begins with a fresh
//! heap, and ours and the peers' are measured alike.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// One piece of work, not yet begun.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    words: Vec<String>,
}

impl Program {
    /// One of ours: this very binary.
    pub fn ours(work: &str) -> Self {
        Self { path: std::env::current_exe().unwrap(), words: vec!["ours".to_owned(), work.to_owned()] }
    }

    /// One of the peers'.
    pub fn peer(path: PathBuf, work: &str) -> Self {
        Self { path, words: vec![work.to_owned()] }
    }

    /// One more argument.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.words.push(format!("{key}={}", value.to_string()));
        self
    }

    /// Does it once. Panics where it fails: what was measured then means nothing.
    pub fn run(&self) -> Value {
        let output = Command::new(&self.path).args(&self.words).stderr(Stdio::inherit()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        assert!(output.status.success(), "{} failed", self.words.join(" "));
        serde_json::from_str(last).unwrap_or_else(|_| panic!("{}: no JSON: {last}", self.words.join(" ")))
    }

    /// Starts it; gives it once it has said its first line.
    pub fn start(&self) -> (Running, String) {
        Running::start(Command::new(&self.path).args(&self.words))
    }
}

/// A program that runs until it is dropped.
pub struct Running(pub Child);

impl Running {
    /// Starts it and reads its first line.
    pub fn start(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }
}

impl Drop for Running {
    /// Kills it: what it acknowledged is on disk.
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _gone_already = self.0.wait();
    }
}

/// Runs all in turn, so often: A B A B. Gives each one's answers.
pub fn in_turn<const N: usize>(rounds: usize, mut programs: [&mut dyn FnMut() -> Value; N]) -> [Vec<Value>; N] {
    let mut answers = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (program, answers) in programs.iter_mut().zip(&mut answers) {
            answers.push(program());
        }
    }
    answers
}

/// The median of one figure of the answers; `None` where nobody answered it.
pub fn median(answers: &[Value], figure: &str) -> Option<f64> {
    let mut figures: Vec<f64> = answers.iter().filter_map(|answer| answer[figure].as_f64()).collect();
    figures.sort_unstable_by(f64::total_cmp);
    Some(match figures.len() {
        0 => return None,
        odd if odd % 2 == 1 => figures[odd / 2],
        even => f64::midpoint(figures[even / 2 - 1], figures[even / 2]),
    })
}
