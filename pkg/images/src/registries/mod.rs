//! containers-registries.conf(5), version 2, read as it stands on a node of CRI-O or podman: which locations are asked for an
//! image, and what a name without a registry means.
//!
//! | module | what |
//! | --- | --- |
//! | `file` | one file, checked by itself; its mistakes by line |
//! | `locations` | the longest prefix that fits a name, and the locations that it leads to |
//! | `names` | names without a registry: aliases, then the registries to search |
//!
//! The main file comes first, then the `*.conf` of the directory beside it by name: a `[[registry]]` of a later file replaces
//! the one with the same prefix, and so does a list, a mode or an alias (containers-registries.conf.d(5)). Keys that husk does
//! not know are passed over, as the containers libraries do.

mod file;
mod locations;
mod names;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use file::{File, Registry, ShortNames};
pub(crate) use locations::Location;

use crate::{ImageError, Result};

/// Bytes of a file.
const FILE_MAX: u64 = 1 << 20;
/// Files in the directory of drop-ins.
const DROP_INS_MAX: usize = 1000;

/// A registries.conf with its drop-ins. A value never changes; a reload replaces it.
#[derive(Debug, Clone)]
pub struct RegistriesConf {
    path: PathBuf,
    /// By prefix.
    registries: BTreeMap<String, Registry>,
    search: Vec<String>,
    /// The file that says which registries are searched.
    search_from: PathBuf,
    short_names: ShortNames,
    aliases: BTreeMap<String, Option<String>>,
}

impl RegistriesConf {
    /// Reads `path` and `<path>.d/*.conf`.
    ///
    /// # Errors
    /// [`ImageError::Registries`] with the file, the line, and what is to be done: a file that is not there, is no TOML, is of
    /// the first version of the format, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        let mut conf = Self {
            path: path.to_owned(),
            registries: BTreeMap::new(),
            search: Vec::new(),
            search_from: path.to_owned(),
            short_names: ShortNames::Search,
            aliases: BTreeMap::new(),
        };
        conf.add(path, file::parse(path, &read(path)?)?);
        for drop_in in drop_ins(path)? {
            conf.add(&drop_in, file::parse(&drop_in, &read(&drop_in)?)?);
        }
        Ok(conf)
    }

    /// The main file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn add(&mut self, path: &Path, file: File) {
        self.registries.extend(file.registries);
        if let Some(search) = file.search {
            self.search = search;
            path.clone_into(&mut self.search_from);
        }
        if let Some(mode) = file.short_names {
            self.short_names = mode;
        }
        self.aliases.extend(file.aliases);
    }
}

fn refused(path: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::Registries { path: path.to_owned(), line: None, reason: reason.into() }
}

fn read(path: &Path) -> Result<String> {
    let length = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if length > FILE_MAX {
        return Err(refused(path, format!("has {length} bytes; at most {FILE_MAX} are read")));
    }
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            refused(path, "there is no such file: correct images.registries_conf, or leave the key empty")
        }
        _ => refused(path, error.to_string()),
    }
}

/// `<path>.d/*.conf` by name; directories in it are not looked into.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refused(&directory, error.to_string())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| refused(&directory, error.to_string()))?.path();
        if path.extension().is_some_and(|extension| extension == "conf") && !path.is_dir() {
            found.push(path);
        }
        if found.len() > DROP_INS_MAX {
            return Err(refused(&directory, format!("more than {DROP_INS_MAX} files")));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads what a fuzzer wrote and asks it for names.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(text: &str) {
    let path = Path::new("/fuzz");
    let Ok(file) = file::parse(path, text) else { return };
    let mut conf = RegistriesConf {
        path: path.to_owned(),
        registries: BTreeMap::new(),
        search: Vec::new(),
        search_from: path.to_owned(),
        short_names: ShortNames::Search,
        aliases: BTreeMap::new(),
    };
    conf.add(path, file);
    for name in ["busybox", "a/b:c", "docker.io/library/busybox", "x.example.com:5000/a/b"] {
        for candidate in conf.candidates(name).unwrap_or_default() {
            let _refused = conf.locations(&candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_replaces_what_an_earlier_one_says_of_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("registries.conf");
        let drop_in =
            |name: &str, text: &str| fs::write(dir.path().join("registries.conf.d").join(name), text);
        fs::write(
            &main,
            "unqualified-search-registries = [\"a.example\"]\nshort-name-mode = \"enforcing\"\n\
             [[registry]]\nlocation = \"b.example\"\nblocked = true\n[[registry]]\nlocation = \"kept.example\"\n\
             [aliases]\nx = \"a.example/x\"\ny = \"a.example/y\"\n",
        )
        .unwrap();
        fs::create_dir_all(dir.path().join("registries.conf.d/sub.conf")).unwrap();
        drop_in("20.conf", "unqualified-search-registries = []\n[aliases]\nx = \"b.example/x\"\n").unwrap();
        drop_in("10.conf", "short-name-mode = \"permissive\"\n[[registry]]\nlocation = \"b.example\"\n")
            .unwrap();
        drop_in("30.conf.off", "not read").unwrap();
        let conf = RegistriesConf::load(&main).unwrap();
        assert!(conf.search.is_empty() && conf.search_from.ends_with("20.conf"));
        assert_eq!(conf.short_names, ShortNames::Search);
        assert!(!conf.registries["b.example"].blocked && conf.registries.contains_key("kept.example"));
        assert_eq!(conf.aliases["x"].as_deref(), Some("b.example/x"));
        assert_eq!(conf.aliases["y"].as_deref(), Some("a.example/y"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("registries.conf");
        let error = RegistriesConf::load(&main).unwrap_err().to_string();
        assert!(
            error.contains(main.to_str().unwrap()) && error.contains("images.registries_conf"),
            "{error}"
        );
        fs::write(&main, "").unwrap();
        fs::create_dir(dir.path().join("registries.conf.d")).unwrap();
        let drop_in = dir.path().join("registries.conf.d/a.conf");
        fs::write(&drop_in, "[registries.search]\nregistries = []\n").unwrap();
        let error = RegistriesConf::load(&main).unwrap_err().to_string();
        assert!(error.contains("a.conf:1: "), "{error}");
    }
}
