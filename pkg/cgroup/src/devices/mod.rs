//! Which devices a group may open and make: v1 list files, or an eBPF program on v2.

mod program;
mod rules;

use std::os::fd::AsFd;

use husk_sys::bpf;
use oci_spec::runtime::LinuxDeviceCgroup;
use rustix::io::Errno;

use crate::{Cgroup, Controller, Error, Result, dir};

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
        if let Some((mount, _)) = self.dir_of(Controller::Devices) {
            return self.device_lists(mount, &rules);
        }
        match self.hierarchy.unified() {
            Some(mount) => self.device_program(mount, &rules),
            None => Err(Error::NoController { controller: Controller::Devices, setting: "devices" }),
        }
    }

    /// v1: the default first, then its exceptions, one a write.
    fn device_lists(&self, mount: usize, rules: &[Rule]) -> Result<()> {
        let state = ListState::of(rules)?;
        if state.default_allow && state.exceptions().next().is_none() {
            // `a` can't be written to a group that has children, and need not be when it is in force.
            let list = self.read_opt(mount, "devices.list")?.unwrap_or_default();
            if list.trim() == "a *:* rwm" {
                return Ok(());
            }
        }
        let (default, other) = if state.default_allow {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        self.write(mount, default, "a")?;
        let member = self.member(mount).ok_or_else(|| Error::NotFound { path: self.path.to_string() })?;
        let file =
            dir::open_write(&member.dir, other).map_err(|errno| self.write_error(mount, other, "", errno))?;
        for line in state.exceptions() {
            loop {
                match rustix::io::write(&file, line.as_bytes()) {
                    Ok(_) => break,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(self.write_error(mount, other, &line, errno)),
                }
            }
        }
        Ok(())
    }

    /// v2: one program per group. The new one is in force before the old one goes.
    pub(crate) fn device_program(&self, mount: usize, rules: &[Rule]) -> Result<()> {
        let member = self.member(mount).ok_or_else(|| Error::NotFound { path: self.path.to_string() })?;
        let fail =
            |source| Error::DeviceProgram { path: self.hierarchy.full_path(mount, &self.path), source };
        let old = bpf::cgroup_device_programs(&member.dir).map_err(fail)?;
        if old.is_empty() && program::allows_everything(rules) {
            return Ok(());
        }
        let new = bpf::load_cgroup_device(&program::emit(rules)).map_err(fail)?;
        let mut old = old.into_iter();
        let first = old.next();
        bpf::attach_cgroup_device(&member.dir, &new, first.as_ref().map(AsFd::as_fd)).map_err(fail)?;
        for stale in old {
            bpf::detach_cgroup_device(&member.dir, &stale).map_err(fail)?;
        }
        Ok(())
    }
}
