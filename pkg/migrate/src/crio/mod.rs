//! CRI-O's crio.conf with its drop-ins, and what containers' libraries read beside it.

mod certs;
mod docker;
mod files;
mod mounts;
mod policy;
mod registries;
mod rules;
mod runtimes;
mod storage;
mod streaming;

use std::path::{Path, PathBuf};

use crate::{
    auth,
    error::{MigrateError, Result},
    finding::Kind,
    job::Job,
    keep::Keep,
    rules::{apply, settle_rest},
    source::Node,
    unit,
};

/// Where CRI-O looks (crio.conf(5)).
const CONFIG: &str = "/etc/crio/crio.conf";
/// Where `podman login` of root leaves credentials (containers-auth.json(5)); gone with a reboot.
const AUTH: &str = "/run/containers/0/auth.json";

pub(crate) fn translate(node: &mut Node, config: Option<PathBuf>, keep: Keep) -> Result<Job> {
    let mut job = Job::default();
    let main = config.as_deref().unwrap_or(Path::new(CONFIG));
    let found = files::crio(node, &mut job, main)?;
    if !found && config.is_some() {
        return Err(MigrateError::Missing { path: main.to_owned(), wanted_by: "--config".to_owned() });
    }
    files::registries(node, &mut job)?;
    certs::copy(node, &mut job)?;
    if !(keep.registries && registries::keep(node, &mut job)?) {
        registries::settle(&mut job);
    }
    policy::settle(node, &mut job)?;
    mounts::settle(node, &mut job)?;
    storage::settle(node, &mut job)?;
    credentials(node, &mut job)?;
    runtimes::settle(&mut job);
    streaming::settle(&mut job);
    metrics(&mut job);
    if job.get(&["crio", "nri", "enable_nri"]).is_none() {
        job.notes.push(
            "CRI-O has NRI on where nothing is said; husk has it off until [nri] enabled = true".into(),
        );
    }
    apply(&mut job, rules::RULES);
    unit::proxies(node, &mut job, "crio")?;
    settle_rest(&mut job, "CRI-O");
    Ok(job)
}

/// `global_auth_file`, which husk reads too, or what `podman login` left, which a reboot would take away.
fn credentials(node: &mut Node, job: &mut Job) -> Result<()> {
    let at = job.get(&["crio", "image", "global_auth_file"]);
    let file = at.and_then(|at| job.text(at)).filter(|text| !text.is_empty()).map(str::to_owned);
    match (at, file) {
        (Some(at), Some(file)) if file == auth::KUBELET_FILE => {
            job.settle(at, Kind::Default, "", "the kubelet reads this file itself and sends what is in it");
        }
        (Some(at), Some(file)) => {
            docker::read_by_husk(node, job, Path::new(&file))?;
            job.take(at, auth::KEY, file.into(), auth::MEANS);
        }
        (at, _) => {
            if let Some(at) = at {
                job.settle(at, Kind::Default, "", "");
            }
            docker::docker_file(node, job, Path::new(AUTH))?;
        }
    }
    Ok(())
}

/// Metrics: a switch, a host and a port, which are one key of husk's.
fn metrics(job: &mut Job) {
    const HUSK: &str = "metrics.address";
    let at = |name: &str| job.get(&["crio", "metrics", name]);
    let (switch, host, port) = (at("enable_metrics"), at("metrics_host"), at("metrics_port"));
    let enabled = switch.is_some_and(|at| job.is_true(at));
    let all = [switch, host, port].into_iter().flatten();
    if !enabled {
        for at in all {
            job.settle(at, Kind::Default, HUSK, "metrics are off");
        }
        return;
    }
    let name = host.and_then(|at| job.text(at)).unwrap_or("127.0.0.1");
    let name = match name {
        "localhost" => "127.0.0.1",
        "" => "0.0.0.0",
        name => name,
    };
    let number = port.and_then(|at| job.leaf(at).value.as_integer()).unwrap_or(9090);
    let address = if name.contains(':') { format!("[{name}]:{number}") } else { format!("{name}:{number}") };
    for at in all.collect::<Vec<_>>() {
        let means = "the names of metrics are husk's: docs/events-and-metrics.md";
        job.take(at, HUSK, address.clone().into(), means);
    }
}
