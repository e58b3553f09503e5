//! Memory and swap. `-1` is unlimited, 0 is "not set"; the OCI swap value is memory plus swap, as v1 counts it.

use oci_spec::runtime::LinuxMemory;
use rustix::io::Errno;

use super::{Apply, number};
use crate::{Controller, Error, Result, place::Place};

const LIMIT: &str = "memory.limit_in_bytes";
const MEMSW: &str = "memory.memsw.limit_in_bytes";

impl Apply<'_> {
    pub(super) fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        // Unlimited memory with no word on swap means unlimited swap: a memsw left behind would be a hidden limit.
        let swap = memory.swap().filter(|swap| *swap != 0).or(limit.filter(|limit| *limit < 0));
        if let (Some(limit), Some(swap)) = (limit, swap)
            && swap >= 0
            && (limit < 0 || swap < limit)
        {
            let reason = format!("{swap} (memory plus swap) is below the memory limit {limit}");
            return Err(Error::InvalidValue { setting: "memory.swap", reason });
        }
        if limit.is_some_and(|limit| limit > 0) {
            self.require(Controller::Memory, "memory.limit")?;
        }
        if limit.is_some() || swap.is_some() || memory.reservation().is_some() {
            let Some(home) = self.prefer(Controller::Memory, "memory") else {
                return Ok(());
            };
            if memory.check_before_update() == Some(true) {
                check_usage(home, limit)?;
            }
            if home.is_v2() {
                self.memory_v2(home, limit, swap)?;
            } else {
                self.memory_v1(home, limit, swap)?;
            }
            reservation(home, memory.reservation())?;
        }
        self.rarities(memory)
    }

    /// The kernel keeps limit <= memsw at every moment: growing past the present memsw must raise memsw first,
    /// everything else lowers (or raises) the limit first.
    fn memory_v1(&mut self, home: Place<'_>, limit: Option<i64>, swap: Option<i64>) -> Result<()> {
        let memsw_now = match swap {
            Some(_) => number(home, MEMSW)?,
            None => None,
        };
        let swap = match (swap, memsw_now) {
            (Some(_), None) => {
                // Unlimited swap without accounting is what the node has anyway.
                if swap.is_some_and(|swap| swap >= 0) {
                    self.degrade("memory.swap", "the kernel does not account swap (swapaccount=0)");
                }
                None
            }
            (swap, _) => swap,
        };
        let grows = match (limit, memsw_now) {
            (Some(limit), Some(now)) => limit < 0 || limit.unsigned_abs() > now,
            _ => false,
        };
        if let Some(swap) = swap.filter(|_| grows) {
            home.write(MEMSW, &swap.max(-1).to_string())?;
        }
        let limit_before = match limit {
            Some(_) if swap.is_some() && !grows => number(home, LIMIT)?,
            _ => None,
        };
        if let Some(limit) = limit {
            set_limit_v1(home, limit)?;
        }
        let Some(swap) = swap.filter(|_| !grows) else {
            return Ok(());
        };
        home.write(MEMSW, &swap.max(-1).to_string()).inspect_err(|_| {
            // Half of a pair is no limit that anybody asked for. The error at hand is the one to tell.
            if let Some(before) = limit_before {
                let _ = home.try_write(LIMIT, &before.to_string());
            }
        })
    }

    /// v2 counts swap apart, so the two files have no order to keep. Swap first: a group must not swap out in the
    /// moment between a lower `memory.max` and its swap limit.
    fn memory_v2(&mut self, home: Place<'_>, limit: Option<i64>, swap: Option<i64>) -> Result<()> {
        if let Some(value) = swap_max(home, limit, swap)? {
            match home.try_write("memory.swap.max", &value) {
                Ok(()) => {}
                // No CONFIG_SWAP: nothing can be swapped.
                Err(Errno::NOENT) if value == "max" || value == "0" => {}
                Err(Errno::NOENT) => self.degrade("memory.swap", "the kernel does not account swap"),
                Err(errno) => return Err(home.write_error("memory.swap.max", &value, errno)),
            }
        }
        match limit {
            Some(limit) => home.write("memory.max", &max_or(limit)),
            None => Ok(()),
        }
    }

    /// Settings that exist on v1 only. (Kernel memory limits are ignored, as the kernel does since 6.1.)
    fn rarities(&mut self, memory: &LinuxMemory) -> Result<()> {
        let v1 = self.home(Controller::Memory).filter(|home| !home.is_v2());
        if let Some(swappiness) = memory.swappiness() {
            if swappiness > 200 {
                return Err(Error::InvalidValue {
                    setting: "memory.swappiness",
                    reason: format!("{swappiness} > 200"),
                });
            }
            match v1 {
                Some(home) => home.write("memory.swappiness", &swappiness.to_string())?,
                None => self.degrade("memory.swappiness", "cgroup v2 has no swappiness"),
            }
        }
        if memory.disable_oom_killer() == Some(true) {
            match v1 {
                Some(home) => home.write("memory.oom_control", "1")?,
                None => self.degrade("memory.disableOOMKiller", "cgroup v2 can't disable the OOM killer"),
            }
        }
        if memory.use_hierarchy() == Some(true)
            && let Some(home) = v1
            && number(home, "memory.use_hierarchy")? == Some(0)
        {
            home.write("memory.use_hierarchy", "1")?;
        }
        Ok(())
    }
}

/// v2 kills at once when `memory.max` is set below the usage, instead of refusing as v1 does (EBUSY).
fn check_usage(home: Place<'_>, limit: Option<i64>) -> Result<()> {
    let Some(limit) = limit.filter(|limit| *limit > 0) else {
        return Ok(());
    };
    let file = if home.is_v2() { "memory.current" } else { "memory.usage_in_bytes" };
    match number(home, file)? {
        Some(usage) if usage > limit.unsigned_abs() => Err(Error::MemoryBelowUsage { limit, usage }),
        _ => Ok(()),
    }
}

/// EBUSY means that the kernel could not reclaim down to the new limit.
fn set_limit_v1(home: Place<'_>, limit: i64) -> Result<()> {
    let value = limit.max(-1).to_string();
    match home.try_write(LIMIT, &value) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => {
            let usage = number(home, "memory.usage_in_bytes")?.unwrap_or_default();
            Err(Error::MemoryBelowUsage { limit, usage })
        }
        Err(errno) => Err(home.write_error(LIMIT, &value, errno)),
    }
}

/// `memory.swap.max` for an OCI swap value, which includes the memory limit given with it or in force.
fn swap_max(home: Place<'_>, limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>> {
    let Some(swap) = swap else {
        return Ok(None);
    };
    if swap < 0 {
        return Ok(Some("max".to_owned()));
    }
    let limit = match limit {
        Some(limit) => limit.unsigned_abs(),
        None => number(home, "memory.max")?.unwrap_or(u64::MAX),
    };
    match swap.unsigned_abs().checked_sub(limit) {
        Some(only_swap) => Ok(Some(only_swap.to_string())),
        None => Err(Error::InvalidValue {
            setting: "memory.swap",
            reason: format!("{swap} (memory plus swap) is below the memory limit"),
        }),
    }
}

fn reservation(home: Place<'_>, reservation: Option<i64>) -> Result<()> {
    match reservation.filter(|value| *value != 0) {
        None => Ok(()),
        Some(value) if home.is_v2() => home.write("memory.low", &max_or(value)),
        Some(value) => home.write("memory.soft_limit_in_bytes", &value.max(-1).to_string()),
    }
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}
