//! Certificates of registries: `/etc/containers/certs.d` and `/etc/docker/certs.d` (containers-certs.d(5)).

use std::path::Path;

use crate::{
    error::Result,
    finding::Kind,
    hosts::{self, is_host},
    job::Job,
    plan::PlannedFile,
    source::Node,
};

const ROOTS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Copies them; what is used for a host is used for it as a mirror too.
pub(super) fn copy(node: &mut Node, job: &mut Job) -> Result<()> {
    for root in ROOTS {
        for path in node.walk(Path::new(root), 1)? {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let host = below.parent().and_then(Path::to_str).unwrap_or_default().to_owned();
            let file = path.display().to_string();
            let name = below.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let is_one = [".crt", ".cert", ".key"].iter().any(|end| name.ends_with(end));
            if !is_host(&host) || !is_one {
                job.settle_file(&file, Kind::NotNeeded, "", "no certificate of a registry");
                continue;
            }
            let to = Path::new(hosts::DIR).join(&host).join(&name);
            if job.files.iter().any(|file| file.path == to) {
                job.settle_file(&file, Kind::Overridden, "", format!("{} has it too", ROOTS[0]));
                continue;
            }
            let contents = node.read(&path)?.unwrap_or_default();
            let husk = to.display().to_string();
            note(job, &host, &name, &husk);
            job.settle_file(&file, Kind::Taken, &husk, "");
            job.files.push(PlannedFile { path: to, contents, secret: !name.ends_with(".crt") });
        }
    }
    Ok(())
}

/// `*.crt` are authorities, `*.cert` with its `*.key` is the client's.
fn note(job: &mut Job, host: &str, name: &str, path: &str) {
    let certificates = job.registries.certificates(host);
    if name.ends_with(".crt") {
        certificates.ca.push(path.to_owned());
    } else if let Some(stem) = path.strip_suffix(".cert") {
        certificates.client.push((path.to_owned(), format!("{stem}.key")));
    }
}
