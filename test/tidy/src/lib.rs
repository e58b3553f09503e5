//! Checks of the repository itself: layers, module docs, unsafe code.
//!
//! The checks are in `tests/`; this library only finds the files they read.
#![forbid(unsafe_code)]

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file git tracks whose name ends in `suffix`, relative to the root.
///
/// # Errors
/// When git cannot be run in the checkout.
pub fn tracked(suffix: &str) -> io::Result<Vec<PathBuf>> {
    let output = Command::new("git").arg("ls-files").current_dir(root()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.ends_with(suffix))
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .collect())
}

/// One crate of the workspace.
#[derive(Debug)]
pub struct Package {
    /// Crate name.
    pub name: String,
    /// `package.metadata.husk.layer`.
    pub layer: Option<u64>,
    /// Names of the crates it depends on, development dependencies left out.
    pub dependencies: Vec<String>,
}

/// The workspace's crates as cargo sees them.
///
/// # Errors
/// When cargo fails or prints something else than its metadata format.
pub fn packages() -> io::Result<Vec<Package>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or_else(|| io::Error::other("cargo metadata lists no packages"))?;
    Ok(packages
        .iter()
        .map(|package| Package {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            layer: package["metadata"]["husk"]["layer"].as_u64(),
            dependencies: package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect(),
        })
        .collect())
}
