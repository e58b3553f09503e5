//! `features`: what this runtime can do (OCI runtime-spec, features).

use serde_json::{Value, json};

use crate::example::OCI_VERSION;

/// In the form that the specification gives.
pub fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"
                ],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "netDevices": { "enabled": true },
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
            },
            "mountExtensions": { "idmap": { "enabled": true } }
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "io.husk.version": env!("CARGO_PKG_VERSION")
        },
        "potentiallyUnsafeConfigAnnotations": ["bundle"]
    })
}

fn capabilities() -> Vec<String> {
    let number = |number: u32| rustix::thread::CapabilitySet::from_bits_retain(1 << number);
    let names = (0..64).filter_map(|bit: u32| {
        let set = rustix::thread::CapabilitySet::from_bits(number(bit).bits())?;
        set.iter_names().next().map(|(name, _)| format!("CAP_{name}"))
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// Those of the mount itself and of what is below it, propagation, and what husk adds to a filesystem's own.
fn mount_options() -> Vec<String> {
    let plain = [
        "atime",
        "dev",
        "diratime",
        "exec",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "relatime",
        "ro",
        "rw",
        "shared",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "unbindable",
    ];
    let mut all: Vec<String> =
        plain.iter().flat_map(|name| [(*name).to_owned(), format!("r{name}")]).collect();
    all.extend(["bind", "rbind", "defaults", "async", "idmap", "ridmap", "tmpcopyup"].map(str::to_owned));
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_form_of_the_specification() {
        let parsed: oci_spec::runtime::Features = serde_json::from_value(features()).unwrap();
        let text = serde_json::to_string(&parsed).unwrap();
        assert!(text.contains("CAP_CHECKPOINT_RESTORE") && text.contains("rro"), "{text}");
    }
}
