//! Which of an archive's files are for the builder alone.
//!
//! A client of the classic builder leaves out what `.dockerignore` names, but for the Dockerfile and `.dockerignore` itself, which the builder needs. Where
//! they are named too, the builder takes them away before the build sees its files. Patterns are Go's `filepath.Match` with `**`, and `!` for what stays.

use std::{fs::File, io::Read, os::unix::fs::FileExt, sync::Arc};

use husk_images::file_in_archive;
use regex::Regex;

const NAME: &str = ".dockerignore";
/// Longest file of patterns that is read.
const LONGEST: u64 = 1 << 20;
/// Patterns that are looked at.
const PATTERNS: usize = 10_000;
/// Longest pattern.
const PATTERN: usize = 4096;

/// Of `.dockerignore` and the Dockerfile those that the former names. What cannot be read here is for BuildKit to tell of.
pub(super) async fn of(archive: &Arc<File>, dockerfile: &str) -> Vec<String> {
    let (archive, dockerfile) = (Arc::clone(archive), clean(dockerfile));
    let named = move || {
        let found = file_in_archive(Reading { file: &archive, at: 0 }, NAME, LONGEST);
        let patterns = found.ok().flatten().map(|bytes| Patterns::parse(&String::from_utf8_lossy(&bytes)));
        let names = [NAME.to_owned(), dockerfile];
        patterns
            .map_or_else(Vec::new, |patterns| names.into_iter().filter(|name| patterns.name(name)).collect())
    };
    tokio::task::spawn_blocking(named).await.unwrap_or_default()
}

/// A file from its beginning, for one of its readers.
struct Reading<'file> {
    file: &'file File,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.read_at(out, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// A path without `.` and `..`, from the archive's root.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The patterns of a `.dockerignore`, in order: the last one that fits decides.
struct Patterns(Vec<(Regex, bool)>);

impl Patterns {
    fn parse(text: &str) -> Self {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
        let lines =
            lines.filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        let pattern = |line: &str| {
            let (stays, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            // One that is none fits nothing; a client has refused it before.
            Some((expression(&clean(pattern))?, stays))
        };
        Self(lines.take(PATTERNS).filter_map(pattern).collect())
    }

    /// Whether they name a path, or a directory that it is in.
    fn name(&self, path: &str) -> bool {
        let mut named = false;
        for (expression, stays) in &self.0 {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if named == *stays && above.chain([path]).any(|path| expression.is_match(path)) {
                named = !stays;
            }
        }
        named
    }
}

/// A pattern as a regular expression.
fn expression(pattern: &str) -> Option<Regex> {
    if pattern.is_empty() || pattern.len() > PATTERN {
        return None;
    }
    let mut text = String::from("^");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                // `**/` is any number of directories, none too.
                rest.next_if_eq(&'/');
                text.push_str(if rest.peek().is_none() { ".*" } else { "(?:.*/)?" });
            }
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' => {
                let class: String = rest.by_ref().take_while(|c| *c != ']').collect();
                let (negated, class) =
                    class.strip_prefix('^').map_or(("", class.as_str()), |class| ("^", class));
                let range = |c: char| if c == '-' { "-".to_owned() } else { regex::escape(&c.to_string()) };
                text.push_str(&format!("[{negated}{}]", class.chars().map(range).collect::<String>()));
            }
            '\\' => text.push_str(&regex::escape(&rest.next()?.to_string())),
            c => text.push_str(&regex::escape(&c.to_string())),
        }
    }
    text.push('$');
    Regex::new(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_decides() {
        for (patterns, path, named) in [
            ("Dockerfile\n", "Dockerfile", true),
            (
                "ignored\nDockerfile\n.dockerignore\n!ignored/subdir/excepted-file\n\n#*",
                ".dockerignore",
                true,
            ),
            ("*", "Dockerfile", true),
            ("*\n!Dockerfile", "Dockerfile", false),
            ("!Dockerfile\n*", "Dockerfile", true),
            ("# Dockerfile\n Dockerfile.* ", "Dockerfile", false),
            ("Dockerfile.*", "Dockerfile.dev", true),
            ("docker", "docker/Dockerfile", true),
            ("*/Dockerfile", "docker/Dockerfile", true),
            ("*/Dockerfile", "Dockerfile", false),
            ("**/Dockerfile", "Dockerfile", true),
            ("**/Dockerfile", "a/b/Dockerfile", true),
            ("/./Dockerfile", "Dockerfile", true),
            ("a/**", "a/b/Dockerfile", true),
            ("[A-D]ocker?ile", "Dockerfile", true),
            ("[^D]ockerfile", "Dockerfile", false),
            ("Docker.ile", "Dockerfile", false),
            ("\\*", "Dockerfile", false),
            ("[", "Dockerfile", false),
            ("\u{feff}Dockerfile\r\n", "Dockerfile", true),
            ("", "Dockerfile", false),
        ] {
            assert_eq!(Patterns::parse(patterns).name(path), named, "{patterns:?} {path}");
        }
    }
}
