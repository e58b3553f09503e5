//! What `type`, `device` and `o` of a volume mean: how it is mounted where it is used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::error::{Failure, Result};

/// Options of the local driver. `size` asks for a quota, which needs a filesystem with project quotas set up for it.
const KNOWN: [&str; 3] = ["type", "device", "o"];
/// Longest value, as a page of mount(2)'s data.
const MAX: usize = 4096;

/// What a volume's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The volume's own directory.
    Own(PathBuf),
    /// A directory or file of the node, bound.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// May not be written.
        read_only: bool,
    },
    /// A filesystem that is mounted for the container.
    Mount {
        /// `tmpfs`, `nfs`, `ext4`…
        kind: String,
        /// What mount(8) calls the device; `tmpfs` has none that matters.
        device: String,
        /// Options, split at the commas.
        options: Vec<String>,
    },
}

/// Checks options when a volume is made.
///
/// # Errors
/// 400 with the option.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in options {
        if key == "size" {
            return Err(Failure::bad(
                "volume option \"size\": husk sets no quotas on volumes; use type=tmpfs with o=size=, or a filesystem of that size",
            ));
        }
        if !KNOWN.contains(&key.as_str()) {
            let key: String = key.chars().take(80).collect();
            return Err(Failure::bad(format!("invalid option: {key:?}")));
        }
        if value.len() > MAX || value.contains('\0') {
            return Err(Failure::bad(format!(
                "volume option {key:?}: longer than {MAX} bytes, or with a NUL"
            )));
        }
    }
    let has = |key: &str| options.get(key).is_some_and(|value| !value.is_empty());
    // As dockerd has it: any of them needs those that a mount cannot be without.
    if options.values().any(|value| !value.is_empty()) {
        if !has("device") {
            return Err(Failure::bad("missing device in volume options"));
        }
        if is_bind(options) {
            let device = Path::new(&options["device"]);
            if !device.is_absolute() {
                return Err(Failure::bad("volume option \"device\": a path to bind must be absolute"));
            }
        } else if !has("type") {
            return Err(Failure::bad("missing type in volume options"));
        }
    }
    Ok(())
}

fn is_bind(options: &BTreeMap<String, String>) -> bool {
    words(options).any(|word| word == "bind" || word == "rbind")
}

fn words(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    options
        .get("o")
        .into_iter()
        .flat_map(|words| words.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Where the files of a volume with these options come from; `own` is its directory.
pub(super) fn source(options: &BTreeMap<String, String>, own: PathBuf) -> Source {
    let text = |key: &str| options.get(key).cloned().unwrap_or_default();
    if text("device").is_empty() {
        return Source::Own(own);
    }
    if is_bind(options) {
        let read_only = words(options).any(|word| word == "ro");
        return Source::Bind { path: text("device").into(), read_only };
    }
    let options = words(options).map(str::to_owned).collect();
    Source::Mount { kind: text("type"), device: text("device"), options }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_say_where_the_files_come_from() {
        let own = PathBuf::from("/own");
        assert_eq!(source(&options(&[]), own.clone()), Source::Own(own.clone()));
        let bind = options(&[("type", "none"), ("device", "/srv"), ("o", "bind,ro")]);
        check(&bind).unwrap();
        assert_eq!(source(&bind, own.clone()), Source::Bind { path: "/srv".into(), read_only: true });
        let tmpfs = options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m, uid=5")]);
        check(&tmpfs).unwrap();
        let Source::Mount { kind, options, .. } = source(&tmpfs, own) else { panic!("a mount") };
        assert_eq!((kind.as_str(), options), ("tmpfs", vec!["size=1m".to_owned(), "uid=5".to_owned()]));
    }

    #[test]
    fn what_could_not_be_mounted_is_refused_when_it_is_made() {
        for pairs in [
            &[("colour", "red")][..],
            &[("size", "1g")],
            &[("type", "tmpfs")],
            &[("device", "/dev/sda1")],
            &[("type", "none"), ("device", "../etc"), ("o", "bind")],
            &[("type", "nfs"), ("device", "a\0b")],
        ] {
            assert_eq!(check(&options(pairs)).unwrap_err().status(), 400, "{pairs:?}");
        }
    }
}
