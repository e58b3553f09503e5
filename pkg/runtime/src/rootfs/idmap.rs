//! Mounts with ids of their own (OCI runtime-spec, config: `uidMappings` of a mount, and its options `idmap` and `ridmap`), for
//! containers that stand alone. In a pod all volumes have the pod's mappings or none.

use std::{os::fd::OwnedFd, path::Path};

use husk_model::{IdMapping, IdMaps};
use husk_sys::mount;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use crate::{Failure, Step, UserNamespace, failure::At, userns};

/// Maps the ids of a copy of `source`, if its mount asks for that. `option` is whether one of the options did, and for all that is
/// mounted below as well.
pub(crate) fn apply(
    mount: &Mount,
    source: &Path,
    tree: &OwnedFd,
    option: Option<bool>,
    user: Option<&UserNamespace>,
) -> Result<(), Failure> {
    let step = Step::Source;
    let own = |mappings: &Option<Vec<LinuxIdMapping>>| ranges(mappings.as_deref().unwrap_or_default());
    let asked = IdMaps { uids: own(mount.uid_mappings()), gids: own(mount.gid_mappings()) };
    let made;
    let namespace = match (asked == IdMaps::default(), option, user) {
        (true, None, _) => return Ok(()),
        (true, Some(_), Some(user)) => &user.fd,
        (true, Some(_), None) => {
            let detail = "asks for the ids of the container's user namespace, which has none";
            return Err(Failure::because(step, source.display(), detail));
        }
        (false, ..) => {
            made = userns::make_user_namespace(&asked)
                .map_err(|error| Failure::because(step, source.display(), husk_model::chain(&error)))?;
            &made
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
