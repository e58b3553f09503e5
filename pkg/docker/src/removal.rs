//! Deleting trees that containers wrote.

use std::{ffi::CString, io, path::Path};

use husk_sys::tree;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// Deletes a tree: however deep, and following nothing.
///
/// # Errors
/// Those of the disk.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(CWD, parent, flags, Mode::empty())?;
    Ok(tree::remove(parent, &CString::new(name.as_encoded_bytes())?)?)
}
