//! The container that an image was committed from, as clients before API 1.45 are shown it (`Container`, `ContainerConfig`).
//!
//! Docker wrote it into the image, and so into every copy of it: with the environment that a `--change` had taken away. Here it stays on the node.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::Version;

/// Who had an image made.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MadeOf {
    /// The container's id; empty for an image that came otherwise.
    pub(crate) container: String,
    /// How that was configured, in Docker's spelling.
    pub(crate) config: Value,
}

impl MadeOf {
    /// What the store keeps of it beside the image.
    pub(crate) fn note(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// As it was noted; none for an image that no container was committed to here.
    fn of(note: Option<&[u8]>) -> Option<Self> {
        serde_json::from_slice(note?).ok()
    }
}

/// Adds it to an image that is shown and has this note. docker-compose 1 looks for volumes in the configuration of any image, so it is the image's own without
/// a container.
pub(super) fn show(shown: &mut Value, note: Option<&[u8]>, version: Version) {
    if version >= Version::v1(45) {
        return;
    }
    let made_of = MadeOf::of(note);
    let config = made_of.as_ref().map_or_else(|| shown["Config"].clone(), |made_of| made_of.config.clone());
    shown["Container"] = made_of.map(|made_of| made_of.container).unwrap_or_default().into();
    shown["ContainerConfig"] = config;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_clients_are_shown_the_container_and_new_ones_are_not() {
        let made_of = MadeOf { container: "c".repeat(64), config: json!({ "Image": "busybox" }) };
        let show = |note: Option<Vec<u8>>, minor| {
            let mut shown = json!({ "Config": { "Cmd": ["sh"] } });
            super::show(&mut shown, note.as_deref(), Version::v1(minor));
            shown
        };
        let committed = show(made_of.note(), 44);
        assert_eq!(committed["Container"], made_of.container);
        assert_eq!(committed["ContainerConfig"], json!({ "Image": "busybox" }));
        let pulled = show(None, 44);
        assert_eq!(
            (&pulled["Container"], &pulled["ContainerConfig"]),
            (&json!(""), &json!({ "Cmd": ["sh"] }))
        );
        assert_eq!(show(made_of.note(), 45).as_object().unwrap().len(), 1);
    }
}
