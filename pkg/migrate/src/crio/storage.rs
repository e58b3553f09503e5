//! containers-storage.conf(5): where CRI-O's images are. husk has a store of its own; its images can be taken over from there.

use std::path::Path;

use crate::{
    error::Result,
    finding::Kind,
    job::{Job, texts},
    leaf,
    source::Node,
};

/// The node's own comes before what a distribution ships; one of them is read.
const FILES: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
/// Where the store is unless somebody says otherwise.
const GRAPHROOT: &str = "/var/lib/containers/storage";
const OWN: &str = "husk has a store of its own";

pub(super) fn settle(node: &mut Node, job: &mut Job) -> Result<()> {
    for file in FILES.map(Path::new) {
        if let Some(text) = node.text(file)? {
            leaf::toml(file, &["storage.conf"], &text)?.into_iter().for_each(|leaf| job.put(leaf));
            break;
        }
    }
    let text = |job: &Job, path: &[&str]| {
        let at = job.get(path)?;
        job.text(at).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    // crio.conf has the last word.
    let root = text(job, &["crio", "imagestore"])
        .or_else(|| text(job, &["crio", "root"]))
        .or_else(|| text(job, &["storage.conf", "storage", "imagestore"]))
        .or_else(|| text(job, &["storage.conf", "storage", "graphroot"]))
        .unwrap_or_else(|| GRAPHROOT.to_owned());
    if root != GRAPHROOT {
        job.notes.push(format!(
            "CRI-O's images can be taken over without a pull: husk image import --from containers-storage --root {root}"
        ));
    }
    for at in job.find("storage.conf/**") {
        let name = job.leaf(at).path.last().cloned().unwrap_or_default();
        let value = job.leaf(at).value.clone();
        match name.as_str() {
            "driver" if texts(&value).iter().all(|driver| driver == "overlay" || driver.is_empty()) => {
                job.settle(at, Kind::Default, "", "");
            }
            "driver" if texts(&value) == ["vfs"] => {
                job.settle(at, Kind::NotNeeded, "", "husk has overlay; images can be taken over");
            }
            "driver" => {
                let means = "husk has overlay alone, and takes images over from overlay and vfs: they are pulled anew";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            "additionalimagestores" if !texts(&value).is_empty() => {
                let means = "husk reads no stores of others: take their images over \
                             (husk image import --from containers-storage --root DIR)";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            _ => job.settle(at, Kind::NotNeeded, "", OWN),
        }
    }
    Ok(())
}
