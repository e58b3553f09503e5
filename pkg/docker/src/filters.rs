//! `filters={"label":{"a=b":true}}`: what a list, a prune or a stream of events is narrowed down to.
//!
//! There are two encodings: a map of maps, which Go's clients send, and a map of lists, which others send (API 1.21 and
//! before). Values of one key are alternatives, but for labels, which must all be there; keys must all be met.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::{
    error::{Failure, Result},
    http::Query,
};

/// Largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(BTreeMap<String, Values>);

#[derive(Debug, Clone, Default)]
struct Values {
    texts: BTreeSet<String>,
    /// Those that are patterns, compiled once.
    patterns: Vec<Regex>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Encoded {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// The `filters` of a query; only keys of `known` may be there.
    ///
    /// # Errors
    /// 400 when they are no JSON of this form, or have another key.
    pub(crate) fn of(query: &Query, known: &[&str]) -> Result<Self> {
        let Some(text) = query.get("filters") else { return Ok(Self::default()) };
        Self::parse(text, known)
    }

    fn parse(text: &str, known: &[&str]) -> Result<Self> {
        let wrong = |error| Failure::bad(format!("invalid filters: {error}"));
        let decoded: Option<BTreeMap<String, Encoded>> = serde_json::from_str(text).map_err(wrong)?;
        let mut filters = BTreeMap::new();
        for (key, encoded) in decoded.unwrap_or_default() {
            if !known.contains(&key.as_str()) {
                let key: String = key.chars().take(80).collect();
                return Err(Failure::bad(format!("invalid filter '{key}'")));
            }
            let texts: BTreeSet<String> = match encoded {
                Encoded::Map(map) => map.into_iter().filter(|(_, on)| *on).map(|(text, _)| text).collect(),
                Encoded::List(list) => list.into_iter().collect(),
            };
            let compile = |text: &String| RegexBuilder::new(text).size_limit(MAX_PATTERN).build().ok();
            let patterns = match key.as_str() {
                "name" => texts.iter().filter_map(compile).collect(),
                _ => Vec::new(),
            };
            filters.insert(key, Values { texts, patterns });
        }
        Ok(Self(filters))
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.texts.is_empty())
    }

    /// The values of a key.
    pub(crate) fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(key).into_iter().flat_map(|values| values.texts.iter().map(String::as_str))
    }

    /// The one value of a key.
    ///
    /// # Errors
    /// 400 when there are several.
    pub(crate) fn single(&self, key: &str) -> Result<Option<&str>> {
        let mut values = self.values(key);
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(Failure::bad(format!("filter '{key}' takes one value"))),
            (first, _) => Ok(first),
        }
    }

    /// Whether a key is absent or one of its values is this.
    pub(crate) fn is(&self, key: &str, value: &str) -> bool {
        !self.has(key) || self.values(key).any(|wanted| wanted == value)
    }

    /// Whether a key is absent or one of its values is this, its beginning (ids) or, for `name`, a pattern of it.
    pub(crate) fn suits(&self, key: &str, value: &str) -> bool {
        let Some(values) = self.0.get(key).filter(|values| !values.texts.is_empty()) else { return true };
        let is = |wanted: &String| match key {
            "id" => value.starts_with(wanted.as_str()),
            _ => wanted == value,
        };
        values.texts.iter().any(is) || values.patterns.iter().any(|pattern| pattern.is_match(value))
    }

    /// The truth of a key that is true or false; `None` when it is absent.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>> {
        match self.single(key)? {
            None => Ok(None),
            Some("1" | "true" | "True" | "TRUE") => Ok(Some(true)),
            Some("0" | "false" | "False" | "FALSE") => Ok(Some(false)),
            Some(other) => {
                let other: String = other.chars().take(80).collect();
                Err(Failure::bad(format!("invalid filter '{key}={other}': true or false is expected")))
            }
        }
    }

    /// Whether labels are as `label` and `label!` ask: `key` or `key=value`, all of the first and none of the second.
    pub(crate) fn labels_suit(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").all(has) && !self.values("label!").any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["label", "label!", "id", "name", "dangling", "status"];

    fn filters(text: &str) -> Filters {
        Filters::parse(text, KNOWN).unwrap()
    }

    #[test]
    fn both_encodings_mean_the_same() {
        for text in [r#"{"status":{"running":true,"exited":false}}"#, r#"{"status":["running"]}"#] {
            let filters = filters(text);
            assert!(filters.is("status", "running") && !filters.is("status", "exited"), "{text}");
            assert!(filters.is("label", "anything"));
        }
        for text in ["{}", "null"] {
            assert!(!filters(text).has("status") && filters(text).is("status", "running"), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["[]", "{\"status\":1}", "{\"colour\":[\"red\"]}", "{"] {
            assert_eq!(Filters::parse(text, KNOWN).unwrap_err().status(), 400, "{text}");
        }
    }

    #[test]
    fn labels_must_all_be_there_and_the_refused_ones_must_not() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        for (text, expected) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=b","c"]}"#, true),
            (r#"{"label":["a=x"]}"#, false),
            (r#"{"label":["a","d"]}"#, false),
            (r#"{"label!":["d"]}"#, true),
            (r#"{"label":["a"],"label!":["c"]}"#, false),
        ] {
            assert_eq!(filters(text).labels_suit(&labels), expected, "{text}");
        }
    }

    #[test]
    fn ids_are_met_by_their_beginning_and_names_by_a_pattern() {
        let filters = filters(r#"{"id":["ab"],"name":["^we.$","(","plain"]}"#);
        assert!(filters.suits("id", "abc") && !filters.suits("id", "cab"));
        assert!(filters.suits("name", "web") && !filters.suits("name", "webs"));
        assert!(filters.suits("name", "(") && filters.suits("name", "explained-plain"));
    }

    #[test]
    fn truths_are_checked() {
        assert_eq!(filters(r#"{"dangling":["true"]}"#).truth("dangling").unwrap(), Some(true));
        assert_eq!(filters(r#"{"dangling":{"0":true}}"#).truth("dangling").unwrap(), Some(false));
        assert_eq!(filters("{}").truth("dangling").unwrap(), None);
        assert!(filters(r#"{"dangling":["maybe"]}"#).truth("dangling").is_err());
        assert!(filters(r#"{"dangling":["true","false"]}"#).truth("dangling").is_err());
    }
}
