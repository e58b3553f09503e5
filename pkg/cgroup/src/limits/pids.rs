//! Number of tasks.

use oci_spec::runtime::LinuxPids;

use super::Apply;
use crate::{Controller, Result};

impl Apply<'_> {
    /// A negative limit is unlimited, and 0 is "not set", as the runtimes have always read it.
    pub(super) fn pids(&mut self, pids: &LinuxPids) -> Result<()> {
        let limit = pids.limit();
        if limit == 0 {
            return Ok(());
        }
        if limit < 0 {
            return match self.home(Controller::Pids) {
                Some(home) => home.write("pids.max", "max"),
                None => Ok(()),
            };
        }
        let home = self.require(Controller::Pids, "pids.limit")?;
        home.write("pids.max", &limit.to_string())
    }
}
