//! CPUs and memory nodes.

use oci_spec::runtime::LinuxCpu;

use super::Apply;
use crate::{Controller, Error, Result};

impl Apply<'_> {
    /// The parents of a v1 group have a non-empty set since [`crate::Hierarchy::create`]; a set outside the parent's
    /// is refused by the kernel with EACCES (v1) or cut to the parent's (v2).
    pub(super) fn cpuset(&mut self, cpu: &LinuxCpu) -> Result<()> {
        for (file, setting, list) in
            [("cpuset.cpus", "cpu.cpus", cpu.cpus()), ("cpuset.mems", "cpu.mems", cpu.mems())]
        {
            let Some(list) = list.as_deref().map(str::trim).filter(|list| !list.is_empty()) else { continue };
            check_list(setting, list)?;
            // Pinning protects other workloads' exclusive CPUs.
            let home = self.require(Controller::CpuSet, setting)?;
            home.write(file, list)?;
        }
        Ok(())
    }
}

/// The "list format" of cpuset(7): `0-3,7`, with an optional `:used/group` stride.
fn check_list(setting: &'static str, list: &str) -> Result<()> {
    let valid =
        list.len() <= 4000 && list.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ',' | ':' | '/'));
    if valid {
        return Ok(());
    }
    Err(Error::InvalidValue { setting, reason: format!("{:?} is not a list of numbers", truncated(list)) })
}

fn truncated(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_of_numbers_reach_the_kernel() {
        for good in ["0", "0-3,7", "0-15:2/4"] {
            check_list("cpu.cpus", good).unwrap();
        }
        for bad in ["all", "0;1", "0\n1", "0 1"] {
            assert!(check_list("cpu.cpus", bad).is_err(), "{bad}");
        }
    }
}
