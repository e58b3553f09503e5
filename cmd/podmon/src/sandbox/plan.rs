//! From a RunSandbox request to the runtime's plan.

use std::path::{Path, PathBuf};

use husk_cgroup::Cgroup;
use husk_model::{IdMapping, IdMappings, InvalidSysctl, SeLinuxContexts, SeccompFilter, Sysctl};
use husk_proto::podmon::{self, error::Code};
use husk_runtime::{NetNs, SandboxNamespaces, SandboxPlan};
use oci_spec::runtime::LinuxResources;

use crate::{
    core::cgroup_target,
    fault::{Fault, Outcome, fault, fault_of},
};

/// Applies limits given as JSON; returns those that the node could not set.
pub fn apply_json(cgroup: &Cgroup, json: &[u8]) -> Outcome<Vec<String>> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let resources: LinuxResources = serde_json::from_slice(json).map_err(|error| Fault {
        detail: error.to_string(),
        ..fault(Code::InvalidArgument, "parse resources")
    })?;
    let degraded = cgroup.apply(&resources).map_err(|error| fault_of(&error))?;
    Ok(degraded.iter().map(ToString::to_string).collect())
}

fn sysctl(message: podmon::Sysctl) -> Outcome<(Sysctl, String)> {
    let invalid = |error: InvalidSysctl| Fault {
        object: message.name.clone(),
        detail: error.to_string(),
        ..fault(Code::InvalidArgument, "set sysctl")
    };
    Ok((message.name.parse().map_err(invalid)?, message.value))
}

/// The user namespace of a request, if it wants one.
pub(super) fn mappings(request: &podmon::RunSandbox) -> Outcome<Option<IdMappings>> {
    let mapping = |m: &podmon::IdMapping| IdMapping {
        container_id: m.container_id,
        host_id: m.host_id,
        length: m.length,
    };
    match (request.uid_mappings.as_slice(), request.gid_mappings.as_slice()) {
        ([], []) => Ok(None),
        ([uids], [gids]) => Ok(Some(IdMappings { uids: mapping(uids), gids: mapping(gids) })),
        _ => Err(fault(Code::InvalidArgument, "a user namespace has one range of users and one of groups")),
    }
}

/// Files that huskd writes for a pod before its pause goes on, and of which the pod's containers see copies.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// Where they are on the node: the sources of their mounts.
pub fn pod_files(pod_dir: &Path) -> Vec<PathBuf> {
    FILES.iter().map(|name| pod_dir.join(name)).collect()
}

/// Puts everything together.
pub(super) fn plan(
    cgroup: &Cgroup,
    pause: &Path,
    pod_dir: &Path,
    user: Option<IdMappings>,
    request: podmon::RunSandbox,
) -> Outcome<SandboxPlan> {
    let net = match request.netns_path.as_str() {
        _ if request.new_netns => NetNs::New,
        "" => NetNs::Host,
        path => NetNs::Path(path.into()),
    };
    Ok(SandboxPlan {
        hostname: request.hostname,
        sysctls: request.sysctls.into_iter().map(sysctl).collect::<Outcome<_>>()?,
        namespaces: SandboxNamespaces {
            net,
            pid: request.own_pid,
            ipc: request.own_ipc,
            uts: request.own_uts,
            user,
        },
        cgroup: cgroup_target(cgroup)?,
        // Containers that share the pod's PID namespace see /proc/1/exe: not the node's file (CVE-2019-5736).
        pause: husk_sys::program::sealed_copy(pause).map_err(|error| fault_of(&error))?,
        shm_size: request.shm_size,
        held: request.held,
        files: pod_files(pod_dir),
        oom_score_adj: request.oom_score_adj,
        seccomp: (!request.seccomp.is_empty())
            .then_some(SeccompFilter { program: request.seccomp, flags: 0 }),
        selinux: (!request.selinux_process.is_empty())
            .then_some(SeLinuxContexts { process: request.selinux_process, mount: request.selinux_mount }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_of_a_request_has_one_range_of_each_kind_or_none() {
        let map = podmon::IdMapping { host_id: 65_536, container_id: 0, length: 1000 };
        let of = |uids: usize, gids: usize| {
            let request = podmon::RunSandbox {
                uid_mappings: vec![map; uids],
                gid_mappings: vec![map; gids],
                ..Default::default()
            };
            mappings(&request)
        };
        assert_eq!(of(0, 0).unwrap(), None);
        let ours = IdMapping { host_id: 65_536, container_id: 0, length: 1000 };
        assert_eq!(of(1, 1).unwrap(), Some(IdMappings { uids: ours, gids: ours }));
        for (uids, gids) in [(2, 2), (1, 0), (0, 1), (1, 2)] {
            assert_eq!(of(uids, gids).unwrap_err().code(), Code::InvalidArgument, "{uids}, {gids}");
        }
    }

    #[test]
    fn a_sysctl_of_the_node_is_refused_by_name() {
        let of = |name: &str| sysctl(podmon::Sysctl { name: name.to_owned(), value: "1".to_owned() });
        assert_eq!(of("net/ipv4/ip_forward").unwrap().0.to_string(), "net.ipv4.ip_forward");
        let fault = of("kernel.core_pattern").unwrap_err();
        assert_eq!((fault.code(), fault.object.as_str()), (Code::InvalidArgument, "kernel.core_pattern"));
    }
}
