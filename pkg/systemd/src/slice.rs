//! Names of slices and the cgroups they stand for.

use std::fmt;

use husk_cgroup::CgroupPath;

const SUFFIX: &str = ".slice";
/// Longest unit name that systemd takes (UNIT_NAME_MAX), the terminating NUL included.
const MAX_NAME: usize = 256;

/// A slice unit: `kubepods-burstable-pod1.slice`.
///
/// Dashes nest (systemd.slice(5)): its cgroup is
/// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice`. `-.slice` is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    name: String,
    path: CgroupPath,
}

/// Why a cgroup parent is not a slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parent:?} {reason}")]
pub struct InvalidSlice {
    parent: String,
    reason: String,
}

impl Slice {
    /// Takes the name of a slice, or the path of its cgroup as the kubelet gives it, with or without the leading slash.
    ///
    /// # Errors
    /// When the last component is not the name of a slice, or the components before it are not those of its parents.
    pub fn parse(parent: &str) -> Result<Self, InvalidSlice> {
        let invalid = |reason: String| InvalidSlice { parent: parent.chars().take(200).collect(), reason };
        let path = parent.trim_matches('/');
        let name = path.rsplit('/').next().unwrap_or_default();
        let stem = name.strip_suffix(SUFFIX).ok_or_else(|| invalid("is not a systemd slice".to_owned()))?;
        check_stem(stem).map_err(|reason| invalid(format!("is not a systemd slice: {reason}")))?;
        let expanded = expand(stem);
        if path.contains('/') && format!("/{path}") != expanded {
            return Err(invalid(format!("is not where systemd puts {name}, which is {expanded}")));
        }
        let path = CgroupPath::parse(&expanded).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { name: name.to_owned(), path })
    }

    /// The unit's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its cgroup.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The rule of systemd's slice_name_is_valid() and of unit names in general.
fn check_stem(stem: &str) -> Result<(), &'static str> {
    if stem == "-" {
        return Ok(());
    }
    if stem.is_empty() || stem.split('-').any(str::is_empty) {
        return Err("a dash stands between two names");
    }
    if stem.len() + SUFFIX.len() >= MAX_NAME {
        return Err("its name is too long");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\-".contains(&byte);
    if !stem.bytes().all(allowed) {
        return Err("a unit's name holds letters, digits and :_.\\- only");
    }
    Ok(())
}

/// The path of the cgroup: a component for every dash, and the slice itself.
fn expand(stem: &str) -> String {
    if stem == "-" {
        return "/".to_owned();
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.map(|end| format!("/{}{SUFFIX}", &stem[..end])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_nest() {
        for (parent, name, path) in [
            ("test.slice", "test.slice", "/test.slice"),
            ("/test.slice", "test.slice", "/test.slice"),
            ("-.slice", "-.slice", "/"),
            (
                "kubepods-burstable-pod1_2.slice",
                "kubepods-burstable-pod1_2.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
            ),
            (
                "/kubepods.slice/kubepods-pod1.slice",
                "kubepods-pod1.slice",
                "/kubepods.slice/kubepods-pod1.slice",
            ),
            (
                "kubepods.slice/kubepods-pod1.slice/",
                "kubepods-pod1.slice",
                "/kubepods.slice/kubepods-pod1.slice",
            ),
        ] {
            let slice = Slice::parse(parent).unwrap();
            assert_eq!((slice.name(), slice.path().as_str()), (name, path), "{parent}");
        }
    }

    #[test]
    fn what_is_not_a_slice_is_refused_with_the_reason() {
        for (parent, reason) in [
            ("", "is not a systemd slice"),
            ("/", "is not a systemd slice"),
            ("/kubepods/burstable/pod1", "is not a systemd slice"),
            ("husk.service", "is not a systemd slice"),
            (".slice", "a dash stands between two names"),
            ("a--b.slice", "a dash stands between two names"),
            ("-a.slice", "a dash stands between two names"),
            ("a-.slice", "a dash stands between two names"),
            ("a b.slice", "letters, digits"),
            ("a@1.slice", "letters, digits"),
            ("a\n.slice", "letters, digits"),
            ("/kubepods/pod1.slice", "is not where systemd puts pod1.slice, which is /pod1.slice"),
            ("/../test.slice", "is not where systemd puts test.slice"),
        ] {
            let error = Slice::parse(parent).unwrap_err().to_string();
            assert!(error.contains(reason), "{parent:?}: {error}");
        }
        assert!(Slice::parse(&format!("{}.slice", "x".repeat(250))).is_err());
    }
}
