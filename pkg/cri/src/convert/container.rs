//! Container requests.

use std::collections::{BTreeMap, HashMap};

use husk_model::{ContainerConfig, ContainerMetadata, Device, EnvVar, Namespaces, Resources, UserNamespace};
use husk_proto::cri::v1;

use super::{
    check::{Checked, absolute, below, filled, invalid, known, line, present, tags, text},
    mount,
    resources::resources,
    security, signal,
};

/// Device plugins name CDI devices by annotations with this prefix too (CDI specification, "Kubernetes"): one or more of them,
/// with commas in between.
const CDI_ANNOTATION: &str = "cdi.k8s.io/";

/// A container request that is good in itself.
#[must_use = "whether it fits its pod is not known yet"]
pub(crate) struct ContainerRequest {
    config: ContainerConfig,
    user_namespace: UserNamespace,
}

impl ContainerRequest {
    /// For test/fuzz, which has no pod.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn of_no_pod(self) -> ContainerConfig {
        self.config
    }

    /// Checks it against its pod, whose namespaces it shares.
    pub(crate) fn in_pod(self, pod: &Namespaces) -> Checked<ContainerConfig> {
        security::check_shared_namespaces(pod, &self.config.security.namespaces)?;
        security::check_user_namespace(pod, self.user_namespace, &self.config)?;
        Ok(self.config)
    }
}

/// Checks a container request by itself.
pub(crate) fn container_request(message: Option<v1::ContainerConfig>) -> Checked<ContainerRequest> {
    let user_namespace = security::asked_user_namespace(message.as_ref())?;
    Ok(ContainerRequest { config: container_config(message)?, user_namespace })
}

pub(super) fn container_config(message: Option<v1::ContainerConfig>) -> Checked<ContainerConfig> {
    let message = present("config", message)?;
    let metadata = present("config.metadata", message.metadata)?;
    let image = present("config.image", message.image)?;
    let linux = message.linux.unwrap_or_default();
    let stop_signal = known::<v1::Signal>("config.stop_signal", message.stop_signal)?;
    let cdi_devices = cdi_devices(message.cdi_devices, &message.annotations)?;
    let reference = filled("config.image.image", image.image)?;
    Ok(ContainerConfig {
        metadata: ContainerMetadata {
            name: filled("config.metadata.name", metadata.name)?,
            attempt: metadata.attempt,
        },
        user_specified_image: match image.user_specified_image.as_str() {
            "" => String::new(),
            _ => line("config.image.user_specified_image", image.user_specified_image)?,
        },
        image: reference,
        command: texts("config.command", message.command)?,
        args: texts("config.args", message.args)?,
        working_dir: match message.working_dir.as_str() {
            "" => String::new(),
            _ => absolute("config.working_dir", message.working_dir)?,
        },
        envs: environment(message.envs)?,
        mounts: message
            .mounts
            .into_iter()
            .enumerate()
            .map(|(index, mount)| mount::from_request(index, mount))
            .collect::<Checked<_>>()?,
        devices: message
            .devices
            .into_iter()
            .enumerate()
            .map(|(index, device)| self::device(index, device))
            .collect::<Checked<_>>()?,
        cdi_devices,
        labels: tags("config.labels", message.labels)?,
        annotations: tags("config.annotations", message.annotations)?,
        log_path: below("config.log_path", message.log_path)?,
        stdin: message.stdin,
        stdin_once: message.stdin_once,
        tty: message.tty,
        resources: match linux.resources {
            Some(message) => resources("config.linux.resources", message)?,
            None => Resources::default(),
        },
        security: security::container("config.linux.security_context", linux.security_context)?,
        stop_signal: signal::from_proto(stop_signal),
        user: String::new(),
        rlimits: Vec::new(),
        kept_layer: None,
        device_rules: Vec::new(),
        log_limits: None,
    })
}

fn texts(field: &str, list: Vec<String>) -> Checked<Vec<String>> {
    list.into_iter().enumerate().map(|(index, value)| text(&format!("{field}[{index}]"), value)).collect()
}

fn environment(list: Vec<v1::KeyValue>) -> Checked<Vec<EnvVar>> {
    list.into_iter()
        .enumerate()
        .map(|(index, variable)| {
            let field = |name: &str| format!("config.envs[{index}].{name}");
            if variable.key.is_empty() || variable.key.contains(['=', '\0']) {
                return Err(invalid(
                    field("key"),
                    format!("{:?} is not the name of a variable", variable.key),
                ));
            }
            if variable.value.contains(&0) {
                return Err(invalid(field("value"), "contains a NUL byte"));
            }
            Ok(EnvVar { key: variable.key, value: variable.value.into() })
        })
        .collect()
}

/// CDI devices are those of the field, then those that annotations name: device plugins of before the field (Kubernetes 1.28)
/// have nothing else, and containerd 2.4 takes them too. They are annotations of the request, where no image's and no user's
/// get to: the kubelet takes a container's from device plugins alone.
fn cdi_devices(list: Vec<v1::CdiDevice>, annotations: &HashMap<String, String>) -> Checked<Vec<String>> {
    let fields = list
        .into_iter()
        .enumerate()
        .map(|(index, device)| (format!("config.CDI_devices[{index}].name"), device.name));
    let sorted: BTreeMap<_, _> =
        annotations.iter().filter(|(key, _)| key.starts_with(CDI_ANNOTATION)).collect();
    let annotated = sorted.into_iter().flat_map(|(key, value)| {
        let field = format!("config.annotations[{key:?}]");
        value.split(',').map(move |name| (field.clone(), name.to_owned()))
    });
    let mut names = Vec::new();
    for (field, name) in fields.chain(annotated) {
        if let Err(reason) = name.parse::<husk_cdi::Name>() {
            return Err(invalid(field, format!("{name:?} {reason}")));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn device(index: usize, message: v1::Device) -> Checked<Device> {
    let field = |name: &str| format!("config.devices[{index}].{name}");
    if message.permissions.is_empty() || !message.permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Err(invalid(
            field("permissions"),
            format!("{:?} is not made of r, w and m", message.permissions),
        ));
    }
    let host_path = absolute(&field("host_path"), message.host_path)?;
    Ok(Device {
        container_path: match message.container_path.as_str() {
            "" => host_path.clone(),
            _ => absolute(&field("container_path"), message.container_path)?,
        },
        host_path,
        permissions: message.permissions,
    })
}
