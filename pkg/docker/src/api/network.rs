//! Networks, and a container's place in one.

use std::collections::BTreeMap;

use super::request;

request! {
    /// A container's place in a network, as it is wanted and as it is.
    struct EndpointSettings {
        /// The addresses that it shall have.
        ipam_config: Option<EndpointIpam> = "IPAMConfig",
        /// `container:alias` of the default bridge; names are served without them elsewhere.
        links: Option<Vec<String>> = "Links",
        /// Further names in this network.
        aliases: Option<Vec<String>> = "Aliases",
        /// Hardware address, wanted or had.
        mac_address: String = "MacAddress",
        /// Options of the driver.
        driver_opts: Option<BTreeMap<String, String>> = "DriverOpts",
        /// Which network has the default route: the highest.
        gw_priority: i64 = "GwPriority",
        /// Id of the network.
        network_id: String = "NetworkID",
        /// Id of the place.
        endpoint_id: String = "EndpointID",
        /// The node's address in the network.
        gateway: String = "Gateway",
        /// The container's address.
        ip_address: String = "IPAddress",
        /// Its prefix.
        ip_prefix_len: i64 = "IPPrefixLen",
        /// The node's IPv6 address in the network.
        ipv6_gateway: String = "IPv6Gateway",
        /// The container's IPv6 address.
        global_ipv6_address: String = "GlobalIPv6Address",
        /// Its prefix.
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen",
        /// What others in the network may call it.
        dns_names: Option<Vec<String>> = "DNSNames",
    }

    /// Addresses that are asked for.
    struct EndpointIpam {
        /// Such as `172.18.0.9`.
        ipv4_address: String = "IPv4Address",
        /// Such as `fd00::9`.
        ipv6_address: String = "IPv6Address",
        /// Further link-local addresses.
        link_local_ips: Vec<String> = "LinkLocalIPs",
    }

    /// `POST /networks/create`
    struct NetworkCreate {
        /// Its name.
        name: String = "Name",
        /// `bridge` when it is empty.
        driver: String = "Driver",
        /// `local` or empty.
        scope: String = "Scope",
        /// No way out.
        internal: bool = "Internal",
        /// Of swarm; kept and shown.
        attachable: bool = "Attachable",
        /// Of swarm.
        ingress: bool = "Ingress",
        /// A configuration for others.
        config_only: bool = "ConfigOnly",
        /// The configuration of another.
        config_from: Option<ConfigFrom> = "ConfigFrom",
        /// Its addresses.
        ipam: Option<Ipam> = "IPAM",
        /// IPv4; on unless said otherwise.
        enable_ipv4: Option<bool> = "EnableIPv4",
        /// IPv6; off unless said otherwise.
        enable_ipv6: Option<bool> = "EnableIPv6",
        /// Options of the driver.
        options: BTreeMap<String, String> = "Options",
        /// Labels.
        labels: BTreeMap<String, String> = "Labels",
    }

    /// Whose configuration.
    struct ConfigFrom {
        /// A network.
        network: String = "Network",
    }

    /// Addresses of a network.
    struct Ipam {
        /// `default` or empty.
        driver: String = "Driver",
        /// A subnet each.
        config: Vec<IpamConfig> = "Config",
    }

    /// A subnet.
    struct IpamConfig {
        /// `172.18.0.0/16`
        subnet: String = "Subnet",
        /// Those of it that are given unasked.
        ip_range: String = "IPRange",
        /// The node's address.
        gateway: String = "Gateway",
        /// Nobody's.
        auxiliary: BTreeMap<String, String> = "AuxiliaryAddresses",
    }

    /// `POST /networks/{id}/connect`
    struct NetworkConnect {
        /// Id or name.
        container: String = "Container",
        /// Its place there.
        endpoint_config: Option<EndpointSettings> = "EndpointConfig",
    }

    /// `POST /networks/{id}/disconnect`
    struct NetworkDisconnect {
        /// Id or name.
        container: String = "Container",
        /// Also when the container is gone.
        force: bool = "Force",
    }
}
