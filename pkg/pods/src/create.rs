//! CreateContainer and StartContainer.
//!
//! ```text
//! claim the name → image → spec and filter → container.json (incomplete) → writable layer → init at its gate
//!                → container.json (complete) → CREATED
//! ```

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use husk_images::{Image, ImageLease};
use husk_model::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, MountSource, NamespaceMode, Signal,
    UserSpec,
};
use husk_monitor::{Created, proto};
use husk_spec::{ImageDefaults, SpecInput, container_spec};
use tracing::warn;

use crate::{
    Engine, Lifecycle, PodsError, Result,
    claims::Claim,
    devices,
    engine::{check_created, now, shown},
    files,
    life::Fact,
    pod::{Container, Phase, Pod, Snapshot},
    store::ContainerFile,
};

pub(crate) async fn create(
    engine: &Arc<Engine>,
    pod: &Arc<Pod>,
    config: ContainerConfig,
) -> Result<ContainerId> {
    let config = Arc::new(config);
    let id = ContainerId::generate();
    let shown = shown(&pod.name(), Some(&config.metadata));
    let name = (pod.id.clone(), config.metadata.clone());
    let attempt = match engine.container_names.claim("container", &name, &shown, &config, &id)? {
        Claim::Joined(wait) => return wait.outcome().await,
        Claim::Mine(attempt) => attempt,
    };
    let wait = attempt.wait();
    let (engine, pod) = (Arc::clone(engine), Arc::clone(pod));
    tokio::spawn(async move {
        let outcome = build(&engine, &pod, &id, &config).await;
        attempt.settle(outcome.map(|()| id));
    });
    wait.outcome().await
}

async fn build(
    engine: &Arc<Engine>,
    pod: &Arc<Pod>,
    id: &ContainerId,
    config: &Arc<ContainerConfig>,
) -> Result<()> {
    let phase = pod.gate.read().await;
    if *phase != Phase::Open || !pod.is_ready() {
        return Err(PodsError::PodNotReady { id: pod.id.clone() });
    }
    check_sources(config)?;
    let no_image = || PodsError::NoSuchImage { reference: config.image.clone() };
    let image = engine.images.resolve(&config.image).ok_or_else(no_image)?;
    let lease = engine.images.acquire(&image.id)?;
    let plan = Plan::new(engine, pod, id, config, &image)?;
    let result = build_recorded(engine, pod, &plan).await;
    match result {
        Ok(created) => {
            publish(engine, pod, plan.file, created, lease);
            Ok(())
        }
        Err(error) => {
            undo(engine, pod, id);
            Err(error)
        }
    }
}

/// What is known before anything is made.
struct Plan {
    file: ContainerFile,
    request: proto::CreateContainer,
}

impl Plan {
    fn new(
        engine: &Engine,
        pod: &Pod,
        id: &ContainerId,
        config: &Arc<ContainerConfig>,
        image: &Image,
    ) -> Result<Self> {
        let pod_config = Arc::clone(&pod.status.get().config);
        let cgroup_path = format!("{}/{id}", pod.cgroup_path);
        let defaults = ImageDefaults {
            entrypoint: image.config.entrypoint.clone(),
            cmd: image.config.cmd.clone(),
            env: image.config.env.clone(),
            working_dir: image.config.working_dir.clone(),
        };
        let spec = container_spec(&SpecInput {
            container: config,
            pod: &pod_config,
            image: &defaults,
            image_name: &config.image,
            files: &files::paths(&engine.store.pod(&pod.id)),
            devices: &devices::collect(config)?,
            image_volumes: &HashMap::new(),
            node_hostname: &files::node_hostname(),
            cgroup_v2: engine.hierarchy.version() == husk_cgroup::Version::V2,
            cgroup_path: &cgroup_path,
        })?;
        let spec_json = serde_json::to_vec(&spec)
            .map_err(|error| PodsError::files("encode the spec of", id.as_str())(error.into()))?;
        let filter = engine.filters.of(&config.security)?;
        let stack = engine.images.rootfs(&image.id)?;
        let layer = engine.store.layer(id);
        let text = |path: &Path| path.display().to_string();
        let stop_signal = config
            .stop_signal
            .or_else(|| image.config.stop_signal.as_deref().and_then(parse_signal))
            .unwrap_or(Signal::TERM);
        let log_path = match (pod_config.log_directory.as_str(), config.log_path.as_str()) {
            ("", _) | (_, "") => String::new(),
            (directory, relative) => format!("{}/{relative}", directory.trim_end_matches('/')),
        };
        let namespaces = &config.security.namespaces;
        let request = proto::CreateContainer {
            container_id: id.to_string(),
            spec_json,
            rootfs: Some(proto::Rootfs {
                base: text(&stack.base),
                lowers: stack.lowers,
                upper: text(&layer.join("upper")),
                work: text(&layer.join("work")),
                readonly: config.security.readonly_rootfs,
            }),
            user: Some(user_request(config, image)?),
            seccomp: filter.as_ref().map(|filter| filter.bytes().to_vec()).unwrap_or_default(),
            seccomp_flags: filter.as_ref().map(|filter| filter.flags()).unwrap_or_default(),
            cgroup_path: cgroup_path.clone(),
            log_path: if log_path.is_empty() { String::new() } else { config.log_path.clone() },
            tty: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            stop_signal: stop_signal.0.into(),
            pid_mode: pid_mode(namespaces.pid).into(),
            target_container: pid_target(engine, pod, config)?,
            oom_score_adj: Some(config.resources.oom_score_adj),
            node_network: pod_config.namespaces().network == NamespaceMode::Node,
            node_ipc: pod_config.namespaces().ipc == NamespaceMode::Node,
            privileged: config.security.privileged,
        };
        let file = ContainerFile {
            format: engine.store.format(),
            id: id.clone(),
            config: Arc::clone(config),
            image_id: image.id.clone(),
            image_ref: image.repo_digests.first().map_or_else(|| image.id.to_string(), ToString::to_string),
            created_at: now(),
            log_path,
            resources: config.resources.clone(),
            stop_signal,
            cgroup_path,
            complete: false,
        };
        Ok(Self { file, request })
    }
}

/// Mount sources must exist: creating them, as the peers do, turns a typing error into an empty volume.
fn check_sources(config: &ContainerConfig) -> Result<()> {
    for (index, mount) in config.mounts.iter().enumerate() {
        if let MountSource::HostPath(path) = &mount.source
            && let Err(error) = fs::metadata(path)
        {
            return Err(PodsError::HostPath {
                field: format!("config.mounts[{index}].host_path"),
                path: path.clone(),
                reason: error.to_string(),
            });
        }
    }
    Ok(())
}

fn pid_mode(mode: NamespaceMode) -> proto::PidMode {
    match mode {
        NamespaceMode::Pod => proto::PidMode::Pod,
        NamespaceMode::Container => proto::PidMode::Container,
        NamespaceMode::Node => proto::PidMode::Node,
        NamespaceMode::Target => proto::PidMode::Target,
    }
}

fn pid_target(engine: &Engine, pod: &Pod, config: &ContainerConfig) -> Result<String> {
    let namespaces = &config.security.namespaces;
    if namespaces.pid != NamespaceMode::Target {
        return Ok(String::new());
    }
    let target = engine
        .container(&namespaces.target_id)
        .map_err(|error| PodsError::PidTarget { reason: error.to_string() })?;
    if target.pod.id != pod.id {
        return Err(PodsError::PidTarget { reason: format!("container {} is of another pod", target.id) });
    }
    target
        .check_running("sharing its PID namespace")
        .map_err(|error| PodsError::PidTarget { reason: error.to_string() })?;
    Ok(target.id.to_string())
}

/// The request's user beats the image's. `USER` may be `user`, `user:group`, or numbers (OCI image-spec, config.User).
fn user_request(config: &ContainerConfig, image: &Image) -> Result<proto::UserRequest> {
    use proto::user_request::{Group, User};
    let security = &config.security;
    let mut request = proto::UserRequest {
        supplemental_groups: security.supplemental_groups.clone(),
        strict_groups: security.groups_policy == husk_model::GroupsPolicy::Strict,
        ..Default::default()
    };
    match &security.run_as_user {
        Some(UserSpec::Root) => request.user = Some(User::Uid(0)),
        Some(UserSpec::Uid(uid)) => request.user = Some(User::Uid(*uid)),
        Some(UserSpec::Name(name)) => request.user = Some(User::UserName(name.clone())),
        None => {
            let (user, group) = match image.config.user.split_once(':') {
                Some((user, group)) => (user, Some(group)),
                None => (image.config.user.as_str(), None),
            };
            if !user.is_empty() {
                // Digits are always a number: one that does not fit must not become a name (CVE-2026-46680).
                request.user = Some(match numeric(user)? {
                    Some(uid) => User::Uid(uid),
                    None => User::UserName(user.to_owned()),
                });
            }
            if let Some(group) = group.filter(|group| !group.is_empty()) {
                request.group = Some(match numeric(group)? {
                    Some(gid) => Group::Gid(gid),
                    None => Group::GroupName(group.to_owned()),
                });
            }
        }
    }
    if let Some(gid) = security.run_as_group {
        request.group = Some(Group::Gid(gid));
    }
    Ok(request)
}

fn numeric(text: &str) -> Result<Option<u32>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) if number < u32::MAX => Ok(Some(number)),
        _ => Err(PodsError::ImageUser { user: text.to_owned() }),
    }
}

/// A stop signal of an image: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` (OCI image-spec, config.StopSignal). One that is not
/// understood counts as absent, as in the peers.
pub(crate) fn parse_signal(text: &str) -> Option<Signal> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: u8 = 34;
    const RTMAX: u8 = 64;
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<u8>() {
        return (1..=RTMAX).contains(&number).then_some(Signal(number));
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return u8::try_from(index + 1).ok().map(Signal);
    }
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset.strip_prefix('+').unwrap_or("0").parse().ok()?)
    } else {
        RTMAX.checked_sub(name.strip_prefix("RTMAX")?.strip_prefix('-').unwrap_or("0").parse().ok()?)
    };
    number.filter(|number| (RTMIN..=RTMAX).contains(number)).map(Signal)
}

async fn build_recorded(engine: &Engine, pod: &Pod, plan: &Plan) -> Result<Created> {
    let id = &plan.file.id;
    let dir = engine.store.container(&pod.id, id);
    fs::create_dir_all(&dir).map_err(PodsError::files("create", &dir))?;
    engine.store.write_container(&pod.id, &plan.file)?;
    for name in ["upper", "work"] {
        let path = engine.store.layer(id).join(name);
        fs::create_dir_all(&path).map_err(PodsError::files("create", &path))?;
    }
    if let Some(parent) =
        Path::new(&plan.file.log_path).parent().filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).map_err(PodsError::files("create the log directory", parent))?;
    }
    let created = pod.monitor()?.create_container(plan.request.clone()).await?;
    let complete = ContainerFile { complete: true, ..plan.file.clone() };
    if let Err(error) = engine.store.write_container(&pod.id, &complete) {
        if let Err(left) = pod.monitor()?.remove_container(id).await {
            warn!(container = %id, error = %left, "cannot take back a container that failed to be recorded");
        }
        return Err(error);
    }
    Ok(created)
}

fn publish(engine: &Engine, pod: &Arc<Pod>, mut file: ContainerFile, created: Created, lease: ImageLease) {
    file.complete = true;
    for limit in &created.degraded {
        warn!(container = %file.id, limit, "the node cannot set a limit");
    }
    let mut status = status(pod, &file, ContainerState::Created);
    status.user = Some(created.user);
    status.pid = Some(created.process.pid);
    let container = Arc::new(Container {
        id: file.id.clone(),
        pod: Arc::clone(pod),
        status: Snapshot::new(status),
        upper: engine.store.layer(&file.id).join("upper"),
        file: std::sync::Mutex::new(Some(file)),
        lease: Some(lease),
        removal: tokio::sync::Mutex::new(()),
    });
    engine.add_container(Arc::clone(&container));
    engine.announce(Lifecycle::Created(pod.id.clone(), container.id.clone()));
}

/// The snapshot of a container from its file.
pub(crate) fn status(pod: &Pod, file: &ContainerFile, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: file.id.clone(),
        pod_id: pod.id.clone(),
        config: Arc::clone(&file.config),
        image_id: file.image_id.clone(),
        image_ref: file.image_ref.clone(),
        state,
        created_at: file.created_at,
        log_path: file.log_path.clone(),
        user: None,
        resources: file.resources.clone(),
        stop_signal: file.stop_signal,
        pid: None,
        cgroup_path: file.cgroup_path.clone(),
        image_volumes: Default::default(),
        info: Default::default(),
    }
}

/// Takes back the files of a container whose creation failed; the monitor left nothing of it.
fn undo(engine: &Engine, pod: &Pod, id: &ContainerId) {
    for dir in [engine.store.container(&pod.id, id), engine.store.layer(id)] {
        if let Err(error) = engine.store.discard(&dir) {
            warn!(container = %id, %error, "cannot remove the files of a container that failed to be created");
        }
    }
    engine.take_out_trash();
}

/// Opens the gate.
pub(crate) async fn start(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    check_created(container)?;
    let started_at = container.pod.monitor()?.start_container(&container.id).await?;
    if container.learn(Fact::Started(started_at)) {
        engine.announce(Lifecycle::Started(container.pod.id.clone(), container.id.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_understood_in_every_spelling() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("RTMIN", 34),
            ("SIGSYS", 31),
        ] {
            assert_eq!(parse_signal(text), Some(Signal(number)), "{text}");
        }
        for text in ["", "0", "65", "SIGNO", "SIGRTMIN+31", "RTMAX-99", "-1"] {
            assert_eq!(parse_signal(text), None, "{text}");
        }
    }

    #[test]
    fn digits_that_are_no_uid_are_an_error_and_never_a_name() {
        assert_eq!(numeric("1000").unwrap(), Some(1000));
        assert_eq!(numeric("www-data").unwrap(), None);
        for text in ["4294967295", "4294967296", "99999999999999999999"] {
            assert!(numeric(text).is_err(), "{text}");
        }
    }
}
