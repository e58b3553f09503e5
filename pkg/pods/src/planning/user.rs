//! Who a container runs as: the request's user, else the image's. Names are looked up inside the container.

use husk_model::{ContainerConfig, GroupSpec, UserRequest, UserSpec};

use crate::error::{PodsError, Result};

/// The request's user beats the image's.
pub(crate) fn user_request(config: &ContainerConfig, image_user: &str) -> Result<UserRequest> {
    let security = &config.security;
    let (user, group) = match &security.run_as_user {
        Some(user) => (user.clone(), GroupSpec::OfUser),
        None => of_image(if config.user.is_empty() { image_user } else { &config.user })?,
    };
    Ok(UserRequest {
        user,
        group: security.run_as_group.map_or(group, GroupSpec::Gid),
        supplemental_groups: security.supplemental_groups.clone(),
        supplemental_group_names: security.supplemental_group_names.clone(),
        groups_policy: security.groups_policy,
    })
}

/// As `USER` has it.
fn of_image(text: &str) -> Result<(UserSpec, GroupSpec)> {
    let refused = || PodsError::ImageUser { user: text.to_owned() };
    UserRequest::parse(text).map(|request| (request.user, request.group)).ok_or_else(refused)
}
