//! Who a container runs as: the request's user, else the image's. Names are looked up inside the container.

use husk_model::{ContainerConfig, GroupsPolicy, UserSpec};
use husk_monitor::proto;

use crate::{PodsError, Result};

/// The request's user beats the image's. `USER` may be `user`, `user:group`, or numbers (OCI image-spec, config.User).
pub(crate) fn user_request(config: &ContainerConfig, image_user: &str) -> Result<proto::UserRequest> {
    use proto::user_request::{Group, User};
    let security = &config.security;
    let mut request = proto::UserRequest {
        supplemental_groups: security.supplemental_groups.clone(),
        strict_groups: security.groups_policy == GroupsPolicy::Strict,
        ..Default::default()
    };
    match &security.run_as_user {
        Some(UserSpec::Root) => request.user = Some(User::Uid(0)),
        Some(UserSpec::Uid(uid)) => request.user = Some(User::Uid(*uid)),
        Some(UserSpec::Name(name)) => request.user = Some(User::UserName(name.clone())),
        None => {
            let (user, group) = match image_user.split_once(':') {
                Some((user, group)) => (user, Some(group)),
                None => (image_user, None),
            };
            if !user.is_empty() {
                // Digits are always a number: one that does not fit must not become a name (CVE-2026-46680).
                request.user = Some(match numeric(user)? {
                    Some(uid) => User::Uid(uid),
                    None => User::UserName(user.to_owned()),
                });
            }
            if let Some(group) = group.filter(|group| !group.is_empty()) {
                request.group = Some(match numeric(group)? {
                    Some(gid) => Group::Gid(gid),
                    None => Group::GroupName(group.to_owned()),
                });
            }
        }
    }
    if let Some(gid) = security.run_as_group {
        request.group = Some(Group::Gid(gid));
    }
    Ok(request)
}

fn numeric(text: &str) -> Result<Option<u32>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) if number < u32::MAX => Ok(Some(number)),
        _ => Err(PodsError::ImageUser { user: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_are_no_uid_are_an_error_and_never_a_name() {
        assert_eq!(numeric("1000").unwrap(), Some(1000));
        assert_eq!(numeric("www-data").unwrap(), None);
        for text in ["4294967295", "4294967296", "99999999999999999999"] {
            assert!(numeric(text).is_err(), "{text}");
        }
    }
}
