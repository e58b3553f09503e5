//! What became of a key.

use serde::Serialize;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is in husk's configuration or in a file beside it.
    Taken,
    /// husk does the same without being told.
    Default,
    /// What it is about does not exist in husk, and nothing follows from that.
    NotNeeded,
    /// husk cannot do it; the finding says what that means.
    NoCounterpart,
    /// As it was, or as it becomes, something is less safe than it could be.
    Insecure,
    /// A later file sets it again, or replaces the table that it is in.
    Overridden,
    /// Neither a known key of the peer, nor one of husk's.
    Unknown,
}

impl Kind {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Default => "default",
            Self::NotNeeded => "not needed",
            Self::NoCounterpart => "no counterpart",
            Self::Insecure => "insecure",
            Self::Overridden => "overridden",
            Self::Unknown => "unknown",
        }
    }
}

/// One key that a file sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, as the node sees it.
    pub file: String,
    /// The full dotted name: `plugins."io.containerd.grpc.v1.cri".sandbox_image`. Empty for a file as a whole.
    pub key: String,
    /// Its value in TOML, shortened, without secrets.
    pub value: String,
    /// What becomes of it.
    pub kind: Kind,
    /// The key of husk.toml, or the file, that has it now; empty if there is none.
    pub husk: String,
    /// What that means; empty where nothing is to be said.
    pub means: String,
}
