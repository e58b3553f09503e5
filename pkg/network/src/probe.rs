//! Whether the embedded network can work on this node: tried in network namespaces that end with the try.

use std::sync::Arc;

use husk_model::chain;
use tokio::runtime::{Builder, Runtime};

use crate::{
    BridgeConfig, NetworkError,
    embedded::{bridge, nft},
    netlink::{self, Veth},
};

/// What came of it; errors are in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// A namespace, a bridge in it, and a veth pair to another one.
    pub links: Result<(), String>,
    /// The nftables table, loaded by nft.
    pub table: Result<(), String>,
    /// The configured subnets are nobody else's on the node itself.
    pub subnet: Result<(), String>,
}

/// Tries it; blocks. Nothing is left, for nothing is made on the node itself.
pub fn probe(config: &BridgeConfig) -> Probe {
    let (links, table) = match husk_sys::netns::create(|| (try_links(config), try_table(config))) {
        Ok((_namespace, tried)) => tried,
        Err(error) => (Err(format!("make a network namespace: {error}")), Err("no network namespace".into())),
    };
    let subnet = std::thread::scope(|scope| scope.spawn(|| try_subnet(config)).join());
    let subnet = subnet.unwrap_or_else(|_| Err("the look at the node's addresses panicked".into()));
    Probe { links, table, subnet }
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

fn try_links(config: &BridgeConfig) -> Result<(), String> {
    let runtime = runtime()?;
    let (peer, ()) =
        husk_sys::netns::create(|| ()).map_err(|error| format!("make a network namespace: {error}"))?;
    let handle =
        netlink::connect(runtime.handle()).map_err(|error| format!("open a netlink socket: {error}"))?;
    runtime.block_on(async {
        let mac = [0x0a, 0x58, 0, 0, 0, 1];
        let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
        netlink::add_bridge(&handle, &config.name, mac, 1500)
            .await
            .map_err(|error| failed("make a bridge", error))?;
        let link =
            netlink::link(&handle, &config.name).await.map_err(|error| failed("find the bridge", error))?;
        let bridge = link.ok_or("the bridge vanished")?.index;
        let veth = Veth {
            host: "husk-check".into(),
            bridge,
            peer: "eth0".into(),
            peer_mac: mac,
            mtu: 1500,
            isolated: false,
        };
        netlink::add_veth(&handle, veth, Arc::new(peer))
            .await
            .map_err(|error| failed("make a veth pair on the bridge", error))
    })
}

fn try_table(config: &BridgeConfig) -> Result<(), String> {
    let load = async { nft::run("load the table", nft::table(config, &[], [].iter())).await };
    runtime()?.block_on(load).map_err(|error: NetworkError| chain(&error))
}

fn try_subnet(config: &BridgeConfig) -> Result<(), String> {
    let runtime = runtime()?;
    let handle =
        netlink::connect(runtime.handle()).map_err(|error| format!("open a netlink socket: {error}"))?;
    runtime.block_on(bridge::check(handle, config)).map_err(|error| chain(&error))
}
