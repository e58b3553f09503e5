//! Security contexts, `user:role:type[:level]`, and their levels.

use std::fmt;

/// Sensitivities and categories that policies are built with: s0 to s15, c0 to c1023.
const SENSITIVITIES: u16 = 16;
pub(crate) const CATEGORIES: u16 = 1024;

/// A security context. Whether the policy knows it, only the kernel can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// SELinux user.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type; of a process: its domain.
    pub kind: String,
    /// Level or range of levels; `None` under a policy without MLS and MCS.
    pub level: Option<String>,
}

impl Context {
    /// Takes a context apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(4, ':');
        let mut name = |what: &str| {
            let part = parts.next().unwrap_or_default();
            check_name(part).map(|()| part.to_owned()).map_err(|why| format!("{what} {why}"))
        };
        let (user, role, kind) = (name("user")?, name("role")?, name("type")?);
        let level = parts.next().map(str::to_owned);
        level.as_deref().map_or(Ok(()), check_level)?;
        Ok(Self { user, role, kind, level })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.as_ref().map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

/// An identifier of the policy language.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.bytes().all(fits) && name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Ok(());
    }
    Err(format!("{name:?} is not a name of an SELinux policy"))
}

/// `s0`, `s0:c4,c5`, `s0-s0:c0.c1023`.
pub(crate) fn check_level(level: &str) -> Result<(), String> {
    let one = |level: &str| {
        let (sensitivity, categories) = match level.split_once(':') {
            Some((sensitivity, categories)) => (sensitivity, Some(categories)),
            None => (level, None),
        };
        number(sensitivity, 's').filter(|number| *number < SENSITIVITIES)?;
        categories.is_none_or(are_categories).then_some(())
    };
    let known = match level.split_once('-') {
        Some((low, high)) => one(low).and(one(high)),
        None => one(level),
    };
    known.ok_or_else(|| format!("{level:?} is not a level like \"s0\", \"s0:c4,c5\" or \"s0-s0:c0.c1023\""))
}

fn are_categories(list: &str) -> bool {
    let category = |text| number(text, 'c').filter(|number| *number < CATEGORIES);
    list.split(',').all(|item| match item.split_once('.') {
        Some((first, last)) => category(first).zip(category(last)).is_some_and(|(first, last)| first < last),
        None => category(item).is_some(),
    })
}

fn number(text: &str, letter: char) -> Option<u16> {
    let digits = text.strip_prefix(letter)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_sensitivities_with_categories_or_ranges_of_them() {
        for good in
            ["s0", "s15", "s0:c4,c5", "s0:c0.c1023", "s0-s0:c0.c1023", "s0:c1,c3.c5,c9-s2:c0.c10", "s0:c7"]
        {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "s",
            "s0,c4,c5",
            "s0:",
            "s0:c4,",
            "s0:c1024",
            "s16",
            "s0:4,5",
            "s0:c5.c4",
            "s0:c4.c4",
            "s0-",
            "c0",
            "s0:c1-s0-s0",
            "s0 ",
            "s0:c1\n",
            "s0:c+1",
            "s0:c-1",
            "s0:c1:c2",
            "s99999999999",
            "S0",
        ] {
            assert!(check_level(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn contexts_come_apart_and_together_again() {
        for text in [
            "system_u:system_r:container_t:s0",
            "system_u:object_r:container_file_t:s0:c4,c5",
            "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
            "root:object_r:tmp_t",
        ] {
            assert_eq!(Context::parse(text).unwrap().to_string(), text);
        }
        let context = Context::parse("system_u:object_r:container_file_t:s0:c4,c5").unwrap();
        assert_eq!((context.kind.as_str(), context.level.as_deref()), ("container_file_t", Some("s0:c4,c5")));
        for bad in ["", "kernel", "a:b", "a:b:", "a:b c:d:s0", "a:b:c:s0,c1", "a:b:c\0:s0", ":b:c:s0"] {
            assert!(Context::parse(bad).is_err(), "{bad:?}");
        }
    }
}
