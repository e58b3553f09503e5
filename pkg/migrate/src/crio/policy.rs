//! containers-policy.json(5): husk reads it itself (`images.signature_policy`), unless a rule is in it that husk does not check.
//! With such a rule it would not start, so what is left is to refuse registries.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

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

/// The key that names the policy.
const KEY: &str = "images.signature_policy";

const UNSIGNED: &str = "husk checks signatures by sigstore's keys alone, so this policy is not taken over: an image without a valid one is \
                        pulled and run. Write a policy with sigstoreSigned and keys (docs/signatures.md), or keep CRI-O on this node";

/// Of what husk does not check; it refuses a policy with one of these.
const UNKNOWN: [&str; 2] = ["signedBy", "signedBaseLayer"];

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
        match taken(job) {
            true => hand_over(job, &path),
            false => whole(job),
        }
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
        let means = "of one namespace's pods: husk has one policy for the node, images.signature_policy";
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

/// Whether husk itself can read the policy and it asks for anything.
fn taken(job: &Job) -> bool {
    let of_pulls = || {
        let default = job.find("policy/default/**").into_iter();
        default.chain(job.find("policy/transports/docker/**"))
    };
    let is_unknown = |at: &At| {
        let names = &job.leaf(*at).path;
        names.iter().any(|name| name == "fulcio" || name == "pki" || name.starts_with("rekorPublicKey"))
            || (is_type(job, *at) && job.text(*at).is_some_and(|kind| UNKNOWN.contains(&kind)))
    };
    let asks = |at: &At| is_type(job, *at) && job.text(*at) != Some("insecureAcceptAnything");
    of_pulls().any(|at| asks(&at)) && !of_pulls().any(|at| is_unknown(&at))
}

/// The whole file is husk's to read.
fn hand_over(job: &mut Job, path: &Path) {
    let text = path.display().to_string();
    for at in job.find("policy/**") {
        job.take(at, KEY, text.clone().into(), "husk reads the file itself");
    }
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
        Wants::Anything => job.settle(at, Kind::Default, "", "every image is pulled where nothing is said"),
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
