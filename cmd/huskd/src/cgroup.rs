//! Which cgroup driver the daemon uses, and the parent of pods that name none.

use std::sync::Arc;

use husk_cgroup::{Hierarchy, Version};
use husk_config::Config;
use husk_pods::CgroupDriver;
use husk_systemd::{PodUnits, Slice, Systemd};
use tracing::{info, warn};

/// Parents of pods whose request names none.
pub(crate) const DEFAULT_PATH: &str = "/husk";
const DEFAULT_SLICE: &str = "husk.slice";

/// Decides from the configuration and the node.
///
/// # Errors
/// When the systemd driver is asked for on a node that cannot have it.
pub(crate) async fn driver(config: &Config) -> Result<CgroupDriver, String> {
    let version = Hierarchy::detect().map_err(|error| error.to_string())?.version();
    if !wants_systemd(config.cgroup.driver, version, husk_systemd::is_init())? {
        info!(driver = "cgroupfs", cgroup = version.as_str(), "husk makes the cgroups of pods");
        return Ok(CgroupDriver::Cgroupfs);
    }
    let systemd = Systemd::default();
    // Not fatal: the bus may come later, and the pods of a former daemon can be served without it.
    if let Err(error) = systemd.reach().await {
        warn!(%error, "pods cannot be started until systemd can be reached");
    }
    info!(driver = "systemd", cgroup = version.as_str(), "systemd makes a scope for every pod");
    Ok(CgroupDriver::Systemd(Arc::new(PodUnits::new(systemd, config.runtime.podmon.clone()))))
}

fn wants_systemd(wanted: husk_config::CgroupDriver, version: Version, is_init: bool) -> Result<bool, String> {
    let possible = is_init && version == Version::V2;
    match wanted {
        husk_config::CgroupDriver::Auto => Ok(possible),
        husk_config::CgroupDriver::Cgroupfs => Ok(false),
        husk_config::CgroupDriver::Systemd if possible => Ok(true),
        husk_config::CgroupDriver::Systemd => Err(format!(
            "cgroup.driver \"systemd\" needs {}; \"auto\" or \"cgroupfs\" works here",
            match is_init {
                true => format!("cgroup v2, and this node has {}", version.as_str()),
                false => "systemd as PID 1 of the PID namespace that huskd runs in".to_owned(),
            }
        )),
    }
}

/// The parent of pods whose request names none.
///
/// # Errors
/// When the configured one does not fit the driver.
pub(crate) fn parent(config: &Config, driver: &CgroupDriver) -> Result<String, String> {
    let configured = config.cgroup.parent.as_deref();
    let parent = match driver {
        CgroupDriver::Cgroupfs => configured.unwrap_or(DEFAULT_PATH),
        CgroupDriver::Systemd(_) => {
            let parent = configured.unwrap_or(DEFAULT_SLICE);
            Slice::parse(parent).map_err(|error| {
                format!("cgroup.parent: {error}; name one such as \"husk.slice\", or set cgroup.driver to \"cgroupfs\"")
            })?;
            parent
        }
    };
    Ok(if parent.starts_with('/') { parent.to_owned() } else { format!("/{parent}") })
}

#[cfg(test)]
mod tests {
    use husk_config::CgroupDriver::{Auto, Cgroupfs, Systemd};

    use super::*;

    #[test]
    fn systemd_is_chosen_where_it_is_pid_1_and_cgroup_v2_is_mounted() {
        for (wanted, version, is_init, chosen) in [
            (Auto, Version::V2, true, Some(true)),
            (Auto, Version::V2, false, Some(false)),
            (Auto, Version::Hybrid, true, Some(false)),
            (Auto, Version::V1, true, Some(false)),
            (Cgroupfs, Version::V2, true, Some(false)),
            (Systemd, Version::V2, true, Some(true)),
            (Systemd, Version::V2, false, None),
            (Systemd, Version::Hybrid, true, None),
        ] {
            let found = wants_systemd(wanted, version, is_init);
            assert_eq!(found.ok(), chosen, "{wanted:?} {version:?} {is_init}");
        }
    }
}
