//! What images are called elsewhere, and which of them are wanted.

use std::collections::{BTreeMap, BTreeSet};

use husk_model::{Digest, ImageId};

use crate::{Reference, Result, reference::Selector};

/// What became of each image, by a name of it.
pub(super) type Outcomes = Vec<(String, Result<ImageId>)>;

/// Which images are wanted.
pub(super) struct Wanted {
    /// As they were asked for, and whether they were found; empty takes all.
    asked: BTreeMap<String, bool>,
}

impl Wanted {
    pub(super) fn new(asked: Vec<String>) -> Self {
        Self { asked: asked.into_iter().map(|name| (name, false)).collect() }
    }

    /// Whether an image is wanted that has these names, this id, or this digest.
    pub(super) fn has(&mut self, names: &Names, id: &str) -> bool {
        if self.asked.is_empty() {
            return true;
        }
        let mut wanted = false;
        for (name, found) in &mut self.asked {
            let full = Reference::parse(name).map(|reference| reference.to_string());
            let named = full.is_ok_and(|full| names.tags.contains(&full) || names.digests.contains(&full));
            let hex = name.strip_prefix("sha256:").unwrap_or(name);
            let numbered = hex.len() >= 12 && id.trim_start_matches("sha256:").starts_with(hex);
            if named || numbered {
                *found = true;
                wanted = true;
            }
        }
        wanted
    }

    pub(super) fn left(&self) -> impl Iterator<Item = &String> {
        self.asked.iter().filter(|(_, found)| !**found).map(|(name, _)| name)
    }
}

/// What an image is called there, in full.
#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    pub(super) tags: BTreeSet<String>,
    pub(super) digests: BTreeSet<String>,
}

impl Names {
    /// Adds a name; one that is none to husk (containerd keeps ids among them) is left out.
    pub(super) fn add(&mut self, name: &str) {
        if name.starts_with("sha256:") {
            return;
        }
        let Ok(reference) = Reference::parse(name) else { return };
        match reference.selector() {
            Selector::Tag(_) => self.tags.insert(reference.to_string()),
            Selector::Digest(_) => self.digests.insert(reference.to_string()),
        };
    }

    /// One for people.
    pub(super) fn first(&self, otherwise: &str) -> String {
        self.tags.iter().chain(&self.digests).next().map_or_else(|| otherwise.to_owned(), String::clone)
    }

    /// The names by digest, of those that `is_right` vouches for, and of every repository with `top`.
    pub(super) fn digests(&self, top: Option<&Digest>, is_right: impl Fn(&Digest) -> bool) -> Vec<String> {
        let parsed = |name: &String| Reference::parse(name).ok();
        let named = self.digests.iter().filter(|name| {
            parsed(name).is_some_and(|reference| match reference.selector() {
                Selector::Digest(digest) => is_right(digest),
                Selector::Tag(_) => false,
            })
        });
        let of_tags = self.tags.iter().filter_map(parsed);
        let of_tags = of_tags.filter_map(|reference| Some(format!("{}@{}", reference.name(), top?)));
        named.cloned().chain(of_tags).collect()
    }
}
