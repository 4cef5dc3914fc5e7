//! Batches on their way to `POST /api/usage/events`, and what became of each event.

use std::thread::sleep;
use std::time::Duration;

use crate::cli::backend::{Answer, Backend};
use crate::cli::failure::Failure;

/// A batch is sent before it grows above this many bytes; the server takes 8 MiB.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most rejected events that the server describes in one answer.
const DESCRIBED_MAX: usize = 100;
/// How often a batch is repeated when the server is busy, and the longest wait between two tries.
const TRIES: u32 = 20;
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Events gathered for one request.
#[derive(Default)]
pub struct Batch {
    /// The events' JSON, without anything between them.
    json: Vec<u8>,
    /// Of each event: its line, and where its JSON ends.
    events: Vec<(u64, usize)>,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Recorded now.
    pub accepted: u64,
    /// Recorded before.
    pub duplicates: u64,
    /// Of each rejected event: its line, the code and the sentence.
    pub rejected: Vec<(u64, String, String)>,
}

impl Batch {
    /// Where the next event's JSON is appended; tell [`Batch::push`] afterwards.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.json
    }

    /// The event of line `number` was appended.
    pub fn push(&mut self, number: u64) {
        self.events.push((number, self.json.len()));
    }

    /// Whether it should be sent.
    pub fn is_full(&self, events_max: usize) -> bool {
        self.events.len() >= events_max || self.json.len() >= BATCH_BYTES_MAX
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn clear(&mut self) {
        self.json.clear();
        self.events.clear();
    }

    /// Events `from..to` as a JSON array.
    fn body(&self, from: usize, to: usize) -> Vec<u8> {
        let start_of = |index: usize| if index == 0 { 0 } else { self.events[index - 1].1 };
        let mut body = Vec::with_capacity(self.json.len() + self.events.len() + 2);
        body.push(b'[');
        for index in from..to {
            if index > from {
                body.push(b',');
            }
            body.extend_from_slice(&self.json[start_of(index)..self.events[index].1]);
        }
        body.push(b']');
        body
    }

    /// Sends it and empties it. Fails when the server could not answer for it; repeating it is then safe.
    pub fn send(&mut self, backend: &Backend) -> Result<Outcome, Failure> {
        let count = self.events.len();
        let answer = post(backend, self.body(0, count), count == 1)?;
        let mut outcome = Outcome {
            accepted: answer.json["accepted"].as_u64().unwrap_or(0),
            duplicates: answer.json["duplicates"].as_u64().unwrap_or(0),
            rejected: self.rejections(&answer, 0),
        };
        let total = answer.json["rejected_total"].as_u64().unwrap_or(outcome.rejected.len() as u64);
        if total > outcome.rejected.len() as u64 {
            // More than one answer describes: asked again in parts, each within what is described. The ids make it safe.
            outcome.rejected.clear();
            for from in (0..count).step_by(DESCRIBED_MAX) {
                let to = (from + DESCRIBED_MAX).min(count);
                let part = post(backend, self.body(from, to), to - from == 1)?;
                outcome.rejected.extend(self.rejections(&part, from));
            }
        }
        self.clear();
        Ok(outcome)
    }

    fn rejections(&self, answer: &Answer, offset: usize) -> Vec<(u64, String, String)> {
        let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or("unknown").to_owned();
        if answer.status >= 400 {
            // A single event is answered with a status of its own.
            return vec![(self.events[offset].0, text(&answer.json, "code"), text(&answer.json, "error"))];
        }
        let rejected = answer.json["rejected"].as_array().map_or(&[][..], Vec::as_slice);
        rejected
            .iter()
            .filter_map(|one| {
                let index = offset + usize::try_from(one["index"].as_u64()?).ok()?;
                Some((self.events.get(index)?.0, text(one, "code"), text(one, "error")))
            })
            .collect()
    }
}

/// One request, repeated while the server is busy. A refusal of a single event is an answer.
fn post(backend: &Backend, body: Vec<u8>, single: bool) -> Result<Answer, Failure> {
    let mut wait = Duration::from_millis(100);
    for attempt in 1.. {
        let answer = backend.call("POST", "/api/usage/events", &[], Some(("application/json", body.clone())))?;
        match answer.status {
            503 if attempt < TRIES => {
                sleep(wait);
                wait = (wait * 2).min(WAIT_MAX);
            }
            // The key records faster than it may: the server says when it goes on.
            429 if answer.json["code"] == "rate_limited" => {
                let seconds = answer.json["details"]["retry_after_seconds"].as_u64().unwrap_or(1);
                sleep(Duration::from_secs(seconds.clamp(1, 60)));
            }
            400 | 409 if single => return Ok(answer),
            _ => return answer.or_failure(),
        }
    }
    unreachable!("the last attempt returns")
}
