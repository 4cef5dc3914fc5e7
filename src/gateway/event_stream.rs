//! A stream of server-sent events as it passes: looked at event by event, and freed of the usage that the caller did not
//! ask for.
//!
//! Bytes pass as they come. Only where an event is to be taken out the beginning of an event waits for its end, which no
//! client could use before either.

use hyper::body::Bytes;

/// The longest event that is waited for or looked at, in bytes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The state of one stream.
pub(super) struct EventStream {
    /// The beginning of an event whose end has not come.
    begun: Vec<u8>,
    /// Where in it the search for its end goes on.
    searched: usize,
    /// Whether the extra usage is to be taken out.
    takes_usage_out: bool,
    /// After an event that is too long, everything passes unseen.
    blind: bool,
}

impl EventStream {
    pub(super) const fn new(takes_usage_out: bool) -> Self {
        Self { begun: Vec::new(), searched: 0, takes_usage_out, blind: false }
    }

    /// For a stream of another format, which passes unseen.
    pub(super) const fn blind() -> Self {
        Self { begun: Vec::new(), searched: 0, takes_usage_out: false, blind: true }
    }

    /// Takes the next bytes, shows each event that they end to `look`, and gives what the caller is to get of them.
    pub(super) fn pass(&mut self, chunk: Bytes, mut look: impl FnMut(&[u8])) -> Bytes {
        if self.blind {
            return chunk;
        }
        if self.begun.is_empty()
            && let Some(whole) = self.whole_events(&chunk, &mut look)
        {
            return whole;
        }
        self.begun.extend_from_slice(&chunk);
        let (mut out, mut from) = (Vec::new(), 0);
        while let Some(end) = end_of_event(&self.begun, self.searched.max(from)) {
            let event = &self.begun[from..end];
            look(event);
            if self.takes_usage_out && !is_extra_usage(event) {
                out.extend_from_slice(event);
            }
            from = end;
            self.searched = end;
        }
        self.begun.drain(..from);
        // An end is up to three bytes long, and may be cut anywhere.
        self.searched = self.begun.len().saturating_sub(3);
        if self.begun.len() > EVENT_BYTES_MAX {
            self.blind = true;
            out.append(&mut self.begun);
        }
        if self.takes_usage_out { out.into() } else { chunk }
    }

    /// What still waited when the stream ended.
    pub(super) fn rest(&mut self) -> Bytes {
        let begun = std::mem::take(&mut self.begun);
        if self.takes_usage_out { begun.into() } else { Bytes::new() }
    }

    /// The usual case: the chunk is made of whole events, none of which is taken out. It passes uncopied.
    fn whole_events(&self, chunk: &Bytes, look: &mut impl FnMut(&[u8])) -> Option<Bytes> {
        if !(chunk.ends_with(b"\n\n") || chunk.ends_with(b"\r\n\r\n")) {
            return None;
        }
        let mut ends = Vec::new();
        let mut from = 0;
        while let Some(end) = end_of_event(chunk, from) {
            if self.takes_usage_out && is_extra_usage(&chunk[from..end]) {
                return None;
            }
            ends.push(from..end);
            from = end;
        }
        if from != chunk.len() {
            return None;
        }
        for event in ends {
            look(&chunk[event]);
        }
        Some(chunk.clone())
    }
}

/// Where the event that begins at or before `from` ends: behind its empty line.
fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let mut place = from;
    while let Some(found) = bytes.get(place..)?.iter().position(|byte| *byte == b'\n') {
        let next = place + found + 1;
        match bytes.get(next..)? {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => place = next,
        }
    }
    None
}

/// The data of an event of one line of data, which is what every API of the door sends.
pub(super) fn data_of(event: &[u8]) -> Option<&[u8]> {
    event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:")).map(<[u8]>::trim_ascii)
}

/// Whether it is the chunk that `include_usage` adds: no choices, and a usage.
fn is_extra_usage(event: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Chunk {
        choices: Vec<serde::de::IgnoredAny>,
        usage: Option<serde::de::IgnoredAny>,
    }
    // Most events have a choice, and are not parsed.
    let Some(data) = data_of(event) else { return false };
    if !contains(data, b"\"usage\"") || contains(data, b"\"choices\":[{") {
        return false;
    }
    serde_json::from_slice::<Chunk>(data).is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

/// Whether `bytes` hold `part`.
pub(super) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hello \\\"usage\\\":{}\"}}],\"usage\":null}\n\n",
        ": a comment\n\n",
        "event: x\r\ndata: {\"choices\":[],\"prompt_filter_results\":[]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{}}]}\n\n",
    );
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn pass(stream: &str, cuts: &[usize], takes_usage_out: bool) -> (Vec<u8>, usize) {
        let mut events = EventStream::new(takes_usage_out);
        let (mut out, mut seen, mut from) = (Vec::new(), 0, 0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([stream.len()]).collect();
        cuts.sort_unstable();
        for cut in cuts {
            let chunk = Bytes::copy_from_slice(&stream.as_bytes()[from..cut]);
            out.extend_from_slice(&events.pass(chunk, |_| seen += 1));
            from = cut;
        }
        out.extend_from_slice(&events.rest());
        (out, seen)
    }

    proptest! {
        #[test]
        fn however_it_is_cut_only_the_extra_usage_is_taken_out(cuts in prop::collection::vec(any::<usize>(), 0..40)) {
            let stream = format!("{PLAIN}{USAGE}{DONE}");
            let (out, seen) = pass(&stream, &cuts, true);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{PLAIN}{DONE}"));
            prop_assert_eq!(seen, 6);
            let (out, seen) = pass(&stream, &cuts, false);
            prop_assert_eq!(String::from_utf8(out).unwrap(), stream);
            prop_assert_eq!(seen, 6);
        }
    }

    #[test]
    fn half_an_event_at_the_end_is_passed_on() {
        let (out, seen) = pass(&format!("{DONE}data: {{\"cho"), &[3], true);
        assert_eq!((out, seen), (b"data: [DONE]\n\ndata: {\"cho".to_vec(), 1));
    }

    #[test]
    fn an_event_without_end_is_not_waited_for_for_ever() {
        let mut events = EventStream::new(true);
        let piece = Bytes::from(vec![b'x'; EVENT_BYTES_MAX]);
        assert!(events.pass(piece.clone(), |_| ()).is_empty());
        assert_eq!(events.pass(piece.clone(), |_| ()).len(), 2 * EVENT_BYTES_MAX);
        assert_eq!(events.pass(piece, |_| ()).len(), EVENT_BYTES_MAX);
    }
}
