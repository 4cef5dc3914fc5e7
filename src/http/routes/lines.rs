//! NDJSON of any length: read piece by piece, committed by the thousand, never more than a bounded number in memory.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinHandle;

use super::super::HttpState;
use super::super::body::next_piece;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::wire::event::EventDraft;
use super::events::{Ids, Tally};
use crate::domain::event::{EventOutcome, UsageEvent};
use crate::writer::WriteError;

/// Events in one commit.
const CHUNK_EVENTS: usize = 1_000;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// A line longer than this ends its stream.
const ENDLESS_BYTES: usize = 1024 * 1024;

/// Records a stream; an index is a line's number from 0, empty lines counted. When it fails in the middle, what was
/// committed stays, and the error's details say how much that is.
pub async fn record(
    state: &HttpState,
    caller: &Caller,
    mut body: Body,
    ids: &Ids,
    queued: bool,
) -> Result<Response, ApiError> {
    let (tally, chunk) = (Tally::default(), Chunk::default());
    let mut stream = Stream { state, caller, ids, tally, chunk, in_flight: None, taken: 0 };
    let mut lines = Lines::default();
    let done = async {
        while let Some(piece) = next_piece(&mut body).await? {
            lines.feed(piece);
            while let Some((index, line)) = lines.next() {
                stream.take(index, line).await?;
            }
            if lines.is_endless() {
                let message = format!("line {} goes on without an end: a line has at most 64 KiB", lines.next_index);
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "line_too_long", message));
            }
        }
        if let Some((index, line)) = lines.last() {
            stream.take(index, line).await?;
        }
        stream.submit().await?;
        stream.settle().await
    };
    if let Err(error) = done.await {
        // The commit under way may still count.
        let _ = stream.settle().await;
        let recorded = stream.tally.so_far();
        return Err(error.with_details(json!({
            "accepted": recorded.accepted,
            "duplicates": recorded.duplicates,
            "rejected_total": recorded.rejected_total,
            "lines_read": lines.next_index,
        })));
    }
    if queued {
        // It waited for room in the queue, and so for the disk: what it says is true all the more.
        return Ok(stream.tally.finish_queued(stream.taken));
    }
    Ok(Json(stream.tally.finish()).into_response())
}

#[derive(Default)]
struct Chunk {
    places: Vec<u64>,
    events: Vec<UsageEvent>,
}

type Commit = JoinHandle<Result<Vec<EventOutcome>, WriteError>>;

/// One chunk is filled while at most one other is on its way to the disk.
struct Stream<'a> {
    state: &'a HttpState,
    caller: &'a Caller,
    ids: &'a Ids,
    tally: Tally,
    chunk: Chunk,
    in_flight: Option<(Vec<u64>, Commit)>,
    taken: u64,
}

impl Stream<'_> {
    async fn take(&mut self, index: u64, line: Line) -> Result<(), ApiError> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                self.tally.reject(index, "line_too_long", "a line has at most 64 KiB");
                return Ok(());
            }
        };
        let event = EventDraft::read(&line).and_then(|draft| self.ids.finish(draft, index));
        match event.and_then(|event| self.caller.own(event)) {
            Err(fault) => self.tally.reject(index, fault.code, &fault.message),
            Ok(event) => {
                self.chunk.places.push(index);
                self.chunk.events.push(event);
            }
        }
        if self.chunk.events.len() == CHUNK_EVENTS { self.submit().await } else { Ok(()) }
    }

    async fn submit(&mut self) -> Result<(), ApiError> {
        self.settle().await?;
        let Chunk { places, events } = std::mem::take(&mut self.chunk);
        if events.is_empty() {
            return Ok(());
        }
        self.state.ingest_cap.admit_when_possible(self.caller, events.len()).await;
        self.taken += events.len() as u64;
        let tracker = self.state.tracker.clone();
        // Blocking, because it waits for room where an asynchronous caller is turned away; the sender waits with it.
        self.in_flight = Some((places, tokio::task::spawn_blocking(move || tracker.record_blocking(events))));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), ApiError> {
        let Some((places, commit)) = self.in_flight.take() else { return Ok(()) };
        let outcomes = commit.await.map_err(ApiError::internal)??;
        self.tally.count_all(&places, outcomes);
        Ok(())
    }
}

/// One line of a stream, without its end.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Bytes),
    TooLong,
}

/// Cuts pieces into lines, holding one piece and at most one line.
#[derive(Default)]
struct Lines {
    piece: Bytes,
    /// The begun line; empty once it is too long.
    carried: Vec<u8>,
    /// Bytes of the begun line so far, kept or not.
    begun_bytes: usize,
    next_index: u64,
}

impl Lines {
    /// The next piece; the one before is used up.
    fn feed(&mut self, piece: Bytes) {
        self.piece = piece;
    }

    /// The next whole line that is not blank, with its number.
    fn next(&mut self) -> Option<(u64, Line)> {
        loop {
            let Some(end) = self.piece.iter().position(|byte| *byte == b'\n') else {
                let rest = std::mem::take(&mut self.piece);
                self.carry(&rest);
                return None;
            };
            let line = self.piece.split_to(end);
            let _ = self.piece.split_to(1);
            let found = if self.begun_bytes == 0 {
                let bytes = line.len();
                self.cut(line, bytes)
            } else {
                self.carry(&line);
                self.last()
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// What stands after the last line end.
    fn last(&mut self) -> Option<(u64, Line)> {
        let (line, bytes) = (std::mem::take(&mut self.carried), std::mem::take(&mut self.begun_bytes));
        if bytes == 0 { None } else { self.cut(line.into(), bytes) }
    }

    /// Whether the begun line is so long that its end is not worth waiting for.
    fn is_endless(&self) -> bool {
        self.begun_bytes > ENDLESS_BYTES
    }

    /// Keeps what is begun for the line's end to come.
    fn carry(&mut self, rest: &[u8]) {
        self.begun_bytes += rest.len();
        if self.begun_bytes > LINE_BYTES_MAX {
            self.carried = Vec::new();
        } else {
            self.carried.extend_from_slice(rest);
        }
    }

    fn cut(&mut self, line: Bytes, bytes: usize) -> Option<(u64, Line)> {
        let index = self.next_index;
        self.next_index += 1;
        if bytes > LINE_BYTES_MAX {
            return Some((index, Line::TooLong));
        }
        (!line.trim_ascii().is_empty()).then_some((index, Line::Whole(line)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<(u64, Option<usize>)> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let shown = |line| match line {
            Line::Whole(line) => Some(line.len()),
            Line::TooLong => None,
        };
        for piece in pieces {
            lines.feed(Bytes::copy_from_slice(piece));
            while let Some((index, line)) = lines.next() {
                found.push((index, shown(line)));
            }
        }
        found.extend(lines.last().map(|(index, line)| (index, shown(line))));
        found
    }

    #[test]
    fn blank_lines_are_counted_and_the_last_line_needs_no_end() {
        assert_eq!(lines_of(&[b"ab\n\n \r\nabc\nd"]), [(0, Some(2)), (3, Some(3)), (4, Some(1))]);
        assert_eq!(lines_of(&[b"a", b"b", b"\nc\n"]), [(0, Some(2)), (1, Some(1))]);
        assert_eq!(lines_of(&[]), []);
    }

    #[test]
    fn a_line_that_is_too_long_falls_alone() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let most = vec![b'y'; LINE_BYTES_MAX];
        for pieces in [
            vec![&b"a\n"[..], &long, b"\nb\n", &most, b"\n"],
            vec![&[&b"a\n"[..], &long, b"\nb\n", &most].concat()[..]],
            vec![&b"a\n"[..], &long[..9], &long[9..], b"\nb\n", &most[..7], &most[7..]],
        ] {
            assert_eq!(lines_of(&pieces), [(0, Some(1)), (1, None), (2, Some(1)), (3, Some(LINE_BYTES_MAX))]);
        }
    }

    #[test]
    fn a_line_without_an_end_is_seen_and_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..17 {
            assert!(!lines.is_endless());
            lines.feed(vec![b'x'; 64 * 1024].into());
            assert_eq!(lines.next(), None);
            assert!(lines.carried.len() <= LINE_BYTES_MAX);
        }
        assert!(lines.is_endless());
    }

    proptest! {
        #[test]
        fn where_pieces_are_cut_does_not_matter(text in "[ab\n ]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines_of(&pieces), lines_of(&[text.as_bytes()]));
        }
    }
}
