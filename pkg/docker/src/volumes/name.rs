//! Names of volumes, which become names of directories.

use crate::error::{Failure, Result};

/// Longest name: a directory's.
const MAX: usize = 255;

/// Checks a name: a letter or digit, then letters, digits, `_`, `.` and `-`, two characters at least (dockerd's
/// RestrictedNamePattern).
///
/// # Errors
/// 400 in dockerd's words.
pub(super) fn check(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let shown: String = name.chars().take(80).collect();
    if name.len() == 1 {
        return Err(Failure::bad(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    if name.len() > MAX {
        return Err(Failure::bad(format!("volume name {shown:?}… is longer than {MAX} bytes")));
    }
    if !first || !bytes.all(rest) {
        return Err(Failure::bad(format!(
            "create {shown}: {shown:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    Ok(())
}

/// A name for a volume that has none: 64 hex characters, as a container's id.
pub(crate) fn made_up() -> String {
    husk_model::ContainerId::generate().as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_plain_directories_are_taken() {
        for name in ["data", "a1", "My_app.db-1", &made_up()] {
            check(name).unwrap();
        }
        let long = "a".repeat(256);
        for name in ["", "a", "..", ".hidden", "-x", "a/b", "../etc", "a\0b", "a b", "ä1", "/abs", &long] {
            assert_eq!(check(name).unwrap_err().status(), 400, "{name:?}");
        }
    }
}
