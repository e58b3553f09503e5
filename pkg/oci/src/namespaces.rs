//! From the namespaces of a config to the runtime's.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use husk_model::{IdMapping, IdMaps, Sysctl};
use husk_runtime::{
    Offset, StandaloneNamespaces, UserNamespace, Whose, make_user_namespace, user_namespace_mappings,
};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType as Kind, Spec};
use rustix::fs::{self, Mode, OFlags};

use crate::{Error, Result, check};

/// Opens those that exist and makes the user namespace, if one is asked for.
///
/// # Errors
/// A path is no namespace; ids that cannot be mapped.
pub(crate) fn of(spec: &Spec) -> Result<StandaloneNamespaces> {
    let linux = spec.linux().as_ref().ok_or_else(|| Error::Invalid("no linux section".into()))?;
    let all = linux.namespaces().as_deref().unwrap_or_default();
    let whose = |kind| all.iter().find(|namespace| namespace.typ() == kind).map_or(Ok(Whose::Callers), whose);
    let net = whose(Kind::Network)?;
    let user = all.iter().find(|namespace| namespace.typ() == Kind::User);
    let user = user.map(|namespace| user_namespace(namespace, linux, &net)).transpose()?;
    Ok(StandaloneNamespaces {
        pid: whose(Kind::Pid)?,
        net,
        ipc: whose(Kind::Ipc)?,
        uts: whose(Kind::Uts)?,
        cgroup: whose(Kind::Cgroup)?,
        time: whose(Kind::Time)?,
        offsets: offsets(linux),
        user,
        hostname: spec.hostname().clone().unwrap_or_default(),
        domainname: spec.domainname().clone().unwrap_or_default(),
        sysctls: sysctls(linux),
    })
}

fn whose(namespace: &LinuxNamespace) -> Result<Whose> {
    check::path(namespace).map_or(Ok(Whose::Own), |path| open(path).map(Whose::That))
}

/// Whatever is there is opened for reading alone; the kernel refuses to enter what is no namespace of the right kind.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    fs::open(path, flags, Mode::empty()).map_err(|errno| Error::io("lstat namespace", path)(errno.into()))
}

fn user_namespace(namespace: &LinuxNamespace, linux: &Linux, net: &Whose) -> Result<UserNamespace> {
    let asked = IdMaps { uids: ranges(linux.uid_mappings()), gids: ranges(linux.gid_mappings()) };
    let (fd, mappings) = match check::path(namespace) {
        Some(path) => {
            let fd = open(path)?;
            let mappings = user_namespace_mappings(&fd)?;
            // containerd says both for the containers of a pod.
            if asked != IdMaps::default() && sorted(&asked) != sorted(&mappings) {
                let text =
                    "user namespaces enabled, but both namespace path and non-matching mapping specified";
                return Err(Error::Invalid(text.to_owned()));
            }
            (fd, mappings)
        }
        None => (make_user_namespace(&asked)?, asked),
    };
    let owns_network = match net {
        Whose::Own => true,
        Whose::Callers => false,
        Whose::That(net) => husk_sys::namespace::owner(net).is_ok_and(|owner| same(&owner, &fd)),
    };
    Ok(UserNamespace { fd, mappings, owns_network })
}

/// The ranges of each kind, in one order.
fn sorted(maps: &IdMaps) -> [Vec<(u32, u32, u32)>; 2] {
    [&maps.uids, &maps.gids].map(|ranges| {
        let range = |range: &IdMapping| (range.container_id, range.host_id, range.length);
        let mut all: Vec<_> = ranges.iter().map(range).collect();
        all.sort_unstable();
        all
    })
}

fn same(one: impl AsFd, other: impl AsFd) -> bool {
    let id = |fd: std::os::fd::BorrowedFd<'_>| fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    id(one.as_fd()).is_some_and(|own| Some(own) == id(other.as_fd()))
}

fn ranges(mappings: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMapping> {
    let range = |map: &LinuxIdMapping| IdMapping {
        host_id: map.host_id(),
        container_id: map.container_id(),
        length: map.size(),
    };
    mappings.iter().flatten().map(range).collect()
}

fn offsets(linux: &Linux) -> Vec<Offset> {
    let given = linux.time_offsets().iter().flatten();
    let offset = |(clock, offset): (&String, &oci_spec::runtime::LinuxTimeOffset)| Offset {
        clock: clock.clone(),
        seconds: offset.secs().unwrap_or(0),
        nanoseconds: offset.nanosecs().unwrap_or(0),
    };
    given.map(offset).collect()
}

/// Checked before: what is no name of a container's own parameter is not here any more.
fn sysctls(linux: &Linux) -> Vec<(String, String)> {
    let named = |(name, value): (&String, &String)| {
        Some((name.parse::<Sysctl>().ok()?.path().to_owned(), value.clone()))
    };
    linux.sysctl().iter().flatten().filter_map(named).collect()
}
