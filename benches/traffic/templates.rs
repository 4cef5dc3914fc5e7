//! A day of calls: that of the real traces, or one made up after them.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::Random;

/// Clients of the traces: 108 of ServeGen's, and Azure's one.
pub const CLIENTS: u32 = 109;

/// One call of the day.
#[derive(Clone, Debug)]
pub struct Template {
    /// When, as a share of the day.
    pub of_day: f32,
    /// Whose, below [`CLIENTS`].
    pub client: u32,
    /// Its place in `MODELS`.
    pub model: usize,
    /// Tokens in.
    pub input: u64,
    /// Tokens out.
    pub output: u64,
    /// Tokens of reasoning.
    pub reasoning: u64,
}

/// A day of calls, in order.
pub struct Templates {
    /// The calls.
    pub all: Vec<Template>,
    /// Where they come from, for people.
    pub source: String,
}

impl Templates {
    /// The real traces where they are (`METERGATE_TEST_DATA`, else `../shared/data`), otherwise made up.
    pub fn load() -> Self {
        let folder = std::env::var_os("METERGATE_TEST_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
        match read_traces(&folder) {
            Some(all) => Self {
                source: format!("{} calls of the real traces of Azure (conv) and ServeGen, repeated", all.len()),
                all,
            },
            None => Self::made_up(),
        }
    }

    /// Made up, the same each time.
    pub fn made_up() -> Self {
        let mut random = Random(1);
        let number = 80_000;
        let all = (0..number).map(|place| {
            // A few clients make most of the calls.
            let client = (random.next() % 1_000) * (random.next() % 1_000) / 1_000 * u64::from(CLIENTS) / 1_000;
            let model = [0, 1, 1, 2, 2][(random.next() % 5) as usize];
            let output = random.around([129, 90, 1_100][model]);
            Template {
                of_day: place as f32 / number as f32,
                client: client as u32,
                model,
                input: random.around([1_020, 1_000, 700][model]),
                output,
                reasoning: if model == 2 { output * 3 / 4 } else { 0 },
            }
        });
        Self {
            all: all.collect(),
            source: "made up from published medians and tails: the real traces are absent".into(),
        }
    }
}

fn read_traces(folder: &Path) -> Option<Vec<Template>> {
    let mut all = Vec::new();
    let azure = std::fs::read_to_string(folder.join("azure/AzureLLMInferenceTrace_conv.csv")).ok()?;
    let rows: Vec<&str> = azure.lines().skip(1).filter(|line| !line.is_empty()).collect();
    for (place, row) in rows.iter().enumerate() {
        let mut fields = row.split(',').skip(1);
        all.push(Template {
            // Its hour is stretched to a day.
            of_day: place as f32 / rows.len() as f32,
            client: CLIENTS - 1,
            model: 0,
            input: fields.next()?.trim().parse().ok()?,
            output: fields.next()?.trim().parse().ok()?,
            reasoning: 0,
        });
    }
    let mut servegen = String::new();
    let packed = std::fs::File::open(folder.join("servegen/stream_r1_mm_24h.csv.gz")).ok()?;
    flate2::read::GzDecoder::new(packed).read_to_string(&mut servegen).ok()?;
    let mut clients: Vec<&str> = Vec::new();
    for row in servegen.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let &[millis, client, model, input, output, reasoning, _] = fields.as_slice() else { return None };
        let known = clients.iter().position(|known| *known == client).unwrap_or_else(|| {
            clients.push(client);
            clients.len() - 1
        });
        all.push(Template {
            of_day: millis.parse::<f32>().ok()? / 86_400_000.0,
            client: known as u32 % CLIENTS,
            model: if model == "mm-image" { 1 } else { 2 },
            input: input.parse().ok()?,
            output: output.parse().ok()?,
            reasoning: reasoning.parse().ok()?,
        });
    }
    all.sort_by(|a, b| a.of_day.total_cmp(&b.of_day));
    Some(all)
}
