//! `GET /info`: the node, its containers and what they can have.

use std::{fs, path::Path, sync::Arc};

use husk_cgroup::{Controller, Version};
use husk_lsm::{Availability, selinux::State};
use husk_node::file::{self, Outlives};
use hyper::StatusCode;
use serde_json::json;

use super::about::{ENGINE, HUSK};
use crate::{
    door::Parts,
    error::{Failure, Result},
    facilities::Containers,
    http::{Answer, json},
};

/// The name by which clients know the one runtime. Those that ask for runc or io.containerd.runc.v2 mean the same.
const RUNTIME: &str = "husk";

pub(super) async fn info(door: &Arc<Parts>) -> Result<Answer> {
    let node = {
        let door = Arc::clone(door);
        tokio::task::spawn_blocking(move || look(&door))
            .await
            .map_err(|_| Failure::internal("looking at the node panicked"))??
    };
    let counts = door.containers.counts();
    let hierarchy = door.engine.hierarchy();
    let has = |controller| hierarchy.has(controller);
    let is_v2 = hierarchy.version() == Version::V2;
    let mut warnings = Vec::new();
    for (controller, what) in [
        (Controller::Memory, "WARNING: No memory limit support"),
        (Controller::Cpu, "WARNING: No cpu shares support"),
        (Controller::Pids, "WARNING: No pids limit support"),
    ] {
        if !has(controller) {
            warnings.push(what);
        }
    }
    let body = json!({
        "ID": node.id,
        "Name": node.name,
        "ServerVersion": ENGINE,
        "Containers": counts.running + counts.paused + counts.stopped,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": door.images.list().len(),
        "Driver": "overlayfs",
        "DriverStatus": [["Backing store", "husk"], ["Store", door.images.usage().path.display().to_string()]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null", "overlay"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": has(Controller::Memory),
        "SwapLimit": has(Controller::Memory),
        "CpuCfsPeriod": has(Controller::Cpu),
        "CpuCfsQuota": has(Controller::Cpu),
        "CPUShares": has(Controller::Cpu),
        "CPUSet": has(Controller::CpuSet),
        "PidsLimit": has(Controller::Pids),
        "OomKillDisable": !is_v2 && has(Controller::Memory),
        "IPv4Forwarding": node.forwards,
        "Debug": false,
        "NFd": node.descriptors,
        "NGoroutines": 0,
        "NEventsListener": door.events.followers(),
        "SystemTime": crate::when::text(husk_node::now()),
        "LoggingDriver": "json-file",
        "CgroupDriver": if door.engine.has_systemd_driver() { "systemd" } else { "cgroupfs" },
        "CgroupVersion": if is_v2 { "2" } else { "1" },
        "KernelVersion": husk_node::kernel_release(),
        "OperatingSystem": node.system,
        "OSVersion": node.system_version,
        "OSType": "linux",
        // As uname(2) spells it, unlike everywhere else.
        "Architecture": std::env::consts::ARCH,
        "NCPU": node.cpus,
        "MemTotal": node.memory,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "IndexConfigs": {
                "docker.io": { "Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true },
            },
            "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
            "Mirrors": null,
        },
        "GenericResources": null,
        "DockerRootDir": door.root.display().to_string(),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": false,
        "Runtimes": { RUNTIME: { "path": "husk-podmon" } },
        "DefaultRuntime": RUNTIME,
        "Swarm": door.swarm.info(),
        // Containers run on while huskd is away, always.
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "husk-podmon",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": HUSK },
        "InitCommit": { "ID": HUSK },
        "SecurityOptions": security(door, is_v2),
        "FirewallBackend": { "Driver": "nftables" },
        "CDISpecDirs": [],
        "Warnings": warnings,
    });
    json(StatusCode::OK, &body)
}

fn security(door: &Parts, is_v2: bool) -> Vec<&'static str> {
    let mut options = Vec::new();
    if door.engine.apparmor().availability() == Availability::Enabled {
        options.push("name=apparmor");
    }
    if door.engine.selinux().state() != State::Absent {
        options.push("name=selinux");
    }
    options.push("name=seccomp,profile=builtin");
    if is_v2 {
        options.push("name=cgroupns");
    }
    options
}

/// What is read of the node.
struct Node {
    id: String,
    name: String,
    system: String,
    system_version: String,
    cpus: usize,
    memory: u64,
    forwards: bool,
    descriptors: usize,
}

fn look(door: &Parts) -> Result<Node> {
    let release =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    let release = release.unwrap_or_default();
    let of_release = |key| value_of(&release, key).unwrap_or_default();
    let memory = rustix::system::sysinfo();
    Ok(Node {
        id: id(&door.root)?,
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        system: value_of(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        system_version: of_release("VERSION_ID"),
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        memory: (memory.totalram as u64).saturating_mul(memory.mem_unit.into()),
        forwards: fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.starts_with(b"1")),
        descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
    })
}

/// A value of os-release(5), without its quotes.
fn value_of(release: &str, key: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// The daemon's own id, made once and kept.
fn id(root: &Path) -> Result<String> {
    let path = root.join("engine-id");
    if let Ok(id) = fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let hex = husk_model::ContainerId::generate();
    let hex = &hex.as_str()[..32];
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    file::replace(&path, id.as_bytes(), Outlives::PowerCut)
        .map_err(Failure::io(format!("keep the engine's id in {}", path.display())))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = id(dir.path()).unwrap();
        assert_eq!(first.len(), 36);
        assert_eq!(id(dir.path()).unwrap(), first);
    }

    #[test]
    fn the_systems_name_is_read_without_its_quotes() {
        let release = "NAME=\"Debian\"\nVERSION_ID=12\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(value_of(release, "PRETTY_NAME").unwrap(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(value_of(release, "VERSION_ID").unwrap(), "12");
        assert_eq!(value_of(release, "VERSION"), None);
    }
}
