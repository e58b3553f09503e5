//! What of a peer's stays as it is.

/// What is pointed to where it is, in place of being translated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// CRI-O's registries.conf with its drop-ins: huskd reads it itself (`images.registries_conf`).
    pub registries: bool,
}
