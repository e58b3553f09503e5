//! From a record to what the engine is asked for.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use husk_model::{
    AppArmor, Capabilities, CgroupNamespace, ContainerConfig, ContainerId, ContainerMetadata, DnsConfig,
    EnvVar, KeptLayer, Mount, NamespaceMode, Namespaces, PodConfig, PodMetadata, PodNetworking,
    SeccompProfile, SecurityContext, Signal, UserRequest,
};

use super::{
    container::short,
    devices, limits, merge,
    record::{self, LOG, Record},
};
use crate::{
    api::container::HostConfig,
    error::{Failure, Result},
};

/// Namespace of the door's pods in the engine.
const NAMESPACE: &str = "io.docker";

/// File of a seccomp profile that came with the request.
const PROFILE: &str = "seccomp.json";

/// Checks what can be checked before anything is made; the same words fail a start.
///
/// # Errors
/// 400 with the field.
pub(super) fn check(record: &Record) -> Result<()> {
    merge::command(&record.config)?;
    limits::resources(&record.host)?;
    limits::rlimits(&record.host)?;
    devices::nodes(&record.host)?;
    devices::rules(&record.host)?;
    hosts(&record.host, Some(IpAddr::from([0; 4])))?;
    security(record, Path::new("/"))?;
    sysctls(&record.host)?;
    Modes::of(&record.host)?;
    super::ports::wanted(&record.config, &record.host)?;
    signal(&record.config.stop_signal)?;
    super::log_options::limits(&record.host.log_config)?;
    match record.host.runtime.as_str() {
        "" | "runc" | "husk" => Ok(()),
        other => Err(Failure::bad(format!("unknown or invalid runtime name: {}", cut(other)))),
    }
}

/// What a run has of others on the node.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// Its networks.
    pub(super) networking: PodNetworking,
    /// What `host-gateway` stands for.
    pub(super) host_gateway: Option<IpAddr>,
    /// Whom it is linked to.
    pub(super) linked: Vec<(IpAddr, String)>,
}

/// The pod of a run.
///
/// # Errors
/// As [`check`].
pub(super) fn pod(record: &Record, dir: &Path, attempt: u32, around: Surroundings) -> Result<PodConfig> {
    let (host, modes) = (&record.host, Modes::of(&record.host)?);
    let dns = DnsConfig {
        servers: host.dns.clone().unwrap_or_default(),
        searches: host.dns_search.clone().unwrap_or_default(),
        options: host.dns_options.clone().unwrap_or_default(),
    };
    let metadata = PodMetadata {
        name: short(&record.id).to_owned(),
        uid: record.id.clone(),
        namespace: NAMESPACE.to_owned(),
        attempt,
    };
    Ok(PodConfig {
        hostname: match (modes.network, modes.uts) {
            (NamespaceMode::Node, _) | (_, NamespaceMode::Node) => String::new(),
            _ => merge::hostname(record),
        },
        domain: record.config.domainname.clone(),
        // That of all, because a container may be in another's pod.
        log_directory: dir.parent().unwrap_or(dir).display().to_string(),
        dns: (!dns.is_empty()).then_some(dns),
        hosts: [hosts(host, around.host_gateway)?, around.linked].concat(),
        host_ports: match modes.network {
            NamespaceMode::Node => Vec::new(),
            _ => super::ports::wanted(&record.config, host)?,
        },
        // What husk's own command line finds it by.
        labels: BTreeMap::from([
            ("io.docker.container".to_owned(), record.id.clone()),
            ("io.docker.name".to_owned(), record.name.trim_start_matches('/').to_owned()),
        ]),
        cgroup_parent: host.cgroup_parent.clone(),
        sysctls: sysctls(host)?,
        security: SecurityContext {
            namespaces: modes.namespaces(),
            privileged: host.privileged,
            ..SecurityContext::default()
        },
        networking: around.networking,
        shm_size: u64::try_from(host.shm_size).unwrap_or(0),
        ..PodConfig::named(metadata)
    })
}

/// The container of a run.
///
/// # Errors
/// As [`check`].
pub(super) fn container(
    record: &Record,
    dir: &Path,
    mounts: Vec<Mount>,
    joined: &Joined,
    linked: &[(String, String)],
) -> Result<ContainerConfig> {
    let (config, host) = (&record.config, &record.host);
    let mut env = merge::environment(config, &merge::hostname(record));
    let beside = |(name, _): &&(String, String)| env.iter().all(|(own, _)| own != name);
    let linked: Vec<_> = linked.iter().filter(beside).cloned().collect();
    env.extend(linked);
    // Unique in another's pod, too.
    let metadata = ContainerMetadata { name: record.id.clone(), attempt: 0 };
    Ok(ContainerConfig {
        command: merge::command(config)?,
        working_dir: config.working_dir.clone(),
        envs: env.into_iter().map(|(key, value)| EnvVar { key, value: value.into_bytes() }).collect(),
        mounts,
        devices: devices::nodes(host)?,
        device_rules: devices::rules(host)?,
        cdi_devices: devices::cdi(host)?,
        log_path: match host.log_config.kind.as_str() {
            "none" => String::new(),
            _ => format!("{}/{LOG}", record.id),
        },
        stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: limits::resources(host)?,
        security: {
            let mut security = security(record, dir)?;
            joined.apply(&mut security.namespaces);
            security
        },
        stop_signal: signal(&config.stop_signal)?,
        user: config.user.clone(),
        rlimits: limits::rlimits(host)?,
        log_limits: super::log_options::limits(&host.log_config)?,
        // One that goes with its end needs no disk.
        kept_layer: Some(KeptLayer { dir: record::layer(dir), durable: !host.auto_remove }),
        ..ContainerConfig::named(metadata, record.image.to_string())
    })
}

/// A signal by name or number; none where nothing is said.
///
/// # Errors
/// 400.
pub(super) fn signal(text: &str) -> Result<Option<Signal>> {
    if text.is_empty() {
        return Ok(None);
    }
    Signal::parse(text).map(Some).ok_or_else(|| Failure::bad(format!("invalid signal: {}", cut(text))))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

// === namespaces ===

/// What the mode of a namespace begins with that is another container's.
pub(super) const CONTAINER: &str = "container:";

/// Whose namespaces it has.
struct Modes {
    network: NamespaceMode,
    pid: NamespaceMode,
    ipc: NamespaceMode,
    uts: NamespaceMode,
    cgroup: CgroupNamespace,
}

/// Namespaces of other containers, as of a start: whose each is, or the node's where the other has that; `None` where none is joined.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// PIDs.
    pub(super) pid: Option<Joins>,
    /// IPC.
    pub(super) ipc: Option<Joins>,
}

/// Whose namespace is joined.
#[derive(Debug)]
pub(super) enum Joins {
    /// That of a container of the engine.
    Container(ContainerId),
    /// The other one has the node's.
    Node,
}

impl Joined {
    fn apply(&self, namespaces: &mut Namespaces) {
        let mode = |joins: &Joins| match joins {
            Joins::Container(id) => (NamespaceMode::Target, id.to_string()),
            Joins::Node => (NamespaceMode::Node, String::new()),
        };
        if let Some(joins) = &self.pid {
            (namespaces.pid, namespaces.target_id) = mode(joins);
        }
        if let Some(joins) = &self.ipc {
            (namespaces.ipc, namespaces.ipc_target_id) = mode(joins);
        }
    }
}

impl Modes {
    fn of(host: &HostConfig) -> Result<Self> {
        let wrong = |field: &str, mode: &str| Failure::bad(format!("invalid {field}: {}", cut(mode)));
        let of_another = |mode: &str| mode.strip_prefix(CONTAINER).is_some_and(|other| !other.is_empty());
        let network = match host.network_mode.as_str() {
            "host" => NamespaceMode::Node,
            _ => NamespaceMode::Pod,
        };
        let pid = match host.pid_mode.as_str() {
            "host" => NamespaceMode::Node,
            // pause is the first process of a shared namespace, and reaps as an init does.
            "" | "private" if host.init == Some(true) => NamespaceMode::Pod,
            "" | "private" => NamespaceMode::Container,
            mode if of_another(mode) => NamespaceMode::Target,
            mode => return Err(wrong("PID mode", mode)),
        };
        let ipc = match host.ipc_mode.as_str() {
            "host" => NamespaceMode::Node,
            "" | "private" | "shareable" | "none" => NamespaceMode::Pod,
            mode if of_another(mode) => NamespaceMode::Target,
            mode => return Err(wrong("IPC mode", mode)),
        };
        let uts = match host.uts_mode.as_str() {
            "" => NamespaceMode::Pod,
            // Its name is that of the pod that it is in.
            "host" if of_another(&host.network_mode) => {
                return Err(Failure::missing(
                    "HostConfig.UTSMode \"host\" in the network of another container",
                ));
            }
            "host" => NamespaceMode::Node,
            mode => return Err(wrong("UTS mode", mode)),
        };
        let cgroup = match host.cgroupns_mode.as_str() {
            // Of a record that an older release wrote.
            "" => CgroupNamespace::Usual,
            "private" => CgroupNamespace::Own,
            "host" => CgroupNamespace::Node,
            mode => return Err(wrong("cgroup namespace mode", mode)),
        };
        match host.userns_mode.as_str() {
            "" | "host" => Ok(Self { network, pid, ipc, uts, cgroup }),
            mode => Err(wrong("user namespace", mode)),
        }
    }

    fn namespaces(&self) -> Namespaces {
        Namespaces {
            network: self.network,
            pid: self.pid,
            ipc: self.ipc,
            uts: self.uts,
            cgroup: self.cgroup,
            ..Namespaces::default()
        }
    }
}

/// What stands for the node's address in `--add-host`.
pub(super) const HOST_GATEWAY: &str = "host-gateway";

/// `name:address` or `name=address`.
fn hosts(host: &HostConfig, gateway: Option<IpAddr>) -> Result<Vec<(IpAddr, String)>> {
    let parse = |entry: &String| {
        let wrong = || Failure::bad(format!("invalid IP address in add-host: {:?}", cut(entry)));
        let (name, address) = entry.split_once(['=', ':']).ok_or_else(wrong)?;
        let is_name =
            |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        let address = match (address, gateway) {
            (HOST_GATEWAY, Some(gateway)) => gateway,
            _ => address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?,
        };
        is_name(name).then(|| (address, name.to_owned())).ok_or_else(wrong)
    };
    host.extra_hosts.iter().flatten().map(parse).collect()
}

fn sysctls(host: &HostConfig) -> Result<BTreeMap<husk_model::Sysctl, String>> {
    let parse = |(name, value): (&String, &String)| {
        let sysctl =
            name.parse().map_err(|error| Failure::bad(format!("invalid sysctl {:?}: {error}", cut(name))))?;
        if value.contains(['\0', '\n']) {
            return Err(Failure::bad(format!("invalid sysctl {:?}: a value of several lines", cut(name))));
        }
        Ok((sysctl, value.clone()))
    };
    host.sysctls.iter().flatten().map(parse).collect()
}

// === security ===

fn security(record: &Record, dir: &Path) -> Result<SecurityContext> {
    let host = &record.host;
    let mut security = SecurityContext {
        namespaces: Modes::of(host)?.namespaces(),
        privileged: host.privileged,
        capabilities: Capabilities {
            add: capabilities(host.cap_add.as_ref())?,
            drop: capabilities(host.cap_drop.as_ref())?,
            ambient: Vec::new(),
        },
        // Numbers among them are numbers.
        supplemental_group_names: host.group_add.clone().unwrap_or_default(),
        readonly_rootfs: host.readonly_rootfs,
        masked_paths: host.masked_paths.clone().unwrap_or_default(),
        readonly_paths: host.readonly_paths.clone().unwrap_or_default(),
        seccomp: if host.privileged { SeccompProfile::Unconfined } else { SeccompProfile::RuntimeDefault },
        ..SecurityContext::default()
    };
    if !record.config.user.is_empty() && UserRequest::parse(&record.config.user).is_none() {
        return Err(Failure::bad(format!("Config.User {:?} is no user", cut(&record.config.user))));
    }
    for option in host.security_opt.iter().flatten() {
        security_option(&mut security, option, dir)?;
    }
    Ok(security)
}

fn security_option(security: &mut SecurityContext, option: &str, dir: &Path) -> Result<()> {
    let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privs = true,
        ("no-new-privileges", "false") => security.no_new_privs = false,
        ("seccomp", "unconfined") => security.seccomp = SeccompProfile::Unconfined,
        ("seccomp", "builtin") => security.seccomp = SeccompProfile::RuntimeDefault,
        ("seccomp", _) => {
            security.seccomp = SeccompProfile::Localhost(dir.join(PROFILE).display().to_string())
        }
        ("apparmor", "unconfined") => security.apparmor = AppArmor::Unconfined,
        ("apparmor", "docker-default") => security.apparmor = AppArmor::RuntimeDefault,
        ("apparmor", profile) => security.apparmor = AppArmor::Localhost(profile.to_owned()),
        ("label", value) => label(security, value)?,
        ("systempaths", "unconfined") => {
            (security.masked_paths, security.readonly_paths) =
                (vec!["/nonexistent".into()], vec!["/nonexistent".into()]);
        }
        ("writable-cgroups", "false") => {}
        _ => return Err(Failure::bad(format!("invalid --security-opt: {:?}", cut(option)))),
    }
    Ok(())
}

fn label(security: &mut SecurityContext, value: &str) -> Result<()> {
    let label = security.selinux.get_or_insert_default();
    match value.split_once(':') {
        Some(("user", user)) => user.clone_into(&mut label.user),
        Some(("role", role)) => role.clone_into(&mut label.role),
        Some(("type", kind)) => kind.clone_into(&mut label.kind),
        Some(("level", level)) => level.clone_into(&mut label.level),
        None if value == "disable" => "spc_t".clone_into(&mut label.kind),
        _ => return Err(Failure::bad(format!("invalid --security-opt: {:?}", cut(value)))),
    }
    Ok(())
}

/// A profile that came with the request, as text, to be kept beside the record.
pub(super) fn profile(host: &HostConfig) -> Option<&str> {
    let options = host.security_opt.iter().flatten();
    options
        .filter_map(|option| option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:")))
        .rfind(|value| !matches!(*value, "unconfined" | "builtin"))
}

/// Where that is kept.
pub(super) fn profile_path(dir: &Path) -> std::path::PathBuf {
    dir.join(PROFILE)
}

fn capabilities(names: Option<&Vec<String>>) -> Result<Vec<String>> {
    let parse = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let known = plain == "ALL" || husk_model::ALL_CAPABILITIES.contains(&plain);
        known.then(|| plain.to_owned()).ok_or_else(|| {
            Failure::bad(format!("invalid capability: unknown capability: \"CAP_{}\"", cut(plain)))
        })
    };
    names.into_iter().flatten().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn names_of_hosts_are_checked() {
        let hosts = |text: &str| hosts(&host(text), None);
        assert_eq!(hosts(r#"{"ExtraHosts":["db:10.0.0.1","v6=[::1]"]}"#).unwrap().len(), 2);
        assert!(hosts(r#"{"ExtraHosts":["db"]}"#).is_err());
        assert!(hosts(r#"{"ExtraHosts":["a b:10.0.0.1"]}"#).is_err());
    }

    #[test]
    fn capabilities_are_known_by_either_name() {
        let names = vec!["CAP_NET_ADMIN".to_owned(), "sys_time".to_owned(), "ALL".to_owned()];
        assert_eq!(capabilities(Some(&names)).unwrap(), ["NET_ADMIN", "SYS_TIME", "ALL"]);
        assert!(capabilities(Some(&vec!["FLY".to_owned()])).is_err());
    }
}
