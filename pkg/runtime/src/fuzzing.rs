//! Doors for test/fuzz: what reads a container's files and its first process's words, one function each.

use husk_model::UserRequest;

use crate::{Account, Failure, channel, rootfs, user};

/// Resolves a request in the contents of /etc/passwd and /etc/group.
///
/// # Errors
/// As in a container.
pub fn users(passwd: &[u8], group: &[u8], request: &UserRequest) -> Result<Account, Failure> {
    user::resolve_in(passwd, || Ok(group.to_vec()), request)
}

/// Reads a child's message and writes it again; `None` when it is no message.
pub fn child_message(bytes: &[u8]) -> Option<Vec<u8>> {
    channel::decode(bytes).map(|message| channel::encode(&message))
}

/// Reads mount options.
pub fn mount_options(options: &[String]) -> bool {
    rootfs::options::Options::parse(options).is_ok()
}
