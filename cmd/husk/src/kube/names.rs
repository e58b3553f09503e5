//! Names as Kubernetes has them (RFC 1123, and what a key of a ConfigMap may be). They become names of files and host names.

/// A label: lower-case letters, digits and dashes.
///
/// # Errors
/// In words, with the field.
pub(super) fn label(field: &str, name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    match (1..=63).contains(&name.len()) && ends && name.bytes().all(good) {
        true => Ok(()),
        false => Err(format!(
            "{field}: {name:?} is not a name: at most 63 lower-case letters, digits and dashes, with no dash at its ends"
        )),
    }
}

/// Labels with dots in between.
///
/// # Errors
/// In words, with the field.
pub(super) fn subdomain(field: &str, name: &str) -> Result<(), String> {
    match name.len() <= 253 {
        true => name.split('.').try_for_each(|part| label(field, part)),
        false => Err(format!("{field}: is longer than 253 letters")),
    }
}

/// A key of a ConfigMap or Secret, which becomes the name of a file.
///
/// # Errors
/// In words, with the field.
pub(super) fn data_key(field: &str, key: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=253).contains(&key.len()) && key.bytes().all(good) && key != "." && !key.starts_with("..") {
        true => Ok(()),
        false => Err(format!("{field}: {key:?} is not a key: letters, digits, - _ and .")),
    }
}

/// A path below a volume: relative, without `..`.
///
/// # Errors
/// In words, with the field.
pub(super) fn below(field: &str, path: &str) -> Result<(), String> {
    let good = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    match path.len() <= 1024 && path.split('/').all(good) {
        true => Ok(()),
        false => Err(format!("{field}: {path:?} is not a relative path without \"..\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["a", "web-0", "1x"] {
            label("f", name).unwrap();
        }
        subdomain("f", "a.b-c.d").unwrap();
        let long = "a".repeat(64);
        for name in ["", "-a", "a-", "A", "a/b", "..", "a\u{1b}[2J", "a_b", long.as_str()] {
            assert!(label("f", name).unwrap_err().starts_with("f: "), "{name}");
            assert!(subdomain("f", name).is_err(), "{name}");
        }
        data_key("f", "app.conf").unwrap();
        for key in ["", ".", "..", "..data", "a/b", "a\n"] {
            assert!(data_key("f", key).is_err(), "{key}");
        }
        below("f", "a/b.c").unwrap();
        for path in ["", "/a", "a/../b", "..", "a//b", "./a"] {
            assert!(below("f", path).is_err(), "{path}");
        }
    }
}
