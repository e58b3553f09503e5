//! From a record to what the engine is asked for.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use husk_model::{
    AppArmor, Capabilities, ContainerConfig, ContainerId, ContainerMetadata, Device, DnsConfig, EnvVar,
    KeptLayer, Mount, NamespaceMode, Namespaces, PodConfig, PodMetadata, PodNetworking, Resources, Rlimit,
    SeccompProfile, SecurityContext, Signal, UserRequest,
};

use super::{
    container::short,
    merge,
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
    resources(&record.host)?;
    rlimits(&record.host)?;
    hosts(&record.host, Some(IpAddr::from([0; 4])))?;
    security(record, Path::new("/"))?;
    sysctls(&record.host)?;
    Modes::of(&record.host)?;
    super::ports::wanted(&record.config, &record.host)?;
    signal(&record.config.stop_signal)?;
    match record.host.log_config.kind.as_str() {
        "" | "json-file" | "local" | "none" => {}
        other => {
            return Err(Failure::bad(format!(
                "logger: no log driver named '{}' is registered; husk has json-file, local and none",
                cut(other)
            )));
        }
    }
    match record.host.runtime.as_str() {
        "" | "runc" | "husk" => Ok(()),
        other => Err(Failure::bad(format!("unknown or invalid runtime name: {}", cut(other)))),
    }
}

/// The pod of a run.
///
/// # Errors
/// As [`check`].
pub(super) fn pod(
    record: &Record,
    dir: &Path,
    attempt: u32,
    networking: PodNetworking,
    host_gateway: Option<IpAddr>,
) -> Result<PodConfig> {
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
        hostname: match modes.network {
            NamespaceMode::Node => String::new(),
            _ => hostname(record),
        },
        domain: record.config.domainname.clone(),
        // That of all, because a container may be in another's pod.
        log_directory: dir.parent().unwrap_or(dir).display().to_string(),
        dns: (!dns.is_empty()).then_some(dns),
        hosts: hosts(host, host_gateway)?,
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
        networking,
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
    target: Option<&ContainerId>,
) -> Result<ContainerConfig> {
    let (config, host) = (&record.config, &record.host);
    let env = merge::environment(config, &hostname(record));
    // Unique in another's pod, too.
    let metadata = ContainerMetadata { name: record.id.clone(), attempt: 0 };
    Ok(ContainerConfig {
        command: merge::command(config)?,
        working_dir: config.working_dir.clone(),
        envs: env.into_iter().map(|(key, value)| EnvVar { key, value: value.into_bytes() }).collect(),
        mounts,
        devices: devices(host)?,
        cdi_devices: cdi(host)?,
        log_path: match host.log_config.kind.as_str() {
            "none" => String::new(),
            _ => format!("{}/{LOG}", record.id),
        },
        stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: resources(host)?,
        security: {
            let mut security = security(record, dir)?;
            security.namespaces.target_id = target.map(ContainerId::to_string).unwrap_or_default();
            security
        },
        stop_signal: signal(&config.stop_signal)?,
        user: config.user.clone(),
        rlimits: rlimits(host)?,
        // One that goes with its end needs no disk.
        kept_layer: Some(KeptLayer { dir: record::layer(dir), durable: !host.auto_remove }),
        ..ContainerConfig::named(metadata, record.image.to_string())
    })
}

/// What it is called inside.
pub(super) fn hostname(record: &Record) -> String {
    match record.config.hostname.as_str() {
        "" => short(&record.id).to_owned(),
        name => name.to_owned(),
    }
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
}

impl Modes {
    fn of(host: &HostConfig) -> Result<Self> {
        let foreign = |field: &str, mode: &str| {
            Failure::missing(format!(
                "HostConfig.{field} {:?}: husk does not share a stopped or running container's namespace yet",
                cut(mode)
            ))
        };
        let network = match host.network_mode.as_str() {
            "host" => NamespaceMode::Node,
            _ => NamespaceMode::Pod,
        };
        // A container of another's pod shares what that has: its network always, the rest if it wants to.
        let shared = host.network_mode.strip_prefix(CONTAINER);
        let is_shared = |mode: &str| shared.is_some() && mode.strip_prefix(CONTAINER) == shared;
        let pid = match host.pid_mode.as_str() {
            "host" => NamespaceMode::Node,
            // pause is the first process of a shared namespace, and reaps as an init does.
            "" | "private" if host.init == Some(true) => NamespaceMode::Pod,
            "" | "private" => NamespaceMode::Container,
            mode if is_shared(mode) => NamespaceMode::Target,
            mode => return Err(foreign("PidMode", mode)),
        };
        let ipc = match host.ipc_mode.as_str() {
            "host" => NamespaceMode::Node,
            "" | "private" | "shareable" | "none" => NamespaceMode::Pod,
            mode if is_shared(mode) => NamespaceMode::Pod,
            mode => return Err(foreign("IpcMode", mode)),
        };
        for (field, mode) in [("UTSMode", &host.uts_mode), ("UsernsMode", &host.userns_mode)] {
            // Pods of the node's network have the node's name; no other mixture is made.
            let fits = mode.is_empty()
                || mode == "host" && (field == "UsernsMode" || network == NamespaceMode::Node);
            if !fits {
                return Err(Failure::missing(format!(
                    "HostConfig.{field} {:?} is not supported by husk",
                    cut(mode)
                )));
            }
        }
        Ok(Self { network, pid, ipc })
    }

    fn namespaces(&self) -> Namespaces {
        Namespaces { network: self.network, pid: self.pid, ipc: self.ipc, ..Namespaces::default() }
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
    let groups = host.group_add.iter().flatten().map(|group| {
        group.parse::<u32>().map_err(|_| {
            Failure::bad(format!("HostConfig.GroupAdd {:?}: husk takes the numbers of groups", cut(group)))
        })
    });
    let mut security = SecurityContext {
        namespaces: Modes::of(host)?.namespaces(),
        privileged: host.privileged,
        capabilities: Capabilities {
            add: capabilities(host.cap_add.as_ref())?,
            drop: capabilities(host.cap_drop.as_ref())?,
            ambient: Vec::new(),
        },
        supplemental_groups: groups.collect::<Result<_>>()?,
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

// === devices ===

fn devices(host: &HostConfig) -> Result<Vec<Device>> {
    if host.device_cgroup_rules.iter().flatten().next().is_some() {
        return Err(Failure::missing(
            "HostConfig.DeviceCgroupRules are not supported by husk; name the devices",
        ));
    }
    let parse = |device: &crate::api::container::DeviceMapping| {
        let or =
            |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let permissions = or(&device.cgroup_permissions, "rwm");
        if !device.path_on_host.starts_with('/') || permissions.chars().any(|c| !"rwm".contains(c)) {
            return Err(Failure::bad(format!("invalid device {:?}", cut(&device.path_on_host))));
        }
        Ok(Device {
            container_path: or(&device.path_in_container, &device.path_on_host),
            host_path: device.path_on_host.clone(),
            permissions,
        })
    };
    host.devices.iter().flatten().map(parse).collect()
}

fn cdi(host: &HostConfig) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for request in host.device_requests.iter().flatten() {
        if request.driver != "cdi" {
            return Err(Failure::bad(format!(
                "could not select device driver {:?}; husk has cdi",
                cut(&request.driver)
            )));
        }
        names.extend(request.device_ids.iter().cloned());
    }
    Ok(names)
}

// === limits ===

/// Least memory limit, as dockerd has it.
const LEAST_MEMORY: i64 = 6 << 20;

/// Limits of a host configuration.
///
/// # Errors
/// 400 with the field.
pub(super) fn resources(host: &HostConfig) -> Result<Resources> {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
    let bad = |text: &str| Failure::bad(text);
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return Err(bad("Minimum memory limit allowed is 6MB"));
    }
    if host.memory_swap > 0 && host.memory == 0 {
        return Err(bad("You should always set the Memory limit when using Memoryswap limit"));
    }
    if host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(bad("Minimum memoryswap limit should be larger than memory limit"));
    }
    if host.nano_cpus != 0 && (host.cpu_quota != 0 || host.cpu_period != 0) {
        return Err(bad("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set"));
    }
    if host.nano_cpus < 0 || host.cpu_shares < 0 || host.cpu_period < 0 {
        return Err(bad("a limit of CPUs is negative"));
    }
    let there =
        i64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(i64::MAX);
    if host.nano_cpus > there.saturating_mul(1_000_000_000) {
        return Err(Failure::bad(format!(
            "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        )));
    }
    let (period, quota) = match host.nano_cpus {
        0 => (positive(host.cpu_period), Some(host.cpu_quota).filter(|quota| *quota != 0)),
        nanos => (Some(100_000), Some(nanos / 10_000)),
    };
    Ok(Resources {
        cpu_period: period,
        cpu_quota: quota,
        cpu_shares: positive(host.cpu_shares),
        memory_limit: Some(host.memory).filter(|limit| *limit > 0),
        // As much swap as memory, unless something is said.
        memory_swap_limit: match (host.memory_swap, host.memory) {
            (0, 0) => None,
            (0, memory) => memory.checked_mul(2),
            (swap, _) => Some(swap),
        },
        oom_score_adj: i32::try_from(host.oom_score_adj.clamp(-1000, 1000)).unwrap_or(0),
        cpuset_cpus: cpus("CpusetCpus", &host.cpuset_cpus)?,
        cpuset_mems: cpus("CpusetMems", &host.cpuset_mems)?,
        pids_limit: host.pids_limit.filter(|limit| *limit > 0),
        ..Resources::default()
    })
}

fn cpus(field: &str, list: &str) -> Result<String> {
    match list.bytes().all(|byte| byte.is_ascii_digit() || b",- ".contains(&byte)) {
        true => Ok(list.replace(' ', "")),
        false => Err(Failure::bad(format!("invalid HostConfig.{field} {:?}", cut(list)))),
    }
}

fn rlimits(host: &HostConfig) -> Result<Vec<Rlimit>> {
    const NAMES: [&str; 16] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
        "as",
    ];
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let parse = |ulimit: &crate::api::container::Ulimit| {
        if !NAMES.contains(&ulimit.name.as_str()) {
            return Err(Failure::bad(format!("invalid ulimit type: {}", cut(&ulimit.name))));
        }
        let (soft, hard) = (limit(ulimit.soft), limit(ulimit.hard));
        if soft > hard {
            return Err(Failure::bad(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
        Ok(Rlimit { name: ulimit.name.clone(), soft, hard })
    };
    host.ulimits.iter().flatten().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn limits_are_those_of_the_request() {
        let limits = resources(&host(r#"{"Memory":67108864,"NanoCpus":500000000,"PidsLimit":7}"#)).unwrap();
        assert_eq!((limits.memory_limit, limits.memory_swap_limit), (Some(64 << 20), Some(128 << 20)));
        assert_eq!((limits.cpu_period, limits.cpu_quota), (Some(100_000), Some(50_000)));
        assert_eq!(limits.pids_limit, Some(7));
        assert_eq!(resources(&HostConfig::default()).unwrap(), Resources::default());
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        for text in [
            r#"{"Memory":1}"#,
            r#"{"MemorySwap":67108864}"#,
            r#"{"Memory":67108864,"MemorySwap":6710886}"#,
            r#"{"NanoCpus":1,"CpuQuota":1}"#,
            r#"{"CpusetCpus":"0;reboot"}"#,
        ] {
            assert_eq!(resources(&host(text)).unwrap_err().status(), 400, "{text}");
        }
        assert!(rlimits(&host(r#"{"Ulimits":[{"Name":"files","Soft":1,"Hard":1}]}"#)).is_err());
        assert!(rlimits(&host(r#"{"Ulimits":[{"Name":"nofile","Soft":2,"Hard":1}]}"#)).is_err());
        let unlimited = rlimits(&host(r#"{"Ulimits":[{"Name":"core","Soft":-1,"Hard":-1}]}"#)).unwrap();
        assert_eq!(unlimited[0].hard, u64::MAX);
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
