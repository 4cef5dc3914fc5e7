//! One file as a row of events: its lines, or the elements of its JSON array.

use std::io;

use serde_json::value::RawValue;

use super::format::Decoder;
use super::lines::{ARRAY_BYTES_MAX, Lines};

/// A file being read.
pub struct Source {
    lines: Lines,
    decoder: Decoder,
    /// The elements of an array, last first; their numbers count up from `next_element`.
    elements: Option<Vec<Box<RawValue>>>,
    next_element: u64,
    started: bool,
    failed: bool,
}

/// One row.
pub struct Row {
    /// The line in the file, or the element in the array, counted from 1.
    pub number: u64,
    /// Whether its event was written, or why not.
    pub outcome: Result<(), String>,
}

/// Why a file cannot be imported at all.
#[derive(Debug)]
pub struct WrongFile(pub String);

impl Source {
    /// Reads `lines` as `decoder` says.
    pub fn new(lines: Lines, decoder: Decoder) -> Self {
        Self { lines, decoder, elements: None, next_element: 0, started: false, failed: false }
    }

    /// Bytes of the file read so far.
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    /// The next row; its event's JSON is appended to `out`. Fails when the file does not fit its format.
    pub fn next_row(&mut self, out: &mut Vec<u8>) -> Result<Option<Row>, WrongFile> {
        if self.failed {
            return Ok(None);
        }
        match self.read_row(out) {
            Ok(row) => row,
            Err(error) => {
                // A damaged file ends here: what came before it is kept, and the damage is told.
                self.failed = true;
                let reason = format!("the file cannot be read any further: {error}");
                Ok(Some(Row { number: self.lines.number() + 1, outcome: Err(reason) }))
            }
        }
    }

    fn read_row(&mut self, out: &mut Vec<u8>) -> io::Result<Result<Option<Row>, WrongFile>> {
        if !self.started {
            self.started = true;
            if self.decoder.is_json() && self.lines.starts_with_array()? {
                match elements(&self.lines.rest()?) {
                    Ok(elements) => self.elements = Some(elements),
                    Err(reason) => return Ok(Err(WrongFile(reason))),
                }
            }
        }
        if let Some(elements) = &mut self.elements {
            let Some(element) = elements.pop() else { return Ok(Ok(None)) };
            self.next_element += 1;
            let outcome = self.decoder.decode(self.next_element, element.get(), out);
            return Ok(Ok(Some(Row { number: self.next_element, outcome })));
        }
        loop {
            let Some((number, line)) = self.lines.next_line()? else { return Ok(Ok(None)) };
            let line = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => line,
                Err(reason) => return Ok(Ok(Some(Row { number, outcome: Err(reason) }))),
            };
            if self.decoder.wants_header() {
                match self.decoder.read_header(line) {
                    Ok(()) => continue,
                    Err(reason) => return Ok(Err(WrongFile(reason))),
                }
            }
            let outcome = self.decoder.decode(number, line, out);
            return Ok(Ok(Some(Row { number, outcome })));
        }
    }
}

fn elements(bytes: &[u8]) -> Result<Vec<Box<RawValue>>, String> {
    if bytes.len() > ARRAY_BYTES_MAX {
        return Err(format!("a JSON array above {ARRAY_BYTES_MAX} bytes: write one event a line instead"));
    }
    let mut elements: Vec<Box<RawValue>> =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JSON array: {error}"))?;
    elements.reverse();
    Ok(elements)
}
