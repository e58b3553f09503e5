//! The one nftables table of husk, as text, and the nft command that loads it.
//!
//! The rules are static; what changes are elements of four maps, and of the sets of user networks (`user_rules`). Loading the table whole replaces it in one
//! transaction, so no packet ever sees half of it.
//!
//! Why each rule is there:
//! - `from_bridge`: `route_localnet` on the bridge (needed for 127.0.0.1:hostPort) would let a pod that forges
//!   destination addresses reach services bound to the node's loopback (CVE-2020-8558). On the raw hook the real
//!   address on the wire is seen, before replies of translated connections get 127.0.0.1 back.
//! - `masquerade` of 127/8: the pod could not answer to its own loopback.
//! - `masquerade` of pod to pod through a host port: the answer must come back through the node, else the client sees
//!   it come from an address it never called.

use std::{fmt::Write, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use husk_model::Protocol;
use ipnet::IpNet;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use crate::{BridgeConfig, NetworkError};

use super::{
    mapping::Mapping,
    user_rules::{self, UserRules},
};

/// A transaction takes milliseconds; one that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// As much of nft's complaint as is kept.
const MAX_MESSAGE: u64 = 4096;
/// And of a table: some 100 bytes an element, of which there are at most 65535 a protocol.
const MAX_OUTPUT: u64 = 64 << 20;

/// The whole table with the given mappings and user networks in it, replacing what there is.
pub(crate) fn table<'a>(
    config: &BridgeConfig,
    mappings: &[Mapping],
    user: impl Iterator<Item = &'a UserRules> + Clone,
) -> String {
    let BridgeConfig { name: bridge, table, .. } = config;
    // A set of nft has no overlapping elements, but a pod CIDR may lie within a former one.
    let all = IpNet::aggregate(&config.all_subnets().collect());
    let family = |ipv4: bool| {
        let nets = all.iter().filter(|net| net.addr().is_ipv4() == ipv4);
        nets.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (subnets, subnets6) = (family(true), family(false));
    let mut text = format!(
        "table inet {table} {{}}\n\
         delete table inet {table}\n\
         table inet {table} {{\n\
         map hostports4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}\n\
         map hostports4_ip {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}\n\
         map hostports6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}\n\
         map hostports6_ip {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}\n\
         chain hostports {{\n\
         dnat ip to ip daddr . meta l4proto . th dport map @hostports4_ip\n\
         meta nfproto ipv4 dnat ip to meta l4proto . th dport map @hostports4\n\
         dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostports6_ip\n\
         meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @hostports6\n\
         }}\n\
         chain prerouting {{ type nat hook prerouting priority -100; policy accept;\n\
         meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump hostports\n\
         }}\n\
         chain output {{ type nat hook output priority -100; policy accept;\n\
         meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump hostports\n\
         }}\n\
         chain from_bridge {{ type filter hook prerouting priority -300; policy accept;\n\
         iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop\n\
         }}\n\
         chain postrouting {{ type nat hook postrouting priority 100; policy accept;\n\
         oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade\n\
         oifname \"{bridge}\" ip saddr {{ {subnets} }} ct status dnat masquerade\n\
         oifname != \"{bridge}\" ip saddr {{ {subnets} }} ip daddr != {{ {subnets}, 224.0.0.0/4 }} masquerade\n",
    );
    if !subnets6.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "oifname \"{bridge}\" ip6 saddr {{ {subnets6} }} ct status dnat masquerade\n\
             oifname != \"{bridge}\" ip6 saddr {{ {subnets6} }} ip6 daddr != {{ {subnets6}, ff00::/8 }} masquerade\n",
        );
    }
    text.push_str("}\n");
    text.push_str(&user_rules::section(user));
    text.push_str("}\n");
    text.push_str(&add(table, mappings));
    text
}

/// Adds mappings. One that is there already with the same target is fine; with another it is an error.
pub(super) fn add(table: &str, mappings: &[Mapping]) -> String {
    mappings.iter().map(|mapping| format!("add element inet {table} {}\n", element(mapping))).collect()
}

/// Removes mappings. Each is added first, because nft refuses to delete what is not there and the one transaction
/// shows nobody the state in between.
pub(super) fn remove(table: &str, mappings: &[Mapping]) -> String {
    let delete = |mapping| format!("delete element inet {table} {}\n", element(mapping));
    add(table, mappings) + &mappings.iter().map(delete).collect::<String>()
}

/// Removes the table, if it is there.
pub(super) fn drop_table(table: &str) -> String {
    format!("table inet {table} {{}}\ndelete table inet {table}\n")
}

pub(super) fn element(mapping: &Mapping) -> String {
    let family = if mapping.target.is_ipv4() { 4 } else { 6 };
    let (target, port) = (mapping.target.ip(), mapping.target.port());
    let (protocol, host_port) = (protocol(mapping.protocol), mapping.host_port);
    match mapping.host_ip {
        Some(ip) => format!("hostports{family}_ip {{ {ip} . {protocol} . {host_port} : {target} . {port} }}"),
        None => format!("hostports{family} {{ {protocol} . {host_port} : {target} . {port} }}"),
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Where the nft command is: on PATH, or where distributions put it.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("nft"))
        .find(|file| file.is_file())
}

/// Feeds `script` to nft as one transaction.
///
/// # Errors
/// [`NetworkError::NftMissing`], [`NetworkError::NftRun`], or [`NetworkError::Nft`] with what it printed.
pub(crate) async fn run(action: &'static str, script: String) -> Result<(), NetworkError> {
    command(action, &["-f", "-"], &script).await.map(drop)
}

/// The mappings in the kernel's table.
///
/// # Errors
/// As [`run`]; a table that is not there is an [`NetworkError::Nft`].
pub(super) async fn list(table: &str) -> Result<Vec<Mapping>, NetworkError> {
    let action = "list the table";
    let text = command(action, &["-j", "-n", "list", "table", "inet", table], "").await?;
    let whole: Value = serde_json::from_slice(&text)
        .map_err(|error| NetworkError::Nft { action, message: format!("unexpected answer: {error}") })?;
    Ok(mappings(&whole))
}

/// The elements of the host port maps in `nft -j list table`. What has another form was not made by us.
fn mappings(whole: &Value) -> Vec<Mapping> {
    let objects = whole["nftables"].as_array().into_iter().flatten();
    let maps = objects.map(|object| &object["map"]).filter(|map| {
        let name = map["name"].as_str().unwrap_or_default();
        ["hostports4", "hostports4_ip", "hostports6", "hostports6_ip"].contains(&name)
    });
    maps.flat_map(|map| map["elem"].as_array().into_iter().flatten()).filter_map(mapping).collect()
}

/// `[{"concat": ["tcp", 8080]}, {"concat": ["10.1.0.2", 80]}]`, with an address before the protocol in the maps of
/// addresses.
fn mapping(element: &Value) -> Option<Mapping> {
    let [from, to] = element.as_array()?.as_slice() else { return None };
    let (from, to) = (from["concat"].as_array()?.as_slice(), to["concat"].as_array()?.as_slice());
    let (host_ip, protocol, host_port) = match from {
        [protocol, port] => (None, protocol, port),
        [ip, protocol, port] => (Some(ip.as_str()?.parse().ok()?), protocol, port),
        _ => return None,
    };
    let protocol = match protocol.as_str().map_or_else(|| protocol.to_string(), str::to_owned).as_str() {
        "tcp" | "6" => Protocol::Tcp,
        "udp" | "17" => Protocol::Udp,
        "sctp" | "132" => Protocol::Sctp,
        _ => return None,
    };
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let [ip, target_port] = to else { return None };
    let target = SocketAddr::new(ip.as_str()?.parse().ok()?, port(target_port)?);
    Some(Mapping { protocol, host_ip, host_port: port(host_port)?, target })
}

/// Runs nft with `input` and returns what it printed.
async fn command(action: &'static str, arguments: &[&str], input: &str) -> Result<Vec<u8>, NetworkError> {
    let nft = find().ok_or(NetworkError::NftMissing)?;
    let work = async {
        let mut child = Command::new(nft)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A pipe that breaks means nft gave up early; its exit status says why.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output, message, status) =
            tokio::join!(feed, read(stdout, MAX_OUTPUT), read(stderr, MAX_MESSAGE), child.wait());
        Ok::<_, std::io::Error>((status?, output?, message?))
    };
    let (status, output, message) = match tokio::time::timeout(LIMIT, work).await {
        Ok(result) => result.map_err(NetworkError::NftRun)?,
        Err(_) => return Err(NetworkError::Nft { action, message: format!("no end within {LIMIT:?}") }),
    };
    if status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&message).trim().replace('\n', "; ");
    Err(NetworkError::Nft { action, message: if message.is_empty() { status.to_string() } else { message } })
}

async fn read(from: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(from) = from {
        from.take(limit).read_to_end(&mut text).await?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: Option<&str>, target: &str) -> Mapping {
        Mapping {
            protocol: Protocol::Udp,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: 53,
            target: target.parse().unwrap(),
        }
    }

    #[test]
    fn an_element_goes_to_the_map_of_its_family_and_address() {
        assert_eq!(
            add("t", &[mapping(None, "10.1.0.2:5353"), mapping(Some("::1"), "[fd00::2]:5353")]),
            "add element inet t hostports4 { udp . 53 : 10.1.0.2 . 5353 }\n\
             add element inet t hostports6_ip { ::1 . udp . 53 : fd00::2 . 5353 }\n"
        );
    }

    #[test]
    fn elements_are_read_back_as_they_were_written_and_strangers_are_passed_over() {
        let listed = serde_json::json!({ "nftables": [
            { "metainfo": { "json_schema_version": 1 } },
            { "map": { "name": "hostports4", "elem": [
                [{ "concat": ["udp", 53] }, { "concat": ["10.1.0.2", 5353] }],
                [{ "concat": [17, 54] }, { "concat": ["10.1.0.3", 54] }],
                ["strange", 1] ] } },
            { "map": { "name": "hostports6_ip", "elem": [
                [{ "concat": ["::1", "udp", 53] }, { "concat": ["fd00::2", 5353] }] ] } },
            { "map": { "name": "somebody-elses", "elem": [
                [{ "concat": ["udp", 53] }, { "concat": ["10.1.0.2", 5353] }] ] } },
        ] });
        let mut third = mapping(None, "10.1.0.3:54");
        third.host_port = 54;
        let wanted = [mapping(None, "10.1.0.2:5353"), third, mapping(Some("::1"), "[fd00::2]:5353")];
        assert_eq!(mappings(&listed), wanted);
    }

    #[test]
    fn removal_adds_first_so_that_it_cannot_fail_on_what_is_gone() {
        let script = remove("t", &[mapping(None, "10.1.0.2:5353")]);
        let verbs: Vec<_> = script.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(verbs, ["add", "delete"]);
    }

    #[test]
    fn the_table_replaces_itself_and_mentions_ipv6_only_when_there_is_any() {
        let mut config = BridgeConfig::default();
        let plain = table(&config, &[], [].iter());
        assert!(plain.starts_with("table inet husk {}\ndelete table inet husk\n"));
        assert!(!plain.contains("ip6 saddr"));
        config.subnet6 = Some("fd00:88::/64".parse().unwrap());
        assert!(table(&config, &[], [].iter()).contains("ip6 saddr { fd00:88::/64 }"));
    }
}
