//! Where an image is asked for.

use super::{RegistriesConf, file::Registry};
use crate::{
    ImageError, Reference, Result,
    reference::{Selector, is_short},
};

/// A place to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// The image's name there.
    pub(crate) reference: Reference,
    /// Any certificate is taken, and plain HTTP where HTTPS does not answer.
    pub(crate) insecure: bool,
}

impl RegistriesConf {
    /// The locations of `reference` in the order in which they are asked: mirrors that are for tags or for digests as it is,
    /// then the registry. `None` when no `[[registry]]` fits.
    ///
    /// # Errors
    /// [`ImageError::Blocked`] when nothing but blocked ones are left; [`ImageError::Registries`] when a location makes no name.
    pub(crate) fn locations(&self, reference: &Reference) -> Result<Option<Vec<Location>>> {
        let name = reference.name();
        let Some((prefix, end, registry)) = self.find(&name) else { return Ok(None) };
        let is_tag = matches!(reference.selector(), Selector::Tag(_));
        let mirrors =
            registry.mirrors.iter().filter(|mirror| if is_tag { mirror.tags } else { mirror.digests });
        let places = mirrors
            .map(|mirror| (Some(mirror.location.as_str()), mirror.insecure, false))
            .chain([(registry.location.as_deref(), registry.insecure, registry.blocked)]);
        let mut locations = Vec::new();
        let mut blocked = (prefix, registry);
        for (location, insecure, is_blocked) in places {
            let there =
                location.map_or_else(|| name.clone(), |location| format!("{location}{}", &name[end..]));
            // What is blocked is not asked as somebody's mirror either.
            match self.find(&there) {
                Some((by, _, found)) if found.blocked => blocked = (by, found),
                _ if is_blocked => {}
                _ => locations.push(Location { reference: renamed(&there, reference, registry)?, insecure }),
            }
        }
        if locations.is_empty() {
            Err(blocked_by(reference, blocked.0, blocked.1))
        } else {
            Ok(Some(locations))
        }
    }

    /// Where the registry of `reference` itself is, to which images are pushed; no mirror. `None` when no `[[registry]]` fits.
    ///
    /// # Errors
    /// [`ImageError::Blocked`]; [`ImageError::Registries`] when the location makes no name.
    pub(crate) fn home(&self, reference: &Reference) -> Result<Option<Location>> {
        let name = reference.name();
        let Some((prefix, end, registry)) = self.find(&name) else { return Ok(None) };
        if registry.blocked {
            return Err(blocked_by(reference, prefix, registry));
        }
        let there = registry
            .location
            .as_deref()
            .map_or_else(|| name.clone(), |location| format!("{location}{}", &name[end..]));
        match self.find(&there) {
            Some((by, _, found)) if found.blocked => Err(blocked_by(reference, by, found)),
            _ => {
                let reference = renamed(&there, reference, registry)?;
                Ok(Some(Location { reference, insecure: registry.insecure }))
            }
        }
    }

    /// The `[[registry]]` with the longest prefix that fits `name`, and where in the name the prefix ends.
    fn find(&self, name: &str) -> Option<(&str, usize, &Registry)> {
        let fitting = self.registries.iter().filter_map(|(prefix, registry)| {
            let end = fits(name, prefix)?;
            Some((prefix.as_str(), end, registry))
        });
        fitting.max_by_key(|(prefix, ..)| prefix.len())
    }
}

fn blocked_by(reference: &Reference, prefix: &str, registry: &Registry) -> ImageError {
    ImageError::Blocked {
        image: reference.to_string(),
        registry: prefix.to_owned(),
        path: registry.file.clone(),
        line: registry.line,
    }
}

/// Where in `name` the prefix ends, if it is one: at the end of the name, or before `/`, `:` or `@`.
fn fits(name: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        // `.example.com` at the end of the host, whatever its port.
        Some(domain) => {
            let host = name.split(['/', ':']).next().unwrap_or_default();
            host.ends_with(domain).then_some(host.len())?
        }
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    matches!(name.as_bytes().get(end), None | Some(b'/' | b':' | b'@')).then_some(end)
}

/// `there` with the tag or digest of `reference`. Its first word is a host, whatever it looks like.
fn renamed(there: &str, reference: &Reference, registry: &Registry) -> Result<Reference> {
    let separator = if matches!(reference.selector(), Selector::Tag(_)) { ':' } else { '@' };
    let parsed = match is_short(there) {
        true => Err("its first part is no host: it has no dot, no port and is not localhost".to_owned()),
        false => Reference::parse(&format!("{there}{separator}{}", reference.selected()))
            .map_err(|error| error.to_string()),
    };
    parsed.map_err(|reason| ImageError::Registries {
        path: registry.file.clone(),
        line: Some(registry.line),
        reason: format!(
            "{} becomes {there:?}, which names no image: {reason}; correct the location",
            reference.name()
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::file, *};

    fn conf(text: &str) -> RegistriesConf {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        std::fs::write(&path, text).unwrap();
        RegistriesConf::load(&path).unwrap()
    }

    fn asked(conf: &RegistriesConf, name: &str) -> Vec<String> {
        let found = conf.locations(&Reference::parse(name).unwrap()).unwrap();
        found.unwrap_or_default().iter().map(|location| location.reference.to_string()).collect()
    }

    fn refusal(conf: &RegistriesConf, name: &str) -> String {
        conf.locations(&Reference::parse(name).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn the_longest_prefix_wins_and_is_rewritten() {
        let conf = conf(
            "[[registry]]\nprefix = 'a.example'\nlocation = 'one.example'\n\
             [[registry]]\nprefix = 'a.example/team'\nlocation = 'two.example/deep/path'\n\
             [[registry]]\nprefix = 'a.example/team/app'\nlocation = 'three.example/renamed'\n\
             [[registry]]\nprefix = '*.b.example'\nlocation = 'four.example'\n\
             [[registry]]\nprefix = '*.c.b.example'\n",
        );
        for (name, there) in [
            ("a.example/x:1", "one.example/x:1"),
            ("a.example/teams/x:1", "one.example/teams/x:1"),
            ("a.example/team/x:1", "two.example/deep/path/x:1"),
            ("a.example/team/app:1", "three.example/renamed:1"),
            ("a.example/team/app/sub:1", "three.example/renamed/sub:1"),
            ("x.b.example/y:1", "four.example/y:1"),
            ("x.y.b.example:5000/y:1", "four.example:5000/y:1"),
            ("x.c.b.example/y:1", "x.c.b.example/y:1"),
        ] {
            assert_eq!(asked(&conf, name), [there], "{name}");
        }
        for name in ["b.example/x", "a.example.org/x", "xb.example/x", "x.b.example.org/x", "busybox"] {
            assert_eq!(conf.locations(&Reference::parse(name).unwrap()).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn mirrors_are_asked_first_and_for_what_they_are_for() {
        let text = "[[registry]]\nlocation = 'docker.io'\ninsecure = true\n\
             [[registry.mirror]]\nlocation = 'all.example/hub'\n\
             [[registry.mirror]]\nlocation = 'digests.example'\npull-from-mirror = 'digest-only'\n\
             [[registry.mirror]]\nlocation = 'tags.example'\npull-from-mirror = 'tag-only'\n";
        let own = conf(text);
        let digest = format!("@sha256:{}", "a".repeat(64));
        assert_eq!(
            asked(&own, "busybox:1"),
            [
                "all.example/hub/library/busybox:1",
                "tags.example/library/busybox:1",
                "docker.io/library/busybox:1"
            ]
        );
        assert_eq!(
            asked(&own, &format!("busybox{digest}")),
            [
                format!("all.example/hub/library/busybox{digest}"),
                format!("digests.example/library/busybox{digest}"),
                format!("docker.io/library/busybox{digest}")
            ]
        );
        let found = own.locations(&Reference::parse("busybox:1").unwrap()).unwrap().unwrap();
        assert_eq!(found.iter().map(|place| place.insecure).collect::<Vec<_>>(), [false, false, true]);
        let all = "[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.example'\n";
        assert_eq!(asked(&conf(all), "a.example/x:1"), ["a.example/x:1"]);
        assert_eq!(asked(&conf(all), &format!("a.example/x{digest}")).len(), 2);
    }

    #[test]
    fn what_is_blocked_is_refused_with_the_file_and_comes_from_mirrors_alone() {
        let own = conf(
            "[[registry]]\nlocation = 'bad.example'\nblocked = true\n\
             [[registry]]\nprefix = 'good.example'\nlocation = 'good.example'\n[[registry.mirror]]\nlocation = 'bad.example/x'\n\
             [[registry]]\nprefix = 'mirrored.example'\nlocation = 'mirrored.example'\nblocked = true\n\
             [[registry.mirror]]\nlocation = 'm.example'\n\
             [[registry]]\nprefix = 'moved.example'\nlocation = 'elsewhere.example'\nblocked = true\n\
             [[registry]]\nprefix = '*.all.example'\nblocked = true\n\
             [[registry]]\nlocation = 'docker.io/untrusted'\nblocked = true\n",
        );
        for (name, line, by) in [
            ("bad.example/a/b:1", 1, "bad.example"),
            ("moved.example/a:1", 15, "moved.example"),
            ("x.all.example/a:1", 19, "*.all.example"),
            ("untrusted/a", 22, "docker.io/untrusted"),
        ] {
            let error = refusal(&own, name);
            assert!(error.contains(&format!("{by} is blocked")), "{error}");
            assert!(error.contains(&format!("registries.conf:{line}")), "{error}");
        }
        assert_eq!(asked(&own, "good.example/a:1"), ["good.example/a:1"]);
        assert_eq!(asked(&own, "mirrored.example/a:1"), ["m.example/a:1"]);
        assert_eq!(own.locations(&Reference::parse("docker.io/trusted/a").unwrap()).unwrap(), None);
    }

    #[test]
    fn a_location_that_makes_no_name_is_told_when_it_is_asked() {
        let own = conf(
            "[[registry]]\nprefix = 'a.example'\nlocation = 'nohost/x'\n[[registry]]\nprefix = 'b.example'\nlocation = 'b.example/UPPER'\n",
        );
        for (name, line) in [("a.example/y", 1), ("b.example/y", 4)] {
            let error = refusal(&own, name);
            assert!(error.contains(&format!("registries.conf:{line}: ")), "{error}");
        }
        assert!(file::parse(Path::new("/x"), "").is_ok());
    }
}
