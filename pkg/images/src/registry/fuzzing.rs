//! Ways in for the fuzzer.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use super::{challenge, clients::Clients, hosts, keyring};
use crate::{Reference, registries::Location};

/// Reads the hosts.toml `text` for `reference`.
pub(crate) fn hosts_of(reference: &Reference, text: &str) {
    static CLIENTS: LazyLock<Arc<Clients>> = LazyLock::new(Arc::default);
    for insecure in [false, true] {
        let location = Location { reference: reference.clone(), insecure };
        let _refused = hosts::from_file(&location, Path::new("/nowhere"), text, &CLIENTS);
    }
}

/// Reads a file of credentials and looks up names in it.
pub(crate) fn credentials(bytes: &[u8]) {
    keyring::fuzz(bytes, &["docker.io/library/busybox", "mirror.example:5000/hub/a/b"]);
}

/// The challenges in a header's value.
pub(crate) fn challenges(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    let parsed = challenge::parse(header).into_iter();
    parsed.map(|challenge| (challenge.scheme, challenge.parameters.into_iter().collect())).collect()
}
