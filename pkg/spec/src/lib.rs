//! Domain types to an OCI runtime spec: a pure function.
//!
//! [`container_spec`] reads nothing but its argument, so golden tests cover it on any machine. What needs the node (device
//! numbers, the image, the pod's files) is looked up by the caller and handed in through [`SpecInput`].
//!
//! Users and groups are not part of the result: they are resolved inside the container's root by the runtime. Neither are
//! seccomp programs, which travel as compiled bytes.
#![forbid(unsafe_code)]

mod args;
mod capabilities;
mod devices;
mod env;
mod error;
mod input;
mod masks;
mod mounts;
mod resources;
mod rlimits;

use std::path::Path;

use oci_spec::runtime::{LinuxBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder};

pub use capabilities::{effective_capabilities, is_known_capability};
pub use devices::DeviceNode;
pub use error::SpecError;
pub use input::{ImageDefaults, Labels, PodFiles, SpecInput};
pub use resources::linux_resources;

/// Computes the spec of a container.
///
/// # Errors
/// When neither image nor request names a command, a capability is unknown, or a value cannot be expressed in the spec.
pub fn container_spec(input: &SpecInput<'_>) -> Result<Spec, SpecError> {
    let container = input.container;
    let security = &container.security;
    let cwd = [container.working_dir.as_str(), input.image.working_dir.as_str(), "/"]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .unwrap_or("/");
    // An image's may be relative, to the root like everything in an image.
    let cwd = Path::new("/").join(cwd);
    let mut process = ProcessBuilder::default()
        .terminal(container.tty)
        .user(UserBuilder::default().uid(0u32).gid(0u32).build()?)
        .args(args::args(input)?)
        .env(env::env(input))
        .cwd(cwd)
        .capabilities(capabilities::capabilities(security)?)
        .rlimits(rlimits::rlimits(&container.rlimits)?)
        .no_new_privileges(security.no_new_privs)
        .oom_score_adj(container.resources.oom_score_adj)
        .build()?;
    process.set_apparmor_profile(input.labels.apparmor.clone());
    process.set_selinux_label(input.labels.selinux_process.clone());
    let (masked, readonly) = masks::masks(security, input.pod.namespaces().user.is_some());
    let mut limits = linux_resources(&container.resources)?;
    limits.set_devices(Some(devices::rules(security.privileged, input.devices, &container.device_rules)?));
    let mut linux = LinuxBuilder::default()
        .cgroups_path(input.cgroup_path)
        .namespaces(Vec::new())
        .devices(devices::nodes(input.devices)?)
        .resources(limits)
        .rootfs_propagation(mounts::rootfs_propagation(&container.mounts))
        .masked_paths(masked)
        .readonly_paths(readonly)
        .build()?;
    linux.set_mount_label(input.labels.selinux_mount.clone());
    Ok(SpecBuilder::default()
        .version("1.2.1")
        .root(RootBuilder::default().path("rootfs").readonly(security.readonly_rootfs).build()?)
        .mounts(mounts::mounts(input)?)
        .process(process)
        .linux(linux)
        .build()?)
}
