//! Finding devices in the spec directories.
//!
//! The directories are read anew for every request that names a device, so that a vendor's tool needs to tell nobody. Files are
//! `*.json`, `*.yaml` and `*.yml` right in a directory. Of directories, a later one wins over an earlier one; within one
//! directory a device described twice is described by nobody (CDI specification, "Discovery").

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Number, Value};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{CdiError, Edits, Name, name, spec};

/// The specs of a node with eight GPUs have some ten KiB.
const MAX_FILE: u64 = 4 << 20;
/// Far more than vendors install.
const MAX_FILES: usize = 1000;

/// What the named devices change, in the order of their names. The edits that a file has for all of its devices come once,
/// before those of its first device.
///
/// # Errors
/// [`CdiError`], which names the device.
pub fn load(dirs: &[PathBuf], names: &[Name]) -> Result<Edits, CdiError> {
    let mut edits = Edits::default();
    if names.is_empty() {
        return Ok(edits);
    }
    let library = Library::read(dirs);
    let mut begun: Vec<&Path> = Vec::new();
    for name in names {
        let (found, device) = library.find(name)?;
        if !begun.contains(&found.path.as_path()) {
            begun.push(&found.path);
            edits.add(name, &found.path, &found.spec.container_edits)?;
        }
        edits.add(name, &found.path, &device.container_edits)?;
    }
    Ok(edits)
}

/// All files that can be read, the last directory first.
#[derive(Default)]
struct Library {
    dirs: Vec<Vec<Found>>,
    broken: Vec<String>,
}

struct Found {
    path: PathBuf,
    spec: spec::File,
}

impl Library {
    fn read(dirs: &[PathBuf]) -> Self {
        let mut library = Self::default();
        for dir in dirs.iter().rev() {
            let mut found = Vec::new();
            for path in list(dir) {
                match read(&path) {
                    Ok(spec) => found.push(Found { path, spec }),
                    // It may be a file that has nothing to do with the request.
                    Err(reason) => library.broken.push(format!("{}: {reason}", path.display())),
                }
            }
            library.dirs.push(found);
        }
        library
    }

    fn find(&self, name: &Name) -> Result<(&Found, &spec::Device), CdiError> {
        for dir in &self.dirs {
            let devices = dir.iter().filter(|found| found.spec.kind == name.kind).flat_map(|found| {
                let of_name = found.spec.devices.iter().filter(|device| device.name == name.device);
                of_name.map(move |device| (found, device))
            });
            match devices.take(2).collect::<Vec<_>>()[..] {
                [] => {}
                [only] => return Ok(only),
                [first, second, ..] => {
                    return Err(CdiError::Conflict {
                        name: name.to_string(),
                        first: first.0.path.clone(),
                        second: second.0.path.clone(),
                    });
                }
            }
        }
        Err(CdiError::Unknown { name: name.to_string(), broken: self.broken.clone() })
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    // A directory that does not exist is one without files.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_spec = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|name| extension == *name))
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(is_spec).take(MAX_FILES).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<spec::File, String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    parse(&text, path.extension().is_some_and(|extension| extension == "json"))
}

pub(crate) fn parse(text: &str, json: bool) -> Result<spec::File, String> {
    let value =
        if json { serde_json::from_str(text).map_err(|error| error.to_string())? } else { from_yaml(text)? };
    let spec: spec::File = serde_json::from_value(value).map_err(|error| error.to_string())?;
    check(&spec)?;
    Ok(spec)
}

/// A regular file, and not an endless one.
fn read_text(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let status = file.metadata()?;
    if !status.is_file() || status.len() > MAX_FILE {
        return Err(io::Error::other(format!("is not a file of at most {MAX_FILE} bytes")));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn check(spec: &spec::File) -> Result<(), String> {
    let version = spec.cdi_version.trim_start_matches('v');
    if !["0.3.", "0.4.", "0.5.", "0.6.", "0.7.", "0.8.", "1.0.", "1.1."]
        .iter()
        .any(|known| version.starts_with(known))
    {
        return Err(format!("cdiVersion {:?} is not between 0.3.0 and 1.1.0", spec.cdi_version));
    }
    name::check_kind(&spec.kind).map_err(|reason| format!("kind {:?}: {reason}", spec.kind))?;
    for device in &spec.devices {
        name::check_device(&device.name).map_err(|reason| format!("device {:?}: {reason}", device.name))?;
    }
    Ok(())
}

fn from_yaml(text: &str) -> Result<Value, String> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    match &documents[..] {
        [document] => to_json(document),
        _ => Err(format!("has {} YAML documents, not one", documents.len())),
    }
}

fn to_json(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null | Yaml::BadValue => Value::Null,
        Yaml::Boolean(value) => Value::Bool(*value),
        Yaml::Integer(value) => Value::Number((*value).into()),
        Yaml::Real(text) => {
            let number = text.parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| format!("{text} is not a number"))?)
        }
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Array(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Yaml::Hash(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let key = key.as_str().ok_or("has a key that is not text")?;
                map.insert(key.to_owned(), to_json(value)?);
            }
            Value::Object(map)
        }
        Yaml::Alias(_) => return Err("has an alias that leads nowhere".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use husk_model::{Classify, Kind};

    use super::*;

    struct Dirs(tempfile::TempDir, Vec<PathBuf>);

    impl Dirs {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let dirs = vec![dir.path().join("etc"), dir.path().join("run"), dir.path().join("absent")];
            dirs[..2].iter().for_each(|dir| fs::create_dir(dir).unwrap());
            files.iter().for_each(|(path, text)| fs::write(dir.path().join(path), text).unwrap());
            Self(dir, dirs)
        }

        fn env(&self, names: &[&str]) -> Result<Vec<String>, CdiError> {
            let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
            load(&self.1, &names).map(|edits| edits.env)
        }
    }

    fn json(kind: &str, device: &str, env: &str) -> String {
        format!(
            r#"{{"cdiVersion":"0.6.0","kind":"{kind}","devices":[{{"name":"{device}","containerEdits":{{"env":["{env}"]}}}}],
                "containerEdits":{{"env":["ALL={env}"]}}}}"#
        )
    }

    #[test]
    fn devices_are_found_in_json_and_yaml_and_common_edits_come_once() {
        let yaml = "---\ncdiVersion: 0.5.0\nkind: v.com/net\ncontainerEdits: &all\n  env: [COMMON=1]\ndevices:\n\
            - name: \"0\"\n  containerEdits: {env: [A=0]}\n- name: eth1\n  containerEdits: {env: [A=1]}\n\
            - name: again\n  containerEdits: *all\n";
        let dirs = Dirs::new(&[("etc/a.json", &json("v.com/gpu", "g", "G=1")), ("run/b.yaml", yaml)]);
        assert_eq!(dirs.env(&["v.com/gpu=g"]).unwrap(), ["ALL=G=1", "G=1"]);
        assert_eq!(dirs.env(&["v.com/net=0", "v.com/net=eth1"]).unwrap(), ["COMMON=1", "A=0", "A=1"]);
        assert_eq!(dirs.env(&["v.com/net=again"]).unwrap(), ["COMMON=1", "COMMON=1"]);
        assert!(dirs.env(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_later_directory_wins_and_two_files_of_one_conflict() {
        let dirs = Dirs::new(&[
            ("etc/a.json", &json("v/c", "x", "FROM=etc")),
            ("run/a.json", &json("v/c", "x", "FROM=run")),
            ("etc/b.json", &json("v/c", "y", "N=1")),
            ("etc/c.json", &json("v/c", "y", "N=2")),
        ]);
        assert_eq!(dirs.env(&["v/c=x"]).unwrap()[1], "FROM=run");
        let error = dirs.env(&["v/c=y"]).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        let text = error.to_string();
        assert!(["v/c=y", "b.json", "c.json"].iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn an_unknown_device_is_named_with_the_files_that_may_have_had_it() {
        let dirs = Dirs::new(&[
            ("etc/good.json", &json("v/c", "x", "A=1")),
            ("etc/bad.json", "{"),
            ("etc/other.txt", "not a spec"),
            ("run/two.yaml", "a: 1\n---\nb: 2\n"),
        ]);
        for name in ["v/c=z", "v/other=x", "w/c=x"] {
            let error = dirs.env(&["v/c=x", name]).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound);
            let text = error.to_string();
            assert!([name, "bad.json", "two.yaml"].iter().all(|part| text.contains(part)), "{text}");
            assert!(!text.contains("other.txt"), "{text}");
        }
    }

    #[test]
    fn files_that_are_no_specs_of_a_known_version_are_not_used() {
        let good = json("v/c", "x", "A=1");
        for (what, bad) in [
            ("version", good.replace("0.6.0", "2.0.0")),
            ("kind", good.replace("v/c", "vc")),
            ("device name", good.replace("\"x\"", "\"../x\"")),
            ("unknown field", good.replace("\"devices\"", "\"extra\":1,\"devices\"")),
            ("alias bomb", "a: &a [1]\nb: *c\n".to_owned()),
        ] {
            let dirs = Dirs::new(&[("etc/a.json", &bad), ("etc/b.yaml", &bad)]);
            assert_eq!(dirs.env(&["v/c=x"]).unwrap_err().kind(), Kind::NotFound, "{what}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_passed_over() {
        let dirs = Dirs::new(&[("etc/a.json", &json("v/c", "x", "A=1"))]);
        std::os::unix::fs::symlink("/dev/zero", dirs.1[0].join("zero.json")).unwrap();
        let fifo = dirs.1[0].join("fifo.yaml");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(dirs.env(&["v/c=x"]).unwrap()[1], "A=1");
        drop(dirs.0);
    }
}
