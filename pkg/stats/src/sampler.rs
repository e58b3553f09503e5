//! Successive samples of one group, and the rates between them.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use husk_cgroup::{CgroupPath, CgroupStats, StatsReader};
use husk_model::{
    CpuStats, IoStats, MemoryStats, Pressure, PressureStats, ResourceStats, SwapStats, UnixNanos,
};

use crate::{Error, Result, Target};

/// Shortest time a CPU rate is computed over. Two callers (kubelet and crictl) in the same moment would otherwise see
/// the noise of a few scheduler ticks; they get the previous rate.
const MIN_WINDOW: i64 = 500_000_000;

/// One group's reader and its last sample.
#[derive(Debug)]
pub(crate) struct Sampler {
    path: CgroupPath,
    reader: Mutex<Reader>,
    /// Apart from the reader, so that a caller never waits for another one's reads.
    last: Mutex<Option<ResourceStats>>,
}

#[derive(Debug)]
struct Reader {
    files: StatsReader,
    /// Of the group above whose memory limit counts.
    above: Option<StatsReader>,
    window: Option<Window>,
}

/// Start of the present rate window, and the rate of the one before.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: UnixNanos,
    usage: u64,
    rate: Option<u64>,
}

impl Sampler {
    pub(crate) fn new(files: StatsReader, above: Option<StatsReader>, target: &Target) -> Self {
        // Made with nothing used, so a first question has a rate to be answered with.
        let window = target.since.map(|start| Window { start, usage: 0, rate: None });
        let path = target.cgroup.clone();
        Self { path, reader: Mutex::new(Reader { files, above, window }), last: Mutex::new(None) }
    }

    /// A sample as of `now`; the previous one if somebody else is reading at this moment.
    pub(crate) fn sample(&self, now: UnixNanos) -> Result<ResourceStats> {
        let mut reader = match self.reader.try_lock() {
            Ok(reader) => reader,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => match self.last().clone() {
                Some(last) => return Ok(last),
                None => self.reader.lock().unwrap_or_else(PoisonError::into_inner),
            },
        };
        let path = || self.path.to_string();
        let failed = |source| Error::Read { path: path(), source };
        let mut raw = reader.files.read_usage().map_err(failed)?;
        if let Some(memory) = &mut raw.memory
            && let Some(above) = &mut reader.above
        {
            memory.limit = memory.limit.into_iter().chain(above.memory_limit().map_err(failed)?).min();
        }
        if raw.cpu.is_none() && raw.memory.is_none() {
            return Err(Error::Gone { path: path() });
        }
        let stats = reader.resources(&raw, now);
        drop(reader);
        *self.last() = Some(stats.clone());
        Ok(stats)
    }

    /// Everything the kernel counts, and the processes; waits for a sample in progress.
    pub(crate) fn detail(&self) -> Result<(CgroupStats, Vec<u32>)> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |source| Error::Read { path: self.path.to_string(), source };
        let stats = reader.files.read().map_err(failed)?;
        if stats.cpu.is_none() && stats.memory.is_none() {
            return Err(Error::Gone { path: self.path.to_string() });
        }
        let processes = reader.files.processes().map_err(failed)?;
        Ok((stats, processes))
    }

    fn last(&self) -> MutexGuard<'_, Option<ResourceStats>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn resources(&mut self, raw: &CgroupStats, now: UnixNanos) -> ResourceStats {
        let usage = raw.cpu.as_ref().map_or(0, |cpu| cpu.usage);
        let memory = raw.memory.clone().unwrap_or_default();
        ResourceStats {
            cpu: CpuStats {
                timestamp: now,
                usage_core_nanos: usage,
                usage_nano_cores: self.rate(usage, now),
                pressure: raw.pressure.cpu.map(pressure),
            },
            memory: MemoryStats {
                timestamp: now,
                working_set: memory.working_set,
                available: memory.limit.map(|limit| limit.saturating_sub(memory.working_set)),
                usage: memory.usage,
                rss: memory.rss,
                page_faults: memory.page_faults,
                major_page_faults: memory.major_page_faults,
                pressure: raw.pressure.memory.map(pressure),
            },
            swap: memory.swap.map(|usage| SwapStats {
                timestamp: now,
                available: memory.swap_limit.map(|limit| limit.saturating_sub(usage)),
                usage,
            }),
            io: IoStats { timestamp: now, pressure: raw.pressure.io.map(pressure) },
            writable_layer: None,
            processes: raw.pids.as_ref().map_or(0, |pids| pids.current),
        }
    }

    /// Nanoseconds of CPU time per second since the window's start.
    fn rate(&mut self, usage: u64, now: UnixNanos) -> Option<u64> {
        // A clock set back starts over.
        let Some(window) = self.window.filter(|window| now >= window.start) else {
            self.window = Some(Window { start: now, usage, rate: None });
            return None;
        };
        let elapsed = now - window.start;
        if elapsed < MIN_WINDOW {
            return window.rate;
        }
        let used = u128::from(usage.saturating_sub(window.usage));
        let rate = u64::try_from(used * 1_000_000_000 / u128::from(elapsed.unsigned_abs())).ok();
        self.window = Some(Window { start: now, usage, rate });
        rate
    }
}

fn pressure(raw: husk_cgroup::Pressure) -> PressureStats {
    let line = |line: husk_cgroup::PressureLine| Pressure {
        total: line.total,
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    };
    PressureStats { some: line(raw.some), full: line(raw.full) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Option<Reader> {
        let hierarchy = husk_cgroup::Hierarchy::detect().ok()?;
        Some(Reader { files: hierarchy.stats_reader(&CgroupPath::root()), above: None, window: None })
    }

    #[test]
    fn the_rate_is_that_between_samples_far_enough_apart() {
        let Some(mut reader) = reader() else {
            husk_test_support::skip("cgroups");
            return;
        };
        let second = 1_000_000_000;
        assert_eq!(reader.rate(5_000, 10 * second), None);
        // Too early for a first rate.
        assert_eq!(reader.rate(5_100, 10 * second + 1), None);
        assert_eq!(reader.rate(5_000 + 500_000_000, 11 * second), Some(500_000_000));
        // A second caller in the same moment gets the same answer.
        assert_eq!(reader.rate(5_000 + 500_000_900, 11 * second + 100), Some(500_000_000));
        assert_eq!(reader.rate(5_000 + 2_500_000_000, 12 * second), Some(2_000_000_000));
        // Clock set back.
        assert_eq!(reader.rate(5_000, second), None);
    }
}
