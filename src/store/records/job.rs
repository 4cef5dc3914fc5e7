//! The record of a job's last run.

use serde::{Deserialize, Serialize};

use super::{StoreError, decode, encode, instant, micros};
use crate::domain::job::{JobRecord, JobResult};

#[derive(Serialize, Deserialize)]
struct JobV1 {
    started: i64,
    finished: i64,
    result: u8,
    rows: u64,
    error: Option<String>,
    last_success: Option<i64>,
    failures: u64,
}

pub(in crate::store) fn encode_job(record: &JobRecord) -> Result<Vec<u8>, StoreError> {
    let result = match record.result {
        JobResult::Success => 0,
        JobResult::Failure => 1,
        JobResult::Waiting => 2,
    };
    encode(&JobV1 {
        started: micros(record.started),
        finished: micros(record.finished),
        result,
        rows: record.rows,
        error: record.error.clone(),
        last_success: record.last_success.map(micros),
        failures: record.failures,
    })
}

pub(in crate::store) fn decode_job(job: &str, bytes: &[u8]) -> Result<JobRecord, StoreError> {
    let read: JobV1 = decode(bytes)?;
    let result = match read.result {
        0 => JobResult::Success,
        1 => JobResult::Failure,
        2 => JobResult::Waiting,
        _ => return Err(StoreError::Damaged("a job has an unknown result")),
    };
    Ok(JobRecord {
        job: job.to_owned(),
        started: instant(read.started),
        finished: instant(read.finished),
        result,
        rows: read.rows,
        error: read.error,
        last_success: read.last_success.map(instant),
        failures: read.failures,
    })
}
