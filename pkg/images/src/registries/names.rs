//! Names without a registry.

use super::{RegistriesConf, file::ShortNames};
use crate::{ImageError, Reference, Result, reference::is_short};

impl RegistriesConf {
    /// What `name` may mean, in the order in which it is tried: a name with its registry means itself; one without is its
    /// alias, or is looked for in the registries to search.
    ///
    /// # Errors
    /// [`ImageError::Reference`]; [`ImageError::ShortName`] when there is nothing to search, or more than one registry while
    /// `short-name-mode` is `enforcing`: nobody can be asked here.
    pub(crate) fn candidates(&self, name: &str) -> Result<Vec<Reference>> {
        // Says what is wrong with the name itself, as it was written.
        let full = Reference::parse(name)?;
        if !is_short(name) {
            return Ok(vec![full]);
        }
        let (repository, rest) = name.split_at(selector_at(name));
        if let Some(Some(alias)) = self.aliases.get(repository) {
            return Ok(vec![Reference::parse(&format!("{alias}{rest}"))?]);
        }
        let wrong = |reason: String| ImageError::ShortName {
            name: name.to_owned(),
            path: self.search_from.clone(),
            reason,
        };
        match (self.search.as_slice(), self.short_names) {
            ([], _) => Err(wrong("no alias has it and unqualified-search-registries is empty".to_owned())),
            ([_, _, ..], ShortNames::Enforcing) => Err(wrong(format!(
                "short-name-mode is \"enforcing\" and {} registries would be searched ({})",
                self.search.len(),
                self.search.join(", ")
            ))),
            (search, _) => search.iter().map(|host| Reference::parse(&format!("{host}/{name}"))).collect(),
        }
    }
}

/// Where tag and digest begin.
fn selector_at(name: &str) -> usize {
    let end = name.find('@').unwrap_or(name.len());
    let last = name[..end].rfind('/').map_or(0, |at| at + 1);
    name[last..end].find(':').map_or(end, |at| last + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> RegistriesConf {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        std::fs::write(&path, text).unwrap();
        RegistriesConf::load(&path).unwrap()
    }

    fn meant(conf: &RegistriesConf, name: &str) -> Vec<String> {
        conf.candidates(name).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_alias_comes_before_the_search_and_a_full_name_means_itself() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        let own = conf(
            "unqualified-search-registries = ['one.example', 'docker.io']\n\
             [aliases]\n'app' = 'a.example/team/app'\n'x/y' = 'docker.io/x/z'\noff = ''\n",
        );
        for (name, full) in [
            ("app", vec!["a.example/team/app:latest".to_owned()]),
            ("app:1", vec!["a.example/team/app:1".to_owned()]),
            (&format!("app:1{digest}"), vec![format!("a.example/team/app{digest}")]),
            ("x/y:2", vec!["docker.io/x/z:2".to_owned()]),
            ("off", vec!["one.example/off:latest".to_owned(), "docker.io/library/off:latest".to_owned()]),
            ("b/c:1", vec!["one.example/b/c:1".to_owned(), "docker.io/b/c:1".to_owned()]),
            ("docker.io/busybox", vec!["docker.io/library/busybox:latest".to_owned()]),
            ("localhost/app", vec!["localhost/app:latest".to_owned()]),
        ] {
            assert_eq!(meant(&own, name), full, "{name}");
        }
        assert!(matches!(own.candidates("UPPER"), Err(ImageError::Reference { .. })));
    }

    #[test]
    fn an_ambiguous_name_is_refused_where_nobody_may_guess() {
        let two = "unqualified-search-registries = ['one.example', 'two.example']\nshort-name-mode = ";
        let error = conf(&format!("{two}'enforcing'")).candidates("app").unwrap_err().to_string();
        assert!(
            error.contains("enforcing") && error.contains("two.example") && error.contains("in full"),
            "{error}"
        );
        for mode in ["permissive", "disabled"] {
            assert_eq!(meant(&conf(&format!("{two}'{mode}'")), "app").len(), 2);
        }
        let one = "unqualified-search-registries = ['one.example']\nshort-name-mode = 'enforcing'\n";
        assert_eq!(meant(&conf(one), "app:1"), ["one.example/app:1"]);
        let error = conf("").candidates("app").unwrap_err().to_string();
        assert!(
            error.contains("registries.conf") && error.contains("unqualified-search-registries"),
            "{error}"
        );
    }
}
