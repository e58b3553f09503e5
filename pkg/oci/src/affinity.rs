//! The CPUs that a process runs on: not the caller's, and those that an exec runs on before and after it is in its cgroup (OCI runtime-spec, config: `execCPUAffinity`).

use rustix::{process::Pid, thread::CpuSet};

use crate::{Error, Result};

/// A list of CPUs: `0-3,7`. An empty one is none.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn parse(list: Option<&str>) -> Result<Option<CpuSet>> {
    let Some(list) = list.map(str::trim).filter(|list| !list.is_empty()) else { return Ok(None) };
    let refuse = || Error::Invalid(format!("execCPUAffinity {list:?} is no list of CPUs"));
    let mut cpus = CpuSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
        let (first, last) = (number(first).ok_or_else(refuse)?, number(last).ok_or_else(refuse)?);
        if first > last {
            return Err(refuse());
        }
        (first..=last).for_each(|cpu| cpus.set(cpu));
    }
    Ok(Some(cpus))
}

/// Sets it for a child of ours that is not reaped, or for us.
///
/// # Errors
/// Those of sched_setaffinity(2).
pub(crate) fn set(pid: Option<u32>, cpus: &CpuSet) -> Result<()> {
    let of = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    rustix::thread::sched_setaffinity(of, cpus)
        .map_err(|errno| Error::io("set the CPU affinity of", "the process")(errno.into()))
}

/// Takes all CPUs for us and the children to come, whatever the caller is bound to; in its cgroup, a child has those of that. Where the
/// kernel has more CPUs than fit into the set, or refuses, the caller's stay.
pub(crate) fn reset() {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    if let Ok(Some(cpus)) = parse(Some(&possible)) {
        let _ = set(None, &cpus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers_and_nothing_else() {
        let cpus = parse(Some("0-2, 5")).unwrap().unwrap();
        assert_eq!((cpus.count(), cpus.is_set(2), cpus.is_set(5), cpus.is_set(3)), (4, true, true, false));
        assert!(parse(Some("")).unwrap().is_none() && parse(None).unwrap().is_none());
        for bad in ["x", "3-1", "-", "99999999", "1,,2"] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
