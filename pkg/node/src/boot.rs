//! Which boot of the node this is: what was recorded in another one describes nothing that lives.

use std::{fs, io};

/// Where the kernel tells it, for messages.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A random UUID that the kernel made when it started.
///
/// # Errors
/// Those of reading [`BOOT_ID`].
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}
