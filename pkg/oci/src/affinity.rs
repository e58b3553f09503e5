//! The CPUs that an exec runs on before and after it is in its cgroup (OCI runtime-spec, config: `execCPUAffinity`).

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
