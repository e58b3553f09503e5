//! CPU weight, bandwidth, burst, idle and realtime.

use oci_spec::runtime::LinuxCpu;
use rustix::io::Errno;

use super::Apply;
use crate::{Controller, Result, place::Place};

/// `cpu.max` and cfs_period_us before anything is written (kernel/sched/fair.c).
const DEFAULT_PERIOD: u64 = 100_000;

/// The v2 `cpu.weight` for a v1 `cpu.shares`.
///
/// The curve that runc 1.3.2 and crun 1.23 moved to: it goes through (2, 1), (1024, 100) and (262144, 10000), so that
/// the default stays the default. The straight line used before gave 1024 shares a weight of 39, and left a container
/// that asks for 1 CPU at 40 % of what a default group gets (kubernetes/kubernetes issue 131216).
fn cpu_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log - 126.0) / 612.0;
    10f64.powf(exponent).ceil() as u64
}

impl Apply<'_> {
    pub(super) fn cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        let shares = cpu.shares().filter(|shares| *shares != 0);
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        if let Some(shares) = shares
            && let Some(home) = self.prefer(Controller::Cpu, "cpu.shares")
        {
            let (file, value) =
                if home.is_v2() { ("cpu.weight", cpu_weight(shares)) } else { ("cpu.shares", shares) };
            home.write(file, &value.to_string())?;
        }
        if let Some(idle) = cpu.idle()
            && let Some(home) = self.prefer(Controller::Cpu, "cpu.idle")
        {
            self.write_or_degrade(home, "cpu.idle", &idle.to_string(), "cpu.idle")?;
        }
        if quota.is_some() || period.is_some() {
            // A period alone limits nothing, so a node without the controller loses nothing.
            let home = match quota {
                Some(quota) if quota > 0 => Some(self.require(Controller::Cpu, "cpu.quota")?),
                _ => self.prefer(Controller::Cpu, "cpu.quota"),
            };
            if let Some(home) = home {
                self.bandwidth(home, quota, period, cpu.burst())?;
            }
        } else if let Some(burst) = cpu.burst()
            && let Some(home) = self.prefer(Controller::Cpu, "cpu.burst")
        {
            self.write_or_degrade(home, burst_file(home), &burst.to_string(), "cpu.burst")?;
        }
        self.realtime(cpu)
    }

    /// The kernel requires burst <= quota, and on v1 checks quota/period of each write against the parent's; so the
    /// burst goes to 0 first and comes back last, and a refused period is retried after the quota.
    fn bandwidth(
        &mut self,
        home: Place<'_>,
        quota: Option<i64>,
        period: Option<u64>,
        burst: Option<u64>,
    ) -> Result<()> {
        if burst.is_some() {
            self.write_or_degrade(home, burst_file(home), "0", "cpu.burst")?;
        }
        if home.is_v2() {
            home.write("cpu.max", &cpu_max(home, quota, period)?)?;
        } else {
            bandwidth_v1(home, quota, period)?;
        }
        match burst {
            Some(burst) if burst > 0 => {
                self.write_or_degrade(home, burst_file(home), &burst.to_string(), "cpu.burst")
            }
            _ => Ok(()),
        }
    }

    fn realtime(&mut self, cpu: &LinuxCpu) -> Result<()> {
        let period = cpu.realtime_period().filter(|period| *period != 0).map(|period| period.to_string());
        let runtime =
            cpu.realtime_runtime().filter(|runtime| *runtime != 0).map(|runtime| runtime.to_string());
        if period.is_none() && runtime.is_none() {
            return Ok(());
        }
        let Some(home) = self.prefer(Controller::Cpu, "cpu.realtimeRuntime") else {
            return Ok(());
        };
        if home.is_v2() {
            self.degrade("cpu.realtimeRuntime", "cgroup v2 has no realtime bandwidth");
            return Ok(());
        }
        if let Some(period) = period {
            self.write_or_degrade(home, "cpu.rt_period_us", &period, "cpu.realtimePeriod")?;
        }
        match runtime {
            Some(runtime) => {
                self.write_or_degrade(home, "cpu.rt_runtime_us", &runtime, "cpu.realtimeRuntime")
            }
            None => Ok(()),
        }
    }
}

/// `cpu.max` takes both numbers in one write; the one that is not asked for keeps its value.
fn cpu_max(home: Place<'_>, quota: Option<i64>, period: Option<u64>) -> Result<String> {
    let now = home.read("cpu.max")?.unwrap_or_default();
    let mut now = now.split_ascii_whitespace();
    let (quota_now, period_now) = (now.next().unwrap_or("max"), now.next());
    let quota = match quota {
        None => quota_now.to_owned(),
        Some(quota) if quota > 0 => quota.to_string(),
        Some(_) => "max".to_owned(),
    };
    let period = match period {
        Some(period) => period.to_string(),
        None => period_now.map_or_else(|| DEFAULT_PERIOD.to_string(), str::to_owned),
    };
    Ok(format!("{quota} {period}"))
}

fn bandwidth_v1(home: Place<'_>, quota: Option<i64>, period: Option<u64>) -> Result<()> {
    const QUOTA: &str = "cpu.cfs_quota_us";
    const PERIOD: &str = "cpu.cfs_period_us";
    let period = period.map(|period| period.to_string());
    let mut period_after = None;
    if let Some(period) = &period {
        match home.try_write(PERIOD, period) {
            Ok(()) => {}
            // Too short or too long together with the quota still in force.
            Err(Errno::INVAL) if quota.is_some() => period_after = Some(period),
            Err(errno) => return Err(home.write_error(PERIOD, period, errno)),
        }
    }
    if let Some(quota) = quota {
        let quota = if quota < 0 { -1 } else { quota };
        home.write(QUOTA, &quota.to_string())?;
    }
    match period_after {
        Some(period) => home.write(PERIOD, period),
        None => Ok(()),
    }
}

fn burst_file(home: Place<'_>) -> &'static str {
    if home.is_v2() { "cpu.max.burst" } else { "cpu.cfs_burst_us" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_on_the_curve_of_runc_and_crun() {
        // Ends and default exact; the rest from the formula in the OCI runtimes' announcements.
        for (shares, weight) in
            [(0, 1), (1, 1), (2, 1), (100, 17), (1024, 100), (2048, 174), (262_144, 10_000)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert_eq!(cpu_weight(u64::MAX), 10_000);
    }

    #[test]
    fn more_shares_never_weigh_less() {
        let mut last = 0;
        for shares in 0..=262_144 {
            let weight = cpu_weight(shares);
            assert!(weight >= last && (1..=10_000).contains(&weight), "{shares}");
            last = weight;
        }
    }
}
