//! Which devices a group may open and make: v1 list files, or an eBPF program on v2.

mod program;
mod rules;

use std::os::fd::AsFd;

use husk_sys::bpf;
use oci_spec::runtime::LinuxDeviceCgroup;
use rustix::io::Errno;

use crate::{Cgroup, Controller, Error, Result, dir, place::Place};

#[cfg(test)]
pub(crate) use rules::parse;
use rules::{ListState, Rule};

impl Cgroup {
    /// Sets the device rules. They replace all former ones; with no rule that says otherwise, everything is denied.
    pub(crate) fn apply_devices(&self, devices: &[LinuxDeviceCgroup]) -> Result<()> {
        if devices.is_empty() {
            return Ok(());
        }
        let rules = rules::parse(devices)?;
        if let Some(place) = self.home(Controller::Devices) {
            return write_lists(place, &rules);
        }
        match self.unified() {
            Some(place) => load_program(place, &rules),
            None => Err(Error::NoController { controller: Controller::Devices, setting: "devices" }),
        }
    }
}

/// v1: the default first, then its exceptions, one a write.
fn write_lists(place: Place<'_>, rules: &[Rule]) -> Result<()> {
    let state = ListState::of(rules)?;
    if state.default_allow && state.exceptions().next().is_none() {
        // `a` can't be written to a group that has children, and need not be when it is in force.
        let list = place.read("devices.list")?.unwrap_or_default();
        if list.trim() == "a *:* rwm" {
            return Ok(());
        }
    }
    let (default, other) = if state.default_allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    place.write(default, "a")?;
    let file = dir::open_write(place.dir(), other).map_err(|errno| place.write_error(other, "", errno))?;
    for line in state.exceptions() {
        loop {
            match rustix::io::write(&file, line.as_bytes()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(place.write_error(other, &line, errno)),
            }
        }
    }
    Ok(())
}

/// v2: one program per group. The new one is in force before the old one goes.
pub(crate) fn load_program(place: Place<'_>, rules: &[Rule]) -> Result<()> {
    let fail = |source| Error::DeviceProgram { path: place.name(), source };
    let old = bpf::cgroup_device_programs(place.dir()).map_err(fail)?;
    if old.is_empty() && program::allows_everything(rules) {
        return Ok(());
    }
    let new = bpf::load_cgroup_device(&program::emit(rules)).map_err(fail)?;
    let mut old = old.into_iter();
    let first = old.next();
    bpf::attach_cgroup_device(place.dir(), &new, first.as_ref().map(AsFd::as_fd)).map_err(fail)?;
    for stale in old {
        bpf::detach_cgroup_device(place.dir(), &stale).map_err(fail)?;
    }
    Ok(())
}
