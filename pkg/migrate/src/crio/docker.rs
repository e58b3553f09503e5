//! Credentials in Docker's format (containers-auth.json(5)).

use std::path::Path;

use toml::Value;

use crate::{
    auth,
    error::Result,
    finding::Kind,
    job::{At, Job},
    leaf,
    source::Node,
};

/// Takes in a file that husk itself is to read.
pub(super) fn read_by_husk(node: &mut Node, job: &mut Job, path: &Path) -> Result<()> {
    for at in leaves(node, job, path)? {
        job.settle(at, Kind::Taken, auth::KEY, "husk reads the file itself");
    }
    Ok(())
}

/// The keys of a file.
fn leaves(node: &mut Node, job: &mut Job, path: &Path) -> Result<Vec<At>> {
    let Some(text) = node.text(path)? else { return Ok(Vec::new()) };
    let top = ["auth", &path.display().to_string()].map(str::to_owned);
    let top: Vec<&str> = top.iter().map(String::as_str).collect();
    for leaf in leaf::json(path, &top, &text)? {
        job.put(leaf);
    }
    Ok(job.below(&top))
}

/// Reads a file in Docker's format (containers-auth.json(5)); what is in it goes into husk's own.
pub(super) fn docker_file(node: &mut Node, job: &mut Job, path: &Path) -> Result<()> {
    for at in leaves(node, job, path)? {
        let leaf = job.leaf(at);
        let parts: Vec<&str> = leaf.path[2..].iter().map(String::as_str).collect();
        match (parts.as_slice(), &leaf.value) {
            (["auths", registry, "auth"], Value::String(auth)) => {
                let (registry, auth) = ((*registry).to_owned(), auth.clone());
                job.credentials.add(&registry, auth);
                job.settle(at, Kind::Taken, auth::FILE, auth::MEANS);
            }
            (["auths", _], _) => {
                let means = "a login without a secret: the credential helper has it";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            (["credHelpers" | "credsStore", ..], _) => {
                let means = "not taken over: write it into /etc/husk/auth.json (credHelpers, credsStore), and see \
                             images.credential_helper_dir";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            _ => job.settle(at, Kind::NoCounterpart, "", "names and passwords alone are taken over"),
        }
    }
    Ok(())
}
