//! Credentials in Docker's format (containers-auth.json(5)).

use std::path::Path;

use toml::Value;

use crate::{auth, error::Result, finding::Kind, job::Job, leaf, source::Node};

/// Reads a file in Docker's format (containers-auth.json(5)); what is in it is for the kubelet.
pub(super) fn docker_file(node: &mut Node, job: &mut Job, path: &Path) -> Result<()> {
    let Some(text) = node.text(path)? else { return Ok(()) };
    let top = ["auth", &path.display().to_string()].map(str::to_owned);
    let top: Vec<&str> = top.iter().map(String::as_str).collect();
    for leaf in leaf::json(path, &top, &text)? {
        job.put(leaf);
    }
    for at in job.below(&top) {
        let leaf = job.leaf(at);
        let parts: Vec<&str> = leaf.path[2..].iter().map(String::as_str).collect();
        match (parts.as_slice(), &leaf.value) {
            (["auths", registry, "auth"], Value::String(auth)) => {
                let (registry, auth) = ((*registry).to_owned(), auth.clone());
                job.credentials.add(&registry, auth);
                job.settle(at, Kind::Taken, auth::FILE, auth::MEANS);
            }
            (["auths", _], _) => {
                let means =
                    "a login without a secret: the credential helper has it, and the kubelet asks none";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            (["credHelpers" | "credsStore", ..], _) => {
                let means = "the kubelet runs no Docker credential helpers: give it a credential provider \
                             (--image-credential-provider-config) or pull secrets";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            _ => job.settle(at, Kind::NoCounterpart, "", "the kubelet reads names and passwords alone"),
        }
    }
    Ok(())
}
