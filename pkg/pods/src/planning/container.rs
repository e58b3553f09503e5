//! The plan of a container: everything that is known before anything is made.

use std::{path::PathBuf, sync::Arc};

use husk_cdi::{CdiError, Edits};
use husk_model::{
    ContainerConfig, ContainerId, EnvVar, History, PodConfig, Resources, Rootfs, SeccompFilter, Signal,
    UnixNanos,
};
use husk_monitor::{ContainerRequest, IpcNamespace, PidNamespace, Stdin};
use husk_spec::{PodFiles, SpecInput, container_spec};
use oci_spec::runtime::Spec;

use super::{limits::merge, relabel::relabelled, sandbox::scope, shown::image_name, user::user_request};
use crate::{
    error::{PodsError, Result},
    facilities::ImageFacts,
    node::{ImageVolume, Layers, NodeFacts, owner, seccomp},
    records::{ContainerFile, FORMAT},
};

/// What a container is planned from.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) config: &'a Arc<ContainerConfig>,
    /// Its pod's request.
    pub(crate) pod: &'a PodConfig,
    /// Its pod's cgroup.
    pub(crate) pod_cgroup: &'a str,
    /// Its pod's own files.
    pub(crate) files: PodFiles,
    pub(crate) image: &'a ImageFacts,
    pub(crate) layers: &'a Layers,
    /// What was found on the node.
    pub(crate) facts: NodeFacts,
    /// Directory of its writable layer.
    pub(crate) layer: PathBuf,
    pub(crate) pid: PidNamespace,
    pub(crate) ipc: IpcNamespace,
    pub(crate) node_hostname: &'a str,
    pub(crate) cgroup_v2: bool,
    /// Now.
    pub(crate) at: UnixNanos,
}

/// What is to be made.
#[derive(Debug)]
pub(crate) struct ContainerPlan {
    file: ContainerFile,
    request: ContainerRequest,
    spec: Spec,
}

impl ContainerPlan {
    /// Plans a container.
    ///
    /// # Errors
    /// The request, the image and the node do not go together.
    pub(crate) fn new(inputs: Inputs<'_>) -> Result<Self> {
        let Inputs { id, config, pod, image, layers, facts, .. } = &inputs;
        let cgroup_path = format!("{}/{id}", inputs.pod_cgroup);
        let mut spec = container_spec(&SpecInput {
            container: config,
            pod,
            image: &image.defaults,
            image_name: &config.image,
            files: &inputs.files,
            devices: &facts.devices,
            labels: &facts.labels,
            node_hostname: inputs.node_hostname,
            cgroup_v2: inputs.cgroup_v2,
            cgroup_path: &cgroup_path,
        })?;
        facts.cdi.apply(&mut spec, owner(config)).map_err(PodsError::Cdi)?;
        let stop_signal = config
            .stop_signal
            .or_else(|| image.stop_signal.as_deref().and_then(Signal::parse))
            .unwrap_or(Signal::TERM);
        let log_path = log_path(pod, config);
        let file = ContainerFile {
            format: FORMAT,
            id: (*id).clone(),
            config: Arc::clone(config),
            image_id: image.id.clone(),
            image_ref: image.reference.clone(),
            image_name: image_name(config, image),
            image_volumes: layers.volumes.iter().map(|volume| volume.image.clone()).collect(),
            created_at: inputs.at,
            log_path,
            resources: config.resources.clone(),
            stop_signal,
            cgroup_path,
            history: History::default(),
            complete: false,
        };
        let request = request(inputs, &file)?;
        Ok(Self { file, request, spec })
    }

    /// Its record.
    pub(crate) fn file(&self) -> &ContainerFile {
        &self.file
    }

    /// Its spec.
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    // === what plugins change ===

    pub(crate) fn set_spec(&mut self, spec: Spec) {
        self.spec = spec;
    }

    pub(crate) fn set_filter(&mut self, filter: SeccompFilter) {
        self.request.seccomp = Some(filter);
    }

    pub(crate) fn change_limits(&mut self, change: &Resources) {
        self.file.resources = merge(&self.file.resources, change);
    }

    pub(crate) fn set_oom_score(&mut self, score: i32) {
        self.request.oom_score_adj = score;
        self.file.resources.oom_score_adj = score;
    }

    /// Gives CDI devices beyond those of the request.
    ///
    /// # Errors
    /// They contradict what is there.
    pub(crate) fn give_devices(&mut self, edits: &Edits) -> std::result::Result<(), CdiError> {
        edits.apply(&mut self.spec, owner(&self.file.config))?;
        self.request.user.supplemental_groups.extend(&edits.additional_gids);
        Ok(())
    }

    /// Ends the planning: the record, and what the monitor is asked for.
    ///
    /// # Errors
    /// The spec cannot be encoded.
    pub(crate) fn seal(self) -> Result<(ContainerFile, ContainerRequest)> {
        let spec_json = serde_json::to_vec(&self.spec)
            .map_err(|error| PodsError::files("encode the spec of", self.file.id.as_str())(error.into()))?;
        Ok((self.file, ContainerRequest { spec_json, ..self.request }))
    }
}

/// Without the spec, which plugins may change.
fn request(inputs: Inputs<'_>, file: &ContainerFile) -> Result<ContainerRequest> {
    let Inputs { id, config, pod, files, image, layers, facts, layer, pid, ipc, .. } = inputs;
    let mut user = user_request(config, &image.user)?;
    user.supplemental_groups.extend(&facts.cdi.additional_gids);
    Ok(ContainerRequest {
        id: id.clone(),
        spec_json: Vec::new(),
        raw_env: config
            .envs
            .iter()
            .filter(|variable| std::str::from_utf8(&variable.value).is_err())
            .map(EnvVar::entry)
            .collect(),
        rootfs: Rootfs {
            base: layers.root.base.clone(),
            lowers: layers.root.lowers.clone(),
            upper: layer.join("upper"),
            work: layer.join("work"),
            readonly: config.security.readonly_rootfs,
            durable: config.kept_layer.as_ref().is_some_and(|kept| kept.durable),
        },
        image_volumes: layers.volumes.iter().map(ImageVolume::request).collect(),
        relabel: match &facts.labels.selinux_mount {
            Some(_) => relabelled(&config.mounts, files),
            None => Vec::new(),
        },
        user,
        seccomp: facts.filter.as_deref().map(seccomp::request),
        cgroup_path: file.cgroup_path.clone(),
        log_path: (!file.log_path.is_empty()).then(|| config.log_path.clone()),
        log_limits: config.log_limits,
        terminal: config.tty,
        stdin: stdin(config),
        stop_signal: file.stop_signal,
        pid,
        network: scope(pod.namespaces().network),
        ipc,
        oom_score_adj: config.resources.oom_score_adj,
        privileged: config.security.privileged,
        cgroup_namespace: config.security.namespaces.cgroup,
    })
}

/// Where its log is; empty where either half of the path is missing.
fn log_path(pod: &PodConfig, config: &ContainerConfig) -> String {
    match (pod.log_directory.as_str(), config.log_path.as_str()) {
        ("", _) | (_, "") => String::new(),
        (directory, relative) => format!("{}/{relative}", directory.trim_end_matches('/')),
    }
}

fn stdin(config: &ContainerConfig) -> Stdin {
    match (config.stdin, config.stdin_once) {
        (false, _) => Stdin::Null,
        (true, false) => Stdin::Open,
        (true, true) => Stdin::Once,
    }
}
