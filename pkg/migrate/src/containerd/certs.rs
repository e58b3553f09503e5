//! Directories of `config_path`: a directory for each registry, with hosts.toml or bare certificates, which husk reads too.
//!
//! They are copied, so that nothing of husk's hangs on the old runtime's directory. What containerd reads past and husk
//! would refuse is set right or left out, since in husk a wrong hosts.toml fails every pull from its registry.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use crate::{
    duration,
    error::{MigrateError, Result},
    finding::Kind,
    hosts::{self, is_exposed, is_host, is_url},
    job::{At, Job},
    leaf,
    plan::PlannedFile,
    source::{Node, What},
};

/// Directories below that of a registry which are looked into.
const DEPTH: usize = 3;

/// Copies the directories of all roots; of one registry the first root counts, and one with `_default` ends the search
/// (`hostDirFromRoots`).
pub(super) fn copy(node: &mut Node, job: &mut Job, roots: &[PathBuf]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for root in roots {
        let is_reached = !seen.contains("_default");
        for name in node.list(root)? {
            let from = root.join(&name);
            let file = from.display().to_string();
            if node.what(&from)? != Some(What::Directory) {
                job.settle_file(&file, Kind::NotNeeded, "", "no directory of a registry");
            } else if !is_directory_of_a_registry(&name) {
                job.settle_file(
                    &file,
                    Kind::NoCounterpart,
                    "",
                    "is not the name of a registry's host: not copied",
                );
            } else if !is_reached || !seen.insert(name.clone()) {
                job.settle_file(
                    &file,
                    Kind::Overridden,
                    "",
                    "an earlier directory of config_path has the last word",
                );
            } else {
                directory(node, job, root, &name)?;
            }
        }
    }
    Ok(())
}

/// `_default`, `<host>`, `<host>:<port>` or `<host>_<port>_`.
fn is_directory_of_a_registry(name: &str) -> bool {
    let with_port = name.strip_suffix('_').and_then(|name| name.rsplit_once('_'));
    let is_spelled = with_port.is_some_and(|(host, port)| is_host(&format!("{host}:{port}")));
    name == "_default" || is_host(name) || is_spelled
}

fn directory(node: &mut Node, job: &mut Job, root: &Path, name: &str) -> Result<()> {
    let from = root.join(name);
    for path in node.walk(&from, DEPTH)? {
        let below = path.strip_prefix(root).unwrap_or(&path);
        let to = Path::new(hosts::DIR).join(below);
        if path == from.join("hosts.toml") {
            hosts_toml(node, job, root, &path, to)?;
        } else {
            let contents = node.read(&path)?.unwrap_or_default();
            let secret = is_secret(&path, &contents);
            job.settle_file(&path.display().to_string(), Kind::Taken, &to.display().to_string(), "");
            job.files.push(PlannedFile { path: to, contents, secret });
        }
    }
    Ok(())
}

/// Whether a file is, or has, a private key.
fn is_secret(path: &Path, contents: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY";
    let is_key = path.extension().is_some_and(|extension| extension == "key");
    is_key || contents.windows(MARK.len()).any(|window| window == MARK)
}

fn hosts_toml(node: &mut Node, job: &mut Job, root: &Path, path: &Path, to: PathBuf) -> Result<()> {
    let text = node.text(path)?.unwrap_or_default();
    let file = path.display().to_string();
    let leaves = match leaf::toml(path, &["hosts", &file], &text) {
        Ok(leaves) => leaves,
        Err(MigrateError::Syntax { reason, .. }) => {
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            let means = format!("containerd reads past it, husk would fail every pull: not copied. {reason}");
            job.settle_file(&file, Kind::NoCounterpart, "", means);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    leaves.into_iter().for_each(|leaf| job.put(leaf));
    let mut edit = Edit {
        husk: to.display().to_string(),
        root,
        document: text.parse().unwrap_or_default(),
        changed: false,
        secret: false,
        told: BTreeSet::new(),
    };
    for at in job.below(&["hosts", &file]) {
        edit.key(job, at);
    }
    let contents = match edit.changed {
        true => format!("# Written by `husk migrate` from {file}.\n{}", edit.document),
        false => text,
    };
    job.files.push(PlannedFile { path: to, contents: contents.into_bytes(), secret: edit.secret });
    Ok(())
}

/// One hosts.toml on its way.
struct Edit<'a> {
    husk: String,
    root: &'a Path,
    document: Table,
    changed: bool,
    secret: bool,
    /// Hosts of which it was said that bytes go there unencrypted.
    told: BTreeSet<String>,
}

impl Edit<'_> {
    fn key(&mut self, job: &mut Job, at: At) {
        let path: Vec<String> = job.leaf(at).path[2..].to_vec();
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["server"] => self.server(job, at),
            ["host", host, ..] if !is_url(host) => {
                self.remove(&["host", host]);
                let means = "is no URL of a host, which makes husk refuse the whole file: left out";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            ["host", host, setting @ ..] => {
                self.plain_http(job, at, host);
                self.setting(job, at, &parts[..2], setting);
            }
            setting => self.setting(job, at, &[], setting),
        }
    }

    fn server(&mut self, job: &mut Job, at: At) {
        match job.text(at).map(str::to_owned) {
            Some(server) if server.is_empty() || is_url(&server) => {
                self.plain_http(job, at, &server);
                job.settle(at, Kind::Taken, &self.husk, "");
            }
            _ => {
                self.remove(&["server"]);
                let means = "is no URL of a host, which makes husk refuse the whole file: left out, so the registry \
                             itself is asked last";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
        }
    }

    fn plain_http(&mut self, job: &mut Job, at: At, url: &str) {
        if is_exposed(url) && self.told.insert(url.to_owned()) {
            job.settle(
                at,
                Kind::Insecure,
                &self.husk,
                format!("taken over; {url} is asked unencrypted, as before"),
            );
        }
    }

    fn setting(&mut self, job: &mut Job, at: At, table: &[&str], setting: &[&str]) {
        let value = job.leaf(at).value.clone();
        let place: Vec<&str> = table.iter().chain(setting).copied().collect();
        let husk = self.husk.clone();
        match setting {
            ["capabilities"] if value.as_array().is_some_and(Vec::is_empty) => {
                self.remove(&place);
                job.settle(at, Kind::Default, &husk, "none are all to containerd, as is no list to husk");
            }
            ["ca" | "client"] => {
                let moved = self.moved(&value);
                if moved != value {
                    self.replace(&place, moved);
                }
                job.settle(at, Kind::Taken, &husk, "");
            }
            ["skip_verify"] if job.is_true(at) => {
                job.settle(at, Kind::Insecure, &husk, "taken over; any certificate is accepted, as before");
            }
            ["dial_timeout"] => self.dial_timeout(job, at, &place),
            ["header", ..] => {
                self.secret = true;
                job.settle(at, Kind::Taken, &husk, "");
            }
            ["capabilities" | "skip_verify" | "override_path"] | [] => job.settle(at, Kind::Taken, &husk, ""),
            _ => job.settle(at, Kind::Unknown, "", "husk passes it over"),
        }
    }

    /// husk knows one number with one of `ms`, `s` and `m` here.
    fn dial_timeout(&mut self, job: &mut Job, at: At, place: &[&str]) {
        let text = job.text(at).unwrap_or_default().to_owned();
        let Some(time) = duration::parse(&text).filter(|time| !time.is_zero()) else {
            self.remove(place);
            return job.settle(at, Kind::NoCounterpart, "", "husk cannot wait for so long; its 10s hold");
        };
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        if !["ms", "s", "m"].iter().any(|unit| text.strip_suffix(unit).is_some_and(is_number)) {
            self.replace(place, format!("{}ms", time.as_millis().max(1)).into());
        }
        job.settle(at, Kind::Taken, &self.husk, "");
    }

    /// Paths inside the old directory are inside the new one now.
    fn moved(&self, value: &Value) -> Value {
        match value {
            Value::String(path) => match Path::new(path).strip_prefix(self.root) {
                Ok(below) => Path::new(hosts::DIR).join(below).display().to_string().into(),
                Err(_) => value.clone(),
            },
            Value::Array(list) => Value::Array(list.iter().map(|value| self.moved(value)).collect()),
            other => other.clone(),
        }
    }

    fn table(&mut self, place: &[&str]) -> Option<&mut Table> {
        let parents = place.split_last().map_or(&[][..], |(_, parents)| parents);
        parents.iter().try_fold(&mut self.document, |table, part| table.get_mut(*part)?.as_table_mut())
    }

    fn remove(&mut self, place: &[&str]) {
        self.changed = true;
        if let (Some(name), Some(table)) = (place.last(), self.table(place)) {
            table.remove(*name);
        }
    }

    fn replace(&mut self, place: &[&str], value: Value) {
        self.changed = true;
        if let (Some(name), Some(table)) = (place.last(), self.table(place)) {
            table.insert((*name).to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_registries_are_told_from_others() {
        for (name, is_one) in [
            ("docker.io", true),
            ("_default", true),
            ("a.example:5000", true),
            ("a.example_5000_", true),
            ("[fd00::1]:5000", true),
            ("a b", false),
            ("..data", true),
            ("a.example:x", false),
        ] {
            assert_eq!(is_directory_of_a_registry(name), is_one, "{name}");
        }
    }
}
