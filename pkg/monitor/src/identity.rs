//! Whether a recorded process is still the one that was recorded.

use std::{fs, io, path::Path};

use husk_model::Process;

/// Whether this very process (not another one with its pid) exists and is not a zombie.
pub fn is_alive(process: Process) -> bool {
    matches!(stat(process.pid), Ok((state, start_time)) if start_time == process.start_time && state != 'Z')
}

/// Identity of the running kernel.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?.trim().to_owned())
}

/// State letter and start time of a process.
fn stat(pid: u32) -> io::Result<(char, u64)> {
    // A process may call itself anything (prctl(2), PR_SET_NAME).
    let bytes = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected /proc/<pid>/stat"))
}

/// The command name (field 2) may hold spaces and parentheses, so fields are counted from the last `)`.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut rest = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = rest.next()?.chars().next()?;
    // Field 3 is taken; field 22 is the 19th after it.
    Some((state, rest.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_hostile_command_name() {
        let text = "7 (a) R 1) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1";
        assert_eq!(parse_stat(text), Some(('S', 4242)));
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_process() {
        let script = "printf 'caf\\351' > /proc/$$/comm; echo done; read line";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 5];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut line).unwrap();
        assert!(stat(child.id()).is_ok());
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        let pid = std::process::id();
        let (_, start_time) = stat(pid).unwrap();
        assert!(is_alive(Process { pid, start_time }));
        assert!(!is_alive(Process { pid, start_time: start_time + 1 }));
    }
}
