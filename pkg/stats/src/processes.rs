//! What only procfs knows of a group's processes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use husk_model::Process;
use husk_node::process::is_alive;

/// Processes of one group that are looked at.
const MAX_PROCESSES: usize = 4096;
/// Descriptors of one group that are looked at one by one, a readlink(2) each: some milliseconds.
const MAX_DESCRIPTORS: u64 = 4096;

/// Counts over the processes of a group. One that ends while it is looked at is left out. What is too much to count is not
/// told: a workload's size costs its own figures, and nobody else's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// Processes.
    pub count: u64,
    /// Descriptors that they have open; `None` when the group has too many processes to look at.
    pub descriptors: Option<u64>,
    /// Those of them that are sockets; `None` when there are too many descriptors to look at.
    pub sockets: Option<u64>,
}

/// Looks at these processes, for `patience` at most. This belongs on a thread that may block.
pub(crate) fn count(pids: &[u32], patience: Duration) -> Processes {
    let mut counter = Counter { until: Instant::now() + patience, left: MAX_DESCRIPTORS };
    let mut counts = Processes { count: 0, descriptors: Some(0), sockets: Some(0) };
    for (seen, pid) in pids.iter().enumerate() {
        if seen == MAX_PROCESSES || Instant::now() > counter.until {
            let rest = pids.len() - seen;
            return Processes { count: counts.count + rest as u64, descriptors: None, sockets: None };
        }
        counter.add(Path::new(&format!("/proc/{pid}/fd")), &mut counts);
    }
    counts
}

/// What may still be spent on a group.
struct Counter {
    until: Instant,
    left: u64,
}

impl Counter {
    fn add(&mut self, directory: &Path, counts: &mut Processes) {
        // Every process has this directory until it is reaped; a zombie's is empty.
        let Ok(metadata) = fs::metadata(directory) else { return };
        counts.count += 1;
        let size = sizes_are_told().then(|| metadata.size());
        let known = size.unwrap_or(0);
        // With a size, those that would be too many are not even begun with.
        let found = if known > self.left || counts.sockets.is_none() { None } else { self.look(directory) };
        let open = size.or(found.map(|(open, _)| open));
        counts.descriptors = counts.descriptors.zip(open).map(|(sum, open)| sum + open);
        counts.sockets = counts.sockets.zip(found).map(|(sum, (_, sockets))| sum + sockets);
    }

    /// Descriptors and sockets, one by one; `None` when they are too many.
    fn look(&mut self, directory: &Path) -> Option<(u64, u64)> {
        let (mut open, mut sockets) = (0, 0);
        // Gone meanwhile: it has none.
        let Ok(entries) = fs::read_dir(directory) else { return Some((0, 0)) };
        for entry in entries.flatten() {
            self.left = self.left.checked_sub(1).filter(|_| Instant::now() <= self.until)?;
            open += 1;
            sockets += u64::from(is_socket(&entry.path()));
        }
        Some((open, sockets))
    }
}

/// Whether the size of /proc/PID/fd is the number of open descriptors (Linux 6.2): ours are some.
fn sizes_are_told() -> bool {
    static TOLD: OnceLock<bool> = OnceLock::new();
    *TOLD.get_or_init(|| fs::metadata("/proc/self/fd").is_ok_and(|metadata| metadata.size() > 0))
}

/// `socket:[4711]` (proc_pid_fd(5)).
fn is_socket(descriptor: &Path) -> bool {
    fs::read_link(descriptor)
        .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
}

/// How many descriptors a process may open (the soft limit); `None` when it is gone.
pub(crate) fn open_files_limit(process: Process) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid)).ok()?;
    is_alive(process).then(|| parse_limit(&limits))?
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
        let _pair = std::os::unix::net::UnixStream::pair().unwrap();
        let found = count(&[pid, u32::MAX], Duration::from_secs(60));
        assert_eq!(found.count, 1, "a process that is gone does not count");
        // Other tests open and close theirs meanwhile.
        assert!(found.sockets >= Some(2) && found.descriptors >= found.sockets, "{found:?}");
    }

    #[test]
    fn too_many_descriptors_cost_the_sockets_and_too_little_time_all_but_the_processes() {
        let null = fs::File::open("/dev/null").unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let hard = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, hard).unwrap();
        let many: Vec<_> = (0..=MAX_DESCRIPTORS).map_while(|_| null.try_clone().ok()).collect();
        if many.len() as u64 <= MAX_DESCRIPTORS {
            husk_test_support::skip("a higher hard limit of open files");
            return;
        }
        let pid = std::process::id();
        let found = count(&[pid], Duration::from_secs(60));
        assert_eq!((found.count, found.sockets), (1, None));
        if sizes_are_told() {
            assert!(found.descriptors > Some(MAX_DESCRIPTORS), "{found:?}");
        }
        // Few enough to be looked at, if there were time.
        let hurried = count(&[pid; 50], Duration::ZERO);
        assert_eq!((hurried.count, hurried.descriptors), (50, None));
    }

    #[test]
    fn a_group_of_many_processes_is_not_looked_at_to_its_end() {
        let found = count(&[std::process::id(); MAX_PROCESSES + 5], Duration::from_secs(600));
        assert_eq!((found.count, found.descriptors, found.sockets), (MAX_PROCESSES as u64 + 5, None, None));
    }

    #[test]
    fn the_soft_limit_is_the_first_column() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(parse_limit(text), Some(1024));
        let own = husk_node::process::identify(std::process::id()).unwrap();
        assert!(open_files_limit(own).is_some());
        assert_eq!(open_files_limit(Process { start_time: own.start_time + 1, ..own }), None);
    }
}
