//! The query of a request, with Go's idea of true and false.

use std::str::FromStr;

use crate::error::{Failure, Result};

/// Pairs of a query that are read. Clients send a dozen, and `names=` for each image of a save.
const MOST: usize = 4096;

/// The decoded query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`. What is not UTF-8 once decoded is replaced, and so matches nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes()).take(MOST);
        Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a key; an empty one is none, as for Go's `Form.Get`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The values of a key, in order.
    pub(crate) fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key is there at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn need(&self, key: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| Failure::bad(format!("{key} cannot be empty")))
    }

    /// dockerd's `BoolValue`: everything is true but nothing, 0, no, false and none.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.flag_or(key, false)
    }

    /// [`Self::flag`] with another meaning of a key that is not there.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if !self.has(key) {
            return default;
        }
        let value = self.get(key).unwrap_or_default().trim().to_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A number, or `None` where there is no value.
    ///
    /// # Errors
    /// 400 with the key and the value.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let wrong = |_| Failure::bad(format!("{key}: {:?} is not a number in range", shown(text)));
        text.parse().map(Some).map_err(wrong)
    }
}

/// A stranger's text as a message quotes it.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_empty_ones_are_none() {
        let query = Query::parse("a=x%2Fy+z&a=2&b=&c");
        assert_eq!(query.get("a"), Some("x/y z"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["x/y z", "2"]);
        assert_eq!((query.get("b"), query.get("c"), query.get("d")), (None, None, None));
        assert!(query.has("c") && !query.has("d"));
        assert!(query.need("b").is_err());
    }

    #[test]
    fn true_is_everything_that_go_does_not_call_false() {
        for (text, expected) in [
            ("1", true),
            ("true", true),
            ("True", true),
            ("x", true),
            ("0", false),
            ("none", false),
            ("False", false),
            ("", false),
        ] {
            let query = Query::parse(&format!("all={text}"));
            assert_eq!((query.flag("all"), query.flag_or("all", true)), (expected, expected), "{text}");
        }
        assert!(Query::parse("").flag_or("all", true));
    }

    #[test]
    fn numbers_are_checked() {
        let query = Query::parse("t=5&h=-1&x=many");
        assert_eq!(query.number::<u32>("t").unwrap(), Some(5));
        assert_eq!(query.number::<u32>("absent").unwrap(), None);
        assert!(query.number::<u32>("h").is_err());
        assert!(query.number::<i64>("x").unwrap_err().message().contains("\"many\""));
    }
}
