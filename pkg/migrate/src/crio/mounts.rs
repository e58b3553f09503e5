//! containers-mounts.conf(5): mounts that every container gets.

use std::path::{Path, PathBuf};

use toml::Value;

use crate::{error::Result, finding::Kind, job::Job, leaf, source::Node};

/// The node's own comes before what a distribution ships; one of them is read.
const FILES: [&str; 2] = ["/etc/containers/mounts.conf", "/usr/share/containers/mounts.conf"];

pub(super) fn settle(node: &mut Node, job: &mut Job) -> Result<()> {
    let at = job.get(&["crio", "runtime", "default_mounts_file"]);
    let named = at.and_then(|at| job.text(at)).filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(at) = at {
        let kind = if named.is_some() { Kind::NotNeeded } else { Kind::Default };
        job.settle(at, kind, "", "");
    }
    let files = named.map_or_else(|| FILES.iter().map(PathBuf::from).collect(), |file| vec![file]);
    for file in files {
        if let Some(text) = node.text(&file)? {
            lines(job, &file, &text);
            break;
        }
    }
    Ok(())
}

fn lines(job: &mut Job, file: &Path, text: &str) {
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = format!("line {}", number + 1);
        let path = vec!["mounts".to_owned(), file.display().to_string(), key.clone()];
        job.put(leaf::plain(file, key, path, Value::String(line.to_owned())));
    }
    for at in job.find("mounts/**") {
        let means = "containers get the mounts that their pods ask for: add a volume, or an NRI plugin that \
                     mounts it";
        job.settle(at, Kind::NoCounterpart, "", means);
    }
}
