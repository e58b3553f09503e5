//! The `config.json` that `spec` writes: what a program needs that knows nothing of containers, and not more.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

/// The specification's version that this is written for.
pub(crate) const OCI_VERSION: &str = "1.2.1";

/// A config for a shell in `rootfs`. `rootless`: for whoever is not root, in a user namespace with one id.
///
/// It is the same as runc's, since scripts edit it.
pub fn example(rootless: bool) -> Spec {
    let config = config(rootless);
    // The text is ours: what it says is in the tests.
    serde_json::from_value(config).unwrap_or_default()
}

fn config(rootless: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut config = json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runc",
        "mounts": mounts(rootless),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces(rootless),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if rootless {
        let own = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        config["linux"]["uidMappings"] = own(rustix::process::geteuid().as_raw());
        config["linux"]["gidMappings"] = own(rustix::process::getegid().as_raw());
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("resources");
        }
    }
    config
}

fn mounts(rootless: bool) -> Value {
    let devpts = match rootless {
        true => json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        false => json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    };
    let sys = match rootless {
        true => json!({ "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] }),
        false => json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }),
    };
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] },
        sys,
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
    ])
}

fn namespaces(rootless: bool) -> Value {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    kinds.insert(1, if rootless { "user" } else { "network" });
    let v2 = husk_cgroup::Hierarchy::detect().is_ok_and(|found| found.version() == husk_cgroup::Version::V2);
    if v2 {
        kinds.push("cgroup");
    }
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_examples_are_what_they_say() {
        for rootless in [false, true] {
            let spec: Spec = serde_json::from_value(config(rootless)).unwrap();
            assert_eq!(spec.process().as_ref().unwrap().args().as_ref().unwrap(), &["sh"]);
            assert_eq!(spec.linux().as_ref().unwrap().uid_mappings().is_some(), rootless);
        }
    }
}
