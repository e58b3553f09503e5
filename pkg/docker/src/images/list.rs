//! `GET /images/json`.

use std::collections::BTreeMap;

use husk_images::{Image, Reference};
use hyper::StatusCode;
use regex::Regex;

use super::{find::find, names::familiar, summary::summary};
use crate::{
    door::Parts,
    error::{Failure, Result},
    facilities::Containers,
    filters::Filters,
    http::{Answer, Call, json},
    when,
};

const KNOWN: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

pub(super) fn list(door: &Parts, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &KNOWN)?;
    let dangling = filters.truth("dangling")?;
    let built = |image: &Image| when::nanos(&image.config.created).unwrap_or(0);
    let of = |key: &str| -> Result<Option<i64>> {
        filters.single(key)?.map(|name| find(door, name).map(|image| built(&image))).transpose()
    };
    let (before, since) = (of("before")?, of("since")?);
    let until = match filters.single("until")? {
        None => None,
        Some(text) => Some(
            when::moment(text, husk_node::now())
                .ok_or_else(|| Failure::bad("invalid filter 'until': a time or a duration is expected"))?,
        ),
    };
    let references: Vec<Regex> = filters.values("reference").map(glob).collect::<Result<_>>()?;
    let images = door.images.list();
    let shared = call.query.flag("shared-size").then(|| shared_sizes(&images));
    let mut shown = Vec::new();
    for image in &images {
        let is_wanted = filters.labels_suit(&image.config.labels)
            && dangling.is_none_or(|wanted| image.repo_tags.is_empty() == wanted)
            && before.is_none_or(|before| built(image) < before)
            && since.is_none_or(|since| built(image) > since)
            && until.is_none_or(|until| built(image) < until)
            && (references.is_empty() || suits(image, &references));
        if is_wanted {
            let shared = shared.as_ref().and_then(|shared| shared.get(&image.id)).map_or(-1, |bytes| *bytes);
            let mut one = summary(image, door.containers.of_image(&image.id).len() as i64, shared);
            if !references.is_empty() {
                let is_wanted = |name: &String| references.iter().any(|wanted| is_called(name, wanted));
                one.repo_tags.retain(is_wanted);
                // A client shows a line without a tag for the digest of a name that has none.
                one.repo_digests.retain(is_wanted);
            }
            shown.push(one);
        }
    }
    shown.sort_by_key(|image| std::cmp::Reverse(image.created));
    json(StatusCode::OK, &shown)
}

fn suits(image: &Image, references: &[Regex]) -> bool {
    let mut names = image.repo_tags.iter().chain(&image.repo_digests).map(|name| familiar(name));
    names.any(|name| references.iter().any(|wanted| is_called(name, wanted)))
}

/// A pattern is of the name with its tag, or of the name alone (`reference.FamiliarMatch`).
fn is_called(name: &str, pattern: &Regex) -> bool {
    let without = Reference::parse(name).ok().map(|reference| {
        let full = reference.name();
        familiar(&full).to_owned()
    });
    pattern.is_match(name) || without.is_some_and(|name| pattern.is_match(&name))
}

/// A pattern as Go's `path.Match` reads it: `*` and `?` stay within a part, `[a-c]` is one of these.
fn glob(pattern: &str) -> Result<Regex> {
    let wrong = || {
        Failure::bad(format!("invalid reference pattern {:?}", pattern.chars().take(80).collect::<String>()))
    };
    if pattern.len() > 1024 {
        return Err(wrong());
    }
    let mut regex = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => {
                let class: String = chars.by_ref().take_while(|c| *c != ']').collect();
                let (negated, class) =
                    class.strip_prefix('^').map_or(("", class.as_str()), |rest| ("^", rest));
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                if class.is_empty() || !class.chars().all(is_plain) {
                    return Err(wrong());
                }
                regex.push_str(&format!("[{negated}{class}]"));
            }
            '\\' => regex.push_str(&regex::escape(&chars.next().ok_or_else(wrong)?.to_string())),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    Regex::new(&regex).map_err(|_| wrong())
}

/// Bytes of each image's layers that another image has too.
fn shared_sizes(images: &[std::sync::Arc<Image>]) -> BTreeMap<husk_model::ImageId, i64> {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    let layers = |image: &Image| {
        let mut layers: Vec<(String, u64)> =
            image.layers.iter().map(ToString::to_string).zip(image.layer_sizes.iter().copied()).collect();
        layers.sort();
        layers.dedup();
        layers
    };
    for image in images {
        for (layer, _) in layers(image) {
            *users.entry(layer).or_default() += 1;
        }
    }
    let shared = |image: &Image| {
        let sizes =
            layers(image).into_iter().filter(|(layer, _)| users.get(layer).is_some_and(|users| *users > 1));
        sizes.map(|(_, size)| size).sum::<u64>().try_into().unwrap_or(i64::MAX)
    };
    images.iter().map(|image| (image.id.clone(), shared(image))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_the_name_with_or_without_its_tag() {
        for (pattern, name, expected) in [
            ("busybox", "busybox:latest", true),
            ("busybox:latest", "busybox:latest", true),
            ("busybox:1*", "busybox:latest", false),
            ("busy*", "busybox:latest", true),
            ("b?sybox", "busybox:latest", true),
            ("*", "user/app:1", false),
            ("*/*", "user/app:1", true),
            ("*/*:[1-3]", "user/app:2", true),
            ("*/*:[^1-3]", "user/app:2", false),
            ("localhost:5000/*", "localhost:5000/app:1", true),
            ("a.b/c", "axb/c:1", false),
        ] {
            assert_eq!(is_called(name, &glob(pattern).unwrap()), expected, "{pattern} {name}");
        }
        for pattern in ["[", "[]", "[a/b]", "a\\", &"a".repeat(2000)] {
            assert_eq!(glob(pattern).unwrap_err().status(), 400, "{pattern}");
        }
    }
}
