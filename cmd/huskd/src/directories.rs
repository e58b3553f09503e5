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

/// The file of each directory that is locked.
pub(crate) const LOCK: &str = "lock";

/// Held as long as the daemon runs; the kernel lets go of it however the daemon ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] Vec<File>);

/// Makes root and state, closed to everybody else, and locks both.
pub(crate) fn prepare(config: &Config) -> io::Result<Lock> {
    [&config.root, &config.state].into_iter().map(|dir| make(dir).and_then(|()| lock(dir))).collect()
}

/// Locks root and state where a daemon has used them; makes nothing.
pub(crate) fn hold(config: &Config) -> io::Result<Lock> {
    let used = [&config.root, &config.state].into_iter().filter(|dir| dir.join(LOCK).exists());
    used.map(|dir| lock(dir)).collect()
}

impl FromIterator<File> for Lock {
    fn from_iter<T: IntoIterator<Item = File>>(files: T) -> Self {
        Self(files.into_iter().collect())
    }
}

fn in_directory(dir: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()))
}

fn make(dir: &Path) -> io::Result<()> {
    let wrap = in_directory(dir);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(&wrap)?;
    // Images and secrets of pods lie below: nobody else may look, whoever made the directory (CVE-2021-41103).
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(wrap)
}

fn lock(dir: &Path) -> io::Result<File> {
    let wrap = in_directory(dir);
    let path = dir.join(LOCK);
    let mut file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(&wrap)?;
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
    file.set_len(0).map_err(&wrap)?;
    writeln!(file, "{}", std::process::id()).map_err(wrap)?;
    Ok(file)
}
