//! `[plugins...registry]`: config_path, and the mirrors, TLS settings and credentials of old.

use std::path::{Path, PathBuf};

use super::certs;
use crate::{
    auth::{self, encode},
    error::Result,
    finding::Kind,
    hosts::{self, Endpoint, authority, default_server, is_exposed, is_host, is_url},
    job::{At, Job, texts},
    source::Node,
};

/// Where containerd 2 looks when nothing is said (plugins/cri/images/plugin.go).
const ROOTS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

const MIRROR: &str = "it is a mirror's: husk sends it as a header of hosts.toml, and from the file when it is asked for \
                      credentials";
const EXPOSED: &str = "it is a mirror's that is asked unencrypted, so husk does not send it there";

pub(super) fn settle(node: &mut Node, job: &mut Job, version: i64) -> Result<()> {
    let mirrors = job.names(&["cri", "registry", "mirrors"]);
    let roots = roots(job);
    if !roots.is_empty() {
        certs::copy(node, job, &roots)?;
        for pattern in ["cri/registry/mirrors/*/**", "cri/registry/configs/*/tls/**"] {
            for at in job.find(pattern) {
                job.settle(at, Kind::NotNeeded, "", "containerd does not read it beside config_path");
            }
        }
    } else if version >= 3 && mirrors.is_empty() {
        let roots: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).collect();
        certs::copy(node, job, &roots)?;
    }
    for name in job.names(&["cri", "registry", "mirrors"]) {
        mirror(job, &name);
    }
    for name in job.names(&["cri", "registry", "configs"]) {
        tls(job, &name);
        credentials(job, &["cri", "registry", "configs", &name, "auth"], &name);
    }
    for name in job.names(&["cri", "registry", "auths"]) {
        credentials(job, &["cri", "registry", "auths", &name], &name);
    }
    Ok(())
}

/// The directories of config_path; the CRI's counts before that of the transfer service.
fn roots(job: &mut Job) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    for pattern in [["cri", "registry", "config_path"].as_slice(), &["transfer", "config_path"]] {
        let Some(at) = job.get(pattern) else { continue };
        let text = job.text(at).unwrap_or_default().to_owned();
        let own: Vec<PathBuf> =
            text.split(':').filter(|root| Path::new(root).is_absolute()).map(PathBuf::from).collect();
        match (own.is_empty(), roots.is_empty() || roots == own) {
            (true, _) => job.settle(at, Kind::Default, "", ""),
            (false, true) => {
                let means = format!(
                    "its files are copied; what writes to {text} (a mirror's installer) has to write there \
                     now"
                );
                job.settle(at, Kind::Taken, hosts::DIR, means);
                roots = own;
            }
            (false, false) => {
                job.settle(at, Kind::NoCounterpart, "", "the CRI plugin names another directory")
            }
        }
    }
    roots
}

/// `mirrors."<host>".endpoint`: asked in their order, then the registry itself (`registryEndpoints`).
fn mirror(job: &mut Job, name: &str) {
    let Some(at) = job.get(&["cri", "registry", "mirrors", name, "endpoint"]) else { return };
    let host = if name == "*" { "_default" } else { name };
    if host != "_default" && !is_host(host) {
        return job.settle(at, Kind::NoCounterpart, "", "is not the name of a registry's host");
    }
    let urls = texts(&job.leaf(at).value);
    let (urls, wrong): (Vec<String>, Vec<String>) = urls.into_iter().partition(|url| is_url(url));
    if !wrong.is_empty() {
        return job.settle(
            at,
            Kind::NoCounterpart,
            "",
            format!("not the URL of a host: {}", wrong.join(", ")),
        );
    }
    let mut endpoints: Vec<Endpoint> = urls.iter().map(|url| endpoint(url)).collect();
    let own = default_server(host);
    // The registry itself, where it is named last, is the server.
    let is_own = |endpoint: &mut Endpoint| [authority(&own), host].contains(&authority(&endpoint.url));
    let server = endpoints.pop_if(is_own).filter(|endpoint| endpoint.url != own || endpoint.override_path);
    if endpoints.is_empty() && server.is_none() {
        return job.settle(at, Kind::Default, "", "");
    }
    let exposed =
        endpoints.iter().chain(&server).find(|endpoint| endpoint.is_insecure()).map(|e| e.url.clone());
    let file = job.registries.host(host);
    file.mirrors = endpoints;
    file.server = server;
    let husk = format!("{}/{host}/hosts.toml", hosts::DIR);
    match exposed {
        Some(url) => job.settle(
            at,
            Kind::Insecure,
            &husk,
            format!("taken over; {url} is asked unencrypted, as before"),
        ),
        None => job.settle(at, Kind::Taken, &husk, ""),
    }
}

/// An endpoint of old: its path, where it has one, is the whole.
fn endpoint(url: &str) -> Endpoint {
    let endpoint = Endpoint::new(url);
    let path =
        endpoint.url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    Endpoint { override_path: path.is_some_and(|path| path != "v2"), ..endpoint }
}

/// `configs."<host>".tls`: for whoever is at that host, as a mirror and as a registry.
fn tls(job: &mut Job, host: &str) {
    let top = ["cri", "registry", "configs", host, "tls"];
    let husk = format!("{}/{host}/hosts.toml", hosts::DIR);
    let mut client = (String::new(), String::new());
    for at in job.below(&top) {
        let name = job.leaf(at).path.get(top.len()).cloned().unwrap_or_default();
        let text = job.text(at).unwrap_or_default().to_owned();
        if !is_host(host) {
            job.settle(at, Kind::NoCounterpart, "", "is not the name of a registry's host");
        } else if text.is_empty() && name != "insecure_skip_verify"
            || (name == "insecure_skip_verify" && !job.is_true(at))
        {
            job.settle(at, Kind::Default, "", "");
        } else {
            match name.as_str() {
                "ca_file" => job.registries.certificates(host).ca.push(text),
                "cert_file" => client.0 = text,
                "key_file" => client.1 = text,
                "insecure_skip_verify" => skip_verify(job, host),
                _ => continue,
            }
            job.registries.host(host);
            match name.as_str() {
                "insecure_skip_verify" => {
                    job.settle(
                        at,
                        Kind::Insecure,
                        &husk,
                        "taken over; any certificate is accepted, as before",
                    );
                }
                _ => job.settle(at, Kind::Taken, &husk, ""),
            }
        }
    }
    if !client.0.is_empty() {
        job.registries.certificates(host).client.push(client);
    }
}

fn skip_verify(job: &mut Job, host: &str) {
    job.registries.mirrors_at(host).for_each(|mirror| mirror.skip_verify = true);
    let server = &mut job.registries.host(host).server;
    server.get_or_insert_with(|| Endpoint::new(&default_server(host))).skip_verify = true;
}

/// Credentials for a host: in the file of credentials, and for a mirror a header besides.
fn credentials(job: &mut Job, top: &[&str], registry: &str) {
    let keys: Vec<(At, String)> = job
        .below(top)
        .into_iter()
        .map(|at| (at, job.leaf(at).path.get(top.len()).cloned().unwrap_or_default()))
        .collect();
    let value = |job: &Job, name: &str| {
        let at = keys.iter().find(|(_, key)| key == name).map(|(at, _)| *at);
        at.and_then(|at| job.text(at)).unwrap_or_default().to_owned()
    };
    let (user, password, ready) = (value(job, "username"), value(job, "password"), value(job, "auth"));
    let auth = if !user.is_empty() { encode(&user, &password) } else { ready };
    let mut means = auth::MEANS;
    if !auth.is_empty() {
        let basic = format!("Basic {auth}");
        for mirror in job.registries.mirrors_at(auth::host(registry)) {
            means = MIRROR;
            if is_exposed(&mirror.url) {
                means = EXPOSED;
            } else {
                mirror.headers.insert("authorization".into(), basic.clone());
            }
        }
        job.credentials.add(registry, auth);
    }
    for (at, name) in &keys {
        let is_empty = job.text(*at).is_none_or(str::is_empty);
        match name.as_str() {
            "username" | "password" | "auth" if is_empty => job.settle(*at, Kind::Default, "", ""),
            "username" | "password" | "auth" => job.settle(*at, Kind::Taken, auth::FILE, means),
            "identitytoken" if is_empty => job.settle(*at, Kind::Default, "", ""),
            "identitytoken" => {
                let means =
                    "an identity token is not taken over: write it into /etc/husk/auth.json (identitytoken)";
                job.settle(*at, Kind::NoCounterpart, "", means);
            }
            _ => {}
        }
    }
}
