//! The rows: printed as a table for people, or one JSON object a line.

use serde_json::{Value, json};

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// Ours is at least this.
    AtLeast(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Ours is at least so many times the peer's.
    TimesPeer(f64),
    /// Ours is at most so many times the peer's.
    MostTimesPeer(f64),
    /// Ours is at most one so-manieth of the peer's: for times.
    TimesFaster(f64),
    /// For orientation.
    None,
}

/// One comparison.
pub struct Row {
    /// As in the table of bars.
    pub id: &'static str,
    /// What was measured.
    pub work: String,
    /// Our figure.
    pub ours: f64,
    /// Beside whom; empty for nobody.
    pub peer: String,
    /// Their figure; `None` when they are absent.
    pub theirs: Option<f64>,
    /// Of both figures.
    pub unit: &'static str,
    /// How many events or calls.
    pub n: u64,
    /// What has to be reached.
    pub bar: Bar,
}

impl Row {
    /// A figure of ours alone.
    pub fn alone(id: &'static str, work: impl Into<String>, ours: f64, unit: &'static str, n: u64, bar: Bar) -> Self {
        Self { id, work: work.into(), ours, peer: String::new(), theirs: None, unit, n, bar }
    }

    /// The same beside a peer.
    pub fn beside(mut self, peer: &str, theirs: Option<f64>) -> Self {
        peer.clone_into(&mut self.peer);
        self.theirs = theirs;
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.theirs.map(|theirs| self.ours / theirs)
    }

    fn bar_text(&self) -> String {
        match self.bar {
            Bar::AtLeast(least) => format!(">= {}", figure(least)),
            Bar::AtMost(most) => format!("<= {}", figure(most)),
            Bar::TimesPeer(times) => format!(">= {times} x"),
            Bar::MostTimesPeer(times) => format!("<= {times} x"),
            Bar::TimesFaster(times) => format!("<= 1/{times} x"),
            Bar::None => String::new(),
        }
    }

    /// `None` where there is no bar, or the peer is absent.
    fn met(&self) -> Option<bool> {
        match self.bar {
            Bar::AtLeast(least) => Some(self.ours >= least),
            Bar::AtMost(most) => Some(self.ours <= most),
            Bar::TimesPeer(times) => self.ratio().map(|ratio| ratio >= times),
            Bar::MostTimesPeer(times) => self.ratio().map(|ratio| ratio <= times),
            Bar::TimesFaster(times) => self.ratio().map(|ratio| ratio <= 1.0 / times),
            Bar::None => None,
        }
    }
}

/// Where rows go.
pub struct Table {
    /// One JSON object a line instead of a table.
    pub json: bool,
}

impl Table {
    /// What the table is about; nothing in JSON.
    pub fn say(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// The first line.
    pub fn heading(&self) {
        if !self.json {
            println!(
                "{:<4} {:<66} {:>10} {:<7} {:<34} {:>10} {:>7} {:>10} {:<4}",
                "row", "work", "ours", "unit", "peer", "theirs", "ratio", "bar", "met"
            );
        }
    }

    /// One row.
    pub fn row(&self, row: &Row) {
        let (bar, met) = (row.bar_text(), row.met());
        if self.json {
            let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
            println!(
                "{}",
                json!({
                    "id": row.id, "work": row.work, "ours": row.ours, "peer": text(&row.peer), "theirs": row.theirs,
                    "ratio": row.ratio(), "unit": row.unit, "n": row.n, "bar": text(&bar), "met": met,
                })
            );
            return;
        }
        let theirs = match row.theirs {
            Some(theirs) => figure(theirs),
            None if row.peer.is_empty() => String::new(),
            None => "absent".to_owned(),
        };
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let met = match met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        println!(
            "{:<4} {:<66} {:>10} {:<7} {:<34} {theirs:>10} {ratio:>7} {bar:>10} {met:<4}",
            row.id,
            row.work,
            figure(row.ours),
            row.unit,
            row.peer
        );
    }
}

/// Three digits and thousands.
pub fn figure(value: f64) -> String {
    match value {
        value if value.abs() >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value.abs() >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}
