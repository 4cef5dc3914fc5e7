//! What became of an import: by file for people and programs, each bad line told once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::progress::Progress;
use crate::cli::show;

/// Bad lines told for each file; the rest are counted.
const TOLD_MAX: u64 = 20;

/// One file.
#[derive(Debug, Default)]
pub struct FileReport {
    /// Its name as it was given.
    pub file: String,
    /// Lines that should be events.
    pub lines: u64,
    /// Recorded now.
    pub accepted: u64,
    /// Recorded before.
    pub duplicates: u64,
    /// How long it took.
    pub seconds: f64,
    rejected_by_code: BTreeMap<String, u64>,
}

/// All files of one command.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<FileReport>,
}

impl FileReport {
    /// Nothing read yet.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// Counts a line that is not recorded, and tells the first of them.
    pub fn reject(&mut self, line: u64, code: &str, reason: &str, progress: &Progress) {
        *self.rejected_by_code.entry(code.to_owned()).or_default() += 1;
        if self.rejected() <= TOLD_MAX {
            progress.tell(&format!("{}:{line}: {code}: {reason}", self.file));
        }
    }

    /// Says how many bad lines were not told.
    pub fn tell_hidden(&self, progress: &Progress) {
        if self.rejected() > TOLD_MAX {
            progress.tell(&format!("{}: and {} more", self.file, show::grouped(self.rejected() - TOLD_MAX)));
        }
    }

    fn rejected(&self) -> u64 {
        self.rejected_by_code.values().sum()
    }

    fn events_per_second(&self) -> u64 {
        (self.lines as f64 / self.seconds.max(0.001)) as u64
    }

    fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "lines": self.lines,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": self.rejected(),
            "rejected_by_code": self.rejected_by_code,
            "seconds": self.seconds,
            "events_per_second": self.events_per_second(),
        })
    }

    fn cells(&self) -> Vec<String> {
        let numbers = [self.lines, self.accepted, self.duplicates, self.rejected(), self.events_per_second()];
        std::iter::once(self.file.clone()).chain(numbers.map(show::grouped)).collect()
    }
}

impl Report {
    /// Adds a file, and hands it back to be filled.
    pub fn add(&mut self, file: FileReport) -> &mut FileReport {
        let index = self.files.len();
        self.files.push(file);
        &mut self.files[index]
    }

    /// Lines of all files that were not recorded.
    pub fn rejected(&self) -> u64 {
        self.files.iter().map(FileReport::rejected).sum()
    }

    fn total(&self) -> FileReport {
        let mut total = FileReport::new("total");
        for file in &self.files {
            total.lines += file.lines;
            total.accepted += file.accepted;
            total.duplicates += file.duplicates;
            total.seconds += file.seconds;
            for (code, count) in &file.rejected_by_code {
                *total.rejected_by_code.entry(code.clone()).or_default() += count;
            }
        }
        total
    }

    /// Prints a table for people, or JSON for programs.
    pub fn print(&self, as_json: bool) {
        let total = self.total();
        if as_json {
            let files: Vec<Value> = self.files.iter().map(FileReport::to_json).collect();
            let mut total = total.to_json();
            if let Some(members) = total.as_object_mut() {
                members.remove("file");
            }
            show::print(json!({"files": files, "total": total}));
            return;
        }
        if self.files.is_empty() {
            return;
        }
        let mut table = show::table(&["file", "lines", "accepted", "duplicates", "rejected", "events/s"]);
        for file in &self.files {
            show::row(&mut table, file.cells());
        }
        if self.files.len() > 1 {
            show::row(&mut table, total.cells());
        }
        show::print(show::draw(table));
        for (code, count) in &total.rejected_by_code {
            let hint = match code.as_str() {
                "conflict" => {
                    " (the id is known with other content: was it imported with another --start-at, --tenant or --model?)"
                }
                "unreadable_line" => " (see above)",
                _ => "",
            };
            show::print(format!("rejected: {} {code}{hint}", show::grouped(*count)));
        }
    }
}
