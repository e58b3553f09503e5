//! Paths of cgroups, proved harmless before any use.

use std::{fmt, str::FromStr};

/// Longest path accepted. The kernel's own limit for a path argument is 4096; the rest is room for a file name.
const MAX_PATH: usize = 3800;
/// `NAME_MAX` of kernfs.
const MAX_NAME: usize = 255;

/// The absolute path of a cgroup relative to the root of every hierarchy: `/kubepods/burstable/pod1/husk-2`.
///
/// Holds no empty, `.` or `..` component and no control character, so joining it to a mount's descriptor can't leave
/// the hierarchy. The root `/` itself is a valid path (of a parent).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(String);

/// Why a string is not a [`CgroupPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroup path {path:?} {reason}")]
pub struct InvalidPath {
    path: String,
    reason: &'static str,
}

impl CgroupPath {
    /// The root of the hierarchy.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Checks a path that came from outside. Repeated and trailing slashes are dropped.
    ///
    /// # Errors
    /// The path is relative, too long, or has a `.`, `..` or over-long component or a control character.
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        let invalid = |reason| InvalidPath { path: path.chars().take(200).collect(), reason };
        if !path.starts_with('/') {
            return Err(invalid(if path.ends_with(".slice") {
                "is a systemd slice; the cgroupfs driver takes absolute paths"
            } else {
                "is not absolute"
            }));
        }
        if path.len() > MAX_PATH {
            return Err(invalid("is too long"));
        }
        let mut clean = String::with_capacity(path.len());
        for name in path.split('/').filter(|name| !name.is_empty()) {
            check_name(name).map_err(invalid)?;
            clean.push('/');
            clean.push_str(name);
        }
        if clean.is_empty() {
            clean.push('/');
        }
        Ok(Self(clean))
    }

    /// The group `name` directly below this one.
    ///
    /// # Errors
    /// `name` is not one valid component, or the whole becomes too long.
    pub fn join(&self, name: &str) -> Result<Self, InvalidPath> {
        let invalid = |reason| InvalidPath { path: name.chars().take(200).collect(), reason };
        if name.is_empty() {
            return Err(invalid("is empty"));
        }
        check_name(name).map_err(invalid)?;
        let mut path = String::with_capacity(self.0.len() + 1 + name.len());
        path.push_str(&self.0);
        if !self.is_root() {
            path.push('/');
        }
        path.push_str(name);
        if path.len() > MAX_PATH {
            return Err(invalid("makes the path too long"));
        }
        Ok(Self(path))
    }

    /// The group above; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        match self.0.rfind('/') {
            Some(0) | None => Some(Self::root()),
            Some(at) => Some(Self(self.0[..at].to_owned())),
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The path with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path relative to the hierarchy's root; `.` for the root.
    pub(crate) fn relative(&self) -> &str {
        if self.is_root() { "." } else { &self.0[1..] }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.contains('/') {
        return Err("has a slash in a component");
    }
    if name == "." || name == ".." {
        return Err("has a `.` or `..` component");
    }
    if name.len() > MAX_NAME {
        return Err("has a component of more than 255 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character");
    }
    Ok(())
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for CgroupPath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        Self::parse(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_the_hierarchy_is_refused() {
        for bad in [
            "",
            "kubepods",
            "a/../b",
            "/a/../b",
            "/..",
            "/a/.",
            "/a\0b",
            "/a\nb",
            "kubepods-besteffort.slice",
            "./a",
        ] {
            assert!(CgroupPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(CgroupPath::parse(&format!("/{}", "x".repeat(256))).is_err());
        assert!(CgroupPath::parse(&"/x".repeat(2000)).is_err());
    }

    #[test]
    fn slashes_are_normalised() {
        for (given, want) in [("/", "/"), ("///", "/"), ("/a//b/", "/a/b"), ("/a..b/...", "/a..b/...")] {
            assert_eq!(CgroupPath::parse(given).unwrap().as_str(), want);
        }
    }

    #[test]
    fn a_joined_name_is_one_component() {
        let pod = CgroupPath::root().join("kubepods").unwrap().join("pod1").unwrap();
        assert_eq!(pod.as_str(), "/kubepods/pod1");
        assert_eq!(pod.name(), "pod1");
        assert_eq!(pod.parent().unwrap().as_str(), "/kubepods");
        assert_eq!(pod.parent().unwrap().parent().unwrap(), CgroupPath::root());
        for bad in ["", "..", "a/b", "a\n"] {
            assert!(pod.join(bad).is_err(), "{bad:?}");
        }
    }
}
