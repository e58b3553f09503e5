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
    apply(&mut job, rules::RULES);
    unit::proxies(node, &mut job, "containerd")?;
    settle_rest(&mut job, "containerd");
    Ok(job)
}
