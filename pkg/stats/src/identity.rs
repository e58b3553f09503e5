//! Whether a pid is still the process that is meant.

use std::fs;

use husk_model::Process;

/// Whether the process has its pid still, be it a zombie by now. Asked after something of `/proc/<pid>` was opened: then it
/// is this process's, and not that of another one with its number.
pub(crate) fn holds(process: Process) -> bool {
    // A process may call itself anything (prctl(2), PR_SET_NAME).
    fs::read(format!("/proc/{}/stat", process.pid))
        .is_ok_and(|bytes| start_time(&String::from_utf8_lossy(&bytes)) == Some(process.start_time))
}

/// Field 22; the command name (field 2) may hold spaces and parentheses, so fields are counted from the last `)`.
fn start_time(stat: &str) -> Option<u64> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The test's own process.
    pub(crate) fn own() -> Process {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        Process { pid: std::process::id(), start_time: start_time(&stat).unwrap() }
    }

    #[test]
    fn the_start_time_is_found_behind_a_hostile_command_name() {
        let text = "7 (a) R 1) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1";
        assert_eq!(start_time(text), Some(4242));
    }

    #[test]
    fn a_process_with_another_start_time_is_another_one() {
        let own = own();
        assert!(holds(own));
        assert!(!holds(Process { start_time: own.start_time + 1, ..own }));
    }
}
