//! The workspace's crates as cargo sees them.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::tree::root;

/// One crate of the workspace.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// Crate name.
    pub name: String,
    /// Its folder, from the repository's root.
    pub folder: PathBuf,
    /// `package.metadata.husk.layer`.
    pub layer: Option<u64>,
    /// Names of the crates it depends on, development dependencies left out.
    pub dependencies: Vec<String>,
    /// The files where its library, programs, tests and examples begin, from the repository's root.
    pub entries: Vec<PathBuf>,
}

/// The workspace's crates.
///
/// # Errors
/// When cargo fails or prints something else than its metadata format.
pub fn packages() -> io::Result<Vec<Package>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let top = metadata["workspace_root"]
        .as_str()
        .ok_or_else(|| io::Error::other("cargo metadata names no root"))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or_else(|| io::Error::other("cargo metadata lists no packages"))?;
    Ok(packages.iter().map(|package| read(package, Path::new(top))).collect())
}

fn read(package: &Value, top: &Path) -> Package {
    let within = |path: &Value| {
        let path = Path::new(path.as_str().unwrap_or_default());
        path.strip_prefix(top).unwrap_or(path).to_owned()
    };
    Package {
        name: text(&package["name"]),
        folder: within(&package["manifest_path"]).parent().unwrap_or(Path::new("")).to_owned(),
        layer: package["metadata"]["husk"]["layer"].as_u64(),
        dependencies: each(&package["dependencies"])
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .map(|dependency| text(&dependency["name"]))
            .collect(),
        entries: each(&package["targets"])
            .filter(|target| each(&target["kind"]).all(|kind| kind.as_str() != Some("custom-build")))
            .map(|target| within(&target["src_path"]))
            .collect(),
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
