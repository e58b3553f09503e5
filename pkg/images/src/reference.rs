//! Image references and their normalisation: `busybox` is `docker.io/library/busybox:latest`.
//!
//! The grammar is that of the distribution project (`reference.Parse`), with two deliberate differences: an upper-case
//! first word is a mistake and not a host, and a reference with both a tag and a digest means the digest.

use std::{fmt, str::FromStr};

use husk_model::Digest;

use crate::{ImageError, Result};

/// Longest `host/repository` accepted, as in distribution.
const NAME_MAX: usize = 255;

/// What a reference selects within its repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// A name that the registry may move.
    Tag(String),
    /// Content.
    Digest(Digest),
}

/// A complete, normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    selector: Selector,
}

impl Reference {
    /// Parses and normalises `text`.
    ///
    /// # Errors
    /// [`ImageError::Reference`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text)
            .map_err(|reason| ImageError::Reference { reference: text.chars().take(300).collect(), reason })
    }

    /// The registry as the user named it, with its port: `docker.io`, `localhost:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository on that registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag or digest.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// `host/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The reference as Docker shows it: without what is understood, `busybox:latest` for `docker.io/library/busybox:latest`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        match rest.strip_prefix("library/") {
            Some(short) if !self.repository["library/".len()..].contains('/') => short.to_owned(),
            _ => rest.to_owned(),
        }
    }

    /// The tag or digest as it stands in a registry's URL.
    pub fn selected(&self) -> &str {
        match &self.selector {
            Selector::Tag(tag) => tag,
            Selector::Digest(digest) => digest.as_str(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.selector {
            Selector::Tag(_) => ':',
            Selector::Digest(_) => '@',
        };
        write!(f, "{}/{}{separator}{}", self.host, self.repository, self.selected())
    }
}

impl FromStr for Reference {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse::<Digest>()
                .map_err(|_| "the digest is not sha256:<64 lower-case hex characters>")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (first, remainder) = match rest.split_once('/') {
        Some((first, remainder)) if is_host(first) => (first, remainder),
        _ => ("docker.io", rest),
    };
    // A colon before a slash can only be a port, so the tag is looked for in the last component.
    let (repository, tag) = match remainder.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (remainder, None),
    };
    let host = match first {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    check_host(host)?;
    let repository = match host {
        "docker.io" if !repository.contains('/') => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    if !repository.split('/').all(is_component) {
        return Err(
            "a repository is made of lower-case letters, digits and single separators (. _ __ -), joined by /",
        );
    }
    if host.len() + 1 + repository.len() > NAME_MAX {
        return Err("the name is longer than 255 characters");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag is up to 128 letters, digits, underscores, dots and dashes, not beginning with a dot or dash",
        );
    }
    let selector = match digest {
        Some(digest) => Selector::Digest(digest),
        None => Selector::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(Reference { host: host.to_owned(), repository, selector })
}

/// Whether the first word of a reference names a registry and not a part of a Docker Hub repository.
fn is_host(word: &str) -> bool {
    word == "localhost" || word.contains(['.', ':'])
}

/// Whether a name has no registry.
pub(crate) fn is_short(name: &str) -> bool {
    !name.split_once('/').is_some_and(|(first, _)| is_host(first))
}

/// Checks `host` or `host:port`.
pub(crate) fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("the IPv6 address is not closed")?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "the host is not a valid IPv6 address")?;
            match port.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if port.is_empty() => (None, None),
                None => return Err("text after the IPv6 address"),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if let Some(name) = name {
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !name.split('.').all(label) {
            return Err("the host is not a valid domain name");
        }
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() => {
            Err("the port is not a number up to 65535")
        }
        _ => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|b| alphanumeric(*b)) && bytes.last().is_some_and(|b| alphanumeric(*b));
    ends && bytes
        .split(|b| alphanumeric(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.35", "docker.io/library/busybox:1.35".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9".to_owned()),
            ("localhost/a/b", "localhost/a/b:latest".to_owned()),
            ("localhost:5000/a:b", "localhost:5000/a:b".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            (&format!("a.b/c:tag@{digest}"), format!("a.b/c@{digest}")),
            ("gcr.io/a__b/c--d", "gcr.io/a__b/c--d:latest".to_owned()),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn what_docker_shows_means_the_same_reference() {
        for (full, shown) in [
            ("docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/user/app:1", "user/app:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("localhost:5000/library/a:1", "localhost:5000/library/a:1"),
        ] {
            let reference = Reference::parse(full).unwrap();
            assert_eq!(reference.familiar(), shown);
            assert_eq!(Reference::parse(shown).unwrap(), reference);
        }
    }

    #[test]
    fn a_normalised_reference_parses_to_itself() {
        for text in ["busybox", "localhost:1/x:y", "a.b/c/d"] {
            let once = Reference::parse(text).unwrap();
            assert_eq!(Reference::parse(&once.to_string()).unwrap(), once);
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            ":",
            "a:",
            "a b",
            "UPPER/case",
            "Upper",
            "x@sha256:12",
            "x@md5:12",
            "host/../etc:1",
            "a//b",
            "/a",
            "a/",
            "a.b:port/c",
            "a.b:70000/c",
            "-a.b/c",
            "[::1/c",
            "[zz]/c",
            "a:.b",
            "a.b/C",
            "a/b\0",
            "a.b/c?x",
            "..",
            &long,
            &tag,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
