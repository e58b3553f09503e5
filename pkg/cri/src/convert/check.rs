//! Small checks, each naming the field and the reason.

use std::{collections::HashMap, fmt};

/// A field of a request that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// Path of the field in the request.
    pub(crate) field: String,
    /// Why.
    pub(crate) reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

pub(crate) type Checked<T> = Result<T, Invalid>;

pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Invalid {
    Invalid { field: field.into(), reason: reason.into() }
}

/// A message that must be there.
pub(crate) fn present<T>(field: &str, value: Option<T>) -> Checked<T> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

/// Text on one line, which may become part of a file, an environment or a log line.
pub(crate) fn line(field: &str, value: String) -> Checked<String> {
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "contains a control character"));
    }
    Ok(value)
}

/// Text on one line that is not empty.
pub(crate) fn filled(field: &str, value: String) -> Checked<String> {
    if value.is_empty() {
        return Err(invalid(field, "is empty"));
    }
    line(field, value)
}

/// Text without NUL, which no system call could carry.
pub(crate) fn text(field: &str, value: String) -> Checked<String> {
    if value.contains('\0') {
        return Err(invalid(field, "contains a NUL byte"));
    }
    Ok(value)
}

/// An absolute path: whatever a system call takes.
pub(crate) fn absolute(field: &str, value: String) -> Checked<String> {
    if !value.starts_with('/') {
        return Err(invalid(field, format!("{value:?} is not an absolute path")));
    }
    text(field, value)
}

/// An absolute path without `..`, which could not be compared with others.
pub(crate) fn plain_absolute(field: &str, value: String) -> Checked<String> {
    if value.split('/').any(|part| part == "..") {
        return Err(invalid(field, format!("{value:?} contains \"..\"")));
    }
    absolute_line(field, value)
}

/// An absolute path on one line: one that becomes part of records and messages.
pub(crate) fn absolute_line(field: &str, value: String) -> Checked<String> {
    line(field, absolute(field, value)?)
}

/// A relative path on one line that stays below where it starts; it may be empty.
pub(crate) fn below(field: &str, value: String) -> Checked<String> {
    line(field, inside(field, value)?)
}

/// A relative path that stays below where it starts; it may be empty.
pub(crate) fn inside(field: &str, value: String) -> Checked<String> {
    if value.starts_with('/') || value.split('/').any(|part| part == "..") {
        return Err(invalid(field, format!("{value:?} is not a relative path without \"..\"")));
    }
    text(field, value)
}

/// A user or group id: -1 means "unchanged" to system calls, so the last one is 2^32-2.
pub(crate) fn id(field: &str, value: i64) -> Checked<u32> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(invalid(field, format!("{value} is not between 0 and 4294967294"))),
    }
}

/// Labels and annotations: anything but an empty key.
pub(crate) fn tags(
    field: &str,
    tags: HashMap<String, String>,
) -> Checked<std::collections::BTreeMap<String, String>> {
    if tags.contains_key("") {
        return Err(invalid(field, "has an empty key"));
    }
    Ok(tags.into_iter().collect())
}

/// An enum value that this version knows.
pub(crate) fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Checked<E> {
    E::try_from(value).map_err(|_| invalid(field, format!("{value} is not a known value")))
}
