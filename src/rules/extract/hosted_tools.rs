//! Calls of tools that a provider runs and charges by the call, where they stand in the answer and not in its usage.

use super::Api;
use crate::domain::usage::UsageCounts;

/// The calls seen so far.
///
/// A stream of responses shows the response more than once, and each time all of its items so far: those of the last
/// time count.
#[derive(Default)]
pub(super) struct HostedTools {
    /// Which of the values that follow each other the items are of.
    value_no: u64,
    web_calls: u64,
    /// Of those: opened or looked through a page, which is not charged.
    page_visits: u64,
    file_searches: u64,
    others: u64,
    queries: Option<u64>,
}

impl HostedTools {
    /// An item of a response. Messages, reasoning, and calls of what the caller runs itself are not charged.
    pub(super) fn item(&mut self, value_no: u64, kind: &str) {
        self.begin(value_no);
        let count = match kind {
            "web_search_call" => &mut self.web_calls,
            "file_search_call" => &mut self.file_searches,
            // A shell that the caller runs has its output in the next request, not here.
            "code_interpreter_call" | "image_generation_call" | "shell_call_output" => &mut self.others,
            _ => return,
        };
        *count += 1;
    }

    /// What a call did: a search, or something with a page that was found.
    pub(super) fn action(&mut self, value_no: u64, kind: &str) {
        self.begin(value_no);
        self.page_visits += u64::from(matches!(kind, "open_page" | "find_in_page" | "find"));
    }

    /// The queries of one candidate of Google's, which later parts of a stream repeat.
    pub(super) fn queries(&mut self, count: usize) {
        self.queries = self.queries.max(Some(count as u64));
    }

    fn begin(&mut self, value_no: u64) {
        if self.value_no != value_no {
            *self = Self { value_no, queries: self.queries, ..Self::default() };
        }
    }

    /// Puts the calls into the counts of an answer, where its usage does not tell them.
    pub(super) fn put(&self, api: Api, counts: &mut UsageCounts) {
        let some = |count: u64| (count > 0).then_some(count);
        match api {
            Api::OpenAiResponses => {
                counts.web_searches = counts.web_searches.or(some(self.web_calls.saturating_sub(self.page_visits)));
                counts.file_searches = counts.file_searches.or(some(self.file_searches));
                counts.tool_calls = counts.tool_calls.or(some(self.others));
            }
            Api::GoogleGenerate => counts.web_searches = counts.web_searches.or(self.queries),
            _ => {}
        }
    }
}
