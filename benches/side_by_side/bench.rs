//! What all rows need: how often, how large, where, beside whom.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres::Postgres;
use crate::program::Program;
use crate::table::{Row, Table};
use crate::traffic::{DAY, Templates, Traffic, Wanted};

/// One run of the harness.
pub struct Bench {
    /// Where rows go.
    pub table: Table,
    /// How often each side has its turn.
    pub rounds: usize,
    /// 1 is the sizes of the bars.
    pub scale: f64,
    /// The day of calls that all traffic repeats.
    pub templates: Templates,
    peers: Option<PathBuf>,
    folder: tempfile::TempDir,
    postgres: std::cell::OnceCell<Option<Postgres>>,
}

impl Bench {
    /// Builds the peers, and says what is absent.
    pub fn new(table: Table, rounds: usize, scale: f64) -> Self {
        let templates = Templates::load();
        table.say(&format!("traffic: {}", templates.source));
        let peers = build_peers();
        if peers.is_none() {
            table.say("ABSENT: the peers of benches/peers cannot be built here (are their crates to be had?)");
        }
        let folder = tempfile::Builder::new().prefix("side-by-side").tempdir().unwrap();
        Self { table, rounds, scale, templates, peers, folder, postgres: std::cell::OnceCell::new() }
    }

    /// A size of the bars, scaled, in whole thousands.
    pub fn sized(&self, events: usize) -> usize {
        ((events as f64 * self.scale) as usize / 1_000 * 1_000).max(1_000)
    }

    /// A peer's work; `None` when peers cannot be built.
    pub fn peer(&self, work: &str) -> Option<Program> {
        self.peers.clone().map(|path| Program::peer(path, work))
    }

    /// PostgreSQL's work; `None` where it is absent. It is started once and stopped at the end.
    pub fn postgres(&self, work: &str) -> Option<Program> {
        let server = self.postgres.get_or_init(|| {
            let started = Postgres::start();
            if let Err(why) = &started {
                self.table.say(&format!("ABSENT: PostgreSQL: {why}"));
            }
            started.ok()
        });
        Some(self.peer(work)?.with("url", server.as_ref()?.url()))
    }

    /// A fresh folder below the harness' own.
    pub fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.folder.path()).unwrap()
    }

    /// Prints it.
    pub fn row(&self, row: Row) {
        self.table.row(&row);
    }

    /// Writes the events of two days that both sides read; the same wish gives the same file.
    pub fn event_file(&self, events: usize, tenants: u32) -> PathBuf {
        let path = self.folder.path().join(format!("events-{events}-{tenants}.tsv"));
        if !path.exists() {
            let wanted = Wanted { events, tenants, end: now(), span: 2 * DAY, v7: true, seed: 42 };
            write_events(&path, Traffic::new(&self.templates, wanted));
        }
        path
    }
}

/// The instant that traffic ends at: fixed, so that a run is like the other.
pub fn now() -> i64 {
    // 2026-11-24T12:00:00Z
    1_795_521_600_000_000
}

/// The plan of all that is measured, in a file in `folder`: it has limits of every type, too far away to deny or to warn.
pub fn far_plan(folder: &Path) -> (String, PathBuf) {
    let limits = ["tokens_per_day", "api_calls_per_minute", "chat_messages_per_day", "embeddings_per_day"];
    let text = limits.map(|limit| format!("{limit} = 1000000000000\n")).concat();
    let file = folder.join("far-plans.toml");
    std::fs::write(&file, format!("[plans.far]\n{text}")).unwrap();
    ("far".to_owned(), file)
}

fn write_events(path: &Path, traffic: Traffic<'_>) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    traffic.for_each(|happening| writeln!(file, "{happening}").unwrap());
    file.into_inner().unwrap();
}

/// Through cargo, into the target folder; `None` where that fails.
fn build_peers() -> Option<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    // target/release/deps/side_by_side-...
    let target = std::env::current_exe().ok()?.ancestors().nth(3)?.join("peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status();
    built.ok()?.success().then(|| target.join("release/peers"))
}
