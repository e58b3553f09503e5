//! Limits in three languages: the plugin's, the engine's and the OCI spec's.

use husk_model::{HugepageLimit, Resources};
use husk_proto::nri;
use oci_spec::runtime::{LinuxHugepageLimitBuilder, LinuxPidsBuilder, LinuxResources};

/// A change of limits. Only what is set changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Those that the CRI has, too; the OOM score is not one of them.
    pub common: Resources,
    /// Number of tasks; negative is unlimited.
    pub pids: Option<i64>,
    /// Memory that is left to the container under pressure, in bytes.
    pub memory_reservation: Option<i64>,
    /// Memory of TCP buffers in bytes (cgroup v1).
    pub memory_tcp: Option<i64>,
    /// 0 to 200 (cgroup v1).
    pub swappiness: Option<u64>,
    /// Let allocations wait instead of killing (cgroup v1).
    pub disable_oom_killer: Option<bool>,
    /// Microseconds of realtime per period (cgroup v1).
    pub realtime_runtime: Option<i64>,
    /// Microseconds (cgroup v1).
    pub realtime_period: Option<u64>,
}

impl Limits {
    /// Puts what [`Resources`] has no place for into a spec's limits.
    pub fn overlay_rest(&self, spec: &mut LinuxResources) {
        if let Some(limit) = self.pids
            && let Ok(pids) = LinuxPidsBuilder::default().limit(limit).build()
        {
            spec.set_pids(Some(pids));
        }
        let mut memory = spec.memory().unwrap_or_default();
        let before = memory;
        set(self.memory_reservation, |value| memory.set_reservation(value));
        set(self.memory_tcp, |value| memory.set_kernel_tcp(value));
        set(self.swappiness, |value| memory.set_swappiness(value));
        set(self.disable_oom_killer, |value| memory.set_disable_oom_killer(value));
        if memory != before {
            spec.set_memory(Some(memory));
        }
        if self.realtime_runtime.is_some() || self.realtime_period.is_some() {
            let mut cpu = spec.cpu().clone().unwrap_or_default();
            set(self.realtime_runtime, |value| cpu.set_realtime_runtime(value));
            set(self.realtime_period, |value| cpu.set_realtime_period(value));
            spec.set_cpu(Some(cpu));
        }
    }

    /// Puts all of it into a spec's limits.
    pub(crate) fn overlay(&self, spec: &mut LinuxResources) {
        let common = &self.common;
        let mut memory = spec.memory().unwrap_or_default();
        set(common.memory_limit, |value| memory.set_limit(value));
        // Without a swap limit of its own the limit of memory is also that of memory and swap (husk-spec).
        set(common.memory_swap_limit.or(common.memory_limit), |value| memory.set_swap(value));
        spec.set_memory(Some(memory));
        let mut cpu = spec.cpu().clone().unwrap_or_default();
        set(common.cpu_shares, |value| cpu.set_shares(value));
        set(common.cpu_quota, |value| cpu.set_quota(value));
        set(common.cpu_period, |value| cpu.set_period(value));
        set(text(&common.cpuset_cpus), |value| cpu.set_cpus(value));
        set(text(&common.cpuset_mems), |value| cpu.set_mems(value));
        spec.set_cpu(Some(cpu));
        if !common.hugepages.is_empty() {
            let mut pages = spec.hugepage_limits().clone().unwrap_or_default();
            for wanted in &common.hugepages {
                pages.retain(|page| *page.page_size() != wanted.page_size);
                let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
                let page =
                    LinuxHugepageLimitBuilder::default().page_size(wanted.page_size.as_str()).limit(limit);
                pages.extend(page.build());
            }
            spec.set_hugepage_limits(Some(pages));
        }
        if !common.unified.is_empty() {
            let mut unified = spec.unified().clone().unwrap_or_default();
            unified.extend(common.unified.clone());
            spec.set_unified(Some(unified));
        }
        self.overlay_rest(spec);
    }
}

fn set<T, R>(value: Option<T>, set: impl FnOnce(Option<T>) -> R) {
    if value.is_some() {
        set(value);
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

macro_rules! optional {
    ($kind:ident, $value:expr) => {
        $value.map(|value| nri::$kind { value })
    };
}

/// The engine's limits for a plugin.
pub(crate) fn to_plugin(resources: &Resources) -> nri::LinuxResources {
    nri::LinuxResources {
        memory: Some(nri::LinuxMemory {
            limit: optional!(OptionalInt64, resources.memory_limit),
            swap: optional!(OptionalInt64, resources.memory_swap_limit),
            ..Default::default()
        }),
        cpu: Some(nri::LinuxCpu {
            shares: optional!(OptionalUInt64, resources.cpu_shares),
            quota: optional!(OptionalInt64, resources.cpu_quota),
            period: optional!(OptionalUInt64, resources.cpu_period),
            cpus: resources.cpuset_cpus.clone(),
            mems: resources.cpuset_mems.clone(),
            ..Default::default()
        }),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|page| nri::HugepageLimit { page_size: page.page_size.clone(), limit: page.limit })
            .collect(),
        unified: resources.unified.clone(),
        ..Default::default()
    }
}

/// A plugin's limits for the engine.
pub(crate) fn from_plugin(resources: &nri::LinuxResources) -> Limits {
    let memory = resources.memory.unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    Limits {
        common: Resources {
            cpu_period: cpu.period.map(|period| period.value),
            cpu_quota: cpu.quota.map(|quota| quota.value),
            cpu_shares: cpu.shares.map(|shares| shares.value),
            memory_limit: memory.limit.map(|limit| limit.value),
            memory_swap_limit: memory.swap.map(|swap| swap.value),
            oom_score_adj: 0,
            cpuset_cpus: cpu.cpus,
            cpuset_mems: cpu.mems,
            hugepages: resources
                .hugepage_limits
                .iter()
                .map(|page| HugepageLimit { page_size: page.page_size.clone(), limit: page.limit })
                .collect(),
            unified: resources.unified.clone(),
            ..Resources::default()
        },
        pids: resources.pids.map(|pids| pids.limit),
        memory_reservation: memory.reservation.map(|value| value.value),
        memory_tcp: memory.kernel_tcp.map(|value| value.value),
        swappiness: memory.swappiness.map(|value| value.value),
        disable_oom_killer: memory.disable_oom_killer.map(|value| value.value),
        realtime_runtime: cpu.realtime_runtime.map(|value| value.value),
        realtime_period: cpu.realtime_period.map(|value| value.value),
    }
}

/// A spec's limits for a plugin.
pub(crate) fn from_spec(spec: &LinuxResources) -> nri::LinuxResources {
    let memory = spec.memory().unwrap_or_default();
    let cpu = spec.cpu().clone().unwrap_or_default();
    nri::LinuxResources {
        memory: Some(nri::LinuxMemory {
            limit: optional!(OptionalInt64, memory.limit()),
            reservation: optional!(OptionalInt64, memory.reservation()),
            swap: optional!(OptionalInt64, memory.swap()),
            kernel: None,
            kernel_tcp: optional!(OptionalInt64, memory.kernel_tcp()),
            swappiness: optional!(OptionalUInt64, memory.swappiness()),
            disable_oom_killer: optional!(OptionalBool, memory.disable_oom_killer()),
            use_hierarchy: optional!(OptionalBool, memory.use_hierarchy()),
        }),
        cpu: Some(nri::LinuxCpu {
            shares: optional!(OptionalUInt64, cpu.shares()),
            quota: optional!(OptionalInt64, cpu.quota()),
            period: optional!(OptionalUInt64, cpu.period()),
            realtime_runtime: optional!(OptionalInt64, cpu.realtime_runtime()),
            realtime_period: optional!(OptionalUInt64, cpu.realtime_period()),
            cpus: cpu.cpus().clone().unwrap_or_default(),
            mems: cpu.mems().clone().unwrap_or_default(),
        }),
        hugepage_limits: spec
            .hugepage_limits()
            .iter()
            .flatten()
            .map(|page| nri::HugepageLimit {
                page_size: page.page_size().clone(),
                limit: u64::try_from(page.limit()).unwrap_or_default(),
            })
            .collect(),
        unified: spec.unified().clone().unwrap_or_default().into_iter().collect(),
        devices: spec
            .devices()
            .iter()
            .flatten()
            .map(|rule| nri::LinuxDeviceCgroup {
                allow: rule.allow(),
                r#type: rule.typ().unwrap_or_default().as_str().to_owned(),
                major: optional!(OptionalInt64, rule.major()),
                minor: optional!(OptionalInt64, rule.minor()),
                access: rule.access().clone().unwrap_or_default(),
            })
            .collect(),
        pids: spec.pids().map(|pids| nri::LinuxPids { limit: pids.limit() }),
        ..Default::default()
    }
}

/// What `over` sets replaces what is in `base`.
pub(crate) fn overlay(base: &mut nri::LinuxResources, over: &nri::LinuxResources) {
    macro_rules! replace {
        ($base:expr, $over:expr, $($field:ident)*) => {
            $(if $over.$field.is_some() { $base.$field.clone_from(&$over.$field); })*
        };
    }
    if let Some(memory) = &over.memory {
        let base = base.memory.get_or_insert_default();
        replace!(base, memory, limit reservation swap kernel kernel_tcp swappiness disable_oom_killer use_hierarchy);
    }
    if let Some(cpu) = &over.cpu {
        let base = base.cpu.get_or_insert_default();
        replace!(base, cpu, shares quota period realtime_runtime realtime_period);
        for (base, over) in [(&mut base.cpus, &cpu.cpus), (&mut base.mems, &cpu.mems)] {
            if !over.is_empty() {
                base.clone_from(over);
            }
        }
    }
    for page in &over.hugepage_limits {
        base.hugepage_limits.retain(|old| old.page_size != page.page_size);
        base.hugepage_limits.push(page.clone());
    }
    base.unified.extend(over.unified.clone());
    base.devices.extend(over.devices.iter().cloned());
    replace!(base, over, pids blockio_class rdt_class);
}

impl Limits {
    /// What `over` sets replaces what is in `base`.
    pub(crate) fn extend(base: &mut Resources, over: &Resources) {
        macro_rules! replace {
            ($($field:ident)*) => {
                $(if over.$field.is_some() { base.$field = over.$field; })*
            };
        }
        replace!(cpu_period cpu_quota cpu_shares memory_limit memory_swap_limit);
        for (base, over) in
            [(&mut base.cpuset_cpus, &over.cpuset_cpus), (&mut base.cpuset_mems, &over.cpuset_mems)]
        {
            if !over.is_empty() {
                base.clone_from(over);
            }
        }
        for page in &over.hugepages {
            base.hugepages.retain(|old| old.page_size != page.page_size);
            base.hugepages.push(page.clone());
        }
        base.unified.extend(over.unified.clone());
    }
}
