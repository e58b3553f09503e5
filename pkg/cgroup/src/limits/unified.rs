//! Files of the v2 tree that a request writes verbatim (`linux.resources.unified`).

use std::collections::HashMap;

use rustix::io::Errno;

use super::Apply;
use crate::{Error, Result};

impl Apply<'_> {
    /// Every key must be a file that exists in the v2 tree; on pure v1 any key is an error, as in runc.
    pub(super) fn unified(&mut self, files: &HashMap<String, String>) -> Result<()> {
        // Sorted, so that the same request has the same effect and the same first error.
        let mut files: Vec<_> = files.iter().collect();
        files.sort_unstable();
        for (key, value) in files {
            check_key(key)?;
            let invalid =
                |reason: &str| Error::InvalidValue { setting: "unified", reason: format!("{key}: {reason}") };
            let home = self.group.unified().ok_or_else(|| invalid("this node has no cgroup v2 tree"))?;
            if value.len() > 4096 || value.chars().any(|c| c.is_control() && c != '\n') {
                return Err(invalid("the value is too long or has control characters"));
            }
            // Files such as io.max take one device a write.
            for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
                match home.try_write(key, line) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => {
                        return Err(invalid("no such file in the cgroup v2 tree of this node"));
                    }
                    Err(errno) => return Err(home.write_error(key, line, errno)),
                }
            }
        }
        Ok(())
    }
}

/// A key is the name of one controller file. Files of the core (`cgroup.procs`, `cgroup.kill`, `cgroup.freeze`, ...)
/// are no limits: a request must not move or kill processes with them.
fn check_key(key: &str) -> Result<()> {
    let form = key.contains('.')
        && key.len() < 128
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let core = key.starts_with("cgroup.") && !matches!(key, "cgroup.max.depth" | "cgroup.max.descendants");
    if form && !core {
        return Ok(());
    }
    let reason = format!("{:?} is not a file of a controller", key.chars().take(128).collect::<String>());
    Err(Error::InvalidValue { setting: "unified", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_file_of_a_controller() {
        for good in ["memory.high", "io.max", "hugetlb.2MB.rsvd.max", "cgroup.max.depth"] {
            check_key(good).unwrap();
        }
        for bad in [
            "",
            "memory",
            "../memory.max",
            "a/memory.max",
            ".memory",
            "cgroup.procs",
            "cgroup.kill",
            "memory.max\n",
        ] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }
}
