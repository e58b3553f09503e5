//! A file as a list of keys with one value each.

use std::path::Path;

use serde_json::Value as Json;
use toml::{Table, Value};

use crate::error::{MigrateError, Result};

/// Levels of tables; containerd's configuration has eight.
const DEPTH_MAX: usize = 32;

/// Keys of one file; a complete containerd configuration has three hundred.
const LEAVES_MAX: usize = 20_000;

/// A key that a file sets. A table without keys is one too, since it may name something.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// As the node sees it.
    pub(crate) file: String,
    /// The full dotted name.
    pub(crate) key: String,
    /// The name in its parts as rules know it: without what differs between versions of a format.
    pub(crate) path: Vec<String>,
    /// The name in its parts as the file has it.
    pub(crate) raw: Vec<String>,
    pub(crate) value: Value,
}

/// The keys of a TOML file, their paths below `top`.
pub(crate) fn toml(file: &Path, top: &[&str], text: &str) -> Result<Vec<Leaf>> {
    check_depth(file, text)?;
    let table = text.parse::<Table>().map_err(|error| MigrateError::Syntax {
        path: file.to_owned(),
        reason: error.to_string().trim().into(),
    })?;
    flatten(file, top, Value::Table(table))
}

/// The keys of a JSON file, their paths below `top`.
pub(crate) fn json(file: &Path, top: &[&str], text: &str) -> Result<Vec<Leaf>> {
    let value: Json = serde_json::from_str(text)
        .map_err(|error| MigrateError::Syntax { path: file.to_owned(), reason: error.to_string() })?;
    flatten(file, top, from_json(value))
}

/// A value of JSON as one of TOML, for all that is not null; null is the text.
fn from_json(value: Json) -> Value {
    match value {
        Json::Null => Value::String("null".to_owned()),
        Json::Bool(flag) => Value::Boolean(flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text),
        Json::Array(list) => Value::Array(list.into_iter().map(from_json).collect()),
        Json::Object(object) => {
            Value::Table(object.into_iter().map(|(key, value)| (key, from_json(value))).collect())
        }
    }
}

/// One key that is neither TOML's nor JSON's.
pub(crate) fn plain(file: &Path, key: String, path: Vec<String>, value: Value) -> Leaf {
    Leaf { file: file.display().to_string(), key, raw: path.clone(), path, value }
}

/// Dots in one name before the parser is asked.
const DOTS_MAX: usize = 512;

/// The parser bounds brackets within brackets, and not the parts of a name (`a.a.a.a`); what nests without end could not
/// even be dropped. So they are counted first, from one sign that no name has to the next.
fn check_depth(file: &Path, text: &str) -> Result<()> {
    let names = text.split(['\n', '=', ',', '{', '[', '#']);
    match names.into_iter().any(|name| name.matches('.').count() > DOTS_MAX) {
        true => Err(too_deep(file)),
        false => Ok(()),
    }
}

fn too_deep(file: &Path) -> MigrateError {
    MigrateError::TooDeep { path: file.to_owned(), limit: DEPTH_MAX }
}

fn flatten(file: &Path, top: &[&str], value: Value) -> Result<Vec<Leaf>> {
    let mut walk = Walk { file, top, name: Vec::new(), key: String::new(), leaves: Vec::new() };
    match value {
        Value::Table(table) => walk.table(table)?,
        _ => {
            return Err(MigrateError::Syntax {
                path: file.to_owned(),
                reason: "is not a table of keys".into(),
            });
        }
    }
    Ok(walk.leaves)
}

struct Walk<'a> {
    file: &'a Path,
    top: &'a [&'a str],
    name: Vec<String>,
    key: String,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    fn table(&mut self, table: Table) -> Result<()> {
        for (name, value) in table {
            let dot = if self.key.is_empty() { "" } else { "." };
            let shown = format!("{dot}{}", quoted(&name));
            self.below(name, &shown, value)?;
        }
        Ok(())
    }

    fn below(&mut self, name: String, shown: &str, value: Value) -> Result<()> {
        if self.name.len() >= DEPTH_MAX {
            return Err(too_deep(self.file));
        }
        let length = self.key.len();
        self.key.push_str(shown);
        self.name.push(name);
        self.value(value)?;
        self.name.pop();
        self.key.truncate(length);
        Ok(())
    }

    fn value(&mut self, value: Value) -> Result<()> {
        match value {
            Value::Table(table) if !table.is_empty() => self.table(table),
            Value::Array(list) if list.iter().any(Value::is_table) => {
                for (index, value) in list.into_iter().enumerate() {
                    self.below(index.to_string(), &format!("[{index}]"), value)?;
                }
                Ok(())
            }
            value => {
                if self.leaves.len() >= LEAVES_MAX {
                    let (path, limit) = (self.file.to_owned(), LEAVES_MAX as u64);
                    return Err(MigrateError::TooMany { path, limit, what: "keys" });
                }
                let path: Vec<String> =
                    self.top.iter().map(|part| (*part).to_owned()).chain(self.name.iter().cloned()).collect();
                let (file, key) = (self.file.display().to_string(), self.key.clone());
                self.leaves.push(Leaf { file, key, raw: path.clone(), path, value });
                Ok(())
            }
        }
    }
}

/// A part of a dotted name as TOML wants it.
pub(crate) fn quoted(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { Value::String(name.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let leaves = toml(Path::new("/f"), &["top"], text).unwrap();
        leaves.into_iter().map(|leaf| format!("{}={}", leaf.key, leaf.value)).collect()
    }

    #[test]
    fn every_value_has_its_full_name() {
        let text = "a = 1\n[b.\"c.d\"]\ne = [1, 2]\nf = {}\n[[g]]\nh = true\n[[g]]\n[[g.i]]\nj = \"x\"\n";
        let expected = ["a=1", "b.\"c.d\".e=[1, 2]", "b.\"c.d\".f={}", "g[0].h=true", "g[1].i[0].j=\"x\""];
        assert_eq!(keys(text), expected);
        assert_eq!(json(Path::new("/f"), &[], r#"{"a":[{"b":null}]}"#).unwrap()[0].key, "a[0].b");
    }

    #[test]
    fn what_nests_without_end_is_refused() {
        for text in [
            format!("{} = 1", vec!["a"; 200_000].join(".")),
            format!("[{}]\nb = 1", vec!["a"; 100].join(".")),
            format!("a = {}1{}", "[".repeat(50_000), "]".repeat(50_000)),
            format!("a = {}", "{ b = ".repeat(50_000)),
            format!("a = {}", "{ b.c.d.e.f.g.h.i.j.k.l.m.n.o.p = ".repeat(20)),
        ] {
            assert!(toml(Path::new("/f"), &[], &text).is_err());
        }
        assert!(json(Path::new("/f"), &[], &"[".repeat(100_000)).is_err());
        assert!(json(Path::new("/f"), &[], "[1]").unwrap_err().to_string().contains("not a table"));
    }
}
