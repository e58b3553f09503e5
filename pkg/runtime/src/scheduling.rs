//! Scheduler, I/O priority, personality and memory policy of a container's processes (OCI runtime-spec, config: `scheduler`,
//! `ioPriority`; config-linux: `personality`, `memoryPolicy`).

use husk_sys::scheduling::{self, Attributes};
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    Process,
};

use crate::{Error, Failure, Result, Step, failure::At};

/// Where the memory of a container comes from, as set_mempolicy(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*` with its `MPOL_F_*`.
    pub mode: u32,
    /// A bit for each node, the lowest first.
    pub nodes: Vec<u64>,
}

/// What was checked of a spec.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    scheduler: Option<Attributes>,
    /// Class and level.
    io_priority: Option<(u8, u16)>,
    personality: Option<u64>,
    memory: Option<MemoryPolicy>,
}

impl Scheduling {
    pub(crate) fn new(
        process: &Process,
        personality: Option<&LinuxPersonality>,
        memory: Option<&MemoryPolicy>,
    ) -> Result<Self> {
        let (scheduler, io_priority) = (process.scheduler().as_ref(), process.io_priority().as_ref());
        Ok(Self {
            scheduler: scheduler.map(attributes),
            io_priority: io_priority
                .map(|priority| {
                    let level = u16::try_from(priority.priority()).ok().filter(|level| *level <= 7);
                    let invalid =
                        || Error::InvalidPlan(format!("I/O priority {} is not 0 to 7", priority.priority()));
                    Ok((class(priority.class()), level.ok_or_else(invalid)?))
                })
                .transpose()?,
            personality: personality.map(|personality| match personality.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => 8,
            }),
            memory: memory.cloned(),
        })
    }

    /// Sets them for the calling process, which takes the privileges of the node. It is in its cgroup, whose nodes of memory those of
    /// the policy are among.
    pub(crate) fn apply(&self) -> std::result::Result<(), Failure> {
        if let Some(attributes) = self.scheduler {
            scheduling::set_scheduler(attributes).at(Step::Scheduling, "scheduler")?;
        }
        if let Some((class, level)) = self.io_priority {
            scheduling::set_io_priority(class, level).at(Step::Scheduling, "I/O priority")?;
        }
        if let Some(policy) = &self.memory {
            scheduling::set_memory_policy(policy.mode, &policy.nodes)
                .at(Step::Scheduling, "memory policy")?;
        }
        match self.personality {
            Some(domain) => scheduling::set_personality(domain).at(Step::Scheduling, "personality"),
            None => Ok(()),
        }
    }
}

/// linux/ioprio.h
fn class(class: IOPriorityClass) -> u8 {
    match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    }
}

/// linux/sched.h
fn attributes(scheduler: &oci_spec::runtime::Scheduler) -> Attributes {
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Attributes {
        policy: match scheduler.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => 4,
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        },
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |all, one| all | one),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0)).unwrap_or(0),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
}
