//! How far an import is: a bar on a terminal, a line now and then elsewhere; always on standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::show::grouped;

/// Between two lines when there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of one file.
pub struct Progress {
    bar: ProgressBar,
    name: String,
    on_terminal: bool,
    told: Duration,
}

impl Progress {
    /// For a file of `size` bytes, when that is known.
    pub fn start(name: &str, size: Option<u64>) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(size, target);
        let template = match size {
            Some(_) => "{prefix} [{bar:30}] {percent:>3}% {msg} ({eta} left)",
            None => "{prefix} {spinner} {msg}",
        };
        // The templates are ours; an unknown key would only make the bar plainer.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name.to_owned());
        Self { bar, name: name.to_owned(), on_terminal, told: Duration::ZERO }
    }

    /// `bytes` of the file are read and `events` sent.
    pub fn update(&mut self, bytes: u64, events: u64) {
        let rate = events as f64 / self.seconds().max(0.001);
        let message = format!("{} events, {} a second", grouped(events), grouped(rate as u64));
        if self.on_terminal {
            self.bar.set_position(bytes);
            self.bar.set_message(message);
        } else if self.bar.elapsed() >= self.told + LINE_EVERY {
            self.told = self.bar.elapsed();
            let share = self.bar.length().filter(|size| *size > 0).map(|size| bytes.min(size) * 100 / size);
            let share = share.map_or_else(String::new, |percent| format!("{percent} % read, "));
            let _ = writeln!(std::io::stderr().lock(), "{}: {share}{message}", self.name);
        }
    }

    /// Says something about a line without tearing the bar.
    pub fn tell(&self, line: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        });
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.bar.elapsed().as_secs_f64()
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
