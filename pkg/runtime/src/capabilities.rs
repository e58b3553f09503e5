//! Capability sets, and the change of user that they surround.

use husk_model::ResolvedUser;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::{
    process::{Gid, Uid},
    thread::{self, CapabilitySet, CapabilitySets},
};

use crate::{Failure, Step, failure::At};

/// Highest capability number any kernel has, for now; a set is 64 bits wide.
const HIGHEST: u32 = 63;

/// The sets of a process. Inheritable is empty but for the ambient ones, which the kernel wants there: anything else
/// leaks privileges through file capabilities (CVE-2022-29162 and its kin).
#[derive(Debug, Clone, Copy)]
pub(crate) struct CapabilityPlan {
    bounding: CapabilitySet,
    permitted: CapabilitySet,
    effective: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
    /// Ambient ones of the spec that nobody can have.
    dropped: CapabilitySet,
}

/// Proof that the user has changed, and what is held beyond the plan.
#[derive(Debug)]
pub(crate) struct Held {
    extra: CapabilitySet,
    plan: CapabilityPlan,
}

impl CapabilityPlan {
    /// Without any in the spec: none at all.
    pub(crate) fn new(spec: Option<&LinuxCapabilities>) -> Self {
        let set = |of: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            spec.and_then(|spec| of(spec).as_ref()).map_or(CapabilitySet::empty(), to_set)
        };
        let permitted = set(LinuxCapabilities::permitted);
        Self {
            bounding: set(LinuxCapabilities::bounding),
            permitted,
            effective: set(LinuxCapabilities::effective) & permitted,
            inheritable: CapabilitySet::empty(),
            ambient: set(LinuxCapabilities::ambient) & permitted,
            dropped: CapabilitySet::empty(),
        }
    }

    /// With the inheritable ones that the spec names, and without the ambient ones that need such and have none. For containers
    /// whose spec is somebody's own; in those of a pod only ambient ones are inheritable.
    pub(crate) fn by_the_letter(mut self, spec: Option<&LinuxCapabilities>) -> Self {
        let named = spec.and_then(|spec| spec.inheritable().as_ref());
        self.inheritable = named.map_or(CapabilitySet::empty(), to_set);
        let named = spec.and_then(|spec| spec.ambient().as_ref());
        self.ambient &= self.inheritable;
        self.dropped = named.map_or(CapabilitySet::empty(), to_set) - self.ambient;
        self
    }

    /// What the node cannot give, because the runtime itself lacks it.
    pub(crate) fn unavailable(&self) -> Result<Option<String>, Failure> {
        let own = thread::capabilities(None).at(Step::Capabilities, "")?.permitted;
        let missing = (self.permitted | self.bounding) & !own;
        let names = |set: CapabilitySet| -> Vec<_> {
            set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
        };
        let (missing, dropped) = (names(missing), names(self.dropped));
        if !dropped.is_empty() {
            let why = "operation not permitted: it is not permitted and inheritable";
            return Ok(Some(format!("can't raise ambient capability {}: {why}", dropped.join(", "))));
        }
        Ok((!missing.is_empty()).then(|| format!("the node itself lacks {}", missing.join(", "))))
    }

    /// Becomes the user, with exactly the effective capabilities of the plan. `keep_admin` holds CAP_SYS_ADMIN back in
    /// the permitted set, for loading a filter.
    pub(crate) fn take_user(mut self, user: &ResolvedUser, keep_admin: bool) -> Result<Held, Failure> {
        let step = Step::Capabilities;
        let own = thread::capabilities(None).at(step, "")?.permitted;
        self.permitted &= own;
        self.effective &= own;
        self.ambient &= own;
        self.inheritable &= own;
        let extra = if keep_admin { CapabilitySet::SYS_ADMIN & own } else { CapabilitySet::empty() };
        limit_bounding(self.bounding)?;
        if !(self.inheritable - self.permitted).is_empty() {
            // Only who has CAP_SETPCAP makes inheritable what he may not use; from here on it stays so.
            let sets = CapabilitySets { effective: own, permitted: own, inheritable: self.inheritable };
            thread::set_capabilities(None, sets).at(step, "inheritable")?;
        }
        thread::clear_ambient_capability_set().at(step, "ambient")?;
        thread::set_keep_capabilities(true).at(step, "PR_SET_KEEPCAPS")?;
        change_user(user)?;
        thread::set_keep_capabilities(false).at(step, "PR_SET_KEEPCAPS")?;
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted | extra,
            inheritable: self.inheritable,
        };
        thread::set_capabilities(None, sets).at(step, "")?;
        Ok(Held { extra, plan: self })
    }

    /// Takes the sets of the plan, nothing more.
    pub(crate) fn settle(&self, held: Held) -> Result<(), Failure> {
        let Held { plan, .. } = held;
        let sets = CapabilitySets {
            effective: plan.effective,
            permitted: plan.permitted,
            inheritable: plan.ambient | plan.inheritable,
        };
        thread::set_capabilities(None, sets).at(Step::Capabilities, "")?;
        for ambient in plan.ambient.iter() {
            thread::configure_capability_in_ambient_set(ambient, true).at(Step::Capabilities, "ambient")?;
        }
        Ok(())
    }
}

/// Makes what is held beyond the plan effective.
pub(crate) fn raise(held: Held) -> Result<Held, Failure> {
    let sets = CapabilitySets {
        effective: held.plan.effective | held.extra,
        permitted: held.plan.permitted | held.extra,
        inheritable: held.plan.inheritable,
    };
    thread::set_capabilities(None, sets).at(Step::Capabilities, "")?;
    Ok(held)
}

/// Drops everything outside `keep` from the bounding set, and with it from what execve can give.
pub(crate) fn limit_bounding(keep: CapabilitySet) -> Result<(), Failure> {
    for number in 0..=HIGHEST {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number the kernel does not know ends the list.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno).at(Step::Capabilities, "bounding"),
        }
    }
    Ok(())
}

/// Groups first, user last: afterwards the right to change them is gone.
pub(crate) fn change_user(user: &ResolvedUser) -> Result<(), Failure> {
    let step = Step::Credentials;
    let groups: Vec<_> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    thread::set_thread_groups(&groups).at(step, "groups")?;
    let gid = Gid::from_raw(user.gid);
    thread::set_thread_res_gid(gid, gid, gid).at(step, user.gid)?;
    let uid = Uid::from_raw(user.uid);
    thread::set_thread_res_uid(uid, uid, uid).at(step, user.uid)
}

fn to_set(capabilities: &Capabilities) -> CapabilitySet {
    // The spec's enumeration and the kernel's constants have the same names; those a newer spec knows and we do not
    // are unknown to the kernel we were built for as well.
    capabilities.iter().filter_map(|capability| CapabilitySet::from_name(&capability.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn every_capability_of_the_spec_is_known_to_the_kernel_edge() {
        let all: Capabilities = [
            Capability::Chown,
            Capability::DacReadSearch,
            Capability::NetRaw,
            Capability::SysAdmin,
            Capability::AuditWrite,
            Capability::Setfcap,
            Capability::Bpf,
            Capability::CheckpointRestore,
        ]
        .into();
        assert_eq!(to_set(&all).bits().count_ones(), 8);
        assert!(to_set(&all).contains(CapabilitySet::CHECKPOINT_RESTORE));
    }

    #[test]
    fn nothing_is_inheritable_or_effective_that_is_not_permitted() {
        let mut spec = LinuxCapabilities::default();
        spec.set_permitted(Some([Capability::Chown].into()));
        spec.set_effective(Some([Capability::Chown, Capability::SysAdmin].into()));
        spec.set_inheritable(Some([Capability::SysAdmin].into()));
        spec.set_ambient(Some([Capability::SysAdmin].into()));
        let plan = CapabilityPlan::new(Some(&spec));
        assert_eq!(plan.effective, CapabilitySet::CHOWN);
        assert_eq!(plan.ambient, CapabilitySet::empty());
    }
}
