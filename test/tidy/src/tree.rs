//! The files that a check reads: the repository's, or a made-up few.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Text files by their path from the repository's root.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// Every text file that git tracks or would: a new one counts before it is added.
    ///
    /// # Errors
    /// When git cannot be run in the checkout.
    pub fn of_the_repository() -> io::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        // A file that is removed but still in git's index, and what is not text, is of no concern.
        Ok(Self(
            names
                .lines()
                .filter_map(|name| Some((PathBuf::from(name), fs::read_to_string(root().join(name)).ok()?)))
                .collect(),
        ))
    }

    /// A tree for a test of a check.
    pub fn made_up(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }

    /// The text of one file.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<&str> {
        self.0.get(path.as_ref()).map(String::as_str)
    }

    /// Path and text of every file whose path ends in `suffix`.
    pub fn ending_in(&self, suffix: &str) -> impl Iterator<Item = (&Path, &str)> {
        self.0
            .iter()
            .filter(move |(path, _)| path.to_string_lossy().ends_with(suffix))
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
