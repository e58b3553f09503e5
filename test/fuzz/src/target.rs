//! One target.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One parser, or a few that belong together.
#[derive(Debug)]
pub struct Target {
    /// Its name, and its folder in `corpus`.
    pub name: &'static str,
    /// Longest input.
    pub length: usize,
    /// Memory that an input may take, in bytes: this, and [`Target::factor`] times its length.
    pub memory: usize,
    /// See [`Target::memory`].
    pub factor: usize,
    /// Well-formed inputs, made by husk's own code or another's.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads the bytes; panics when something is wrong.
    pub run: fn(&[u8]),
}

impl Target {
    /// Inputs that are kept in the repository.
    pub fn corpus(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.into_iter().filter_map(|path| fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
    }
}
