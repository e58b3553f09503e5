//! The swarm itself: its settings, tokens and pools of addresses.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, SwarmError, cut},
    ids::{self, KEY},
    node::Availability,
    object::{Meta, check_labels},
    spec::spec,
};

/// Docker's pool of networks that name no subnet, and the size of each.
const POOL: &str = "10.0.0.0/8";
const SUBNET_SIZE: u32 = 24;
/// Smallest network: a gateway and a few tasks.
const SMALLEST: u32 = 29;
/// Pools that may be named.
const MOST_POOLS: usize = 16;
/// VXLAN's port, where there were other nodes.
const DATA_PATH_PORT: u32 = 4789;
/// Where managers would listen to each other.
const PORT: u16 = 2377;
/// An hour: what Docker's certificates live at least.
const SHORTEST_EXPIRY: u64 = 3_600_000_000_000;

spec! {
    /// The settings of a swarm. What is not there stays as it is.
    struct ClusterSpec {
        [
            /// `default`
            name: String = "Name",
            /// Labels.
            labels: Option<BTreeMap<String, String>> = "Labels",
            /// How tasks are kept.
            orchestration: Orchestration = "Orchestration",
            /// Of managers that agree with each other. One agrees with itself; kept and shown.
            raft: Raft = "Raft",
            /// Of nodes that report. Kept and shown.
            dispatcher: Dispatcher = "Dispatcher",
            /// Of certificates.
            ca_config: CaConfig = "CAConfig",
            /// What tasks have that say nothing of it.
            task_defaults: TaskDefaults = "TaskDefaults",
            /// Whether records are sealed with a key that is not on the disk.
            encryption_config: Option<EncryptionConfig> = "EncryptionConfig",
        ]
    }

    /// How tasks are kept.
    struct Orchestration {
        /// Ended tasks of a slot that are kept; a negative number keeps all that a slot may have.
        history: Option<i64> = "TaskHistoryRetentionLimit",
    }

    /// Kept and shown.
    struct Raft {
        [
            /// Entries.
            snapshot_interval: u64 = "SnapshotInterval",
            /// Snapshots.
            keep_old_snapshots: Option<u64> = "KeepOldSnapshots",
            /// Entries.
            log_entries_for_slow_followers: u64 = "LogEntriesForSlowFollowers",
            /// Ticks.
            election_tick: u64 = "ElectionTick",
            /// Ticks.
            heartbeat_tick: u64 = "HeartbeatTick",
        ]
    }

    /// Kept and shown.
    struct Dispatcher {
        [
            /// Nanoseconds.
            heartbeat_period: u64 = "HeartbeatPeriod",
        ]
    }

    /// Of certificates, which nodes would need to reach each other.
    struct CaConfig {
        [
            /// Nanoseconds.
            node_cert_expiry: u64 = "NodeCertExpiry",
        ]
        /// Another's authority: refused.
        external_cas: Vec<serde_json::Value> = "ExternalCAs",
        /// An authority of the client's: refused.
        signing_ca_cert: String = "SigningCACert",
        /// Its key: refused.
        signing_ca_key: String = "SigningCAKey",
        /// Another number makes a new root, and with it new tokens.
        force_rotate: u64 = "ForceRotate",
    }

    /// What tasks have that say nothing of it.
    struct TaskDefaults {
        /// Where output goes.
        log_driver: Option<Driver> = "LogDriver",
    }

    /// A driver and its options.
    struct Driver {
        /// Its name.
        name: String = "Name",
        /// Options.
        options: BTreeMap<String, String> = "Options",
    }

    /// Whether records are sealed with a key that is not on the disk.
    struct EncryptionConfig {
        [
            /// They are.
            auto_lock_managers: bool = "AutoLockManagers",
        ]
    }

    /// `POST /swarm/init`
    struct Init {
        /// Where managers would listen.
        listen_addr: String = "ListenAddr",
        /// What others would be told.
        advertise_addr: String = "AdvertiseAddr",
        /// Where traffic of overlay networks would go.
        data_path_addr: String = "DataPathAddr",
        /// Its port.
        data_path_port: u32 = "DataPathPort",
        /// Where subnets of networks are taken from.
        default_addr_pool: Vec<String> = "DefaultAddrPool",
        /// Length of their prefixes.
        subnet_size: u32 = "SubnetSize",
        /// Begin anew with what this node has.
        force_new_cluster: bool = "ForceNewCluster",
        /// Settings.
        spec: ClusterSpec = "Spec",
        /// As the setting of this name, of older clients.
        auto_lock_managers: bool = "AutoLockManagers",
        /// Whether the node gets tasks.
        availability: Option<Availability> = "Availability",
    }
}

/// Which tokens and keys are made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotate {
    /// The token of workers.
    pub worker: bool,
    /// The token of managers.
    pub manager: bool,
    /// The key that unlocks.
    pub unlock: bool,
}

/// The swarm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Id and version.
    pub meta: Meta,
    /// Settings, whole.
    pub spec: ClusterSpec,
    /// Names the root of trust.
    digest: String,
    /// What a worker would join with.
    pub worker_token: String,
    /// What a manager would join with.
    pub manager_token: String,
    /// Where subnets are taken from.
    pub pools: Vec<Ipv4Net>,
    /// Length of their prefixes.
    pub subnet_size: u32,
    /// Shown.
    pub data_path_port: u32,
    /// `address:port` that others would be told.
    pub address: String,
    /// What unlocks; `None` where nothing locks.
    pub(crate) unlock: Option<[u8; KEY]>,
}

impl Cluster {
    /// One that is wanted. `own` is the node's address, for those who name none, and `links` its interfaces.
    ///
    /// # Errors
    /// [`SwarmError::Wrong`], [`SwarmError::Missing`].
    pub(crate) fn new(init: Init, own: IpAddr, links: &[String], version: u64) -> Result<Self> {
        let address = address(&init, own, links)?;
        if !init.data_path_addr.is_empty() {
            host("data path", &init.data_path_addr, links)?;
        }
        let data_path_port = match init.data_path_port {
            0 => DATA_PATH_PORT,
            port @ 1024..=49151 => port,
            port => {
                return Err(SwarmError::wrong(format!(
                    "invalid data path port {port}: it must be from 1024 to 49151"
                )));
            }
        };
        let (pools, subnet_size) = pools(&init)?;
        let mut spec = defaults();
        if init.auto_lock_managers {
            spec.encryption_config = Some(EncryptionConfig { auto_lock_managers: true });
        }
        let spec = merged(&spec, init.spec)?;
        let digest = ids::digest();
        let unlock = locks(&spec).then(ids::random);
        Ok(Self {
            meta: Meta::new(version),
            worker_token: ids::token(&digest),
            manager_token: ids::token(&digest),
            spec,
            digest,
            pools,
            subnet_size,
            data_path_port,
            address,
            unlock,
        })
    }

    /// The same after a change.
    ///
    /// # Errors
    /// [`SwarmError::OutOfSequence`], and as of [`Cluster::new`].
    pub(crate) fn changed(
        &self,
        seen: u64,
        asked: ClusterSpec,
        rotate: Rotate,
        version: u64,
    ) -> Result<Self> {
        self.meta.check(seen)?;
        let spec = merged(&self.spec, asked)?;
        let mut next = Self { meta: self.meta.next(version), ..self.clone() };
        let new_root = spec.ca_config.force_rotate != self.spec.ca_config.force_rotate;
        if new_root {
            next.digest = ids::digest();
        }
        if rotate.worker || new_root {
            next.worker_token = ids::token(&next.digest);
        }
        if rotate.manager || new_root {
            next.manager_token = ids::token(&next.digest);
        }
        next.unlock = match (locks(&spec), self.unlock) {
            (false, _) => None,
            (true, Some(key)) if !rotate.unlock => Some(key),
            (true, _) => Some(ids::random()),
        };
        next.spec = spec;
        Ok(next)
    }

    /// The same, with the key that opened it: another one was on its way when huskd ended.
    pub(crate) fn unlocked_by(&self, key: Option<[u8; KEY]>, version: u64) -> Self {
        let mut next = Self { meta: self.meta.next(version), unlock: key, ..self.clone() };
        next.spec.encryption_config = Some(EncryptionConfig { auto_lock_managers: key.is_some() });
        next
    }

    /// The same as a new version.
    pub(crate) fn renewed(&self, version: u64) -> Self {
        Self { meta: self.meta.next(version), ..self.clone() }
    }

    /// The key that people keep; empty where nothing locks.
    pub fn unlock_key(&self) -> String {
        self.unlock.as_ref().map(ids::unlock_key).unwrap_or_default()
    }

    /// Ended tasks of a slot that are kept.
    pub fn history(&self) -> usize {
        let limit = self.spec.orchestration.history.unwrap_or(HISTORY);
        usize::try_from(limit).unwrap_or(MOST_HISTORY).min(MOST_HISTORY)
    }

    /// The address that others would be told, without its port.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Docker's.
const HISTORY: i64 = 5;
/// Most of one slot.
const MOST_HISTORY: usize = 100;

fn locks(spec: &ClusterSpec) -> bool {
    spec.encryption_config.as_ref().is_some_and(|config| config.auto_lock_managers)
}

/// The settings of a swarm that says nothing: Docker's.
fn defaults() -> ClusterSpec {
    ClusterSpec {
        name: "default".to_owned(),
        labels: Some(BTreeMap::new()),
        orchestration: Orchestration { history: Some(HISTORY) },
        raft: Raft {
            snapshot_interval: 10_000,
            keep_old_snapshots: Some(0),
            log_entries_for_slow_followers: 500,
            election_tick: 10,
            heartbeat_tick: 1,
        },
        dispatcher: Dispatcher { heartbeat_period: 5_000_000_000 },
        ca_config: CaConfig { node_cert_expiry: 7_776_000_000_000_000, ..CaConfig::default() },
        task_defaults: TaskDefaults::default(),
        encryption_config: Some(EncryptionConfig::default()),
    }
}

/// What is said, and where nothing is said what there was.
fn merged(now: &ClusterSpec, asked: ClusterSpec) -> Result<ClusterSpec> {
    check(&asked)?;
    let said = |asked: u64, now: u64| if asked == 0 { now } else { asked };
    let (raft, old) = (asked.raft, &now.raft);
    Ok(ClusterSpec {
        name: now.name.clone(),
        labels: asked.labels.or_else(|| now.labels.clone()),
        orchestration: Orchestration { history: asked.orchestration.history.or(now.orchestration.history) },
        raft: Raft {
            snapshot_interval: said(raft.snapshot_interval, old.snapshot_interval),
            keep_old_snapshots: raft.keep_old_snapshots.or(old.keep_old_snapshots),
            log_entries_for_slow_followers: said(
                raft.log_entries_for_slow_followers,
                old.log_entries_for_slow_followers,
            ),
            election_tick: said(raft.election_tick, old.election_tick),
            heartbeat_tick: said(raft.heartbeat_tick, old.heartbeat_tick),
        },
        dispatcher: Dispatcher {
            heartbeat_period: said(asked.dispatcher.heartbeat_period, now.dispatcher.heartbeat_period),
        },
        ca_config: CaConfig {
            node_cert_expiry: said(asked.ca_config.node_cert_expiry, now.ca_config.node_cert_expiry),
            force_rotate: said(asked.ca_config.force_rotate, now.ca_config.force_rotate),
            ..CaConfig::default()
        },
        task_defaults: TaskDefaults {
            log_driver: asked.task_defaults.log_driver.or_else(|| now.task_defaults.log_driver.clone()),
        },
        encryption_config: asked.encryption_config.or_else(|| now.encryption_config.clone()),
    })
}

fn check(spec: &ClusterSpec) -> Result<()> {
    if !matches!(spec.name.as_str(), "" | "default") {
        return Err(SwarmError::wrong(format!(
            "invalid swarm name {:?}: a swarm is named default",
            cut(&spec.name)
        )));
    }
    check_labels(spec.labels.as_ref().unwrap_or(&BTreeMap::new()))?;
    let ca = &spec.ca_config;
    if !ca.external_cas.is_empty() || !ca.signing_ca_cert.is_empty() || !ca.signing_ca_key.is_empty() {
        return Err(SwarmError::Missing(
            "husk's swarm has one node and no certificates: it takes no authority for them (ExternalCAs, SigningCACert)"
                .to_owned(),
        ));
    }
    if ca.node_cert_expiry != 0 && ca.node_cert_expiry < SHORTEST_EXPIRY {
        return Err(SwarmError::wrong("invalid CAConfig: the minimum certificate expiry time is 1h"));
    }
    check_log_driver(spec.task_defaults.log_driver.as_ref())
}

/// Checks that output can go there.
///
/// # Errors
/// [`SwarmError::Wrong`].
pub(crate) fn check_log_driver(driver: Option<&Driver>) -> Result<()> {
    match driver.map(|driver| driver.name.as_str()) {
        None | Some("" | "json-file" | "local" | "none") => Ok(()),
        Some(other) => Err(SwarmError::wrong(format!(
            "logger: no log driver named {:?} is registered; husk has json-file, local and none",
            cut(other)
        ))),
    }
}

/// What others would be told: the address of the request, of an interface, or the node's own.
fn address(init: &Init, own: IpAddr, links: &[String]) -> Result<String> {
    let (listen, listen_port) = split(&init.listen_addr);
    let port = port(listen_port, PORT)?;
    if !listen.is_empty() {
        host("listen", listen, links)?;
    }
    let (asked, asked_port) = split(&init.advertise_addr);
    let port = self::port(asked_port, port)?;
    let shown = match asked {
        "" => own.to_string(),
        name => match host("advertise", name, links)? {
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => {
                return Err(SwarmError::wrong("advertise address must be a non-zero IP address"));
            }
            Some(ip) => ip.to_string(),
            // An interface: what others would be told is the node's address.
            None => own.to_string(),
        },
    };
    Ok(if shown.contains(':') { format!("[{shown}]:{port}") } else { format!("{shown}:{port}") })
}

/// Host and port of `host:port`, `[v6]:port` or a host alone.
fn split(text: &str) -> (&str, &str) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (host, rest.strip_prefix(':').unwrap_or_default());
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port),
        _ => (text, ""),
    }
}

fn port(text: &str, usual: u16) -> Result<u16> {
    match text {
        "" => Ok(usual),
        text => text.parse().map_err(|_| SwarmError::wrong(format!("invalid port {:?}", cut(text)))),
    }
}

/// An address, or `None` for an interface of the node.
fn host(what: &str, text: &str, links: &[String]) -> Result<Option<IpAddr>> {
    match text.parse() {
        Ok(ip) => Ok(Some(ip)),
        Err(_) if links.iter().any(|link| link == text) => Ok(None),
        Err(_) => Err(SwarmError::wrong(format!(
            "{what} address must be an IP address or network interface (with optional port number), not {:?}",
            cut(text)
        ))),
    }
}

fn pools(init: &Init) -> Result<(Vec<Ipv4Net>, u32)> {
    if init.default_addr_pool.len() > MOST_POOLS {
        return Err(SwarmError::wrong(format!("more than {MOST_POOLS} default address pools")));
    }
    let asked: Vec<&str> = init.default_addr_pool.iter().map(String::as_str).collect();
    let asked = if asked.is_empty() { vec![POOL] } else { asked };
    let size = if init.subnet_size == 0 { SUBNET_SIZE } else { init.subnet_size };
    let mut pools: Vec<Ipv4Net> = Vec::new();
    for text in asked {
        let pool: Ipv4Net = text.parse().map_err(|_| {
            SwarmError::wrong(format!("invalid default address pool {:?}: a.b.c.d/n is expected", cut(text)))
        })?;
        if size > SMALLEST || size < u32::from(pool.prefix_len()) {
            return Err(SwarmError::wrong(format!(
                "invalid subnet size {size}: it must be from {} (the prefix of pool {pool}) to {SMALLEST}",
                pool.prefix_len()
            )));
        }
        if pools.iter().any(|other| other.contains(&pool.network()) || pool.contains(&other.network())) {
            return Err(SwarmError::wrong(format!("default address pool {pool} overlaps another")));
        }
        pools.push(pool.trunc());
    }
    Ok((pools, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> Result<Cluster> {
        let init = serde_json::from_str(text).unwrap();
        Cluster::new(init, "192.0.2.7".parse().unwrap(), &["eth0".to_owned()], 1)
    }

    #[test]
    fn addresses_are_those_of_the_request_or_the_nodes() {
        for (text, expected) in [
            ("{}", "192.0.2.7:2377"),
            (r#"{"ListenAddr":"0.0.0.0:4000","AdvertiseAddr":"127.0.0.1"}"#, "127.0.0.1:4000"),
            (r#"{"AdvertiseAddr":"eth0:5000"}"#, "192.0.2.7:5000"),
            (r#"{"AdvertiseAddr":"[fd00::1]:5000"}"#, "[fd00::1]:5000"),
        ] {
            assert_eq!(new(text).unwrap().address, expected, "{text}");
        }
        for text in
            [r#"{"AdvertiseAddr":"eth7"}"#, r#"{"AdvertiseAddr":"0.0.0.0"}"#, r#"{"ListenAddr":"1.2.3.4:x"}"#]
        {
            assert!(new(text).is_err(), "{text}");
        }
        assert_eq!(new(r#"{"AdvertiseAddr":"[fd00::1]:5000"}"#).unwrap().host(), "fd00::1");
    }

    #[test]
    fn pools_and_subnets_fit_each_other() {
        let of = |text| new(text).map(|cluster| (cluster.pools.len(), cluster.subnet_size));
        assert_eq!(of("{}").unwrap(), (1, 24));
        assert_eq!(
            of(r#"{"DefaultAddrPool":["2.0.0.0/16","3.0.0.0/16"],"SubnetSize":28}"#).unwrap(),
            (2, 28)
        );
        for text in [
            r#"{"SubnetSize":30}"#,
            r#"{"DefaultAddrPool":["2.0.0.0/25"]}"#,
            r#"{"DefaultAddrPool":["2.0.0.0/16","2.0.3.0/24"]}"#,
            r#"{"DefaultAddrPool":["fd00::/64"]}"#,
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_says_nothing_of_and_makes_only_the_tokens_anew_that_it_is_asked_for() {
        let first = new(
            r#"{"Spec":{"Raft":{"SnapshotInterval":5000},"EncryptionConfig":{"AutoLockManagers":true}}}"#,
        );
        let first = first.unwrap();
        assert!(first.unlock_key().starts_with("SWMKEY-1-"));
        let rotate = Rotate { worker: true, unlock: true, ..Rotate::default() };
        let second = first.changed(1, ClusterSpec::default(), rotate, 2).unwrap();
        assert_eq!(second.spec, first.spec);
        assert_eq!(second.manager_token, first.manager_token);
        assert_ne!(second.worker_token, first.worker_token);
        assert_ne!(second.unlock_key(), first.unlock_key());
        assert!(matches!(
            second.changed(1, ClusterSpec::default(), Rotate::default(), 3),
            Err(SwarmError::OutOfSequence)
        ));
        let asked = serde_json::from_str(
            r#"{"CAConfig":{"ForceRotate":1},"EncryptionConfig":{"AutoLockManagers":false}}"#,
        );
        let third = second.changed(2, asked.unwrap(), Rotate::default(), 3).unwrap();
        assert_ne!(third.manager_token, second.manager_token, "a new root has new tokens");
        assert_eq!(third.unlock_key(), "");
    }

    #[test]
    fn what_one_node_cannot_have_is_refused() {
        for text in [
            r#"{"Spec":{"Name":"mine"}}"#,
            r#"{"Spec":{"CAConfig":{"SigningCACert":"x"}}}"#,
            r#"{"Spec":{"CAConfig":{"NodeCertExpiry":1}}}"#,
            r#"{"Spec":{"TaskDefaults":{"LogDriver":{"Name":"syslog"}}}}"#,
            r#"{"DataPathPort":80}"#,
        ] {
            assert!(new(text).is_err(), "{text}");
        }
    }
}
