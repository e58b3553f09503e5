//! Killing everything in a group.

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{Cgroup, Error, Result};

/// Rounds of list and signal without `cgroup.kill`. A group that still forks after that many is over its `pids.max`
/// or has none; the caller's deadline decides what then.
const ROUNDS: usize = 64;

impl Cgroup {
    /// Sends SIGKILL to every process of the group and below. It does not wait for them to end: see
    /// [`Self::wait_empty`]. A group that does not exist any more counts as done.
    ///
    /// # Errors
    /// The write or a signal was refused.
    pub fn kill(&self) -> Result<()> {
        let index = self.hierarchy.tracking();
        if self.hierarchy.has_kill() {
            match self.try_write(index, "cgroup.kill", "1") {
                Ok(()) | Err(Errno::NODEV) => return Ok(()),
                // A threaded group; or the group is gone, and then there are no pids below either.
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(self.write_error(index, "cgroup.kill", "1", errno)),
            }
        }
        self.kill_each()
    }

    /// Freezes, signals everybody, thaws. A frozen process can't fork or exit, so no pid is reused between the list
    /// and the signal. Where freezing fails, repeats until a list is empty.
    fn kill_each(&self) -> Result<()> {
        for _ in 0..ROUNDS {
            let frozen = self.freeze().is_ok();
            let result = self.signal_all();
            if frozen {
                self.thaw()?;
            }
            if result? == 0 || frozen {
                return Ok(());
            }
        }
        Ok(())
    }

    fn signal_all(&self) -> Result<usize> {
        let pids = self.pids()?;
        for pid in &pids {
            let Some(target) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else { continue };
            match kill_process(target, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::Signal { pid: *pid, source: errno.into() }),
            }
        }
        Ok(pids.len())
    }
}
