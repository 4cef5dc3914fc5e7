//! Query parameters and path segments: read once, strictly, each error naming its parameter.

use std::fmt;
use std::str::FromStr;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;

use super::error::ApiError;
use super::wire::unquoted;
use crate::domain::event::MAX_AHEAD_MICROS;
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, PeriodType, Timestamp};

/// Days shown when no start is named.
const DEFAULT_DAYS: i64 = 30;

/// The query parameters of one request: known ones only, each at most once.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query. Fails with 400 on a parameter that is unknown here, or given twice.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(Self(Vec::new()));
        }
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(ApiError::parameter("the query", "cannot be read"));
        };
        for (place, (name, _)) in pairs.iter().enumerate() {
            let shown: String = name.chars().take(64).collect();
            if !known.contains(&name.as_str()) {
                let reason = match known.is_empty() {
                    true => "is not known: this route takes no parameters".to_owned(),
                    false => format!("is not known: use {}", known.join(", ")),
                };
                return Err(ApiError::parameter(&shown, reason));
            }
            if pairs[..place].iter().any(|(before, _)| before == name) {
                return Err(ApiError::parameter(&shown, "is given twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter read from its text.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = |error| ApiError::parameter(name, format_args!("is wrong: {}", unquoted(error, text)));
        text.parse().map(Some).map_err(wrong)
    }

    /// The tenant that is named, in the column's spelling or the other parameters'.
    pub fn tenant(&self) -> Result<Option<TenantId>, ApiError> {
        let text = self.get("tenant_id").or(self.get("tenantId"));
        text.map(|text| text.parse().map_err(ApiError::invalid_tenant_id)).transpose()
    }

    /// A limit from 1 to `max`.
    pub fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        match self.get("limit").map(str::parse::<usize>) {
            None => Ok(default),
            Some(Ok(limit)) if (1..=max).contains(&limit) => Ok(limit),
            Some(_) => Err(ApiError::parameter("limit", format_args!("must be a whole number from 1 to {max}"))),
        }
    }

    /// The period, by default daily.
    pub fn period(&self) -> Result<PeriodType, ApiError> {
        Ok(self.parsed("period")?.unwrap_or(PeriodType::Daily))
    }

    /// A day or time of its own, if it is given; as an end, a day is included.
    pub fn date(&self, name: &str, last_day_included: bool) -> Result<Option<Timestamp>, ApiError> {
        let read = |text| {
            read_date(text, last_day_included).ok_or_else(|| {
                let wrong = format!("`{text}` is neither a day (2026-11-24) nor an RFC 3339 time");
                ApiError::parameter(name, unquoted(wrong, text))
            })
        };
        self.get(name).map(read).transpose()
    }

    /// `startDate` and `endDate` as a half-open range. By default the last 30 days, from the first instant of the period
    /// that day falls in, to what may be recorded now.
    pub fn range(&self, period: PeriodType, now: Timestamp) -> Result<(Timestamp, Timestamp), ApiError> {
        // An event may be a little ahead of the clock, and is counted.
        let to = self.date("endDate", true)?.unwrap_or(now.plus_micros(MAX_AHEAD_MICROS + 1));
        let from = match self.date("startDate", false)? {
            Some(from) => from,
            None => period.containing(to.min(now).plus_micros(-DEFAULT_DAYS * MICROS_PER_DAY)).start(),
        };
        if from >= to {
            return Err(ApiError::parameter("startDate", "must be before endDate"));
        }
        Ok((from, to))
    }
}

/// A day or an RFC 3339 time; as an end, a day is included: the next midnight.
pub fn read_date(text: &str, last_day_included: bool) -> Option<Timestamp> {
    if text.len() == 10 {
        let midnight: Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
        return Some(if last_day_included { midnight.plus_micros(MICROS_PER_DAY) } else { midnight });
    }
    // A `+` that was not encoded arrives as a space.
    text.parse().ok().or_else(|| text.replacen(' ', "+", 1).parse().ok())
}

/// No query parameters: a request that has any is refused with 400.
pub struct NoParams;

impl<S: Sync + Send> FromRequestParts<S> for NoParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Params::read(&parts.uri, &[]).map(|_| Self)
    }
}

/// The tenant that the path names.
#[derive(Debug)]
pub struct PathTenant(pub TenantId);

impl<S: Sync + Send> FromRequestParts<S> for PathTenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = segment(parts, state, "tenant").await?;
        text.parse().map(Self).map_err(ApiError::invalid_tenant_id)
    }
}

/// A decoded segment of the path.
pub async fn segment<S: Sync + Send>(parts: &mut Parts, state: &S, name: &str) -> Result<String, ApiError> {
    let broken = |error: RawPathParamsRejection| ApiError::parameter("the path", format_args!("is wrong: {error}"));
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(broken)?;
    let found = params.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    // A tenant may be called like a fixed route beside it, which has no such segment: then it is the last one.
    let found = found.or_else(|| parts.uri.path().rsplit('/').next().filter(|_| name == "tenant").map(str::to_owned));
    // The route's own pattern has this segment.
    found.ok_or_else(|| ApiError::internal(format_args!("the route has no segment {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["startDate", "endDate", "limit", "period"];

    fn range(query: &str) -> Result<(String, String), String> {
        let now: Timestamp = "2026-11-24T10:30:00Z".parse().unwrap();
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let params = Params::read(&uri, &NAMES).map_err(|error| error.message().to_owned())?;
        let read = params.period().and_then(|period| params.range(period, now));
        read.map(|(from, to)| (from.to_string(), to.to_string())).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn days_and_times_are_read_and_an_end_day_is_included() {
        let ok = |from: &str, to: &str| Ok((from.to_owned(), to.to_owned()));
        for (query, read) in [
            ("startDate=2026-11-01&endDate=2026-11-24", ok("2026-11-01T00:00:00Z", "2026-11-25T00:00:00Z")),
            ("startDate=2028-02-29&endDate=2028-02-29", ok("2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z")),
            (
                "startDate=2026-11-01T01:00:00%2B01:00&endDate=2026-11-01T06:00:00Z",
                ok("2026-11-01T00:00:00Z", "2026-11-01T06:00:00Z"),
            ),
            (
                "startDate=2026-11-01T01:00:00+01:00&endDate=2026-11-01T06:00:00.5Z",
                ok("2026-11-01T00:00:00Z", "2026-11-01T06:00:00.500Z"),
            ),
            ("", ok("2026-10-25T00:00:00Z", "2026-11-24T10:35:00.000001Z")),
            ("period=monthly", ok("2026-10-01T00:00:00Z", "2026-11-24T10:35:00.000001Z")),
            ("period=hourly&endDate=2026-01-31", ok("2026-01-02T00:00:00Z", "2026-02-01T00:00:00Z")),
        ] {
            assert_eq!(range(query), read, "{query}");
        }
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for (query, name) in [
            ("startDate=yesterday", "startDate"),
            ("startDate=2026-02-30", "startDate"),
            ("endDate=", "endDate"),
            ("endDate=2026-11-24T00:00:00", "endDate"),
            ("startDate=2026-11-24&endDate=2026-11-23", "startDate"),
            ("period=weekly", "period"),
            ("startdate=2026-11-24", "startdate"),
            ("period=daily&period=hourly", "period"),
        ] {
            let message = range(query).unwrap_err();
            assert!(message.starts_with(name), "{query}: {message}");
        }
        for limit in ["0", "101", "ten", "-1", ""] {
            let params = Params::read(&format!("/x?limit={limit}").parse().unwrap(), &NAMES).unwrap();
            assert!(params.limit(10, 100).unwrap_err().message().starts_with("limit"), "{limit}");
        }
    }
}
