//! Prometheus text: families of samples, each with its help and type once.

use std::fmt::{Display, Write};

use super::metrics_table::MetricInfo;
use crate::writer::Histogram;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text in the making.
#[derive(Default)]
pub struct Exposition(String);

impl Exposition {
    /// Starts a family. Writing to a `String` cannot fail.
    pub fn family(&mut self, MetricInfo { name, kind, help, .. }: &MetricInfo) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample; `labels` are written as they are, such as `{job="x"}`.
    pub fn sample(&mut self, metric: &MetricInfo, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{}{labels} {value}", metric.name);
    }

    /// A family of one sample.
    pub fn one(&mut self, metric: &MetricInfo, value: impl Display) {
        self.family(metric);
        self.sample(metric, "", value);
    }

    /// The samples of a histogram of seconds; `labels` without braces, may be empty.
    pub fn histogram(&mut self, metric: &MetricInfo, labels: &str, histogram: &Histogram) {
        let name = metric.name;
        let comma = if labels.is_empty() { "" } else { "," };
        let counts = histogram.cumulative();
        for (bound, count) in Histogram::BOUNDS.iter().zip(counts) {
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(self.0, "{name}_bucket{{{labels}{comma}le=\"{seconds}\"}} {count}");
        }
        let total = counts[counts.len() - 1];
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
        let _ = writeln!(self.0, "{name}_sum{braces} {}", histogram.sum_micros() as f64 / 1e6);
        let _ = writeln!(self.0, "{name}_count{braces} {total}");
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let histogram = Histogram::default();
        histogram.note(std::time::Duration::from_millis(3));
        let mut text = Exposition::default();
        let metric = MetricInfo { name: "x_seconds", kind: "histogram", labels: &["route"], help: "" };
        text.histogram(&metric, "route=\"/a\"", &histogram);
        let text = text.text();
        for line in [
            "x_seconds_bucket{route=\"/a\",le=\"0.0025\"} 0",
            "x_seconds_bucket{route=\"/a\",le=\"0.005\"} 1",
            "x_seconds_bucket{route=\"/a\",le=\"+Inf\"} 1",
            "x_seconds_sum{route=\"/a\"} 0.003",
            "x_seconds_count{route=\"/a\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
