//! Files that clients send: kept where nobody sees them, and gone with this process.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{BuildError, Result};

/// Bytes of an archive that a client may send.
const MAX: u64 = 1 << 36;
/// Bytes between two looks at how full the disk is.
const LOOK: u64 = 16 << 20;

/// A file that is being written, without a name.
#[derive(Debug)]
pub struct Spool {
    file: File,
    directory: PathBuf,
    size: u64,
    looked: u64,
}

impl Spool {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(BuildError::file("make", directory))?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o600));
        let file = file.map_err(io::Error::from).map_err(BuildError::file("make a file in", directory))?;
        Ok(Self { file: file.into(), directory: directory.to_owned(), size: 0, looked: 0 })
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// [`BuildError::File`] when the disk is full, or nearly; [`BuildError::Request`] for more than 64 GiB.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.looked += bytes.len() as u64;
        if self.size > MAX {
            return Err(BuildError::Request("the build's files are more than 64 GiB".to_owned()));
        }
        if self.looked >= LOOK {
            self.looked = 0;
            leave_room(&self.file).map_err(BuildError::file("write to", &self.directory))?;
        }
        self.file.write_all(bytes).map_err(BuildError::file("write to", &self.directory))
    }

    /// The file, for whoever reads it.
    pub fn finish(self) -> Arc<File> {
        Arc::new(self.file)
    }
}

/// Sees that a hundredth of the disk stays free.
pub(crate) fn leave_room(file: impl AsFd) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    if disk.f_bavail < disk.f_blocks / 100 {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "a hundredth of the disk stays free"));
    }
    Ok(())
}
