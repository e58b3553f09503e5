//! Files in CRI-O's order and with its precedence.

use std::path::Path;

use crate::{
    error::Result,
    job::Job,
    leaf::{self, Leaf},
    source::Node,
};

/// CRI-O's drop-ins (crio.conf.d(5)).
const DROP_INS: &str = "/etc/crio/crio.conf.d";
/// containers-registries.conf(5) and containers-registries.conf.d(5).
pub(super) const REGISTRIES: &str = "/etc/containers/registries.conf";
const REGISTRIES_DROP_INS: &str = "/etc/containers/registries.conf.d";

/// Directories below crio.conf.d that are read too.
const DEPTH: usize = 4;

/// crio.conf, then every file below crio.conf.d by name, whatever it ends with (`UpdateFromPath`). Whether there is a
/// crio.conf.
pub(super) fn crio(node: &mut Node, job: &mut Job, main: &Path) -> Result<bool> {
    let text = node.text(main)?;
    let found = text.is_some();
    if let Some(text) = text {
        merge(job, leaf::toml(main, &[], &text)?);
    }
    for path in node.walk(Path::new(DROP_INS), DEPTH)? {
        let text = node.text(&path)?.unwrap_or_default();
        merge(job, leaf::toml(&path, &[], &text)?);
    }
    Ok(found)
}

/// A later file wins key by key, with false and empty values too. A runtime or a workload is replaced as a whole, since
/// it is the value of a map; `storage_option` adds up (`UpdateFromDropInFile`).
fn merge(job: &mut Job, leaves: Vec<Leaf>) {
    let Some(file) = leaves.first().map(|leaf| leaf.file.clone()) else { return };
    let mut last: Option<&[String]> = None;
    for leaf in &leaves {
        let is_entry = matches!(
            leaf.raw.iter().map(String::as_str).collect::<Vec<_>>().as_slice(),
            ["crio", "runtime", "runtimes" | "workloads", _, ..]
        );
        if is_entry && last != Some(&leaf.raw[..4]) {
            job.replace_table(&leaf.raw[..4], &file);
            last = Some(&leaf.raw[..4]);
        }
    }
    for leaf in leaves {
        if leaf.raw == ["crio", "storage_option"] {
            job.put_beside(leaf);
        } else {
            job.put(leaf);
        }
    }
}

/// registries.conf and its drop-ins `*.conf` by name. A `[[registry]]` has the number that it has in its file, and the file
/// in its path: which of two of one prefix counts is seen later.
pub(super) fn registries(node: &mut Node, job: &mut Job) -> Result<()> {
    let mut paths = vec![Path::new(REGISTRIES).to_owned()];
    for name in node.list(Path::new(REGISTRIES_DROP_INS))? {
        if name.ends_with(".conf") {
            paths.push(Path::new(REGISTRIES_DROP_INS).join(name));
        }
    }
    for path in paths {
        let Some(text) = node.text(&path)? else { continue };
        for mut leaf in leaf::toml(&path, &["registries"], &text)? {
            if leaf.path.get(1).is_some_and(|part| part == "registry") {
                let number = leaf.path.get(2).cloned().unwrap_or_default();
                let rest: Vec<String> = leaf.path.iter().skip(3).cloned().collect();
                leaf.path = vec!["registry".into(), format!("{}#{number}", leaf.file)];
                leaf.path.extend(rest);
            }
            job.put(leaf);
        }
    }
    Ok(())
}
