//! The daemon's directories and the lock that keeps a second daemon out of them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use husk_config::Config;
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};

/// Held as long as the daemon runs; the kernel lets go of it however the daemon ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] [File; 2]);

/// Makes root and state, closed to everybody else, and locks both.
pub(crate) fn prepare(config: &Config) -> io::Result<Lock> {
    Ok(Lock([claim(&config.root)?, claim(&config.state)?]))
}

fn claim(dir: &Path) -> io::Result<File> {
    let wrap = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(wrap)?;
    // Images and secrets of pods lie below: nobody else may look, whoever made the directory (CVE-2021-41103).
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(wrap)?;
    let path = dir.join("lock");
    let mut file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(wrap)?;
    // A record lock, not flock(2): that one would live on in a monitor that was being started, between fork and exec, when
    // this daemon was killed, and keep the next one out.
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!(
                    "{} is used by another huskd; give this one its own --root and --state",
                    dir.display()
                ),
            ));
        }
        Err(errno) => return Err(wrap(errno.into())),
    }
    file.set_len(0).map_err(wrap)?;
    writeln!(file, "{}", std::process::id()).map_err(wrap)?;
    Ok(file)
}
