//! What can go wrong with a pod's network. Display of a variant stops at itself; the cause is its source.

use std::{io, net::IpAddr, path::PathBuf, time::Duration};

use husk_model::{Classify, Kind, PodSandboxId, Protocol};
use ipnet::IpNet;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A pod CIDR that the embedded network cannot use.
    #[error("pod CIDR: {reason}")]
    PodCidr {
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration cannot work.
    #[error("network configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// A step with a file or directory failed.
    #[error("{action} {path}")]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A step with a pod's network namespace failed.
    #[error("{action} network namespace {path}")]
    Netns {
        /// What was tried, a verb.
        action: &'static str,
        /// Where it is or shall be pinned.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The thread that speaks rtnetlink, or its socket, could not be made.
    #[error("open a netlink socket")]
    NetlinkSocket(#[source] io::Error),
    /// The kernel refused a change of links, addresses or routes.
    #[error("{step} {object}")]
    Netlink {
        /// What was asked for.
        step: &'static str,
        /// Of which link or address.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The bridge's name belongs to something else.
    #[error("the link {name} exists and is not a bridge; configure another bridge name")]
    NameTaken {
        /// The configured name.
        name: String,
    },
    /// The bridge exists with addresses of another configuration.
    #[error(
        "the bridge {name} has the address {found}, not {wanted}; delete it or configure another bridge name"
    )]
    BridgeDiffers {
        /// The configured name.
        name: String,
        /// An address it has.
        found: IpNet,
        /// What the configuration gives it.
        wanted: IpNet,
    },
    /// Another link of the node uses addresses of the pod subnet.
    #[error("the pod subnet {subnet} overlaps {taken} of the link {link}; configure another subnet")]
    SubnetTaken {
        /// The configured subnet.
        subnet: IpNet,
        /// The address or route in its way.
        taken: IpNet,
        /// Whose it is.
        link: String,
    },
    /// No address is left.
    #[error("no free address in {subnet}")]
    Exhausted {
        /// The configured subnet.
        subnet: IpNet,
    },
    /// A wish for a user network that cannot be met by any node.
    #[error("{0}")]
    Wish(String),
    /// There is a user network of this name already.
    #[error("network with name {name} already exists")]
    NetworkExists {
        /// The name.
        name: String,
    },
    /// No user network is called so.
    #[error("network {name} not found")]
    NoNetwork {
        /// The name, the id or its beginning.
        name: String,
    },
    /// Several user networks have ids that begin so.
    #[error("network {prefix} is ambiguous: {count} networks have ids that begin with it")]
    AmbiguousNetwork {
        /// What the ids begin with.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// The user network has pods.
    #[error("network {name} is in use by {pods} pods; disconnect or remove them first")]
    NetworkInUse {
        /// Its name.
        name: String,
        /// How many.
        pods: usize,
    },
    /// The subnet is another user network's, or the embedded network's.
    #[error("subnet {subnet} overlaps {taken} of {owner}; choose another subnet")]
    SubnetOverlaps {
        /// The wanted subnet.
        subnet: IpNet,
        /// What is in its way.
        taken: IpNet,
        /// Whose that is.
        owner: String,
    },
    /// No subnet is left for another user network.
    #[error("all predefined subnets are in use on this node; remove networks, or give the network a subnet")]
    NoFreeSubnet,
    /// A bridge is given to a user network that exists, and is not that network's.
    #[error("the link {name} exists already; choose another com.docker.network.bridge.name")]
    LinkExists {
        /// The wanted name.
        name: String,
    },
    /// The address is another pod's.
    #[error("address {ip} is in use")]
    AddressTaken {
        /// The wanted address.
        ip: IpAddr,
    },
    /// The address is none that a pod of the network can have.
    #[error("address {ip} is not one that a pod of the network can have")]
    AddressOutside {
        /// The wanted address.
        ip: IpAddr,
    },
    /// The pod has a place in the network already.
    #[error("the pod is in network {network} already")]
    Attached {
        /// The network's name.
        network: String,
    },
    /// The pod has no place in the network.
    #[error("the pod is not in network {network}")]
    NotAttached {
        /// The network's name.
        network: String,
    },
    /// The pod is not one of user networks.
    #[error(
        "pod {pod} has no place for user networks: it is not running, or has the node's network or its pod network"
    )]
    NotOfUserNetworks {
        /// The pod.
        pod: PodSandboxId,
    },
    /// Names of user networks cannot be served in a pod.
    #[error("{step}")]
    Names {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A port of the node is taken by a program of the node.
    #[error("host port {port}/{protocol:?} is in use by a program of the node")]
    HostPortBusy {
        /// Transport protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// No port of the node is free.
    #[error("no free host port for {protocol:?}")]
    NoFreeHostPort {
        /// Transport protocol.
        protocol: Protocol,
    },
    /// Host ports are wanted and the node has no nft.
    #[error("host ports and masquerading need the nft command (package nftables), which is not installed")]
    NftMissing,
    /// nft did not do what it was told.
    #[error("nft: {action}: {message}")]
    Nft {
        /// What was tried.
        action: &'static str,
        /// What it printed, bounded.
        message: String,
    },
    /// The nft command could not be run.
    #[error("run nft")]
    NftRun(#[source] io::Error),
    /// The port is mapped to another pod already.
    #[error("host port {}:{port}/{protocol:?} belongs to pod {owner}", .address.map_or("*".to_owned(), |ip| ip.to_string()))]
    HostPortTaken {
        /// Transport protocol.
        protocol: Protocol,
        /// Address on the node, `None` for all.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
        /// Who has it.
        owner: PodSandboxId,
    },
    /// A kernel parameter cannot be set.
    #[error("set {path} to {value}")]
    Sysctl {
        /// Below /proc/sys.
        path: String,
        /// The value.
        value: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A record in `<root>/network/pods` cannot be read as one.
    #[error("the network record {path} is damaged")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A DNS wish that does not fit in resolv.conf.
    #[error(
        "DNS {keyword} entry {value:?} is empty, too long or not printable ASCII without spaces, # and ;"
    )]
    Dns {
        /// `search` or `options`.
        keyword: &'static str,
        /// The entry, cut.
        value: String,
    },
    /// There are CNI configurations, and none is valid.
    #[error("no valid CNI configuration: {0}")]
    CniConfig(String),
    /// A plugin is not in any of the directories.
    #[error("CNI plugin {plugin:?} is not in {directories}")]
    CniPluginMissing {
        /// The `type` of the configuration.
        plugin: String,
        /// Where it was looked for.
        directories: String,
    },
    /// A plugin could not be executed.
    #[error("run CNI plugin {plugin} {command}")]
    CniRun {
        /// The `type` of the configuration.
        plugin: String,
        /// ADD, DEL and so on.
        command: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A plugin did not end in time; its process group was killed.
    #[error("CNI plugin {plugin} {command} did not end within {limit:?} and was killed")]
    CniTimeout {
        /// The `type` of the configuration.
        plugin: String,
        /// ADD, DEL and so on.
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// A plugin answered with an error.
    #[error("CNI plugin {plugin} {command} failed: {message}{}", .code.map_or(String::new(), |code| format!(" (code {code})")))]
    CniFailed {
        /// The `type` of the configuration.
        plugin: String,
        /// ADD, DEL and so on.
        command: &'static str,
        /// Error code of the CNI spec, section "Error", if it gave one.
        code: Option<u32>,
        /// Its message, or what it printed, bounded.
        message: String,
    },
    /// A plugin answered with something that is no CNI result.
    #[error("CNI plugin {plugin} {command} answered with an unusable result: {reason}")]
    CniResult {
        /// The `type` of the configuration.
        plugin: String,
        /// ADD, DEL and so on.
        command: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A task of ours ended without an answer: a panic or the end of the program.
    #[error("the network task ended early")]
    TaskLost(#[source] io::Error),
}

impl NetworkError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn netns(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Netns { action, path, source }
    }

    pub(crate) fn netlink(step: &'static str, object: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let object = object.into();
        move |source| Self::Netlink { step, object, source }
    }
}

/// CNI spec, "Error": 11 means "Try again later".
const CNI_TRY_AGAIN: u32 = 11;

impl Classify for NetworkError {
    fn kind(&self) -> Kind {
        match self {
            Self::Dns { .. } | Self::PodCidr { .. } | Self::Wish(_) | Self::AddressOutside { .. } => {
                Kind::InvalidArgument
            }
            Self::Exhausted { .. } | Self::NoFreeSubnet | Self::NoFreeHostPort { .. } => {
                Kind::ResourceExhausted
            }
            Self::NoNetwork { .. } | Self::NotAttached { .. } => Kind::NotFound,
            Self::NetworkExists { .. } | Self::Attached { .. } => Kind::AlreadyExists,
            Self::AmbiguousNetwork { .. } => Kind::InvalidArgument,
            Self::HostPortTaken { .. }
            | Self::NftMissing
            | Self::NameTaken { .. }
            | Self::BridgeDiffers { .. }
            | Self::SubnetTaken { .. }
            | Self::SubnetOverlaps { .. }
            | Self::NetworkInUse { .. }
            | Self::LinkExists { .. }
            | Self::AddressTaken { .. }
            | Self::NotOfUserNetworks { .. }
            | Self::HostPortBusy { .. }
            | Self::Config(_) => Kind::FailedPrecondition,
            Self::CniConfig(_) | Self::CniPluginMissing { .. } => Kind::Unavailable,
            Self::CniFailed { code: Some(CNI_TRY_AGAIN), .. } => Kind::Unavailable,
            Self::CniTimeout { .. } => Kind::DeadlineExceeded,
            Self::Record { .. } => Kind::DataLoss,
            Self::File { .. }
            | Self::Netns { .. }
            | Self::NetlinkSocket(_)
            | Self::Names { .. }
            | Self::Netlink { .. }
            | Self::Nft { .. }
            | Self::NftRun(_)
            | Self::Sysctl { .. }
            | Self::CniRun { .. }
            | Self::CniFailed { .. }
            | Self::CniResult { .. }
            | Self::TaskLost(_) => Kind::Internal,
        }
    }
}
