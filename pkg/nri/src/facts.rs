//! What the engine tells of its pods and containers, and how that looks to a plugin.

use std::{path::PathBuf, sync::Arc};

use husk_model::{
    ContainerState, ContainerStatus, NamespaceMode, PodStatus, Process, SeccompProfile, UnixNanos,
};
use husk_proto::nri;
use oci_spec::runtime::Spec;

use crate::limits;

/// A pod.
#[derive(Debug, Clone)]
pub struct PodFacts {
    /// Snapshot.
    pub status: Arc<PodStatus>,
    /// The pod's cgroup, relative to the hierarchy's root.
    pub cgroup_path: String,
    /// Its pinned network namespace; `None` with the node's network.
    pub netns: Option<PathBuf>,
}

/// A container.
#[derive(Debug, Clone)]
pub struct ContainerFacts {
    /// Snapshot.
    pub status: Arc<ContainerStatus>,
    /// What it was made from; `None` when that is not known (made while NRI was off). Then the request has to do.
    pub spec: Option<Arc<Spec>>,
}

pub(crate) fn pod(facts: &PodFacts) -> nri::PodSandbox {
    let (status, config) = (&facts.status, &facts.status.config);
    let parent = facts.cgroup_path.rsplit_once('/').map_or("", |(parent, _)| parent);
    nri::PodSandbox {
        id: status.id.to_string(),
        name: config.metadata.name.clone(),
        uid: config.metadata.uid.clone(),
        namespace: config.metadata.namespace.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: config.runtime_handler.clone(),
        linux: Some(nri::LinuxPodSandbox {
            pod_overhead: config.overhead.as_ref().map(limits::to_plugin),
            pod_resources: config.resources.as_ref().map(limits::to_plugin),
            cgroup_parent: parent.to_owned(),
            cgroups_path: facts.cgroup_path.clone(),
            namespaces: namespaces(facts),
            resources: None,
        }),
        pid: status.process.map_or(0, |process| process.pid),
        ips: status.ips.iter().map(ToString::to_string).collect(),
    }
}

/// The namespaces that are the pod's own, by a path that can be opened.
fn namespaces(facts: &PodFacts) -> Vec<nri::LinuxNamespace> {
    let wanted = facts.status.config.namespaces();
    let mut namespaces = Vec::new();
    let mut add = |kind: &str, path: String| {
        namespaces.push(nri::LinuxNamespace { r#type: kind.to_owned(), path });
    };
    if let Some(netns) = &facts.netns {
        add("network", netns.display().to_string());
    }
    if let Some(Process { pid, .. }) = facts.status.process {
        for (kind, file, own) in [
            ("ipc", "ipc", wanted.ipc != NamespaceMode::Node),
            ("uts", "uts", wanted.network != NamespaceMode::Node),
            ("pid", "pid", wanted.pid == NamespaceMode::Pod),
        ] {
            if own {
                add(kind, format!("/proc/{pid}/ns/{file}"));
            }
        }
    }
    namespaces
}

/// A container that exists.
pub(crate) fn container(facts: &ContainerFacts) -> nri::Container {
    let mut base = match &facts.spec {
        Some(spec) => from_spec(spec),
        None => from_request(&facts.status),
    };
    // Limits may have changed since the spec was made.
    let resources = base.linux.get_or_insert_default().resources.get_or_insert_default();
    limits::overlay(resources, &limits::to_plugin(&facts.status.resources));
    complete(&facts.status, base)
}

/// A container that is being created, as `spec` has it by now.
pub(crate) fn new_container(status: &ContainerStatus, spec: &Spec) -> nri::Container {
    complete(status, from_spec(spec))
}

fn complete(status: &ContainerStatus, mut base: nri::Container) -> nri::Container {
    let linux = base.linux.get_or_insert_default();
    linux.cgroups_path.clone_from(&status.cgroup_path);
    linux.seccomp_profile = Some(seccomp(&status.config.security.seccomp));
    let (state, started_at, finished_at, exit_code, reason, message) = life(&status.state);
    nri::Container {
        id: status.id.to_string(),
        pod_sandbox_id: status.pod_id.to_string(),
        name: status.config.metadata.name.clone(),
        state: state.into(),
        labels: status.config.labels.clone(),
        pid: status.process.map_or(0, |process| process.pid),
        created_at: status.created_at,
        started_at,
        finished_at,
        exit_code,
        status_reason: reason,
        status_message: message,
        cdi_devices: requested_devices(status),
        user: status.user.as_ref().map(|user| nri::User {
            uid: user.uid,
            gid: user.gid,
            additional_gids: user.groups.clone(),
        }),
        image: Some(nri::Image {
            name: status.image_name.clone(),
            digest: status.image_ref.rsplit_once('@').map_or("", |(_, digest)| digest).to_owned(),
            config_digest: status.image_id.to_string(),
        }),
        ..base
    }
}

fn life(state: &ContainerState) -> (nri::ContainerState, UnixNanos, UnixNanos, i32, String, String) {
    use nri::ContainerState as State;
    match state {
        ContainerState::Created => (State::ContainerCreated, 0, 0, 0, String::new(), String::new()),
        ContainerState::Running { started_at } => {
            (State::ContainerRunning, *started_at, 0, 0, String::new(), String::new())
        }
        ContainerState::Exited { started_at, exit } => (
            State::ContainerStopped,
            *started_at,
            exit.finished_at,
            exit.code,
            exit.reason.as_str().to_owned(),
            exit.message.clone(),
        ),
        ContainerState::Unknown { reason } => {
            (State::ContainerUnknown, 0, 0, 0, String::new(), reason.clone())
        }
    }
}

fn requested_devices(status: &ContainerStatus) -> Vec<nri::CdiDevice> {
    let names = status.config.cdi_devices.iter();
    names.map(|name| nri::CdiDevice { name: name.clone() }).collect()
}

fn seccomp(profile: &SeccompProfile) -> nri::SecurityProfile {
    use nri::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile {
        SeccompProfile::Unconfined => (ProfileType::Unconfined, String::new()),
        SeccompProfile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        SeccompProfile::Localhost(path) => (ProfileType::Localhost, path.clone()),
    };
    nri::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// What the spec says of a container.
fn from_spec(spec: &Spec) -> nri::Container {
    let process = spec.process().as_ref();
    let linux = spec.linux().as_ref();
    nri::Container {
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        args: process.and_then(|process| process.args().clone()).unwrap_or_default(),
        env: process.and_then(|process| process.env().clone()).unwrap_or_default(),
        mounts: spec.mounts().iter().flatten().map(mount).collect(),
        rlimits: process
            .and_then(|process| process.rlimits().as_ref())
            .into_iter()
            .flatten()
            .map(|limit| nri::PosixRlimit {
                r#type: limit.typ().to_string(),
                hard: limit.hard(),
                soft: limit.soft(),
            })
            .collect(),
        linux: Some(nri::LinuxContainer {
            devices: linux
                .and_then(|linux| linux.devices().as_ref())
                .into_iter()
                .flatten()
                .map(device)
                .collect(),
            resources: linux.and_then(|linux| linux.resources().as_ref()).map(limits::from_spec),
            oom_score_adj: process
                .and_then(oci_spec::runtime::Process::oom_score_adj)
                .map(|score| nri::OptionalInt { value: score.into() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn mount(mount: &oci_spec::runtime::Mount) -> nri::Mount {
    nri::Mount {
        destination: mount.destination().display().to_string(),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: mount.source().as_ref().map(|source| source.display().to_string()).unwrap_or_default(),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn device(device: &oci_spec::runtime::LinuxDevice) -> nri::LinuxDevice {
    nri::LinuxDevice {
        path: device.path().display().to_string(),
        r#type: device.typ().as_str().to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| nri::OptionalFileMode { value }),
        uid: device.uid().map(|value| nri::OptionalUInt32 { value }),
        gid: device.gid().map(|value| nri::OptionalUInt32 { value }),
    }
}

/// What the request says of a container whose spec nobody kept.
fn from_request(status: &ContainerStatus) -> nri::Container {
    let config = &status.config;
    nri::Container {
        annotations: config.annotations.clone(),
        args: config.command.iter().chain(&config.args).cloned().collect(),
        env: config
            .envs
            .iter()
            .map(|variable| String::from_utf8_lossy(&variable.entry()).into_owned())
            .collect(),
        mounts: config
            .mounts
            .iter()
            .filter_map(|mount| {
                Some(nri::Mount {
                    destination: mount.container_path.clone(),
                    r#type: "bind".to_owned(),
                    source: mount.source.host_path()?.to_owned(),
                    options: vec!["rbind".to_owned(), if mount.readonly { "ro" } else { "rw" }.to_owned()],
                })
            })
            .collect(),
        linux: Some(nri::LinuxContainer {
            oom_score_adj: Some(nri::OptionalInt { value: config.resources.oom_score_adj.into() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
