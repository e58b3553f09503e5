//! Requests as clients send them, and as nobody should: what is taken, and which field a refusal names.

mod container;
mod pod;
mod security;

use husk_model::{
    AppArmor, ContainerConfig, GroupsPolicy, MountSource, NamespaceMode, PodConfig, Propagation, Protocol,
    SeccompProfile, SecurityContext, Signal, UserSpec,
};
use husk_proto::cri::v1::{self, security_profile::ProfileType};

use super::{check::Invalid, container::container_config, pod_config, signal};

fn pod() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        ..Default::default()
    }
}

fn container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 1 }),
        image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn pod_with(change: impl FnOnce(&mut v1::PodSandboxConfig)) -> Result<PodConfig, Invalid> {
    let mut message = pod();
    change(&mut message);
    pod_config(Some(message), String::new())
}

fn with(change: impl FnOnce(&mut v1::ContainerConfig)) -> Result<ContainerConfig, Invalid> {
    let mut message = container();
    change(&mut message);
    container_config(Some(message))
}

fn linux(change: impl FnOnce(&mut v1::LinuxPodSandboxConfig)) -> Result<PodConfig, Invalid> {
    pod_with(|message| change(message.linux.get_or_insert_default()))
}

fn security(change: impl FnOnce(&mut v1::LinuxContainerSecurityContext)) -> Result<SecurityContext, Invalid> {
    with(|message| change(message.linux.get_or_insert_default().security_context.get_or_insert_default()))
        .map(|config| config.security)
}

fn sandbox_security(
    change: impl FnOnce(&mut v1::LinuxSandboxSecurityContext),
) -> Result<SecurityContext, Invalid> {
    linux(|message| change(message.security_context.get_or_insert_default())).map(|config| config.security)
}

fn limits(change: impl FnOnce(&mut v1::LinuxContainerResources)) -> Result<husk_model::Resources, Invalid> {
    with(|message| change(message.linux.get_or_insert_default().resources.get_or_insert_default()))
        .map(|config| config.resources)
}

fn mount(change: impl FnOnce(&mut v1::Mount)) -> Result<husk_model::Mount, Invalid> {
    let mut mount = v1::Mount { container_path: "/c".into(), host_path: "/h".into(), ..Default::default() };
    change(&mut mount);
    with(|message| message.mounts.push(mount)).map(|mut config| config.mounts.remove(0))
}

fn id(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn profile(kind: ProfileType, reference: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() })
}

/// The refusal names exactly `field`, under `config`.
#[track_caller]
fn refused<T: std::fmt::Debug>(field: &str, result: Result<T, Invalid>) -> Invalid {
    let error = result.expect_err(field);
    assert_eq!(error.field, format!("config{field}"), "{error}");
    assert!(!error.reason.is_empty());
    error
}
