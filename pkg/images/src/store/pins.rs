//! Which images are pinned: those whose names the configuration lists, as CRI-O's `pinned_images` does.

use crate::Image;

/// Whether one of `patterns` fits a name of `image`.
pub(super) fn is_pinned(patterns: &[String], image: &Image) -> bool {
    if patterns.is_empty() {
        return false;
    }
    let names = || image.repo_tags.iter().chain(&image.repo_digests);
    patterns.iter().any(|pattern| names().any(|name| fits(pattern, name)))
}

/// A name, `beginning*` or `*part*`, in any letter case.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    match pattern.strip_suffix('*') {
        None => name == pattern,
        Some(rest) => match rest.strip_prefix('*') {
            Some(part) => name.contains(part),
            None => name.starts_with(rest),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_beginnings_and_parts() {
        for (pattern, name, is_pinned) in [
            ("q.io/a:1", "q.io/a:1", true),
            ("Q.io/A:1", "q.io/a:1", true),
            ("q.io/a", "q.io/a:1", false),
            ("q.io/a*", "q.io/a:1", true),
            ("q.io/*", "q.io/a@sha256:1", true),
            ("io/*", "q.io/a:1", false),
            ("*io/a*", "q.io/a:1", true),
            ("*pause*", "q.io/a:1", false),
        ] {
            assert_eq!(fits(pattern, name), is_pinned, "{pattern} {name}");
        }
    }
}
