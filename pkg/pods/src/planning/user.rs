//! Who a container runs as: the request's user, else the image's. Names are looked up inside the container.

use husk_model::{ContainerConfig, GroupSpec, UserRequest, UserSpec};

use crate::error::{PodsError, Result};

/// The request's user beats the image's. `USER` may be `user`, `user:group`, or numbers (OCI image-spec, config.User).
pub(crate) fn user_request(config: &ContainerConfig, image_user: &str) -> Result<UserRequest> {
    let security = &config.security;
    let (user, group) = match &security.run_as_user {
        Some(user) => (user.clone(), GroupSpec::OfUser),
        None => of_image(image_user)?,
    };
    Ok(UserRequest {
        user,
        group: security.run_as_group.map_or(group, GroupSpec::Gid),
        supplemental_groups: security.supplemental_groups.clone(),
        groups_policy: security.groups_policy,
    })
}

/// Digits are always a number: one that does not fit must not become a name (CVE-2026-46680).
fn of_image(text: &str) -> Result<(UserSpec, GroupSpec)> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let user = match (user, numeric(user)?) {
        ("", _) => UserSpec::Root,
        (_, Some(uid)) => UserSpec::Uid(uid),
        (name, None) => UserSpec::Name(name.to_owned()),
    };
    let group = match (group, numeric(group)?) {
        ("", _) => GroupSpec::OfUser,
        (_, Some(gid)) => GroupSpec::Gid(gid),
        (name, None) => GroupSpec::Name(name.to_owned()),
    };
    Ok((user, group))
}

fn numeric(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
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
    fn an_image_names_a_user_and_a_group_or_either() {
        let name = |name: &str| UserSpec::Name(name.to_owned());
        let cases = [
            ("", (UserSpec::Root, GroupSpec::OfUser)),
            ("web", (name("web"), GroupSpec::OfUser)),
            ("web:", (name("web"), GroupSpec::OfUser)),
            ("1000:1001", (UserSpec::Uid(1000), GroupSpec::Gid(1001))),
            ("web:staff", (name("web"), GroupSpec::Name("staff".to_owned()))),
            (":5", (UserSpec::Root, GroupSpec::Gid(5))),
        ];
        for (text, expected) in cases {
            assert_eq!(of_image(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn digits_that_are_no_uid_are_an_error_and_never_a_name() {
        assert_eq!(numeric("1000").unwrap(), Some(1000));
        assert_eq!(numeric("www-data").unwrap(), None);
        for text in ["4294967295", "4294967296", "99999999999999999999"] {
            assert!(numeric(text).is_err(), "{text}");
        }
    }
}
