//! containerd's config.toml with its imports, and what it names.

mod canonical;
mod certs;
mod files;
mod registry;
mod rules;
mod runtimes;
mod streaming;

use std::path::{Path, PathBuf};

use crate::{
    error::{MigrateError, Result},
    finding::Kind,
    job::Job,
    rules::{apply, settle_rest},
    source::Node,
    unit,
};

/// Where containerd looks (containerd-config.toml(5)).
const CONFIG: &str = "/etc/containerd/config.toml";

pub(crate) fn translate(node: &mut Node, config: Option<PathBuf>) -> Result<Job> {
    let mut job = Job::default();
    let main = config.as_deref().unwrap_or(Path::new(CONFIG));
    let version = match files::read(node, &mut job, main)? {
        Some(version) => version,
        None if config.is_some() => {
            return Err(MigrateError::Missing { path: main.to_owned(), wanted_by: "--config".to_owned() });
        }
        None => {
            job.notes.push(format!("{CONFIG} is not there: this is containerd's default configuration"));
            files::NEWEST
        }
    };
    runtimes::settle(&mut job);
    streaming::settle(&mut job);
    registry::settle(node, &mut job, version)?;
    verifiers(node, &mut job)?;
    if version >= 3 && job.get(&["nri", "disable"]).is_none() {
        job.notes.push(
            "containerd 2 has NRI on where nothing is said; husk has it off until [nri] enabled = true"
                .into(),
        );
    }
    apply(&mut job, rules::RULES);
    unit::proxies(node, &mut job, "containerd")?;
    settle_rest(&mut job, "containerd");
    Ok(job)
}

/// Image verifiers are programs in a directory, which is named in every complete configuration and empty as a rule.
fn verifiers(node: &mut Node, job: &mut Job) -> Result<()> {
    let Some(at) = job.get(&["plugins", "io.containerd.image-verifier.v1.bindir", "bin_dir"]) else {
        return Ok(());
    };
    let dir = job.text(at).unwrap_or_default().to_owned();
    if dir.is_empty() || node.list(Path::new(&dir))?.is_empty() {
        job.settle(at, Kind::NotNeeded, "", "no verifier is there");
    } else {
        let means = "images are not verified: what a verifier would refuse is pulled. Let an admission \
                     webhook refuse it";
        job.settle(at, Kind::Insecure, "", means);
    }
    Ok(())
}
