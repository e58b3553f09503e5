//! Names and hardware addresses of links, made from what is known of a pod.

use std::net::IpAddr;

use husk_model::PodSandboxId;

/// Name of the node's end: `husk` and as much of the id as fits into 15 bytes, 44 random bits.
pub(super) fn veth_name(id: &PodSandboxId) -> String {
    format!("husk{}", &id.as_str()[..11])
}

pub(super) fn is_veth_name(name: &str) -> bool {
    name.len() == 15
        && name.strip_prefix("husk").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A locally administered address made from the IP. A pod that gets an address again later gets its MAC as well, so
/// no neighbour entry of the predecessor can be wrong.
pub(crate) fn mac(ip: IpAddr) -> [u8; 6] {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
    };
    [0x0a, 0x58, bytes[0], bytes[1], bytes[2], bytes[3]]
}
