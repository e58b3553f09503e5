//! Which version of the API a path asks for.

use crate::error::{Failure, Result};

/// The newest version that is served, which also answers paths without one.
pub const MAX_API: &str = "1.56";
/// The oldest version that is served.
pub const MIN_API: &str = "1.40";

const MAX: Version = Version { major: 1, minor: 56 };
const MIN: Version = Version { major: 1, minor: 40 };

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Version 1.`minor`, for comparisons.
    pub(crate) const fn v1(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    /// Splits a path into its version and what follows: `/v1.41/info` is `/info` in 1.41.
    ///
    /// # Errors
    /// 400 when the version is not served, in dockerd's words: clients show them.
    pub(crate) fn of_path(path: &str) -> Result<(Self, &str)> {
        let Some((text, rest)) = prefix(path) else { return Ok((MAX, path)) };
        let version = parse(text).ok_or_else(Failure::no_page)?;
        if version < MIN {
            return Err(Failure::bad(format!(
                "client version {text} is too old. Minimum supported API version is {MIN_API}, please upgrade your client to a newer version"
            )));
        }
        if version > MAX {
            return Err(Failure::bad(format!(
                "client version {text} is too new. Maximum supported API version is {MAX_API}"
            )));
        }
        Ok((version, rest))
    }
}

/// The version of `/v1.41/…`, and the rest of the path. Only digits and dots make a version.
fn prefix(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v")?;
    let end = rest.find('/')?;
    let text = &rest[..end];
    let is_version = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_version.then(|| (text, &rest[end..]))
}

fn parse(text: &str) -> Option<Version> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some(Version { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_version_or_means_the_newest() {
        assert_eq!(Version::of_path("/v1.41/info").unwrap(), (Version::v1(41), "/info"));
        assert_eq!(Version::of_path("/info").unwrap(), (MAX, "/info"));
        assert_eq!(Version::of_path("/volumes").unwrap(), (MAX, "/volumes"));
        assert_eq!(Version::of_path("/version").unwrap(), (MAX, "/version"));
        assert_eq!(format!("{}.{}", MAX.major, MAX.minor), MAX_API);
        assert_eq!(format!("{}.{}", MIN.major, MIN.minor), MIN_API);
    }

    #[test]
    fn what_is_too_old_or_too_new_is_refused_with_the_bound() {
        for (path, part) in [
            ("/v1.39/info", "too old. Minimum supported API version is 1.40"),
            ("/v1.57/info", "too new. Maximum supported API version is 1.56"),
            ("/v2.0/info", "too new"),
            ("/v1/info", "too old"),
            ("/v99999999999.1/info", "page not found"),
            ("/v1.2.3/info", "page not found"),
        ] {
            let failure = Version::of_path(path).unwrap_err();
            assert!(failure.message().contains(part), "{path}: {}", failure.message());
        }
    }
}
