//! What husk does not do for plugins. It is an error that names the field: a container that lacks what a plugin thinks it has
//! would be worse than one that fails to be made.

use husk_proto::nri::{ContainerAdjustment, LinuxContainerAdjustment, LinuxResources};

use crate::NriError;

fn refuse(plugin: &str, field: &'static str, what: &'static str, asked: bool) -> Result<(), NriError> {
    match asked {
        true => Err(NriError::Unsupported { plugin: plugin.to_owned(), field, what }),
        false => Ok(()),
    }
}

/// Fails when an adjustment has something that cannot be applied.
pub(crate) fn adjustment(plugin: &str, adjust: &ContainerAdjustment) -> Result<(), NriError> {
    if let Some(hooks) = &adjust.hooks {
        let lists = [
            &hooks.prestart,
            &hooks.create_runtime,
            &hooks.create_container,
            &hooks.start_container,
            &hooks.poststart,
            &hooks.poststop,
        ];
        let any = lists.iter().any(|list| !list.is_empty());
        refuse(plugin, "adjust.hooks", "husk runs no OCI hooks", any)?;
    }
    match &adjust.linux {
        Some(linux) => self::linux(plugin, linux),
        None => Ok(()),
    }
}

fn linux(plugin: &str, linux: &LinuxContainerAdjustment) -> Result<(), NriError> {
    let path = !linux.cgroups_path.is_empty();
    refuse(
        plugin,
        "adjust.linux.cgroups_path",
        "containers live in a cgroup below their pod's; it cannot be moved",
        path,
    )?;
    let namespaces = !linux.namespaces.is_empty();
    refuse(plugin, "adjust.linux.namespaces", "namespaces are those of the pod", namespaces)?;
    let sysctl = !linux.sysctl.is_empty();
    refuse(
        plugin,
        "adjust.linux.sysctl",
        "sysctls belong to the pod's namespaces, which exist already",
        sysctl,
    )?;
    let io = linux.io_priority.is_some();
    refuse(plugin, "adjust.linux.io_priority", "I/O priorities are not supported", io)?;
    let scheduler = linux.scheduler.is_some();
    refuse(plugin, "adjust.linux.scheduler", "scheduling policies are not supported", scheduler)?;
    let devices = !linux.net_devices.is_empty();
    refuse(plugin, "adjust.linux.net_devices", "moving network devices is not supported", devices)?;
    refuse(plugin, "adjust.linux.rdt", "Intel RDT is not supported", linux.rdt.is_some())?;
    let policy = linux.memory_policy.is_some();
    refuse(plugin, "adjust.linux.memory_policy", "NUMA memory policies are not supported", policy)?;
    match &linux.resources {
        Some(resources) => self::resources(plugin, resources),
        None => Ok(()),
    }
}

/// Fails when limits have something that cannot be applied.
pub(crate) fn resources(plugin: &str, resources: &LinuxResources) -> Result<(), NriError> {
    let blockio = resources.blockio_class.is_some();
    refuse(plugin, "resources.blockio_class", "block I/O classes are not supported", blockio)?;
    let rdt = resources.rdt_class.is_some();
    refuse(plugin, "resources.rdt_class", "Intel RDT is not supported", rdt)?;
    let kernel = resources.memory.as_ref().is_some_and(|memory| memory.kernel.is_some());
    refuse(plugin, "resources.memory.kernel", "the kernel has no such limit any more", kernel)
}

#[cfg(test)]
mod tests {
    use husk_proto::nri::{Hook, Hooks, LinuxScheduler, OptionalString};

    use super::*;

    fn refused(adjust: &ContainerAdjustment) -> String {
        adjustment("00-test", adjust).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_applied_is_named() {
        assert!(adjustment("00-test", &ContainerAdjustment::default()).is_ok());
        let hooks = Hooks { poststop: vec![Hook::default()], ..Default::default() };
        let adjust = ContainerAdjustment { hooks: Some(hooks), ..Default::default() };
        assert_eq!(refused(&adjust), "NRI plugin 00-test: adjust.hooks: husk runs no OCI hooks");
        let linux =
            LinuxContainerAdjustment { scheduler: Some(LinuxScheduler::default()), ..Default::default() };
        let adjust = ContainerAdjustment { linux: Some(linux), ..Default::default() };
        assert!(refused(&adjust).contains("adjust.linux.scheduler"), "{}", refused(&adjust));
        let resources = LinuxResources {
            rdt_class: Some(OptionalString { value: "gold".to_owned() }),
            ..Default::default()
        };
        let linux = LinuxContainerAdjustment { resources: Some(resources), ..Default::default() };
        let adjust = ContainerAdjustment { linux: Some(linux), ..Default::default() };
        assert!(refused(&adjust).contains("resources.rdt_class"), "{}", refused(&adjust));
    }
}
