//! A policy and its keys from their files.

use std::{fs, io, io::Read as _, path::Path};

use super::{policy::Policy, read};
use crate::{ImageError, Result};

/// Largest policy and largest key file, in bytes.
const FILE_MAX: u64 = 4 << 20;

impl Policy {
    /// Reads the policy at `path` and the keys that it names.
    ///
    /// # Errors
    /// [`ImageError::Policy`], which names the place in the file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let fail = |reason: String| ImageError::Policy { path: path.to_owned(), reason };
        let bytes = read_bounded(path).map_err(|error| fail(error.to_string()))?;
        read::policy(path, &bytes, &read_bounded).map_err(fail)
    }
}

/// A file of the operator's as a whole.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("larger than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}
