//! What is to be written, and the last look at it.

use std::path::{Path, PathBuf};

use husk_config::DEFAULT_PATH;
use serde::Serialize;

use crate::{
    error::{MigrateError, Result},
    finding::{Finding, Kind},
    hosts,
    job::Job,
};

/// A file that goes with husk.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Where the node is to have it.
    pub path: PathBuf,
    /// All of it.
    pub contents: Vec<u8>,
    /// Mode 0600, and its contents are not shown.
    pub secret: bool,
}

/// What husk makes of a peer's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The text of `/etc/husk/husk.toml`, which `husk_config` has accepted.
    pub config: String,
    /// Files beside it.
    #[serde(skip)]
    pub files: Vec<PlannedFile>,
    /// What became of every key, by file and key.
    pub findings: Vec<Finding>,
    /// What no key says and somebody has to know.
    pub notes: Vec<String>,
}

impl Plan {
    /// husk.toml and the files beside it.
    pub fn all_files(&self) -> Vec<PlannedFile> {
        let (path, contents) = (PathBuf::from(DEFAULT_PATH), self.config.clone().into_bytes());
        let mut files = vec![PlannedFile { path, contents, secret: false }];
        files.extend(self.files.iter().cloned());
        files
    }

    /// The findings that somebody has to read.
    pub fn to_read(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.kind.needs_reading())
    }
}

/// Puts a translation together. What huskd would not start with is taken out again, and the finding says so.
pub(crate) fn finish(mut job: Job) -> Result<Plan> {
    hosts::write(&mut job);
    take_out_what_is_refused(&mut job)?;
    let mut files = job.files;
    files.extend(job.credentials.file());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut findings = job.findings;
    findings.sort_by(|a, b| (&a.file, &a.key).cmp(&(&b.file, &b.key)));
    let head = "Written by `husk migrate`. Every key is explained by `huskd config default`; what is not here has its \
                default there.";
    Ok(Plan { config: job.draft.text(head), files, findings, notes: job.notes })
}

fn take_out_what_is_refused(job: &mut Job) -> Result<()> {
    while let Err(error) = job.draft.check(Path::new(DEFAULT_PATH)) {
        let mut taken_out = false;
        for problem in &error.problems {
            taken_out |= job.draft.unset(&problem.key);
            for finding in &mut job.findings {
                if finding.husk == problem.key && finding.kind == Kind::Taken {
                    finding.kind = Kind::NoCounterpart;
                    finding.husk.clear();
                    finding.means = format!("husk does not take it: {}", problem.reason);
                }
            }
        }
        if !taken_out {
            return Err(MigrateError::Refused(error));
        }
    }
    Ok(())
}
