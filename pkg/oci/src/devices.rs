//! Network devices of the node that a container gets (OCI runtime-spec, config-linux: Network Devices).
//!
//! A device is moved with its addresses once the container's network namespace is there and before hooks see it, and goes back when the
//! creation fails after all. From the container's end on it is the kernel's: a namespace of the container's own gives hardware back to
//! the node's first namespace, and ends what is virtual; one with a path keeps what it has.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use husk_sys::{netns, procfs::Procfs};
use oci_spec::runtime::Spec;

use crate::{Error, Result, route::Route};

/// A device that was moved.
#[derive(Debug)]
struct Moved {
    name: String,
    inside: String,
}

/// Devices that were moved to a container. Unless they are [`Self::keep`]t, they go back.
#[must_use = "what is dropped goes back"]
#[derive(Debug)]
pub(crate) struct Devices {
    /// The caller's network namespace, and the container's.
    own: OwnedFd,
    container: OwnedFd,
    moved: Vec<Moved>,
}

/// Moves the devices of a config to the namespace of a process.
///
/// # Errors
/// A device is not there, cannot be moved, or its name is taken in there. What was moved so far is back then.
pub(crate) fn give(spec: &Spec, pid: u32) -> Result<Option<Devices>> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let Some(wanted) = wanted.filter(|devices| !devices.is_empty()) else { return Ok(None) };
    let own = netns::current().map_err(Error::io("open", "/proc/thread-self/ns/net"))?;
    let container = Procfs::host().and_then(|proc| proc.namespace_of(pid, "net"));
    let container =
        container.map_err(|error| Error::Invalid(format!("network namespace of the container: {error}")))?;
    let mut devices = Devices { own, container, moved: Vec::new() };
    for (name, device) in wanted {
        let inside =
            device.name().clone().filter(|inside| !inside.is_empty()).unwrap_or_else(|| name.clone());
        carry(&devices.own, name, &devices.container, &inside)
            .map_err(Error::io("move network device", name.as_str()))?;
        devices.moved.push(Moved { name: name.clone(), inside });
    }
    Ok(Some(devices))
}

/// Moves a device with its addresses, and starts it.
fn carry(from: &OwnedFd, name: &str, to: &OwnedFd, inside: &str) -> io::Result<()> {
    let (here, there) = (Route::inside(from.as_fd())?, Route::inside(to.as_fd())?);
    let index = here.index(name)?;
    let addresses = here.addresses(index)?;
    here.give(index, to.as_fd(), inside)?;
    let settle = || -> io::Result<()> {
        let index = there.index(inside)?;
        addresses.into_iter().try_for_each(|address| there.add(address, index))?;
        there.start(index)
    };
    settle().inspect_err(|_| {
        // What went wrong first is what is told; where the way back is barred too, it stays in there.
        let _ = there.index(inside).and_then(|index| there.give(index, from.as_fd(), name));
    })
}

impl Devices {
    /// Leaves them where they are.
    pub(crate) fn keep(mut self) {
        self.moved.clear();
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        for Moved { name, inside } in self.moved.drain(..).rev() {
            if let Err(error) = carry(&self.container, &inside, &self.own, &name) {
                eprintln!("warning: network device {name} did not come back from the container: {error}");
            }
        }
    }
}

/// What the kernel takes for a name of a link (dev_valid_name), and that each has one of its own.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn check(spec: &Spec) -> Result<()> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let mut inside = std::collections::HashSet::new();
    for (name, device) in wanted.into_iter().flatten() {
        let new = device.name().as_deref().filter(|new| !new.is_empty()).unwrap_or(name);
        for name in [name.as_str(), new] {
            let bad = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c == '\0';
            if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
                return Err(Error::Invalid(format!("invalid network device name {name:?}")));
            }
        }
        if !inside.insert(new) {
            return Err(Error::Invalid(format!(
                "two network devices would be named {new:?} in the container"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn of(devices: serde_json::Value) -> Result<()> {
        let mut config = serde_json::to_value(example(false)).unwrap();
        config["linux"]["netDevices"] = devices;
        check(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn a_name_is_one_that_a_link_can_have_and_nobody_else_s() {
        of(serde_json::json!({"eth1": {}, "eth2": {"name": "eth0"}})).unwrap();
        for bad in ["", "..", "a/b", "a b", "eth%d", "a:1", "sixteen-letters-"] {
            assert!(of(serde_json::json!({ bad: {} })).is_err(), "{bad:?}");
            assert!(bad.is_empty() || of(serde_json::json!({"eth1": {"name": bad}})).is_err(), "{bad:?}");
        }
        assert!(of(serde_json::json!({"eth1": {}, "eth2": {"name": "eth1"}})).is_err());
    }
}
