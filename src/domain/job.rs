//! What is remembered of a job: its last run.

use super::time::Timestamp;

/// How a job's last run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// It did its work.
    Success,
    /// It could not; the record says why.
    Failure,
    /// It waits for a person: the clock is not confirmed.
    Waiting,
}

impl JobResult {
    /// As JSON spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Waiting => "waiting",
        }
    }
}

/// The last run of a job, and what is known of the ones before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// The job's name, such as `aggregate_usage_metrics`.
    pub job: String,
    /// When its last run started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How.
    pub result: JobResult,
    /// Rows written or removed by it.
    pub rows: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// When the last run that succeeded started.
    pub last_success: Option<Timestamp>,
    /// Runs that failed, ever.
    pub failures: u64,
}

/// The name of the record that says whether the clock is believed after a long pause.
pub const CONFIRM_CLOCK: &str = "confirm_clock";
