//! Small files of other runtimes.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use husk_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::{ImageError, Result};

pub(super) fn wrong(path: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::Origin { path: path.to_owned(), reason: reason.into() }
}

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |error| ImageError::Origin { reason: error.to_string(), path }
}

/// A file as a whole; `None` when there is none.
pub(super) fn small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if bytes.len() as u64 > limit {
        return Err(wrong(path, format!("has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

pub(super) fn is_there(path: &Path) -> bool {
    fs::metadata(path).is_ok()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}
