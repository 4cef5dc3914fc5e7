//! One thing that happened, as a line of the event file: what our engine and its peers read alike.

use std::fmt;
use std::str::FromStr;

/// The models of the traffic: priced by the shipped book, so that pricing is part of what is measured.
pub const MODELS: [&str; 3] = ["gpt-4o", "gpt-4o-mini", "deepseek-reasoner"];

/// A model's call, before anybody made an event of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// A UUID of version 7 or 4.
    pub id: u128,
    /// `tenant-N`.
    pub tenant_no: u32,
    /// Microseconds since 1970.
    pub micros: i64,
    /// `chat_message` or `api_call`.
    pub event_type: &'static str,
    /// A path.
    pub endpoint: &'static str,
    /// HTTP status.
    pub status: u16,
    /// How long it took.
    pub response_ms: u32,
    /// Its model.
    pub model: &'static str,
    /// Tokens in.
    pub input: u64,
    /// Tokens out, reasoning among them.
    pub output: u64,
    /// Tokens of reasoning.
    pub reasoning: u64,
}

/// The texts that stand in a line as they are.
const TEXTS: [&str; 7] =
    ["chat_message", "api_call", "/v1/chat/completions", "/v1/responses", MODELS[0], MODELS[1], MODELS[2]];

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, tenant_no, micros, event_type, endpoint, status, response_ms, model, input, output, reasoning } =
            self;
        write!(
            f,
            "{id:032x}\t{tenant_no}\t{micros}\t{event_type}\t{endpoint}\t{status}\t{response_ms}\t{model}\t{input}\t{output}\t{reasoning}"
        )
    }
}

/// A line that is none of ours.
#[derive(Debug)]
pub struct NoHappening;

impl FromStr for Happening {
    type Err = NoHappening;

    fn from_str(line: &str) -> Result<Self, NoHappening> {
        let mut fields = line.split('\t');
        let mut next = || fields.next().ok_or(NoHappening);
        fn number<T: FromStr>(field: &str) -> Result<T, NoHappening> {
            field.parse().map_err(|_| NoHappening)
        }
        let text = |field: &str| TEXTS.into_iter().find(|text| *text == field).ok_or(NoHappening);
        Ok(Self {
            id: u128::from_str_radix(next()?, 16).map_err(|_| NoHappening)?,
            tenant_no: number(next()?)?,
            micros: number(next()?)?,
            event_type: text(next()?)?,
            endpoint: text(next()?)?,
            status: number(next()?)?,
            response_ms: number(next()?)?,
            model: text(next()?)?,
            input: number(next()?)?,
            output: number(next()?)?,
            reasoning: number(next()?)?,
        })
    }
}
