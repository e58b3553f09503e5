//! Names of images as paths of the registry, and the rules by which the builder finds them there.
//!
//! | path below the token | means |
//! | --- | --- |
//! | `n/HOST/REPOSITORY`, tag | `HOST/REPOSITORY:tag` |
//! | `p/HOST/PORT/REPOSITORY`, tag | `HOST:PORT/REPOSITORY:tag` |
//! | `d/HOST/REPOSITORY`, tag | `HOST/REPOSITORY@sha256:tag` |
//! | `e/HOST/PORT/REPOSITORY`, tag | `HOST:PORT/REPOSITORY@sha256:tag` |
//!
//! A digest becomes a tag, since what is served is the same image in another manifest: layers are plain here. The store has compared the
//! digest.

use husk_proto::buildkit::{Policy, Rule, Selector, Update};

/// Converts a source.
const CONVERT: i32 = 2;
/// Its selector is a regular expression of Go.
const REGEX: i32 = 2;

const HOST: &str = "([a-z0-9.-]+)";
const REPOSITORY: &str = "([a-z0-9._/-]+)";
const TAG: &str = "([A-Za-z0-9_][A-Za-z0-9_.-]*)";

/// The rules that send the builder to this registry, whatever image a build names.
pub(crate) fn rules(port: u16, token: &str) -> Policy {
    let other_port = other_than(port);
    let digest = format!("(?::{})?@sha256:([0-9a-f]{{64}})", TAG.trim_matches(['(', ')']));
    let with_port = format!("{HOST}:({other_port})");
    let rule = |host: &str, selector: &str, to: &str| Rule {
        action: CONVERT,
        selector: Some(Selector {
            identifier: format!("^docker-image://{host}/{REPOSITORY}{selector}$"),
            match_type: REGEX,
        }),
        updates: Some(Update { identifier: format!("docker-image://127.0.0.1:{port}/{token}/{to}") }),
    };
    let tag = format!(":{TAG}");
    Policy {
        version: 1,
        rules: vec![
            rule(HOST, &digest, "d/${1}/${2}:${3}"),
            rule(&with_port, &digest, "e/${1}/${2}/${3}:${4}"),
            rule(HOST, &tag, "n/${1}/${2}:${3}"),
            rule(&with_port, &tag, "p/${1}/${2}/${3}:${4}"),
        ],
    }
}

/// An expression for every port but one: what was converted must not be converted again, and Go's expressions cannot say "not".
fn other_than(port: u16) -> String {
    let digits = port.to_string();
    let mut ways = Vec::new();
    for (at, digit) in digits.char_indices() {
        let others: String = ('0'..='9').filter(|other| *other != digit).collect();
        ways.push(format!("{}[{others}][0-9]*", &digits[..at]));
        if at > 0 {
            ways.push(digits[..at].to_owned());
        }
    }
    ways.push(format!("{digits}[0-9]+"));
    ways.join("|")
}

/// The image that a path below the token and a tag mean.
pub(super) fn meaning(path: &str, tag: &str) -> Option<String> {
    let (kind, rest) = path.split_once('/')?;
    let (host, rest) = rest.split_once('/')?;
    let (host, repository) = match kind {
        "n" | "d" => (host.to_owned(), rest),
        "p" | "e" => {
            let (port, repository) = rest.split_once('/')?;
            (format!("{host}:{port}"), repository)
        }
        _ => return None,
    };
    match kind {
        "n" | "p" => Some(format!("{host}/{repository}:{tag}")),
        _ => Some(format!("{host}/{repository}@sha256:{tag}")),
    }
}

/// A text of the builder, with the images as the build calls them.
pub(crate) fn shown(text: &str, port: u16) -> String {
    let host = format!("127.0.0.1:{port}/");
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(&host) {
        shown.push_str(before);
        rest = match named(after) {
            Some((name, rest)) => {
                shown.push_str(&name);
                rest
            }
            None => {
                shown.push_str(&host);
                after
            }
        };
    }
    shown.push_str(rest);
    shown
}

/// The image that a text begins with, as `TOKEN/n/HOST/REPOSITORY:TAG@DIGEST`, and what follows it.
fn named(text: &str) -> Option<(String, &str)> {
    let until = |text: &str, is_part: fn(char) -> bool| text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (path, rest) =
        text.split_at(until(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._/-".contains(c)));
    let (token, path) = path.split_once('/')?;
    if token.len() != 32 || token.contains(|c: char| !c.is_ascii_hexdigit()) {
        return None;
    }
    let rest = rest.strip_prefix(':')?;
    let (tag, rest) = rest.split_at(until(rest, |c| c.is_ascii_alphanumeric() || "_.-".contains(c)));
    let name = match path {
        "out" => "the node's images".to_owned(),
        path => meaning(path, tag).filter(|_| !tag.is_empty())?,
    };
    // That of the manifest here, which is nowhere else.
    let digest = rest.strip_prefix("@sha256:").and_then(|rest| rest.split_at_checked(64));
    match digest {
        Some((hex, rest)) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => Some((name, rest)),
        _ => Some((name, rest)),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    /// What the builder makes of a name: rules in order, again and again until none changes it.
    fn converted(name: &str) -> String {
        let policy = rules(4567, "t0ken");
        let mut name = format!("docker-image://{name}");
        for _ in 0..20 {
            let next = policy.rules.iter().find_map(|rule| {
                let regex = Regex::new(&rule.selector.as_ref().unwrap().identifier).unwrap();
                let to = rule.updates.as_ref().unwrap().identifier.as_str();
                let next = regex.is_match(&name).then(|| regex.replace(&name, to).into_owned());
                next.filter(|next| *next != name)
            });
            match next {
                Some(next) => name = next,
                None => return name.trim_start_matches("docker-image://").to_owned(),
            }
        }
        panic!("{name} is converted without end");
    }

    #[test]
    fn every_name_leads_here_once_and_back_to_itself() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, meant) in [
            ("docker.io/library/busybox:latest".to_owned(), "docker.io/library/busybox:latest".to_owned()),
            ("127.0.0.1:5000/a/b-c:1.2".to_owned(), "127.0.0.1:5000/a/b-c:1.2".to_owned()),
            ("localhost:45670/a:X_y".to_owned(), "localhost:45670/a:X_y".to_owned()),
            ("localhost:456/a:1".to_owned(), "localhost:456/a:1".to_owned()),
            (format!("quay.io/a/b@{digest}"), format!("quay.io/a/b@{digest}")),
            (format!("quay.io/a/b:1@{digest}"), format!("quay.io/a/b@{digest}")),
            (format!("h.example:5000/a:1@{digest}"), format!("h.example:5000/a@{digest}")),
        ] {
            let here = converted(&name);
            let rest = here.strip_prefix("127.0.0.1:4567/t0ken/").unwrap_or_else(|| panic!("{name}: {here}"));
            let (path, tag) = rest.rsplit_once(':').unwrap();
            assert_eq!(meaning(path, tag).unwrap(), meant, "{name}: {here}");
            // As the builder pins it.
            let pinned = format!("{here}@{digest}");
            assert_eq!(converted(&pinned), pinned);
        }
    }

    #[test]
    fn people_read_the_name_that_the_build_has() {
        let token = "0123456789abcdef".repeat(2);
        let digest = format!("sha256:{}", "a".repeat(64));
        let here = format!("127.0.0.1:4567/{token}");
        for (text, read) in [
            (
                format!("[1/2] FROM {here}/n/docker.io/library/a:1@{digest}"),
                "[1/2] FROM docker.io/library/a:1".to_owned(),
            ),
            (
                format!("pushing manifest for {here}/out:built@{digest} done"),
                "pushing manifest for the node's images done".to_owned(),
            ),
            (format!("{here}/p/h.example/5000/a:1: not found"), "h.example:5000/a:1: not found".to_owned()),
            (
                format!("x {here}/d/quay.io/a:{} y {here}/n/quay.io/b:2", "b".repeat(64)),
                format!("x quay.io/a@sha256:{} y quay.io/b:2", "b".repeat(64)),
            ),
            (format!("FROM {here}/n/docker.io/a:1@sha256:ab"), "FROM docker.io/a:1@sha256:ab".to_owned()),
        ] {
            assert_eq!(shown(&text, 4567), read);
        }
        for text in [
            "",
            "127.0.0.1:4567/",
            &format!("{here}/x/a:1"),
            &format!("{here}/n/docker.io/a"),
            "127.0.0.1:4567/context/t:1",
            &format!("127.0.0.1:45/{token}/n/docker.io/a:1"),
        ] {
            assert_eq!(shown(text, 4567), text);
        }
    }

    #[test]
    fn a_path_of_no_kind_means_nothing() {
        for path in ["", "n", "n/docker.io", "x/docker.io/a", "p/h/5000"] {
            assert_eq!(meaning(path, "latest"), None, "{path}");
        }
    }
}
