//! Capability sets: containerd's default fourteen, changed by the request.

use std::{collections::BTreeSet, str::FromStr};

use husk_model::{ALL_CAPABILITIES, DEFAULT_CAPABILITIES, SecurityContext};
use oci_spec::runtime::{Capabilities as Set, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::SpecError;

/// Whether `name` (upper case, without `CAP_`) is a capability of Linux, or `ALL`.
pub fn is_known_capability(name: &str) -> bool {
    name == "ALL" || ALL_CAPABILITIES.contains(&name)
}

/// Names (without `CAP_`) of the effective set. Adding or dropping `ALL` comes first, single names after it, so that
/// "drop ALL, add NET_BIND_SERVICE" means what it says; a single drop beats a single add, as in the peers.
pub fn effective_capabilities(security: &SecurityContext) -> BTreeSet<&str> {
    if security.privileged {
        return ALL_CAPABILITIES.into_iter().collect();
    }
    let changes = &security.capabilities;
    let names = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let mut set: BTreeSet<&str> = DEFAULT_CAPABILITIES.into_iter().collect();
    if names(&changes.add, "ALL") {
        set = ALL_CAPABILITIES.into_iter().collect();
    }
    if names(&changes.drop, "ALL") {
        set.clear();
    }
    set.extend(changes.add.iter().chain(&changes.ambient).map(String::as_str).filter(|name| *name != "ALL"));
    for name in &changes.drop {
        set.remove(name.as_str());
    }
    set
}

fn to_set<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Set, SpecError> {
    names
        .into_iter()
        .map(|name| {
            Capability::from_str(name).map_err(|_| SpecError::UnknownCapability { name: name.to_owned() })
        })
        .collect()
}

/// The five sets. Inheritable stays empty but for ambient capabilities, which the kernel only raises when they are
/// inheritable (CVE-2022-24769 was an inheritable set full of defaults).
pub(crate) fn capabilities(security: &SecurityContext) -> Result<LinuxCapabilities, SpecError> {
    let effective = to_set(effective_capabilities(security))?;
    let ambient =
        to_set(security.capabilities.ambient.iter().map(String::as_str).filter(|name| *name != "ALL"))?;
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(effective.clone())
        .effective(effective.clone())
        .permitted(effective)
        .inheritable(ambient.clone())
        .ambient(ambient)
        .build()?)
}
