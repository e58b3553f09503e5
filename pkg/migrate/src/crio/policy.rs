//! containers-policy.json(5): husk checks no signatures, but it can refuse registries.

use std::{collections::BTreeSet, path::PathBuf};

use crate::{
    error::Result,
    finding::Kind,
    hosts::{self, is_host},
    job::{At, Job},
    leaf,
    source::Node,
};

/// The system's.
const FILE: &str = "/etc/containers/policy.json";
/// Of namespaces, `<namespace>.json` each (crio.conf(5), signature_policy_dir).
const DIR: &str = "/etc/crio/policies";

const UNSIGNED: &str = "husk checks no signatures: an image without a valid one is pulled and run. Let an admission webhook \
                        refuse it, or keep CRI-O on this node";

const PART: &str = "of a check that husk does not make";

/// What a scope wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Anything,
    Nothing,
    Signatures,
}

pub(super) fn settle(node: &mut Node, job: &mut Job) -> Result<()> {
    let path = path_of(job, "signature_policy", FILE);
    if let Some(text) = node.text(&path)? {
        leaf::json(&path, &["policy"], &text)?.into_iter().for_each(|leaf| job.put(leaf));
        whole(job);
    }
    let dir = path_of(job, "signature_policy_dir", DIR);
    for name in node.list(&dir)? {
        let path = dir.join(&name);
        if let Some(namespace) = name.strip_suffix(".json") {
            let text = node.text(&path)?.unwrap_or_default();
            for leaf in leaf::json(&path, &["policies", namespace], &text)? {
                job.put(leaf);
            }
        }
    }
    for at in job.find("policies/**") {
        if !is_type(job, at) {
            job.settle(at, Kind::NotNeeded, "", PART);
            continue;
        }
        let means = format!("of one namespace's pods: husk has one policy for the node. {UNSIGNED}");
        job.settle(at, Kind::Insecure, "", means);
    }
    Ok(())
}

fn path_of(job: &mut Job, name: &str, usual: &str) -> PathBuf {
    let at = job.get(&["crio", "image", name]);
    let text =
        at.and_then(|at| job.text(at)).filter(|text| text.starts_with('/')).unwrap_or(usual).to_owned();
    if let Some(at) = at {
        job.settle(at, Kind::NotNeeded, "", "the file is read here, and what it says is listed");
    }
    PathBuf::from(text)
}

/// The system's policy. That of Docker's transport is what the CRI's pulls ask for.
fn whole(job: &mut Job) {
    const DOCKER: [&str; 3] = ["policy", "transports", "docker"];
    let global = wants(job, &["policy", "default"]).unwrap_or(Wants::Nothing);
    let default = wants(job, &[DOCKER[0], DOCKER[1], DOCKER[2], ""]).unwrap_or(global);
    let mut allowed = BTreeSet::new();
    for scope in job.names(&DOCKER) {
        let wants = wants(job, &[DOCKER[0], DOCKER[1], DOCKER[2], &scope]).unwrap_or(Wants::Nothing);
        let host = scope.split('/').next().unwrap_or_default().to_owned();
        if wants != Wants::Nothing && is_host(&host) {
            allowed.insert(host);
        }
        for at in job.below(&[DOCKER[0], DOCKER[1], DOCKER[2], &scope]) {
            docker_scope(job, at, &scope, wants, default);
        }
    }
    if default == Wants::Nothing {
        job.registries.allow_only(allowed);
    }
    for at in job.find("policy/default/**") {
        default_scope(job, at, global, default);
    }
    for at in job.find("policy/transports/**") {
        job.settle(at, Kind::NotNeeded, "", "husk pulls from registries alone");
    }
}

/// Whether a key says what kind of requirement it is; the others say more about it.
fn is_type(job: &Job, at: At) -> bool {
    let parts: Vec<&str> = job.leaf(at).path.iter().rev().take(2).map(String::as_str).collect();
    matches!(parts.as_slice(), ["type", number] if number.parse::<usize>().is_ok())
}

/// All requirements of a scope have to be met.
fn wants(job: &Job, scope: &[&str]) -> Option<Wants> {
    let mut found = None;
    for at in job.below(scope) {
        if is_type(job, at) {
            let one = match job.text(at) {
                Some("insecureAcceptAnything") => Wants::Anything,
                Some("reject") => Wants::Nothing,
                _ => Wants::Signatures,
            };
            found = Some(match (found, one) {
                (Some(Wants::Nothing), _) | (_, Wants::Nothing) => Wants::Nothing,
                (Some(Wants::Signatures), _) | (_, Wants::Signatures) => Wants::Signatures,
                _ => Wants::Anything,
            });
        }
    }
    found
}

fn default_scope(job: &mut Job, at: At, global: Wants, default: Wants) {
    let husk = format!("{}/_default/hosts.toml", hosts::DIR);
    match global {
        _ if !is_type(job, at) => job.settle(at, Kind::NotNeeded, "", PART),
        Wants::Anything => job.settle(at, Kind::Default, "", "husk checks no signatures"),
        Wants::Nothing if default == Wants::Nothing => {
            job.settle(at, Kind::Taken, &husk, "registries that the policy does not name are blocked");
        }
        Wants::Nothing => job.settle(at, Kind::NotNeeded, "", "husk pulls from registries alone"),
        Wants::Signatures => job.settle(at, Kind::Insecure, "", UNSIGNED),
    }
}

fn docker_scope(job: &mut Job, at: At, scope: &str, wants: Wants, default: Wants) {
    let host = scope.split('/').next().unwrap_or_default();
    let husk = format!("{}/{host}/hosts.toml", hosts::DIR);
    match wants {
        _ if !is_type(job, at) => job.settle(at, Kind::NotNeeded, "", PART),
        Wants::Signatures => job.settle(at, Kind::Insecure, "", UNSIGNED),
        Wants::Nothing if is_host(scope) => {
            let file = job.registries.host(scope);
            file.blocked = true;
            file.mirrors.clear();
            job.settle(at, Kind::Taken, &husk, "the registry is blocked");
        }
        Wants::Nothing if scope.is_empty() => {
            let husk = format!("{}/_default/hosts.toml", hosts::DIR);
            job.settle(at, Kind::Taken, &husk, "registries that the policy does not name are blocked");
        }
        Wants::Nothing => {
            let means = format!("husk cannot refuse a part of a registry: images of {scope} are pulled");
            job.settle(at, Kind::Insecure, "", means);
        }
        Wants::Anything if default != Wants::Nothing || scope.is_empty() => {
            job.settle(at, Kind::Default, "", "")
        }
        Wants::Anything if is_host(scope) => {
            job.settle(at, Kind::Taken, &husk, "the registry is not blocked")
        }
        Wants::Anything if is_host(host) => {
            let means = format!("husk cannot allow a part of a registry: all of {host} is allowed");
            job.settle(at, Kind::Insecure, &husk, means);
        }
        Wants::Anything => {
            let means = format!("{scope} is no host of a registry: its images are refused");
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}
