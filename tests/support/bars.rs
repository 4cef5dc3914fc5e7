//! One line of what a safety test saw, found by its number: printed, and appended to the file of `METERGATE_BARS_LOG`.

use std::io::Write;

/// Tells what was seen of a bar such as `R3`: how many cases in how long.
pub fn tell(bar: &str, seen: &str) {
    let line = format!("{bar}: {seen}");
    println!("{line}");
    if let Ok(path) = std::env::var("METERGATE_BARS_LOG") {
        let file = std::fs::File::options().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("METERGATE_BARS_LOG={path}: {error}"));
    }
}
