//! What only procfs knows of a group's processes.

use std::{fs, path::Path};

/// Counts over the processes of a group. One that ends while it is looked at is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// Processes.
    pub count: u64,
    /// Descriptors that they have open.
    pub descriptors: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
}

/// Looks at these processes. Each descriptor is one readlink(2), so this belongs on a thread that may block.
pub(crate) fn count(pids: &[u32]) -> Processes {
    let mut counts = Processes::default();
    for pid in pids {
        // Every process has this directory until it is reaped; a zombie's is empty.
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        counts.count += 1;
        for entry in entries.flatten() {
            counts.descriptors += 1;
            counts.sockets += u64::from(is_socket(&entry.path()));
        }
    }
    counts
}

/// `socket:[4711]` (proc_pid_fd(5)).
fn is_socket(descriptor: &Path) -> bool {
    fs::read_link(descriptor)
        .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
}

/// How many descriptors a process may open (the soft limit); `None` when it is gone. The caller makes sure that `pid` is
/// still the process it means.
pub(crate) fn open_files_limit(pid: u32) -> Option<u64> {
    parse_limit(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

/// `Max open files            1024                 524288               files`
pub(crate) fn parse_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_and_sockets_of_a_process_are_counted() {
        let pid = std::process::id();
        let before = count(&[pid]);
        let _pair = std::os::unix::net::UnixStream::pair().unwrap();
        let after = count(&[pid, u32::MAX]);
        assert_eq!(after.count, 1, "a process that is gone does not count");
        // Other tests open and close theirs meanwhile.
        assert!(after.sockets >= 2 && after.descriptors >= after.sockets, "{before:?} {after:?}");
    }

    #[test]
    fn the_soft_limit_is_the_first_column() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(parse_limit(text), Some(1024));
        assert!(open_files_limit(std::process::id()).is_some());
        assert_eq!(open_files_limit(u32::MAX), None);
    }
}
