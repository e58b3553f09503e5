//! Resource limits of a process.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Error, Failure, Result, Step, failure::At};

/// One checked limit.
#[derive(Debug)]
pub(crate) struct Limit {
    name: String,
    resource: Resource,
    limit: Rlimit,
}

/// Checks the spec's limits.
pub(crate) fn parse(limits: &[PosixRlimit]) -> Result<Vec<Limit>> {
    limits
        .iter()
        .map(|limit| {
            let name = limit.typ().to_string();
            if limit.soft() > limit.hard() {
                return Err(Error::InvalidPlan(format!("{name}: soft limit is above the hard limit")));
            }
            let resource = resource(limit.typ());
            // The kernel's RLIM_INFINITY is all ones; rustix says it with None.
            let value = |value: u64| (value != u64::MAX).then_some(value);
            let limit = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
            Ok(Limit { name, resource, limit })
        })
        .collect()
}

/// Sets them. Raising a hard limit needs CAP_SYS_RESOURCE.
pub(crate) fn apply(limits: &[Limit]) -> Result<(), Failure> {
    limits.iter().try_for_each(|limit| setrlimit(limit.resource, limit.limit).at(Step::Rlimit, &limit.name))
}

/// Raises the hard limits to what [`apply`] will set: it will run in a user namespace, where nobody can.
pub(crate) fn make_room(limits: &[Limit]) -> Result<(), Failure> {
    limits.iter().try_for_each(|limit| {
        let now = getrlimit(limit.resource);
        let higher = match (limit.limit.maximum, now.maximum) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(now)) => wanted > now,
        };
        if !higher {
            return Ok(());
        }
        let raised = Rlimit { current: now.current, maximum: limit.limit.maximum };
        setrlimit(limit.resource, raised).at(Step::Rlimit, &limit.name)
    })
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
