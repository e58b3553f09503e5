//! Setting the limits of an OCI `linux.resources` (config-linux.md, "Control groups").
//!
//! Only values that are set are written. A value that the node lacks the controller for is handled as runc does it: a
//! request that protects nobody else (hugetlb, swap accounting, I/O weight, ...) is reported as [`Degraded`], a limit
//! that protects the node (memory, pids, CPU bandwidth, devices) is an error.

mod cpu;
mod cpuset;
mod hugetlb;
mod io;
mod memory;
mod misc;
mod pids;
mod unified;

use std::fmt;

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;

use crate::{Cgroup, Controller, Error, Result, place::Place};

/// A setting that this node can't honour and that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// The setting, in the OCI specification's words.
    pub setting: &'static str,
    /// Why it was left out.
    pub reason: String,
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl Cgroup {
    /// Sets every limit that `resources` names, and returns those that this node can't honour.
    ///
    /// Can be called again on a group with processes (UpdateContainerResources). Limits set before a failing one stay
    /// set: the caller sets the former resources again if it wants them back.
    ///
    /// # Errors
    /// A hard limit can't be enforced, or the kernel refused a value.
    pub fn apply(&self, resources: &LinuxResources) -> Result<Vec<Degraded>> {
        let mut apply = Apply { group: self, degraded: Vec::new() };
        // Memory first: it is what must hold before a process can start, and what an update may have to refuse.
        if let Some(memory) = resources.memory() {
            apply.memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            apply.cpu(cpu)?;
            apply.cpuset(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            apply.pids(pids)?;
        }
        if let Some(devices) = resources.devices() {
            self.apply_devices(devices)?;
        }
        if let Some(io) = resources.block_io() {
            apply.block_io(io)?;
        }
        if let Some(hugepages) = resources.hugepage_limits() {
            apply.hugetlb(hugepages)?;
        }
        if let Some(network) = resources.network() {
            apply.network(network)?;
        }
        if let Some(rdma) = resources.rdma() {
            apply.rdma(rdma)?;
        }
        // Last, so that a v2 key given verbatim wins over the value computed from a v1 one.
        if let Some(unified) = resources.unified() {
            apply.unified(unified)?;
        }
        Ok(apply.degraded)
    }
}

/// One application of limits to one group.
struct Apply<'g> {
    group: &'g Cgroup,
    degraded: Vec<Degraded>,
}

impl<'g> Apply<'g> {
    fn home(&self, controller: Controller) -> Option<Place<'g>> {
        self.group.home(controller)
    }

    /// The controller's place, or the error that a hard limit must give without it.
    fn require(&self, controller: Controller, setting: &'static str) -> Result<Place<'g>> {
        self.home(controller).ok_or(Error::NoController { controller, setting })
    }

    /// The controller's place, or a note that `setting` was left out.
    fn prefer(&mut self, controller: Controller, setting: &'static str) -> Option<Place<'g>> {
        let home = self.home(controller);
        if home.is_none() {
            self.degrade(setting, format!("this node has no {controller} controller"));
        }
        home
    }

    fn degrade(&mut self, setting: &'static str, reason: impl Into<String>) {
        self.degraded.push(Degraded { setting, reason: reason.into() });
    }

    /// Writes a value whose file may be missing from this kernel; then it is noted and left out.
    fn write_or_degrade(
        &mut self,
        home: Place<'_>,
        file: &str,
        value: &str,
        setting: &'static str,
    ) -> Result<()> {
        match home.try_write(file, value) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                self.degrade(setting, format!("this kernel has no {file}"));
                Ok(())
            }
            Err(errno) => Err(home.write_error(file, value, errno)),
        }
    }
}

/// A number in a file; `max` and v1's huge "unlimited" read as `u64::MAX` and the number.
fn number(home: Place<'_>, file: &str) -> Result<Option<u64>> {
    let Some(text) = home.read(file)? else {
        return Ok(None);
    };
    match text.trim() {
        "max" => Ok(Some(u64::MAX)),
        number => number.parse().map(Some).map_err(|_| Error::Content {
            path: home.file(file),
            content: number.chars().take(80).collect(),
        }),
    }
}
