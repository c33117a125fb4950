//! What the kernel knows about a process.

use std::fs;

/// Open file descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    entries.count()
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> usize {
    status(pid, "VmRSS:")
}

/// The same for people, and how much of it is no file's.
pub(crate) fn in_memory(pid: u32) -> String {
    let (all, anonymous) = (resident(pid), status(pid, "RssAnon:"));
    format!("{}, of these {} anonymous", mib(all), mib(anonymous))
}

fn status(pid: u32, key: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib: usize = number.and_then(|text| text.parse().ok()).expect("a size");
    kib * 1024
}

/// Bytes for people.
pub(crate) fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}
