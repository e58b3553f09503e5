//! containers-registries.conf(5): mirrors, blocked and insecure registries, short names.
//!
//! A `[[registry]]` whose prefix is a host becomes that host's hosts.toml. One of a namespace, or of all subdomains, has no
//! place in a file that is looked up by the host alone.

use std::{collections::BTreeMap, path::Path};

use toml::Value;

use super::files;
use crate::{
    error::Result,
    finding::Kind,
    hosts::{self, Endpoint, default_server, is_host},
    job::{At, Job, texts},
    source::Node,
};

pub(super) fn settle(job: &mut Job) {
    let mut by_prefix: BTreeMap<String, String> = BTreeMap::new();
    for table in job.names(&["registry"]) {
        let Some(prefix) = prefix(job, &table) else { continue };
        if let Some(earlier) = by_prefix.insert(prefix, table.clone()) {
            let file = table.split('#').next().unwrap_or_default().to_owned();
            for at in job.below(&["registry", &earlier]) {
                job.settle(at, Kind::Overridden, "", format!("{file} has the same prefix and the last word"));
            }
        }
    }
    for (prefix, table) in by_prefix {
        registry(job, &prefix, &table);
    }
    former(job);
    short_names(job);
    helpers(job);
}

/// Leaves the files to huskd; false when it could not read them: there are none, or they are of the first version.
pub(super) fn keep(node: &mut Node, job: &mut Job) -> Result<bool> {
    if node.text(Path::new(files::REGISTRIES))?.is_none() {
        job.notes.push(format!("there is no {}: nothing to point to", files::REGISTRIES));
        return Ok(false);
    }
    if !job.find("registries/registries/**").is_empty() {
        let version = "is of version 1 of its format, which huskd does not read: it is translated";
        job.notes.push(format!("{} {version}", files::REGISTRIES));
        return Ok(false);
    }
    helpers(job);
    let origin = format!("--keep-registries-conf: {} and its drop-ins as they are", files::REGISTRIES);
    job.draft.set(KEY, files::REGISTRIES.into(), origin);
    for at in [job.find("registry/**"), job.find("registries/**")].concat() {
        let is_known = job.leaf(at).path.last().is_some_and(|last| KNOWN.contains(&last.as_str()))
            || job.leaf(at).path.get(1).is_some_and(|part| part == "aliases");
        let is_insecure = job.leaf(at).path.last().is_some_and(|last| last == "insecure") && job.is_true(at);
        match (is_known, is_insecure) {
            (false, _) => {}
            (_, true) => {
                let means = "any certificate is accepted, and plain HTTP where there is no HTTPS, as before";
                job.settle(at, Kind::Insecure, KEY, means);
            }
            _ => job.settle(at, Kind::Taken, KEY, ""),
        }
    }
    Ok(true)
}

/// The key of husk.toml that points to the file.
const KEY: &str = "images.registries_conf";
/// What huskd reads of it.
const KNOWN: [&str; 8] = [
    "prefix",
    "location",
    "insecure",
    "blocked",
    "mirror-by-digest-only",
    "pull-from-mirror",
    "unqualified-search-registries",
    "short-name-mode",
];

/// Helpers that the containers libraries start.
fn helpers(job: &mut Job) {
    for at in job.find("registries/credential-helpers") {
        let is_default = texts(&job.leaf(at).value).iter().all(|name| name == "containers-auth.json");
        match is_default {
            true => job.settle(at, Kind::Default, "", ""),
            false => {
                let means = "the kubelet runs credential providers, not these helpers \
                             (--image-credential-provider-config)";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
        }
    }
    for at in job.find("registries/additional-layer-store-auth-helper") {
        job.settle(
            at,
            Kind::NoCounterpart,
            "",
            "husk has no additional layer stores: lazy pulling is not there",
        );
    }
}

fn text(job: &Job, table: &str, name: &str) -> Option<String> {
    job.get(&["registry", table, name])
        .and_then(|at| job.text(at))
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn flag(job: &Job, table: &str, name: &str) -> bool {
    job.get(&["registry", table, name]).is_some_and(|at| job.is_true(at))
}

/// A missing prefix is the location.
fn prefix(job: &Job, table: &str) -> Option<String> {
    text(job, table, "prefix").or_else(|| text(job, table, "location"))
}

fn registry(job: &mut Job, prefix: &str, table: &str) {
    if !is_host(prefix) {
        return lost(job, prefix, table);
    }
    let insecure = flag(job, table, "insecure");
    let blocked = flag(job, table, "blocked");
    let digest_only = flag(job, table, "mirror-by-digest-only");
    let location = text(job, table, "location").unwrap_or_else(|| prefix.to_owned());
    let mut mirrors = mirrors(job, table, digest_only);
    let mut servers = endpoints(&location, insecure);
    // Without encryption as the last resort: it is the server, and what comes before it is asked first.
    let server = servers.pop().filter(|server| server.url != default_server(prefix) || server.is_insecure());
    if !blocked {
        mirrors.extend(servers);
    }
    let file = job.registries.host(prefix);
    file.mirrors = mirrors;
    file.server = server;
    file.blocked = blocked;
    settle_keys(job, prefix, table);
}

/// Who is asked for a location: with `insecure`, over HTTPS with any certificate first and then over HTTP.
fn endpoints(location: &str, insecure: bool) -> Vec<Endpoint> {
    let (host, path) = location.split_once('/').unwrap_or((location, ""));
    let host = default_server(host);
    let host = host.split_once("://").map_or("", |(_, host)| host);
    let with = |scheme: &str| {
        let path = if path.is_empty() { String::new() } else { format!("/v2/{path}") };
        Endpoint { override_path: !path.is_empty(), ..Endpoint::new(&format!("{scheme}://{host}{path}")) }
    };
    match insecure {
        false => vec![with("https")],
        true => vec![Endpoint { skip_verify: true, ..with("https") }, with("http")],
    }
}

fn mirrors(job: &Job, table: &str, digest_only: bool) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for number in job.names(&["registry", table, "mirror"]) {
        let key = |name: &str| job.get(&["registry", table, "mirror", &number, name]);
        let location = key("location").and_then(|at| job.text(at)).unwrap_or_default();
        let is_one = is_host(location.split('/').next().unwrap_or_default());
        let insecure = key("insecure").is_some_and(|at| job.is_true(at));
        let from = key("pull-from-mirror").and_then(|at| job.text(at)).unwrap_or_default();
        let digest_only = digest_only || from == "digest-only";
        if is_one && from != "tag-only" {
            found.extend(endpoints(location, insecure).into_iter().map(|e| Endpoint { digest_only, ..e }));
        }
    }
    found
}

fn settle_keys(job: &mut Job, prefix: &str, table: &str) {
    let husk = format!("{}/{prefix}/hosts.toml", hosts::DIR);
    for at in job.below(&["registry", table]) {
        let path: Vec<String> = job.leaf(at).path[2..].to_vec();
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let (is_true, value) = (job.is_true(at), job.text(at).unwrap_or_default().to_owned());
        match parts.as_slice() {
            ["insecure"] | ["mirror", _, "insecure"] if is_true => {
                let means = "taken over: any certificate is accepted, and plain HTTP where there is no \
                             HTTPS, as before";
                job.settle(at, Kind::Insecure, &husk, means);
            }
            ["blocked"] if is_true => {
                job.settle(at, Kind::Taken, &husk, "nothing is pulled but from its mirrors");
            }
            ["mirror-by-digest-only"] if is_true => digests(job, at, &husk),
            ["mirror", _, "pull-from-mirror"] => match value.as_str() {
                "digest-only" => digests(job, at, &husk),
                "tag-only" => {
                    let means = "husk has no mirrors for tags alone: this one is left out";
                    job.settle(at, Kind::NoCounterpart, "", means);
                }
                _ => job.settle(at, Kind::Default, "", ""),
            },
            ["insecure" | "blocked" | "mirror-by-digest-only"] | ["mirror", _, "insecure"] => {
                job.settle(at, Kind::Default, "", "");
            }
            ["mirror", _, "location"] if !is_host(value.split('/').next().unwrap_or_default()) => {
                job.settle(at, Kind::NoCounterpart, "", "is not the name of a host: left out");
            }
            ["prefix" | "location"] | ["mirror", _, "location"] => job.settle(at, Kind::Taken, &husk, ""),
            _ => {}
        }
    }
}

fn digests(job: &mut Job, at: At, husk: &str) {
    let means = "the registry alone says what a tag means; content by digest comes from the mirror, of \
                 images by tag too";
    job.settle(at, Kind::Taken, husk, means);
}

/// A registry that is no host.
fn lost(job: &mut Job, prefix: &str, table: &str) {
    let blocked = flag(job, table, "blocked");
    for at in job.below(&["registry", table]) {
        let last = job.leaf(at).path.last().cloned().unwrap_or_default();
        let known =
            ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "pull-from-mirror"];
        if !known.contains(&last.as_str()) {
            continue;
        }
        if blocked && last == "blocked" {
            let means = format!(
                "{prefix} is not a whole registry, and husk cannot block a part of one: images of it are \
                 pulled"
            );
            job.settle(at, Kind::Insecure, "", means);
        } else if matches!(job.leaf(at).value, Value::Boolean(false)) {
            job.settle(at, Kind::Default, "", "");
        } else {
            let means = format!(
                "{prefix} is not a whole registry, and a hosts.toml holds for one: its images are pulled \
                 from where their names say"
            );
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}

/// The first version of the format: lists of hosts.
fn former(job: &mut Job) {
    for (list, name) in [
        ("insecure", "registries/registries/insecure/registries"),
        ("block", "registries/registries/block/registries"),
    ] {
        for at in job.find(name) {
            let hosts = texts(&job.leaf(at).value);
            for host in hosts.iter().filter(|host| is_host(host)) {
                let mut servers = endpoints(host, list == "insecure");
                let file = job.registries.host(host);
                file.blocked |= list == "block";
                if list == "insecure" {
                    file.server = servers.pop();
                    file.mirrors.extend(servers);
                }
            }
            match (hosts.iter().all(|host| is_host(host)), list) {
                (false, _) => {
                    let means = "not all of them are hosts; those that are none are left out";
                    job.settle(at, Kind::Insecure, hosts::DIR, means);
                }
                (true, "insecure") if !hosts.is_empty() => {
                    let means = "taken over: any certificate is accepted, and plain HTTP where there is no \
                                 HTTPS, as before";
                    job.settle(at, Kind::Insecure, hosts::DIR, means);
                }
                _ => job.settle(at, Kind::Taken, hosts::DIR, ""),
            }
        }
    }
}

/// Names without a host are docker.io's, to husk as to Docker.
fn short_names(job: &mut Job) {
    for pattern in ["registries/unqualified-search-registries", "registries/registries/search/registries"] {
        for at in job.find(pattern) {
            let hosts = texts(&job.leaf(at).value);
            match hosts.as_slice() {
                [] => {
                    let means = "CRI-O refuses short names, husk takes them as docker.io's";
                    job.settle(at, Kind::NoCounterpart, "", means);
                }
                [one] if one == "docker.io" => job.settle(at, Kind::Default, "", ""),
                _ => {
                    let means = "a name without a host, such as busybox, is docker.io/library/busybox: name \
                                 images in full";
                    job.settle(at, Kind::NoCounterpart, "", means);
                }
            }
        }
    }
    for at in job.find("registries/short-name-mode") {
        job.settle(at, Kind::NotNeeded, "", "husk never guesses: a short name is docker.io's");
    }
    for at in job.find("registries/aliases/*") {
        let leaf = job.leaf(at);
        let name = leaf.path.last().cloned().unwrap_or_default();
        let full = if name.contains('/') {
            format!("docker.io/{name}")
        } else {
            format!("docker.io/library/{name}")
        };
        match leaf.value.as_str() {
            Some("") => job.settle(at, Kind::Default, "", ""),
            Some(value) if value == full => job.settle(at, Kind::Default, "", ""),
            _ => {
                let means = format!("{name} is {full}: name the image in full");
                job.settle(at, Kind::NoCounterpart, "", means);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_with_a_path_is_asked_below_that_path() {
        let urls = |location: &str, insecure: bool| {
            endpoints(location, insecure)
                .into_iter()
                .map(|e| (e.url, e.override_path, e.skip_verify))
                .collect::<Vec<_>>()
        };
        assert_eq!(urls("m.example:5000", false), [("https://m.example:5000".into(), false, false)]);
        assert_eq!(urls("docker.io", false), [("https://registry-1.docker.io".into(), false, false)]);
        assert_eq!(
            urls("m.example/hub", true),
            [
                ("https://m.example/v2/hub".into(), true, true),
                ("http://m.example/v2/hub".into(), true, false)
            ]
        );
    }
}
