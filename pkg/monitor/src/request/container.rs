//! The request for a container, built up to its gate.

use std::path::PathBuf;

use husk_model::{
    CgroupNamespace, ContainerId, GroupSpec, GroupsPolicy, ImageVolume, LogLimits, Process, Rootfs,
    SeccompFilter, Signal, UserRequest, UserSpec,
};
use husk_proto::podmon::{
    self,
    user_request::{Group, User},
};

use super::{Scope, text};

/// A container to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRequest {
    /// Its id.
    pub id: ContainerId,
    /// JSON of the OCI runtime-spec Config. Namespaces, root and user names come from the fields below; limits from
    /// `linux.resources`.
    pub spec_json: Vec<u8>,
    /// `NAME=value` entries of the environment that are no UTF-8: JSON cannot carry them, so the spec has their lossy form,
    /// in whose place each is put.
    pub raw_env: Vec<Vec<u8>>,
    /// Root filesystem.
    pub rootfs: Rootfs,
    /// Images mounted read-only. A mount of the spec with type `image` names one by its index, as its source.
    pub image_volumes: Vec<ImageVolume>,
    /// Sources of bind mounts of the spec whose files get the SELinux context `linux.mountLabel`.
    pub relabel: Vec<PathBuf>,
    /// Who it runs as, looked up in its own passwd and group files.
    pub user: UserRequest,
    /// Its filter.
    pub seccomp: Option<SeccompFilter>,
    /// Cgroup relative to the hierarchy's root: `<pod cgroup>/<container id>`.
    pub cgroup_path: String,
    /// Log file relative to the sandbox's log directory; `None` writes no log.
    pub log_path: Option<String>,
    /// When another file of it is begun; `None` leaves that to whoever reads it.
    pub log_limits: Option<LogLimits>,
    /// Runs on a terminal of its own.
    pub terminal: bool,
    /// What it reads.
    pub stdin: Stdin,
    /// What a stop sends first, unless it says otherwise.
    pub stop_signal: Signal,
    /// PID namespace.
    pub pid: PidNamespace,
    /// Network namespace.
    pub network: Scope,
    /// IPC namespace.
    pub ipc: IpcNamespace,
    /// `oom_score_adj` of its init.
    pub oom_score_adj: i32,
    /// Has every device and capability; its cgroup namespace may depend on it.
    pub privileged: bool,
    /// Cgroup namespace.
    pub cgroup_namespace: CgroupNamespace,
}

/// PID namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidNamespace {
    /// The pod's.
    Pod,
    /// A new one: its init is PID 1.
    Container,
    /// The node's.
    Node,
    /// That of another container of the pod.
    Target(ContainerId),
    /// That of a container of another pod: its init.
    Process(Process),
}

/// IPC namespace of a container, with its /dev/shm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpcNamespace {
    /// The pod's.
    Pod,
    /// The node's.
    Node,
    /// Another pod's: its pause process.
    Sandbox(Process),
}

/// What a container reads from its standard input. With a terminal, input is there in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// The end of it: /dev/null.
    Null,
    /// What attached clients write, for as long as it lives.
    Open,
    /// What the first attached client writes; its end is the container's.
    Once,
}

impl From<ContainerRequest> for podmon::CreateContainer {
    fn from(request: ContainerRequest) -> Self {
        let (pid_mode, target, pid_process) = match request.pid {
            PidNamespace::Pod => (podmon::PidMode::Pod, None, None),
            PidNamespace::Container => (podmon::PidMode::Container, None, None),
            PidNamespace::Node => (podmon::PidMode::Node, None, None),
            PidNamespace::Target(id) => (podmon::PidMode::Target, Some(id), None),
            PidNamespace::Process(process) => (podmon::PidMode::Process, None, Some(process)),
        };
        let ipc_process = match request.ipc {
            IpcNamespace::Sandbox(process) => Some(process),
            IpcNamespace::Pod | IpcNamespace::Node => None,
        };
        let (seccomp, seccomp_flags) =
            request.seccomp.map(|filter| (filter.program, filter.flags)).unwrap_or_default();
        Self {
            container_id: request.id.to_string(),
            spec_json: request.spec_json,
            rootfs: Some(rootfs(request.rootfs)),
            user: Some(user(request.user)),
            seccomp,
            seccomp_flags,
            cgroup_path: request.cgroup_path,
            log_path: request.log_path.unwrap_or_default(),
            tty: request.terminal,
            stdin: request.stdin != Stdin::Null,
            stdin_once: request.stdin == Stdin::Once,
            stop_signal: request.stop_signal.0.into(),
            pid_mode: pid_mode.into(),
            target_container: target.map(String::from).unwrap_or_default(),
            oom_score_adj: Some(request.oom_score_adj),
            node_network: request.network == Scope::Node,
            node_ipc: request.ipc == IpcNamespace::Node,
            privileged: request.privileged,
            image_volumes: request.image_volumes.into_iter().map(image_volume).collect(),
            relabel: request.relabel.iter().map(|path| text(path)).collect(),
            raw_env: request.raw_env,
            pid_process: pid_process.map(process),
            ipc_process: ipc_process.map(process),
            log_max_size: request.log_limits.map_or(0, |limits| limits.size),
            log_max_files: request.log_limits.map_or(0, |limits| limits.files),
            cgroup_namespace: match request.cgroup_namespace {
                CgroupNamespace::Usual => podmon::CgroupNamespace::Usual,
                CgroupNamespace::Own => podmon::CgroupNamespace::Own,
                CgroupNamespace::Node => podmon::CgroupNamespace::Node,
            }
            .into(),
        }
    }
}

fn process(process: Process) -> podmon::Process {
    podmon::Process { pid: process.pid, start_time: process.start_time }
}

fn rootfs(rootfs: Rootfs) -> podmon::Rootfs {
    podmon::Rootfs {
        base: text(&rootfs.base),
        lowers: rootfs.lowers,
        upper: text(&rootfs.upper),
        work: text(&rootfs.work),
        readonly: rootfs.readonly,
        durable: rootfs.durable,
    }
}

fn image_volume(volume: ImageVolume) -> podmon::ImageVolume {
    podmon::ImageVolume { base: text(&volume.base), lowers: volume.lowers, sub_path: text(&volume.sub_path) }
}

pub(crate) fn user(request: UserRequest) -> podmon::UserRequest {
    podmon::UserRequest {
        user: match request.user {
            UserSpec::Root => None,
            UserSpec::Uid(uid) => Some(User::Uid(uid)),
            UserSpec::Name(name) => Some(User::UserName(name)),
        },
        group: match request.group {
            GroupSpec::OfUser => None,
            GroupSpec::Gid(gid) => Some(Group::Gid(gid)),
            GroupSpec::Name(name) => Some(Group::GroupName(name)),
        },
        supplemental_groups: request.supplemental_groups,
        strict_groups: request.groups_policy == GroupsPolicy::Strict,
        supplemental_group_names: request.supplemental_group_names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ContainerRequest {
        ContainerRequest {
            id: ContainerId::generate(),
            spec_json: b"{}".to_vec(),
            raw_env: vec![b"A=\xff".to_vec()],
            rootfs: Rootfs {
                base: "/layers".into(),
                lowers: vec!["b".to_owned(), "a".to_owned()],
                upper: "/c/upper".into(),
                work: "/c/work".into(),
                readonly: true,
                durable: false,
            },
            image_volumes: vec![ImageVolume {
                base: "/layers".into(),
                lowers: vec!["v".to_owned()],
                sub_path: "models".into(),
            }],
            relabel: vec!["/data".into()],
            user: UserRequest::default(),
            seccomp: None,
            cgroup_path: "/pod/c".to_owned(),
            log_path: None,
            log_limits: None,
            terminal: false,
            stdin: Stdin::Null,
            stop_signal: Signal::TERM,
            pid: PidNamespace::Pod,
            network: Scope::Pod,
            ipc: IpcNamespace::Pod,
            oom_score_adj: 7,
            privileged: false,
            cgroup_namespace: CgroupNamespace::Usual,
        }
    }

    #[test]
    fn what_is_not_wanted_is_empty_in_the_message() {
        let request = request();
        let expected = podmon::CreateContainer {
            container_id: request.id.to_string(),
            spec_json: b"{}".to_vec(),
            rootfs: Some(podmon::Rootfs {
                base: "/layers".to_owned(),
                lowers: vec!["b".to_owned(), "a".to_owned()],
                upper: "/c/upper".to_owned(),
                work: "/c/work".to_owned(),
                readonly: true,
                durable: false,
            }),
            user: Some(podmon::UserRequest::default()),
            cgroup_path: "/pod/c".to_owned(),
            stop_signal: 15,
            pid_mode: podmon::PidMode::Pod.into(),
            oom_score_adj: Some(7),
            image_volumes: vec![podmon::ImageVolume {
                base: "/layers".to_owned(),
                lowers: vec!["v".to_owned()],
                sub_path: "models".to_owned(),
            }],
            relabel: vec!["/data".to_owned()],
            raw_env: vec![b"A=\xff".to_vec()],
            ..Default::default()
        };
        assert_eq!(podmon::CreateContainer::from(request), expected);
    }

    #[test]
    fn every_choice_has_its_form_in_the_message() {
        let target = ContainerId::generate();
        let request = ContainerRequest {
            user: UserRequest {
                user: UserSpec::Name("web".to_owned()),
                group: GroupSpec::Gid(5),
                supplemental_groups: vec![6],
                supplemental_group_names: vec!["audio".to_owned()],
                groups_policy: GroupsPolicy::Strict,
            },
            seccomp: Some(SeccompFilter { program: vec![1; 8], flags: 2 }),
            log_path: Some("web/0.log".to_owned()),
            terminal: true,
            stdin: Stdin::Once,
            pid: PidNamespace::Target(target.clone()),
            network: Scope::Node,
            ipc: IpcNamespace::Node,
            log_limits: Some(LogLimits { size: 10, files: 3 }),
            privileged: true,
            cgroup_namespace: CgroupNamespace::Own,
            ..request()
        };
        let message = podmon::CreateContainer::from(request);
        let user = podmon::UserRequest {
            user: Some(User::UserName("web".to_owned())),
            group: Some(Group::Gid(5)),
            supplemental_groups: vec![6],
            supplemental_group_names: vec!["audio".to_owned()],
            strict_groups: true,
        };
        assert_eq!(message.user, Some(user));
        assert_eq!((message.seccomp.len(), message.seccomp_flags), (8, 2));
        assert_eq!(message.log_path, "web/0.log");
        assert_eq!(
            (message.pid_mode(), message.target_container.as_str()),
            (podmon::PidMode::Target, target.as_str())
        );
        assert!(message.tty && message.stdin && message.stdin_once && message.privileged);
        assert!(message.node_network && message.node_ipc);
        assert_eq!((message.log_max_size, message.log_max_files), (10, 3));
        assert_eq!(message.cgroup_namespace(), podmon::CgroupNamespace::Own);
    }

    #[test]
    fn namespaces_of_another_pod_are_named_by_processes() {
        let (init, pause) = (Process { pid: 7, start_time: 70 }, Process { pid: 8, start_time: 80 });
        let (pid, ipc) = (PidNamespace::Process(init), IpcNamespace::Sandbox(pause));
        let message = podmon::CreateContainer::from(ContainerRequest { pid, ipc, ..request() });
        assert_eq!(message.pid_mode(), podmon::PidMode::Process);
        assert_eq!(message.pid_process, Some(podmon::Process { pid: 7, start_time: 70 }));
        assert_eq!(message.ipc_process, Some(podmon::Process { pid: 8, start_time: 80 }));
        assert!(!message.node_ipc);
    }

    #[test]
    fn standard_input_is_kept_open_with_and_without_an_end() {
        for (stdin, expected) in
            [(Stdin::Null, (false, false)), (Stdin::Open, (true, false)), (Stdin::Once, (true, true))]
        {
            let message = podmon::CreateContainer::from(ContainerRequest { stdin, ..request() });
            assert_eq!((message.stdin, message.stdin_once), expected, "{stdin:?}");
        }
    }
}
