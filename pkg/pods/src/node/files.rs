//! Files that a pod brings into its containers: /etc/hostname, /etc/hosts, /etc/resolv.conf.
//!
//! What is written here is copied by the pod's pause process (`husk_runtime`, `rootfs::files`); no container sees these files
//! themselves.

use std::{fmt::Write, fs, net::IpAddr, path::Path};

use husk_model::{NamespaceMode, PodConfig};
use husk_spec::PodFiles;

use crate::{
    error::{PodsError, Result},
    facilities::Networked,
    records::write_file,
};

/// Where they are in a pod's directory.
pub(crate) fn paths(pod_dir: &Path) -> PodFiles {
    PodFiles {
        hostname: pod_dir.join("hostname"),
        hosts: pod_dir.join("hosts"),
        resolv_conf: pod_dir.join("resolv.conf"),
    }
}

/// The node's own host name.
pub(crate) fn node_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Writes them for a pod with this network.
pub(crate) fn write(pod_dir: &Path, config: &PodConfig, network: &Networked) -> Result<()> {
    let paths = paths(pod_dir);
    let own_network = config.namespaces().network != NamespaceMode::Node;
    // A new UTS namespace starts with the node's name, so that is what an unnamed pod is called.
    let hostname = if config.hostname.is_empty() { node_hostname() } else { config.hostname.clone() };
    write_file(&paths.hostname, format!("{hostname}\n").as_bytes())?;
    let mut hosts = if own_network {
        hosts(&names(&hostname, &config.domain), &network.ips)
    } else {
        read_node("/etc/hosts")?
    };
    for (address, names) in &config.hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(hosts, "{address}\t{names}");
    }
    write_file(&paths.hosts, hosts.as_bytes())?;
    let (dns, node) = (config.dns.as_ref(), read_node("/etc/resolv.conf")?);
    let resolv = if network.names {
        husk_network::resolv::render_served(dns, &node)
    } else {
        husk_network::resolv::render(dns, &node)
    };
    let resolv = resolv.map_err(PodsError::Network)?;
    write_file(&paths.resolv_conf, resolv.as_bytes())
}

/// The name with its domain comes first: it is the one that programs take for the whole name.
fn names(hostname: &str, domain: &str) -> String {
    match domain {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    }
}

/// A node without the file gives an empty one.
fn read_node(path: &str) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(PodsError::files("read", path)(error)),
    }
}

fn hosts(hostname: &str, ips: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if !hostname.is_empty() {
        for ip in ips {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{ip}\t{hostname}");
        }
    }
    text
}
