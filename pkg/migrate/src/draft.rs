//! husk.toml on its way: the keys that differ from husk's defaults, and where each comes from.

use std::{collections::BTreeMap, path::Path};

use husk_config::{Config, ConfigError, DEFAULT_TOML};
use toml::{Table, Value};

/// Keys of husk.toml by `section.key`, with what they are and where that comes from.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    keys: BTreeMap<&'static str, (Value, String)>,
}

impl Draft {
    /// Sets a key; false if husk's default is just that, and nothing was set.
    pub(crate) fn set(&mut self, key: &'static str, value: Value, origin: String) -> bool {
        let is_default = default(key).is_some_and(|default| default == value);
        if is_default {
            self.keys.remove(key);
        } else {
            self.keys.insert(key, (value, origin));
        }
        !is_default
    }

    /// Takes a key out again.
    pub(crate) fn unset(&mut self, key: &str) -> bool {
        self.keys.remove(key).is_some()
    }

    /// The text of husk.toml, its keys in the order of the documented default.
    pub(crate) fn text(&self, head: &str) -> String {
        let mut text: String = head.lines().map(|line| format!("# {line}\n")).collect();
        let mut section = String::new();
        for key in in_order() {
            let Some((value, origin)) = self.keys.get(key.as_str()) else { continue };
            let (own, name) = key.split_once('.').unwrap_or(("", &key));
            if own != section {
                text.push_str(&format!("\n[{own}]\n"));
                own.clone_into(&mut section);
            } else if own.is_empty() {
                text.push('\n');
            }
            // A name in a file may have line breaks in it, which TOML quotes; a file's own name may too.
            let origin = origin.replace(char::is_control, " ");
            text.push_str(&format!("# {origin}\n{name} = {value}\n"));
        }
        text
    }

    /// What huskd would make of it.
    pub(crate) fn check(&self, place: &Path) -> Result<Config, ConfigError> {
        husk_config::parse(place, &self.text(""))
    }
}

fn default(key: &str) -> Option<Value> {
    let table: Table = DEFAULT_TOML.parse().ok()?;
    match key.split_once('.') {
        Some((section, name)) => table.get(section)?.get(name).cloned(),
        None => table.get(key).cloned(),
    }
}

/// All keys as the documented default has them.
fn in_order() -> Vec<String> {
    let table: Table = DEFAULT_TOML.parse().unwrap_or_default();
    let mut keys = Vec::new();
    for (name, value) in &table {
        match value {
            Value::Table(section) => keys.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => keys.push(name.clone()),
        }
    }
    // Top-level keys behind a section would be that section's.
    keys.sort_by_key(|key| key.contains('.'));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_in_the_order_of_the_documentation() {
        let mut draft = Draft::default();
        assert!(draft.set("log.level", "debug".into(), "x of /f".into()));
        assert!(draft.set("root", "/data/husk".into(), "root of\n/f".into()));
        assert!(!draft.set("log.format", "text".into(), "y".into()));
        let text = draft.text("Made by a test.");
        assert_eq!(
            text,
            "# Made by a test.\n\n# root of /f\nroot = \"/data/husk\"\n\n[log]\n# x of /f\nlevel = \
             \"debug\"\n"
        );
        assert_eq!(draft.check(Path::new("x")).unwrap().log.level, "debug");
    }
}
