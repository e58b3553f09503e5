//! One file: read, checked by itself, its mistakes told by line.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use crate::{ImageError, Result, reference};

/// What a name without a registry may mean when more than one registry is to be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShortNames {
    /// Nobody can be asked which one was meant, so the name is refused.
    Enforcing,
    /// Each is tried, in the order of the list: `permissive` where nobody can be asked, and `disabled`.
    Search,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) registries: BTreeMap<String, Registry>,
    pub(super) search: Option<Vec<String>>,
    pub(super) short_names: Option<ShortNames>,
    /// Full names by short ones; `None` takes the alias of an earlier file away.
    pub(super) aliases: BTreeMap<String, Option<String>>,
}

/// A `[[registry]]`.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    /// Where it is, to be named in refusals.
    pub(super) file: PathBuf,
    pub(super) line: usize,
    /// Asked last. Without a path of its own, what the name says.
    pub(super) location: Option<String>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    /// For which references it is asked.
    pub(super) tags: bool,
    pub(super) digests: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawFile {
    registry: Vec<Spanned<RawRegistry>>,
    unqualified_search_registries: Option<Vec<Spanned<String>>>,
    short_name_mode: Option<Spanned<String>>,
    aliases: BTreeMap<String, Spanned<String>>,
    /// Of the first version of the format.
    registries: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawRegistry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    pull_from_mirror: String,
    mirror: Vec<Spanned<RawMirror>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// A file that is being read.
struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
}

/// Reads `text`, which is in `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<File> {
    let reading = Reading { path, text };
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reading.wrong(at, error.message())
    })?;
    if let Some(former) = &raw.registries {
        let reason = "this is version 1 of the format ([registries.search], [registries.insecure], [registries.block]), which \
                      husk does not read: write unqualified-search-registries and [[registry]] with insecure and blocked in its \
                      place (containers-registries.conf(5))";
        return Err(reading.wrong(former.span().start, reason));
    }
    let short_names = raw.short_name_mode.map(|mode| reading.mode(&mode)).transpose()?;
    let search =
        raw.unqualified_search_registries.map(|list| list.iter().map(|one| reading.host(one)).collect());
    let mut aliases = BTreeMap::new();
    for (name, value) in raw.aliases {
        aliases.insert(name.clone(), reading.alias(&name, &value)?);
    }
    Ok(File {
        registries: reading.registries(raw.registry)?,
        search: search.transpose()?,
        short_names,
        aliases,
    })
}

impl Reading<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    fn wrong(&self, at: usize, reason: impl Into<String>) -> ImageError {
        ImageError::Registries {
            path: self.path.to_owned(),
            line: Some(self.line(at)),
            reason: reason.into(),
        }
    }

    /// Of two with the same prefix in one file, the first counts.
    fn registries(&self, raw: Vec<Spanned<RawRegistry>>) -> Result<BTreeMap<String, Registry>> {
        let mut registries = BTreeMap::new();
        let mut by_location: BTreeMap<String, (bool, bool, usize)> = BTreeMap::new();
        for table in raw {
            let at = table.span().start;
            let (prefix, registry) = self.registry(at, table.into_inner())?;
            let (insecure, blocked) = (registry.insecure, registry.blocked);
            let same = registry.location.clone().unwrap_or_else(|| prefix.clone());
            match by_location.entry(same) {
                Entry::Vacant(entry) => drop(entry.insert((insecure, blocked, registry.line))),
                Entry::Occupied(entry) => {
                    let (other_insecure, other_blocked, line) = *entry.get();
                    let key = if other_insecure != insecure { "insecure" } else { "blocked" };
                    if (other_insecure, other_blocked) != (insecure, blocked) {
                        let reason = format!(
                            "{} is in line {line} with another value of {key}: give both the same",
                            entry.key()
                        );
                        return Err(self.wrong(at, reason));
                    }
                }
            }
            registries.entry(prefix).or_insert(registry);
        }
        Ok(registries)
    }

    fn registry(&self, at: usize, raw: RawRegistry) -> Result<(String, Registry)> {
        let location = self.location(at, "location", &raw.location)?;
        let prefix = match self.location(at, "prefix", &raw.prefix)? {
            prefix if prefix.is_empty() => location.clone(),
            prefix => prefix,
        };
        let of_subdomains = prefix.starts_with("*.");
        if prefix.is_empty() {
            return Err(self.wrong(at, "a [[registry]] has neither location nor prefix: name the registry"));
        }
        if of_subdomains && (prefix.len() == 2 || prefix.contains(['/', '@', ':'])) {
            let reason =
                format!("prefix {prefix:?}: with a star it is *.example.com alone, without a port or a path");
            return Err(self.wrong(at, reason));
        }
        if location.is_empty() && !of_subdomains {
            let reason =
                format!("prefix {prefix:?} has no location: only one such as *.example.com can do without");
            return Err(self.wrong(at, reason));
        }
        if !raw.pull_from_mirror.is_empty() {
            let reason = "pull-from-mirror belongs into a [[registry.mirror]]; for all of them there is mirror-by-digest-only";
            return Err(self.wrong(at, reason));
        }
        let mirrors = raw.mirror.into_iter().map(|mirror| {
            let at = mirror.span().start;
            self.mirror(at, mirror.into_inner(), raw.mirror_by_digest_only)
        });
        let registry = Registry {
            file: self.path.to_owned(),
            line: self.line(at),
            mirrors: mirrors.collect::<Result<_>>()?,
            location: Some(location).filter(|location| !location.is_empty()),
            insecure: raw.insecure,
            blocked: raw.blocked,
        };
        Ok((prefix, registry))
    }

    fn mirror(&self, at: usize, raw: RawMirror, digests_only: bool) -> Result<Mirror> {
        let location = self.location(at, "location", &raw.location)?;
        if location.is_empty() {
            return Err(self.wrong(at, "a [[registry.mirror]] has no location: name the mirror"));
        }
        let from = raw.pull_from_mirror.as_str();
        if digests_only && !from.is_empty() {
            let reason = "pull-from-mirror of a mirror and mirror-by-digest-only of its registry exclude each other: keep one";
            return Err(self.wrong(at, reason));
        }
        let (tags, digests) = match from {
            "" | "all" => (!digests_only, true),
            "digest-only" => (false, true),
            "tag-only" => (true, false),
            other => {
                let reason =
                    format!("pull-from-mirror {other:?} is not \"all\", \"digest-only\" or \"tag-only\"");
                return Err(self.wrong(at, reason));
            }
        };
        Ok(Mirror { location, insecure: raw.insecure, tags, digests })
    }

    /// Without slashes at its end.
    fn location(&self, at: usize, key: &str, text: &str) -> Result<String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let reason =
                format!("{key} {text:?}: leave the scheme away; insecure = true is what allows plain HTTP");
            return Err(self.wrong(at, reason));
        }
        Ok(text.trim_end_matches('/').to_owned())
    }

    fn host(&self, entry: &Spanned<String>) -> Result<String> {
        let at = entry.span().start;
        let host = self.location(at, "unqualified-search-registries", entry.get_ref())?;
        match reference::check_host(&host) {
            Ok(()) => Ok(host),
            Err(reason) => {
                let reason =
                    format!("unqualified-search-registries: {host:?} is not host or host:port ({reason})");
                Err(self.wrong(at, reason))
            }
        }
    }

    fn mode(&self, mode: &Spanned<String>) -> Result<ShortNames> {
        match mode.get_ref().as_str() {
            "enforcing" => Ok(ShortNames::Enforcing),
            "permissive" | "disabled" => Ok(ShortNames::Search),
            other => {
                let reason =
                    format!("short-name-mode {other:?} is not \"enforcing\", \"permissive\" or \"disabled\"");
                Err(self.wrong(mode.span().start, reason))
            }
        }
    }

    fn alias(&self, name: &str, value: &Spanned<String>) -> Result<Option<String>> {
        let (at, full) = (value.span().start, value.get_ref().as_str());
        let plain =
            |text: &str| !text.contains('@') && !text.rsplit('/').next().unwrap_or_default().contains(':');
        if !reference::is_short(name) || !plain(name) || crate::Reference::parse(name).is_err() {
            let reason = format!("alias {name:?} is not a name without registry, tag and digest");
            return Err(self.wrong(at, reason));
        }
        if full.is_empty() {
            return Ok(None);
        }
        if reference::is_short(full) || !plain(full) || crate::Reference::parse(full).is_err() {
            let reason = format!(
                "alias {name} = {full:?}: the value is a name with its registry, without tag and digest"
            );
            return Err(self.wrong(at, reason));
        }
        Ok(Some(full.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(Path::new("/r.conf"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_told_with_its_file_and_line() {
        for (text, line, word) in [
            ("x = ", 1, "/r.conf"),
            ("\n[registries.search]\nregistries = ['a.example']", 2, "version 1"),
            ("\n\nshort-name-mode = 'maybe'", 3, "maybe"),
            ("unqualified-search-registries = [\n'a.example',\n'b.example/x']", 3, "b.example/x"),
            ("unqualified-search-registries = ['https://a.example']", 1, "scheme"),
            ("[[registry]]\ninsecure = true", 1, "neither"),
            ("[[registry]]\nlocation = 'a.example'\n[[registry]]\nlocation='http://b.example'", 3, "scheme"),
            ("[[registry]]\nprefix = 'a.example'", 1, "no location"),
            ("[[registry]]\nprefix = '*.a.example/x'", 1, "star"),
            ("[[registry]]\nprefix = '*.a.example:5000'", 1, "star"),
            ("[[registry]]\nlocation = 'a.example'\npull-from-mirror = 'all'", 1, "pull-from-mirror"),
            ("[[registry]]\nlocation = 'a.example'\ninsecure = 'yes'", 3, "boolean"),
            ("[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\ninsecure = true", 3, "no location"),
            (
                "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation = 'b.example'\npull-from-mirror = 'x'",
                3,
                "tag-only",
            ),
            (
                "[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \
                 'b.example'\npull-from-mirror = 'all'",
                4,
                "exclude",
            ),
            (
                "[[registry]]\nlocation = 'a.example'\nblocked = true\n[[registry]]\nprefix = 'c.example'\nlocation = 'a.example'",
                4,
                "line 1",
            ),
            ("[aliases]\n'a.example/x' = 'b.example/x'", 2, "alias"),
            ("[aliases]\nx = 'b.example/x:1'", 2, "tag"),
            ("[aliases]\nx = 'y'", 2, "registry"),
        ] {
            let error = error(text);
            assert!(error.contains(&format!("/r.conf:{line}: ")) && error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn what_the_libraries_take_is_taken() {
        let file = parse(
            Path::new("/r.conf"),
            "credential-helpers = ['x']\nunknown = 1\nunqualified-search-registries = ['a.example:5000/', 'localhost']\n\
             [[registry]]\nlocation = 'a.example/'\nblocked = false\n[[registry]]\nprefix = 'a.example'\nlocation = 'b.example'\n\
             [[registry]]\nprefix = '*.c.example'\n[[registry.mirror]]\nlocation = 'm.example/x/'\npull-from-mirror = 'all'\n\
             [aliases]\nx = ''\n'a/b' = 'c.example/d/e'\n",
        )
        .unwrap();
        assert_eq!(file.search.unwrap(), ["a.example:5000", "localhost"]);
        assert_eq!(file.registries["a.example"].location.as_deref(), Some("a.example"), "the first counts");
        assert_eq!(file.registries["*.c.example"].mirrors[0].location, "m.example/x");
        assert_eq!(file.aliases["x"], None);
    }
}
