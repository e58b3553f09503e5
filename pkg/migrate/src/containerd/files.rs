//! The main file and its imports, in containerd's order and with its precedence.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Component, Path, PathBuf},
};

use toml::Value;

use super::canonical::canonical;
use crate::{
    error::{MigrateError, Result},
    finding::Kind,
    glob,
    job::{Job, texts},
    leaf::{self, Leaf},
    source::Node,
};

/// The newest version of the format that is known here.
pub(super) const NEWEST: i64 = 4;

/// Files that a configuration may have; those that import each other are read once.
const IMPORTS_MAX: u64 = 64;

/// Reads the main file and, after it, its imports, breadth first; each is read once (`LoadConfigWithPlugins`). Says the main
/// file's version, or that there is no such file.
pub(super) fn read(node: &mut Node, job: &mut Job, main: &Path) -> Result<Option<i64>> {
    let Some(text) = node.text(main)? else { return Ok(None) };
    let mut pending = VecDeque::from([(clean(main), text)]);
    let mut seen = BTreeSet::from([clean(main)]);
    let mut version = None;
    while let Some((path, text)) = pending.pop_front() {
        let leaves = leaf::toml(&path, &[], &text)?;
        let own = leaves.iter().find(|leaf| leaf.raw == ["version"]).and_then(|leaf| leaf.value.as_integer());
        let version = *version.get_or_insert(own.unwrap_or(1));
        let imports: Vec<String> = leaves
            .iter()
            .filter(|leaf| leaf.raw == ["imports"])
            .flat_map(|leaf| texts(&leaf.value))
            .collect();
        merge(job, leaves, version);
        for import in resolve(node, &path, &imports)? {
            if !seen.insert(import.clone()) {
                continue;
            }
            if seen.len() as u64 > IMPORTS_MAX {
                return Err(MigrateError::TooMany { path, limit: IMPORTS_MAX, what: "imported files" });
            }
            let text = node.text(&import)?.ok_or_else(|| MigrateError::Missing {
                path: import.clone(),
                wanted_by: format!("imports of {}", path.display()),
            })?;
            pending.push_back((import, text));
        }
    }
    Ok(version)
}

/// The files that `imports` names, as `resolveImports` has it: relative ones beside the file, patterns with a star by the
/// files that there are.
fn resolve(node: &mut Node, file: &Path, imports: &[String]) -> Result<Vec<PathBuf>> {
    let beside = file.parent().unwrap_or(Path::new("/"));
    let mut files = Vec::new();
    for import in imports {
        let path = clean(&beside.join(import));
        if glob::is_pattern(import) {
            files.extend(expand(node, &path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn expand(node: &mut Node, pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let Component::Normal(part) = part else { continue };
        let part = part.to_string_lossy();
        let mut next = Vec::new();
        for dir in &found {
            if !part.contains(['*', '?', '[', '\\']) {
                next.push(dir.join(part.as_ref()));
                continue;
            }
            if node.what(dir)?.is_some() {
                let names = node.list(dir)?;
                next.extend(
                    names.iter().filter(|name| glob::matches(&part, name)).map(|name| dir.join(name)),
                );
            }
        }
        found = next;
    }
    let mut there = Vec::new();
    for path in found {
        if node.what(&path)?.is_some() {
            there.push(path);
        }
    }
    Ok(there)
}

/// Go's `filepath.Clean` of an absolute path: by its letters, without a look at links.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Puts a file over those before it.
///
/// - Lists of the top level add up, and what is empty there changes nothing (`mergeConfig`).
/// - Entries of `proxy_plugins`, `stream_processors` and `timeouts` are replaced as a whole.
/// - Sections of plugins: key by key since containerd 2.0, which wrote version 3; in 1.x, the home of version 2, a
///   section of a later file replaced the earlier one as a whole.
fn merge(job: &mut Job, leaves: Vec<Leaf>, version: i64) {
    let replaced: BTreeSet<Vec<String>> =
        leaves.iter().filter_map(|leaf| replaces(&leaf.raw, version)).collect();
    if let Some(file) = leaves.first().map(|leaf| leaf.file.clone()) {
        for table in replaced {
            job.replace_table(&table, &file);
        }
    }
    for mut leaf in leaves {
        leaf.path = canonical(&leaf.raw);
        let is_plugin = leaf.raw.first().is_some_and(|top| top == "plugins");
        let adds_up = leaf.value.is_array() || leaf.raw == ["version"];
        let path: Vec<&str> = leaf.path.iter().map(String::as_str).collect();
        let changes_nothing = !is_plugin && is_empty(&leaf.value) && job.get(&path).is_some();
        if changes_nothing {
            let means = "what is empty here changes nothing that an earlier file says";
            let at = job.put_beside(leaf);
            job.settle(at, Kind::NotNeeded, "", means);
        } else if adds_up && !is_plugin {
            job.put_beside(leaf);
        } else {
            job.put(leaf);
        }
    }
}

/// The table that a key of a later file replaces, if it replaces one.
fn replaces(raw: &[String], version: i64) -> Option<Vec<String>> {
    let is_table = match raw.first()?.as_str() {
        "proxy_plugins" | "stream_processors" | "timeouts" => true,
        "plugins" => version < 3,
        _ => false,
    };
    (is_table && raw.len() >= 2).then(|| raw[..2].to_vec())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Integer(number) => *number == 0,
        Value::Boolean(flag) => !flag,
        _ => false,
    }
}
