//! From a CreateContainer request to the runtime's plan.

use std::{os::fd::OwnedFd, path::PathBuf};

use husk_model::{GroupSpec, GroupsPolicy, ImageVolume, Rootfs, SeccompFilter, Stdio, UserRequest, UserSpec};
use husk_proto::podmon::{self, PidMode, error::Code, user_request};
use husk_runtime::{CgroupTarget, ContainerNamespaces, ContainerPlan, PidNs, UserNamespace};
use oci_spec::runtime::Spec;

use crate::fault::{Fault, Outcome, fault};

/// What a plan is made of besides the request.
pub struct Parts {
    pub spec: Spec,
    pub sandbox: OwnedFd,
    pub user: Option<UserNamespace>,
    /// For `PidMode::Target` and `PidMode::Process`.
    pub target: Option<OwnedFd>,
    /// Pause of the pod whose IPC is shared.
    pub ipc_of: Option<OwnedFd>,
    pub cgroup: CgroupTarget,
    pub cgroup_namespace: bool,
    /// Of the pod, as its pause was given them.
    pub pod_files: Vec<PathBuf>,
    pub stdio: Stdio<OwnedFd>,
}

/// Parses the spec of a request.
pub fn parse_spec(json: &[u8]) -> Outcome<Spec> {
    serde_json::from_slice(json)
        .map_err(|error| Fault { detail: error.to_string(), ..fault(Code::InvalidArgument, "parse spec") })
}

/// The filter of a request, if it has one.
pub fn seccomp(request: &podmon::CreateContainer) -> Option<SeccompFilter> {
    (!request.seccomp.is_empty())
        .then(|| SeccompFilter { program: request.seccomp.clone(), flags: request.seccomp_flags })
}

/// Puts everything together.
pub fn container(request: podmon::CreateContainer, parts: Parts) -> Outcome<ContainerPlan> {
    let seccomp = seccomp(&request);
    let pid = match request.pid_mode() {
        PidMode::Pod => PidNs::Pod,
        PidMode::Container => PidNs::Own,
        PidMode::Node => PidNs::Host,
        PidMode::Target | PidMode::Process => match parts.target {
            Some(pidfd) => PidNs::Target(pidfd),
            None => return Err(fault(Code::NotFound, "the target container is not running")),
        },
    };
    let rootfs = request.rootfs.ok_or_else(|| fault(Code::InvalidArgument, "the request has no rootfs"))?;
    let mut spec = parts.spec;
    if let (Some(score), Some(process)) = (request.oom_score_adj, spec.process_mut().as_mut()) {
        process.set_oom_score_adj(Some(score));
    }
    Ok(ContainerPlan {
        spec,
        rootfs: Rootfs {
            base: rootfs.base.into(),
            lowers: rootfs.lowers,
            upper: rootfs.upper.into(),
            work: rootfs.work.into(),
            readonly: rootfs.readonly,
            durable: rootfs.durable,
        },
        image_volumes: request
            .image_volumes
            .into_iter()
            .map(|volume| ImageVolume {
                base: volume.base.into(),
                lowers: volume.lowers,
                sub_path: volume.sub_path.into(),
            })
            .collect(),
        pod_files: parts.pod_files,
        relabel: request.relabel.into_iter().map(Into::into).collect(),
        user: request.user.map(user).unwrap_or_default(),
        raw_env: request.raw_env,
        seccomp,
        namespaces: ContainerNamespaces {
            sandbox: parts.sandbox,
            pid,
            host_net: request.node_network,
            host_ipc: request.node_ipc,
            ipc_of: parts.ipc_of,
            cgroup: parts.cgroup_namespace,
            user: parts.user,
        },
        cgroup: parts.cgroup,
        stdio: parts.stdio,
    })
}

/// Of a request.
pub fn user(request: podmon::UserRequest) -> UserRequest {
    UserRequest {
        user: match request.user {
            None => UserSpec::Root,
            Some(user_request::User::Uid(uid)) => UserSpec::Uid(uid),
            Some(user_request::User::UserName(name)) => UserSpec::Name(name),
        },
        group: match request.group {
            None => GroupSpec::OfUser,
            Some(user_request::Group::Gid(gid)) => GroupSpec::Gid(gid),
            Some(user_request::Group::GroupName(name)) => GroupSpec::Name(name),
        },
        supplemental_groups: request.supplemental_groups,
        supplemental_group_names: request.supplemental_group_names,
        groups_policy: if request.strict_groups { GroupsPolicy::Strict } else { GroupsPolicy::Merge },
    }
}
