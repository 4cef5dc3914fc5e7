//! The memory that the process is to keep to, by what it holds. `cargo bench --bench side_by_side -- --memory` measures it.

/// What it takes whatever it holds: the program, the store's cache, what waits to be filed, a merge of runs, connections.
pub const BASE_BYTES: u64 = 320_000_000;
/// A tenant: its counters twice, its name, the hours that move. 4.1 to 4.6 kB after a start.
pub const TENANT_BYTES: u64 = 8_000;
/// An event that is kept: its id's fingerprint. 9.1 to 10.7 bytes after a start over 10 million.
pub const EVENT_BYTES: u64 = 12;

/// The budget for so many tenants and so many events that are kept with an id, in bytes.
pub const fn memory_budget(tenants: u64, events: u64) -> u64 {
    BASE_BYTES + tenants * TENANT_BYTES + events * EVENT_BYTES
}

/// The resident memory in a `/proc/<process>/status`, in bytes; `None` where it is not in it.
pub fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read_and_the_budget_grows_with_what_is_held() {
        assert_eq!(resident_bytes("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t  12345 kB\n"), Some(12_641_280));
        assert_eq!(resident_bytes("VmRSS:\tmuch\n"), None);
        assert_eq!(resident_bytes(""), None);
        assert_eq!(memory_budget(2, 3) - memory_budget(0, 0), 2 * TENANT_BYTES + 3 * EVENT_BYTES);
    }
}
