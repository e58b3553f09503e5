//! Mounts with ids of their own (OCI runtime-spec, config: `uidMappings` of a mount, and its options `idmap` and `ridmap`), for
//! containers that stand alone. In a pod all volumes have the pod's mappings or none.

use std::{os::fd::OwnedFd, path::Path};

use husk_model::{IdMapping, IdMaps};
use husk_sys::mount;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use crate::{Error, Failure, Step, UserNamespace, failure::At, holder};

/// Makes a user namespace for each mount that names ids of its own. By the parent: who is in a PID namespace finds nobody by his
/// number in the node's /proc.
pub(crate) fn namespaces(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, Error> {
    let own = |mappings: &Option<Vec<LinuxIdMapping>>| ranges(mappings.as_deref().unwrap_or_default());
    let namespace = |mount: &Mount| {
        let asked = IdMaps { uids: own(mount.uid_mappings()), gids: own(mount.gid_mappings()) };
        (asked != IdMaps::default()).then(|| holder::make_user_namespace(&asked)).transpose()
    };
    mounts.iter().map(namespace).collect()
}

/// Maps the ids of a copy of `source`, if its mount asks for that. `own` is the namespace that was made for it, `option` is whether
/// one of the options asked for the container's ids, and for all that is mounted below as well.
pub(crate) fn apply(
    source: &Path,
    tree: &OwnedFd,
    own: Option<&OwnedFd>,
    option: Option<bool>,
    user: Option<&UserNamespace>,
) -> Result<(), Failure> {
    let step = Step::Source;
    let namespace = match (own, option, user) {
        (None, None, _) => return Ok(()),
        (Some(own), ..) => own,
        (None, Some(_), Some(user)) => &user.fd,
        (None, Some(_), None) => {
            let detail = "asks for the ids of the container's user namespace, which has none";
            return Err(Failure::because(step, source.display(), detail));
        }
    };
    mount::map_ids(tree, option == Some(true), namespace).at(step, source.display()).map_err(|failure| {
        failure.explain("its filesystem, or one mounted below it, cannot be mapped to other ids")
    })
}

/// The spec's form of a map as ours.
pub(crate) fn ranges(mappings: &[LinuxIdMapping]) -> Vec<IdMapping> {
    let range = |map: &LinuxIdMapping| IdMapping {
        host_id: map.host_id(),
        container_id: map.container_id(),
        length: map.size(),
    };
    mappings.iter().map(range).collect()
}
