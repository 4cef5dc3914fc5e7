//! `metergate import`: traces and logs become recorded events; a second run adds nothing, a broken one resumes.

mod columns;
mod format;
mod lines;
mod progress;
mod report;
mod send;
mod shift;
mod source;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;

use super::backend::Backend;
use super::failure::{Exit, Failure, chain};
use super::target::Target;
use crate::domain::time::Timestamp;
use columns::ColumnMap;
use format::{Decoder, Defaults, Format, SHIPPED};
use lines::Lines;
use progress::Progress;
use report::{FileReport, Report};
use send::Batch;
use shift::Shift;
use source::{Source, WrongFile};

/// The longest file name that ids are made of; longer ones keep their end and a digest.
const NAME_CHARS_MAX: usize = 100;

/// What `import --help` ends with.
pub const AFTER_HELP: &str = "\
Examples:
  metergate import events.jsonl
  zcat old/*.gz | metergate import - --name old-events --format jsonl
  metergate import AzureLLMInferenceTrace_conv.csv --format azure-llm --start-at 2026-11-20 --model gpt-4o
  metergate import stream.csv.gz --format servegen --start-at 2026-11-20 --server http://127.0.0.1:8080
  metergate import calls.csv --format csv --map when=event_timestamp,customer=tenant_id,tokens=tokens_consumed \\
      --event-type api_call

Ids: an event without an event_id gets FILENAME:LINE (without .gz and without folders), so importing the same
file again adds nothing, and a broken run is finished by running it again. Keep --start-at, --tenant and --model
the same then: other content under a known id is a conflict and changes nothing.

Columns (--format csv): a heading is a field of an event, or is mapped: --map COLUMN=FIELD. Fields also are
event_timestamp:milliseconds (since the trace's start; needs --start-at), metadata.NAME, and - (left out).
Times without an offset are UTC. A cell may be quoted, but may not hold a line end.

CloudEvents: `data` is our event; id, time, subject and type fill event_id, event_timestamp, tenant_id and event_type.

A bad line is reported with its file and number (the first 20), the rest is kept, and the exit code is 1.";

/// Flags of `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Files, plain or gzip; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// What the lines are
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Which column (for JSON: which member) is which field; beats the format's own map
    #[arg(long, value_name = "COLUMN=FIELD", value_delimiter = ',')]
    map: Vec<String>,
    /// The tenant of events that name none
    #[arg(long)]
    tenant: Option<String>,
    /// The model of events that name none
    #[arg(long)]
    model: Option<String>,
    /// The type of events that name none, such as api_call
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    /// Shift each file's times so that its first event falls on this day or RFC 3339 time (UTC)
    #[arg(long, value_name = "TIME", value_parser = super::moment::read)]
    start_at: Option<Timestamp>,
    /// Events sent at a time, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// The name that event ids are made of, for a single input [default: its file name; `stdin` for -]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

impl ImportArgs {
    /// Finds what is wrong with the flags before anything is opened.
    pub fn check(&self) -> Result<(), Failure> {
        let (map, _) = self.map_and_defaults()?;
        if map.is_relative() && self.start_at.is_none() {
            return Err(Failure::usage(
                "the times of this format are milliseconds since the trace's start: say when that was with --start-at TIME",
            ));
        }
        if matches!(self.format, Format::Jsonl | Format::Cloudevents) && (map.has_members() || map.is_relative()) {
            return Err(Failure::usage(
                "--map only renames members of JSON: metadata.NAME and milliseconds are for columns",
            ));
        }
        if self.name.is_some() && self.files.len() > 1 {
            return Err(Failure::usage("--name is for a single input: two files of one name would get the same ids"));
        }
        let mut names = BTreeSet::new();
        for file in &self.files {
            if !names.insert(self.id_name(file)) {
                return Err(Failure::usage(format!(
                    "two inputs are named `{}`, so their events would get the same ids: import them one by one, each with --name",
                    self.id_name(file)
                )));
            }
        }
        Ok(())
    }

    fn map_and_defaults(&self) -> Result<(ColumnMap, Defaults), Failure> {
        let shipped = SHIPPED.iter().find(|(format, _)| *format == self.format);
        let (mut map, mut defaults) = match shipped {
            // A test reads every shipped map.
            Some((_, text)) => ColumnMap::shipped(text).map_err(|reason| Failure::new(Exit::Failed, reason))?,
            None => Default::default(),
        };
        for pair in &self.map {
            map.add(pair).map_err(|reason| Failure::usage(format!("--map: {reason}")))?;
        }
        defaults.tenant_id = self.tenant.clone().or(defaults.tenant_id);
        defaults.model = self.model.clone().or(defaults.model);
        defaults.event_type = self.event_type.clone().or(defaults.event_type);
        Ok((map, defaults))
    }

    /// What ids are made of: the file's own name, whether it is compressed or not.
    fn id_name(&self, file: &str) -> String {
        let own = match file {
            "-" => "stdin".to_owned(),
            path => Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let name = self.name.clone().unwrap_or_else(|| own.strip_suffix(".gz").unwrap_or(&own).to_owned());
        let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let length = name.chars().count();
        if length <= NAME_CHARS_MAX {
            return name;
        }
        let end: String = name.chars().skip(length - (NAME_CHARS_MAX - 17)).collect();
        format!("{:016x}-{end}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }
}

/// Imports every file and prints what became of their events.
pub fn run(args: &ImportArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut report = Report::default();
    for file in &args.files {
        if let Err(failure) = import_file(args, file, backend, &mut report) {
            report.print(args.target.json);
            return Err(failure);
        }
    }
    report.print(args.target.json);
    Ok(if report.rejected() == 0 { Exit::Ok } else { Exit::Failed })
}

fn import_file(args: &ImportArgs, file: &str, backend: &Backend, all: &mut Report) -> Result<(), Failure> {
    let (map, defaults) = args.map_and_defaults()?;
    let (lines, size) = Lines::open(file)
        .map_err(|error| Failure::new(Exit::Failed, format!("{file} cannot be read: {}", chain(&error))))?;
    let decoder = Decoder::new(args.format, map, defaults, Shift::new(args.start_at), args.id_name(file));
    let mut source = Source::new(lines, decoder);
    let mut progress = Progress::start(file, size);
    let report = all.add(FileReport::new(file));
    let outcome = copy(args, &mut source, backend, report, &mut progress);
    report.seconds = progress.seconds();
    report.tell_hidden(&progress);
    progress.finish();
    outcome
}

/// Moves the rows of one file to the server, a batch at a time.
fn copy(
    args: &ImportArgs,
    source: &mut Source,
    backend: &Backend,
    report: &mut FileReport,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    loop {
        let row = source
            .next_row(batch.buffer())
            .map_err(|WrongFile(reason)| Failure::usage(format!("{}: {reason}", report.file)))?;
        let at_end = row.is_none();
        if let Some(row) = row {
            report.lines += 1;
            match row.outcome {
                Ok(()) => batch.push(row.number),
                Err(reason) => report.reject(row.number, "unreadable_line", &reason, progress),
            }
        }
        if batch.is_full(args.batch as usize) || (at_end && !batch.is_empty()) {
            let outcome = batch.send(backend).map_err(|failure| resumable(failure, report))?;
            report.accepted += outcome.accepted;
            report.duplicates += outcome.duplicates;
            for (line, code, reason) in outcome.rejected {
                report.reject(line, &code, &reason, progress);
            }
            progress.update(source.bytes_read(), report.lines);
        }
        if at_end {
            return Ok(());
        }
    }
}

fn resumable(failure: Failure, report: &FileReport) -> Failure {
    let hint = "what was recorded stays, run the same command again to resume";
    Failure::new(failure.exit, format!("{} after {} lines: {failure}; {hint}", report.file, report.lines))
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;
