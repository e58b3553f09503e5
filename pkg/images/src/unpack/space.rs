//! Looking now and then whether the disk still has room: what is unpacked shall not take the node down.

use std::os::fd::AsFd;

use super::{UnpackError, io_error};

/// Bytes written between two looks at the free space of the disk.
const BYTES: u64 = 64 << 20;
/// Inodes made between two such looks.
const INODES: u64 = 4096;
/// Share of the disk that is left free, as a divisor, so that the node's own services can go on.
const RESERVE: u64 = 100;

/// When the disk is looked at again.
#[derive(Debug, Default)]
pub(crate) struct Space {
    bytes: u64,
    inodes: u64,
}

impl Space {
    /// Looks at the disk of `at`, if enough was written since the last time: `bytes` and `inodes` in all.
    ///
    /// # Errors
    /// [`UnpackError::DiskFull`].
    pub(crate) fn check(&mut self, at: impl AsFd, bytes: u64, inodes: u64) -> Result<(), UnpackError> {
        if bytes < self.bytes && inodes < self.inodes {
            return Ok(());
        }
        (self.bytes, self.inodes) = (bytes + BYTES, inodes + INODES);
        let stat = rustix::fs::fstatvfs(at).map_err(io_error("measure the disk of", b"/"))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < stat.f_blocks.saturating_mul(stat.f_frsize) / RESERVE {
            return Err(UnpackError::DiskFull { free, what: "bytes" });
        }
        // Filesystems without a fixed number of inodes have 0 of 0.
        if stat.f_favail < stat.f_files / RESERVE {
            return Err(UnpackError::DiskFull { free: stat.f_favail, what: "inodes" });
        }
        Ok(())
    }
}
