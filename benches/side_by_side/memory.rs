//! Resident memory, as the kernel counts it.

/// `VmRSS` (now) or `VmHWM` (the most so far) of a process, in MB; 0 where the kernel does not say.
pub fn resident_mb(process: &str, which: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1_024.0 / 1e6
}
