//! The last look at a plan.

use std::path::Path;

use husk_config::DEFAULT_PATH;

use crate::{
    auth,
    error::{MigrateError, Result},
    finding::Kind,
    job::Job,
    plan::Plan,
};

/// Puts a translation together. What huskd would not start with is taken out again, and the finding says so.
pub(crate) fn finish(mut job: Job) -> Result<Plan> {
    let credentials = job.credentials.file();
    if credentials.is_some() {
        job.draft.set(auth::KEY, auth::FILE.into(), "credentials that files have".into());
    }
    take_out_what_is_refused(&mut job)?;
    let mut files = job.files;
    files.extend(job.registries.files());
    files.extend(credentials);
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
