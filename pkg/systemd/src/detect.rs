//! Whether this node is systemd's.

use std::{fs, path::Path};

/// Whether systemd is PID 1 here: it runs the node (sd_booted(3)), and our PID namespace is its own, so that the pids we
/// tell it are those it sees.
pub fn is_init() -> bool {
    let booted = fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir());
    booted && is_systemd(Path::new("/proc/1/comm"))
}

fn is_systemd(comm: &Path) -> bool {
    fs::read_to_string(comm).is_ok_and(|name| name.trim_end() == "systemd")
}
