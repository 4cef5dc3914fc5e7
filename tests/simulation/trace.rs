//! The trace: a hash of every answer in its order, and the last lines for who reads a failure.

use std::collections::VecDeque;

/// Lines kept to be shown.
const SHOWN: usize = 40;

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    last: VecDeque<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: 0, last: VecDeque::new() }
    }
}

impl Trace {
    /// Adds what must be the same whenever this seed is run (FNV-1a).
    pub fn add(&mut self, line: String) {
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines += 1;
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Its hash and its length in lines.
    pub const fn sum(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }

    pub fn last_lines(&self) -> String {
        self.last.iter().map(|line| format!("    {line}\n")).collect()
    }
}
