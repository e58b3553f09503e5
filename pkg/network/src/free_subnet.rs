//! The embedded network's subnet where the operator configured none: the first of a list that nobody else on the node has.
//!
//! ```text
//! <root>/network/subnet.json      what was chosen; it stays until somebody else has it and no pod lives in it
//! ```
//!
//! Who else has one is seen in the addresses and routes of the node, and in the configurations of other runtimes, whose bridges
//! may not be there yet (podman makes its own with its first container).

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use husk_node::file::{self, Outlives};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::{
    BridgeConfig, NetworkConfig, NetworkError,
    embedded::bridge,
    ipam,
    netlink::{self, Netlink},
    record::{Attachment, Records},
};

/// In this order. Away from what others take by default: 10.85 (CRI-O), 10.88 and 10.89 on (Podman), 10.96-10.111 (services), 10.244
/// (flannel), 10.42 and 10.43 (k3s), 172.17 on (Docker).
const CANDIDATES: [&str; 8] = [
    "10.87.0.0/16",
    "10.86.0.0/16",
    "10.84.0.0/16",
    "10.83.0.0/16",
    "10.82.0.0/16",
    "10.81.0.0/16",
    "192.168.176.0/20",
    "100.72.0.0/16",
];
/// Where other runtimes keep their networks.
const OTHERS: [&str; 5] = [
    "/etc/cni/net.d",
    "/etc/containers/networks",
    "/var/lib/containers/storage/networks",
    "/etc/docker",
    "/etc/containers/containers.conf.d",
];
/// Files of a directory, and bytes of a file, that are read.
const MAX_FILES: usize = 256;
const MAX_BYTES: u64 = 256 << 10;

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    subnet: Ipv4Net,
}

impl NetworkConfig {
    /// The subnet that was chosen at an earlier start for want of a configured one.
    pub fn chosen_subnet(&self) -> Option<Ipv4Net> {
        read(&self.subnet_file()).ok().flatten()
    }
}

/// The subnet that was chosen before, or the one that the bridge has, or a free one, which is then kept. One that was chosen
/// before and is somebody else's now is left for another, unless pods live on the bridge: these keep it, and the bridge's own
/// check says who is in the way.
///
/// # Errors
/// The kernel does not answer, or a file cannot be read or written.
pub(crate) async fn choose(
    config: &NetworkConfig,
    netlink: &Netlink,
    records: &Records,
) -> Result<Ipv4Net, NetworkError> {
    let path = config.subnet_file();
    let former = read(&path)?;
    if let Some(subnet) = former {
        match trouble(config, netlink, subnet).await? {
            Some(taken) if !lived_on(&config.bridge.name, records)? => {
                tracing::warn!(%taken, "the subnet of the pods is somebody else's now; no pod lives in it, so another is chosen");
                leave(config, netlink, subnet).await?;
            }
            _ => {
                tracing::info!(%subnet, "pods get addresses of the subnet that was chosen before");
                return Ok(subnet);
            }
        }
    }
    let handle = netlink.host();
    let name = config.bridge.name.clone();
    let seen = netlink
        .run(async move {
            let bridge = netlink::link(&handle, &name).await?.map(|link| link.index);
            Ok::<_, io::Error>((
                bridge,
                netlink::addresses(&handle).await?,
                netlink::routes(&handle, false).await?,
            ))
        })
        .await?;
    let (bridge, addresses, routes) =
        seen.map_err(NetworkError::netlink("look for a free subnet for", &config.bridge.name))?;
    let own = addresses.iter().find_map(|(index, net)| match net {
        IpNet::V4(net) if Some(*index) == bridge && net.addr() == gateway(*net) => Some(net.trunc()),
        _ => None,
    });
    let mut taken: Vec<IpNet> = Vec::new();
    taken.extend(addresses.iter().filter(|(index, _)| Some(*index) != bridge).map(|(_, net)| *net));
    taken.extend(routes.iter().filter(|route| route.link != bridge).filter_map(|route| route.destination));
    taken.extend(of_others());
    let Some(subnet) = own.or_else(|| first_free(&taken)) else {
        // The bridge's own check says what is in the way, and nothing is kept.
        tracing::warn!("no subnet of the usual ones is free; set network.subnet");
        return Ok(former.unwrap_or(config.bridge.subnet));
    };
    write(&path, subnet)?;
    tracing::info!(%subnet, file = %path.display(), "pods get addresses of this subnet");
    Ok(subnet)
}

/// Who has the subnet besides the bridge.
async fn trouble(
    config: &NetworkConfig,
    netlink: &Netlink,
    subnet: Ipv4Net,
) -> Result<Option<NetworkError>, NetworkError> {
    let bridge = BridgeConfig { subnet, subnet6: None, ..config.bridge.clone() };
    let handle = netlink.host();
    match netlink.run(async move { bridge::check(handle, &bridge).await }).await? {
        Err(taken @ NetworkError::SubnetTaken { .. }) => Ok(Some(taken)),
        // Anything else is told when the bridge is made.
        _ => Ok(None),
    }
}

/// Whether pods have addresses of the bridge. A record outlives a reboot, the pin of its namespace does not. A record that
/// cannot be read may be a pod's.
fn lived_on(bridge: &str, records: &Records) -> Result<bool, NetworkError> {
    Ok(records.all()?.into_iter().any(|(_, record)| match record {
        Ok(record) => match &record.attachment {
            Attachment::Bridge(attachment) => attachment.bridge == bridge && record.request.netns.exists(),
            Attachment::Cni(_) | Attachment::User(_) => false,
        },
        Err(_) => true,
    }))
}

/// Deletes a bridge that still has the gateway's address of a subnet that is left: it would be in the new owner's way, and could
/// not be given another. One with any other address is not touched.
async fn leave(config: &NetworkConfig, netlink: &Netlink, subnet: Ipv4Net) -> Result<(), NetworkError> {
    let (handle, name) = (netlink.host(), config.bridge.name.clone());
    let gateway = gateway(subnet);
    let work = async move {
        let Some(link) = netlink::link(&handle, &name).await? else { return Ok(()) };
        let addresses = netlink::addresses(&handle).await?;
        let own = addresses.iter().any(|(index, net)| *index == link.index && net.addr() == gateway);
        if own { netlink::delete(&handle, link.index).await } else { Ok(()) }
    };
    netlink.run(work).await?.map_err(NetworkError::netlink("delete the bridge", &config.bridge.name))
}

fn gateway(net: Ipv4Net) -> std::net::Ipv4Addr {
    match ipam::gateway(IpNet::V4(net.trunc())) {
        std::net::IpAddr::V4(ip) => ip,
        std::net::IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
    }
}

fn first_free(taken: &[IpNet]) -> Option<Ipv4Net> {
    let candidates = CANDIDATES.iter().filter_map(|text| text.parse::<Ipv4Net>().ok());
    candidates.into_iter().find(|candidate| {
        let candidate = IpNet::V4(*candidate);
        !taken.iter().any(|net| candidate.contains(&net.trunc()) || net.trunc().contains(&candidate))
    })
}

/// Subnets that the configurations of other runtimes name.
pub(crate) fn of_others() -> impl Iterator<Item = IpNet> {
    OTHERS.iter().flat_map(|directory| configured(Path::new(directory)))
}

/// Subnets that the files of a directory name, in whatever format: everything that looks like one.
fn configured(directory: &Path) -> Vec<IpNet> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten().take(MAX_FILES) {
        // Something that blocks when it is opened is no configuration.
        if !entry.path().metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let mut text = Vec::new();
        if File::open(entry.path()).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text)).is_ok() {
            found.extend(subnets(&String::from_utf8_lossy(&text)));
        }
    }
    found
}

fn subnets(text: &str) -> impl Iterator<Item = IpNet> {
    text.split(|c: char| !(c.is_ascii_hexdigit() || ".:/".contains(c)))
        .filter_map(|word| word.parse::<IpNet>().ok())
        // A default route in the file is no subnet that somebody has.
        .filter(|net| net.prefix_len() > 0)
}

fn read(path: &Path) -> Result<Option<Ipv4Net>, NetworkError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice::<Chosen>(&text)
            .map(|chosen| Some(chosen.subnet))
            .map_err(|source| NetworkError::Record { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(NetworkError::file("read", path)(error)),
    }
}

/// Written whole and renamed.
fn write(path: &Path, subnet: Ipv4Net) -> Result<(), NetworkError> {
    let text = serde_json::to_vec(&Chosen { subnet })
        .map_err(|source| NetworkError::Record { path: path.to_owned(), source })?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(NetworkError::file("create", directory))?;
    }
    file::replace(path, &text, Outlives::PowerCut).map_err(NetworkError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(taken: &[&str]) -> Option<String> {
        let taken: Vec<IpNet> = taken.iter().map(|net| net.parse().unwrap()).collect();
        first_free(&taken).map(|net| net.to_string())
    }

    #[test]
    fn the_first_candidate_that_nobody_has_is_taken() {
        assert_eq!(free(&["10.88.0.1/16", "fd00::1/64"]).as_deref(), Some("10.87.0.0/16"));
        assert_eq!(free(&["10.87.3.0/24", "10.86.0.1/16"]).as_deref(), Some("10.84.0.0/16"));
        // A route to all of 10.0.0.0/8 may lead to somebody's machines.
        assert_eq!(free(&["10.0.0.0/8"]).as_deref(), Some("192.168.176.0/20"));
        assert_eq!(free(&["10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10"]), None);
    }

    #[test]
    fn subnets_are_found_in_configurations_of_any_format() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("podman.json"), r#"{"subnets":[{"subnet":"10.87.0.0/16"}],"x":"1.2.3/4"}"#)
            .unwrap();
        fs::write(dir.path().join("cni.conflist"), "dst: 0.0.0.0/0\nsubnet = \"10.86.1.0/24\"").unwrap();
        let mut found: Vec<String> = configured(dir.path()).iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(found, ["10.86.1.0/24", "10.87.0.0/16"]);
        assert!(configured(Path::new("/no/such/directory")).is_empty());
    }

    #[test]
    fn what_was_chosen_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network/subnet.json");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "10.86.0.0/16".parse().unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), Some("10.86.0.0/16".parse().unwrap()));
        fs::write(&path, "{").unwrap();
        assert!(matches!(read(&path), Err(NetworkError::Record { .. })));
    }
}
