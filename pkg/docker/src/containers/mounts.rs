//! What is mounted into a container: from `Binds`, `Mounts`, `Volumes`, `VolumesFrom` and `Tmpfs` to one list.

use std::{collections::BTreeMap, path::Path};

use husk_model::{Mount, MountSource, Propagation};
use serde::{Deserialize, Serialize};

use crate::{
    api::container::{Config, HostConfig, MountRequest},
    error::{Failure, Result},
    volumes::{Source, Volume},
};

/// Longest list. A kernel has a bound of its own on mounts.
const MOST: usize = 1024;

/// Something mounted, as `docker inspect` lists it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Of a volume.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// Path on the node, or the image.
    pub(crate) source: String,
    /// Place in the container.
    pub(crate) destination: String,
    /// `local`, of a volume.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) driver: String,
    /// Options as they were given.
    pub(crate) mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub(crate) rw: bool,
    /// Of a bind.
    pub(crate) propagation: String,
    /// What inspection does not show.
    #[serde(rename = "husk", default, skip_serializing_if = "Option::is_none")]
    pub(crate) besides: Option<Besides>,
}

/// What inspection does not show.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Besides {
    /// The image's files at the place do not come into a new volume.
    pub(crate) no_copy: bool,
    /// Below the root of the image or of the volume.
    pub(crate) subpath: String,
    /// Options of tmpfs.
    pub(crate) options: Vec<String>,
}

/// A volume that has to be there: its name (empty: made up), how it is made, and its place in the list.
#[derive(Debug)]
pub(crate) struct VolumeWanted {
    /// Index in [`Wanted::points`].
    pub(crate) at: usize,
    /// How it is made.
    pub(crate) options: BTreeMap<String, String>,
    /// Driver.
    pub(crate) driver: String,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// What a request wants mounted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// By place; volumes have no source yet.
    pub(crate) points: Vec<MountPoint>,
    /// Volumes among them.
    pub(crate) volumes: Vec<VolumeWanted>,
}

impl Wanted {
    /// Reads a request. `from` are the mounts of the containers that `VolumesFrom` names, with whether they may be written. Of two
    /// for one place the first kind counts: binds, mounts, tmpfs, then other containers', then the image's and the request's volumes.
    ///
    /// # Errors
    /// 400 with what is wrong.
    pub(crate) fn new(config: &Config, host: &HostConfig, from: Vec<(MountPoint, bool)>) -> Result<Self> {
        let mut wanted = Self::default();
        for bind in host.binds.iter().flatten() {
            wanted.add(bind_point(bind)?, None, Twice::Refused)?;
        }
        for mount in host.mounts.iter().flatten() {
            let (point, volume) = mount_point(mount)?;
            wanted.add(point, volume, Twice::Refused)?;
        }
        for (place, options) in host.tmpfs.iter().flatten() {
            wanted.add(tmpfs_point(place, options)?, None, Twice::Refused)?;
        }
        for (point, writable) in from {
            wanted.add(MountPoint { rw: point.rw && writable, ..point }, None, Twice::Left)?;
        }
        for place in config.volumes.iter().flat_map(BTreeMap::keys) {
            let destination = absolute(place)?;
            let point = MountPoint { kind: "volume".into(), destination, rw: true, ..MountPoint::default() };
            wanted.add(point, None, Twice::Left)?;
        }
        Ok(wanted)
    }

    fn add(&mut self, point: MountPoint, volume: Option<VolumeWanted>, twice: Twice) -> Result<()> {
        if self.points.iter().any(|other| other.destination == point.destination) {
            return match twice {
                Twice::Left => Ok(()),
                Twice::Refused => Err(Failure::bad(format!("Duplicate mount point: {}", point.destination))),
            };
        }
        if self.points.len() == MOST {
            return Err(Failure::bad(format!("more than {MOST} mounts")));
        }
        // One that is another container's is there already.
        if point.kind == "volume" && point.source.is_empty() {
            let made = VolumeWanted {
                at: self.points.len(),
                options: BTreeMap::new(),
                driver: String::new(),
                labels: BTreeMap::new(),
            };
            self.volumes.push(VolumeWanted { at: self.points.len(), ..volume.unwrap_or(made) });
        }
        self.points.push(point);
        Ok(())
    }
}

/// What a second mount for the same place means.
#[derive(Clone, Copy)]
enum Twice {
    Refused,
    Left,
}

/// A path in a container.
pub(crate) fn absolute(path: &str) -> Result<String> {
    let shown: String = path.chars().take(200).collect();
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Failure::bad(format!("invalid mount path: '{shown}' mount path must be absolute")));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    match parts.is_empty() {
        true => Err(Failure::bad("invalid specification: destination can't be '/'")),
        false => Ok(format!("/{}", parts.join("/"))),
    }
}

/// `source:place[:options]`
fn bind_point(text: &str) -> Result<MountPoint> {
    let wrong = || {
        Failure::bad(format!(
            "invalid volume specification: '{}'",
            text.chars().take(200).collect::<String>()
        ))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, place, mode) = match parts[..] {
        [place] => ("", place, ""),
        // `place:ro` is an anonymous volume with options.
        [first, second] if !second.starts_with('/') && first.starts_with('/') => ("", first, second),
        [source, place] => (source, place, ""),
        [source, place, mode] if !source.is_empty() => (source, place, mode),
        _ => return Err(wrong()),
    };
    let mut point = MountPoint {
        destination: absolute(place)?,
        mode: mode.to_owned(),
        rw: true,
        kind: if source.starts_with('/') { "bind" } else { "volume" }.to_owned(),
        ..MountPoint::default()
    };
    let mut besides = Besides::default();
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => {}
            "ro" => point.rw = false,
            "nocopy" if point.kind == "volume" => besides.no_copy = true,
            // SELinux labels, and hints for Docker Desktop.
            "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            option if point.kind == "bind" && is_propagation(option) => point.propagation = option.to_owned(),
            _ => {
                return Err(Failure::bad(format!(
                    "invalid mode: {}",
                    mode.chars().take(80).collect::<String>()
                )));
            }
        }
    }
    if point.kind == "bind" {
        point.source = source.to_owned();
        if point.propagation.is_empty() {
            point.propagation = "rprivate".to_owned();
        }
    } else {
        point.name = source.to_owned();
        point.driver = "local".to_owned();
        point.besides = Some(besides);
    }
    Ok(point)
}

fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared")
}

fn mount_point(mount: &MountRequest) -> Result<(MountPoint, Option<VolumeWanted>)> {
    let mut point = MountPoint {
        kind: mount.kind.clone(),
        destination: absolute(&mount.target)?,
        rw: !mount.read_only,
        ..MountPoint::default()
    };
    match mount.kind.as_str() {
        "bind" => {
            let options = mount.bind_options.clone().unwrap_or_default();
            if !Path::new(&mount.source).is_absolute() {
                return Err(Failure::bad(
                    "invalid mount config for type \"bind\": invalid mount path: mount path must be absolute",
                ));
            }
            if !options.create_mountpoint && !Path::new(&mount.source).exists() {
                return Err(Failure::bad(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    mount.source
                )));
            }
            point.source = mount.source.clone();
            point.propagation = match options.propagation.as_str() {
                "" => "rprivate".to_owned(),
                word if is_propagation(word) => word.to_owned(),
                _ => {
                    return Err(Failure::bad(
                        "invalid mount config for type \"bind\": invalid propagation mode",
                    ));
                }
            };
            Ok((point, None))
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            let driver = options.driver_config.unwrap_or_default();
            point.name = mount.source.clone();
            point.driver = "local".to_owned();
            point.mode = "z".to_owned();
            if !options.subpath.is_empty() && mount.source.is_empty() {
                return Err(Failure::bad(
                    "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
                ));
            }
            // A volume in which the path is there is no new one.
            let no_copy = options.no_copy || !options.subpath.is_empty();
            let subpath = relative(&options.subpath)?;
            point.besides = Some(Besides { no_copy, subpath, ..Besides::default() });
            let wanted =
                VolumeWanted { at: 0, options: driver.options, driver: driver.name, labels: options.labels };
            Ok((point, Some(wanted)))
        }
        "tmpfs" => {
            let asked = mount.tmpfs_options.clone().unwrap_or_default();
            let mut options: Vec<String> = Vec::new();
            if asked.size_bytes > 0 {
                options.push(format!("size={}", asked.size_bytes));
            }
            if asked.mode != 0 {
                options.push(format!("mode={:o}", asked.mode));
            }
            options.extend(asked.options.iter().flatten().map(|words| words.join("=")));
            Ok((tmpfs_point(&mount.target, &options.join(","))?, None))
        }
        "image" => {
            point.source = mount.source.clone();
            let subpath =
                mount.image_options.as_ref().map(|options| options.subpath.as_str()).unwrap_or_default();
            point.besides = Some(Besides { subpath: relative(subpath)?, ..Besides::default() });
            point.rw = false;
            Ok((point, None))
        }
        other => Err(Failure::bad(format!(
            "mount type {:?} is none of bind, volume, tmpfs, image",
            other.chars().take(80).collect::<String>()
        ))),
    }
}

/// A path below something, without a way out.
fn relative(path: &str) -> Result<String> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
        let path: String = path.chars().take(200).collect();
        return Err(Failure::bad(format!(
            "invalid subpath {path:?}: it must be relative and lead nowhere out"
        )));
    }
    Ok(path.to_owned())
}

fn tmpfs_point(place: &str, options: &str) -> Result<MountPoint> {
    const KNOWN: [&str; 22] = [
        "size",
        "mode",
        "uid",
        "gid",
        "nr_inodes",
        "nr_blocks",
        "mpol",
        "huge",
        "rw",
        "ro",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "atime",
        "noatime",
        "relatime",
        "strictatime",
    ];
    let options: Vec<String> =
        options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    let name = |option: &str| option.split_once('=').map_or(option.to_owned(), |(name, _)| name.to_owned());
    if let Some(bad) = options.iter().find(|option| !KNOWN.contains(&name(option).as_str())) {
        return Err(Failure::bad(format!(
            "invalid tmpfs option {:?}",
            bad.chars().take(80).collect::<String>()
        )));
    }
    // As dockerd: noexec, nosuid, nodev, unless the opposite is asked for.
    let mut all: Vec<String> = Vec::new();
    for (default, opposite) in [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")] {
        if !options.iter().any(|option| option == opposite) {
            all.push(default.to_owned());
        }
    }
    let rw = !options.iter().any(|option| option == "ro");
    all.extend(options.into_iter().filter(|option| !matches!(option.as_str(), "ro" | "rw")));
    Ok(MountPoint {
        kind: "tmpfs".to_owned(),
        destination: absolute(place)?,
        rw,
        besides: Some(Besides { options: all, ..Besides::default() }),
        ..MountPoint::default()
    })
}

/// A mount as the engine is asked for it. `volume` is that of a mount of a volume.
///
/// # Errors
/// 400 for a volume whose filesystem a container cannot be given.
pub(crate) fn to_engine(point: &MountPoint, volume: Option<&Volume>) -> Result<Mount> {
    let besides = point.besides.clone().unwrap_or_default();
    let mut readonly = !point.rw;
    let source = match (point.kind.as_str(), volume) {
        ("tmpfs", _) => MountSource::Tmpfs { options: besides.options },
        ("image", _) => {
            MountSource::Image { reference: point.source.clone(), sub_path: besides.subpath.clone() }
        }
        ("volume", Some(volume)) => match volume.source() {
            Source::Own(path) => below(path.display().to_string(), besides.subpath),
            Source::Bind { path, read_only } => {
                readonly |= read_only;
                below(path.display().to_string(), besides.subpath)
            }
            Source::Mount { .. } if !besides.subpath.is_empty() => {
                return Err(Failure::bad(format!(
                    "volume {}: it is new in each container, so there is no {:?} in it to mount",
                    volume.name, besides.subpath
                )));
            }
            Source::Mount { kind, options, .. } if kind == "tmpfs" => MountSource::Tmpfs { options },
            Source::Mount { kind, .. } => {
                return Err(Failure::bad(format!(
                    "volume {}: husk mounts bind and tmpfs volumes; mount the {kind} filesystem on the node and bind it",
                    volume.name
                )));
            }
        },
        _ => MountSource::HostPath(point.source.clone()),
    };
    Ok(Mount {
        container_path: point.destination.clone(),
        source,
        readonly,
        recursive_readonly: false,
        selinux_relabel: point.mode.split(',').any(|option| matches!(option, "z" | "Z")),
        propagation: match point.propagation.as_str() {
            "shared" | "rshared" => Propagation::Bidirectional,
            "slave" | "rslave" => Propagation::HostToContainer,
            _ => Propagation::Private,
        },
        options: Vec::new(),
        id_mapping: None,
    })
}

/// A directory, or what is at a path below it.
fn below(root: String, sub_path: String) -> MountSource {
    match sub_path.is_empty() {
        true => MountSource::HostPath(root),
        false => MountSource::Below { root, sub_path },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(host: &str) -> Result<Wanted> {
        let host: HostConfig = serde_json::from_str(host).unwrap();
        Wanted::new(&Config::default(), &host, Vec::new())
    }

    #[test]
    fn a_bind_has_a_source_a_place_and_options() {
        let binds = wanted(r#"{"Binds":["/srv:/data:ro,rslave","cache:/var/cache","/plain"]}"#).unwrap();
        let shown: Vec<_> = binds
            .points
            .iter()
            .map(|point| (point.kind.as_str(), point.source.as_str(), point.name.as_str(), point.rw))
            .collect();
        assert_eq!(
            shown,
            [("bind", "/srv", "", false), ("volume", "", "cache", true), ("volume", "", "", true)]
        );
        assert_eq!(binds.points[0].propagation, "rslave");
        assert_eq!(binds.volumes.iter().map(|volume| volume.at).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for host in [
            r#"{"Binds":["/a:b"]}"#,
            r#"{"Binds":["/a:/"]}"#,
            r#"{"Binds":["/a:/b:sideways"]}"#,
            r#"{"Binds":["/a:/b:ro:x"]}"#,
            r#"{"Binds":["/a:/b","/c:/b/"]}"#,
            r#"{"Mounts":[{"Type":"bind","Source":"/nonexistent/husk","Target":"/b"}]}"#,
            r#"{"Mounts":[{"Type":"npipe","Source":"x","Target":"/b"}]}"#,
            r#"{"Mounts":[{"Type":"volume","Source":"x","Target":"/b","VolumeOptions":{"Subpath":"/x"}}]}"#,
            r#"{"Mounts":[{"Type":"volume","Source":"x","Target":"/b","VolumeOptions":{"Subpath":"a/../../b"}}]}"#,
            r#"{"Mounts":[{"Type":"volume","Target":"/b","VolumeOptions":{"Subpath":"x"}}]}"#,
            r#"{"Tmpfs":{"/t":"context=x"}}"#,
        ] {
            assert_eq!(wanted(host).unwrap_err().status().as_u16(), 400, "{host}");
        }
    }

    #[test]
    fn a_part_of_a_volume_is_looked_up_below_it_and_gets_nothing_of_the_image() {
        let wanted = wanted(
            r#"{"Mounts":[{"Type":"volume","Source":"x","Target":"/b","VolumeOptions":{"Subpath":"a/b"}}]}"#,
        );
        let besides = wanted.unwrap().points[0].besides.clone().unwrap();
        assert!(besides.no_copy);
        let source = below("/volumes/x".to_owned(), besides.subpath);
        assert_eq!(source, MountSource::Below { root: "/volumes/x".to_owned(), sub_path: "a/b".to_owned() });
        assert_eq!(below("/v".to_owned(), String::new()), MountSource::HostPath("/v".to_owned()));
    }

    #[test]
    fn memory_is_mounted_without_exec_unless_it_is_asked_for() {
        let options = |host: &str| wanted(host).unwrap().points[0].besides.clone().unwrap().options.join(",");
        assert_eq!(options(r#"{"Tmpfs":{"/t":"size=1m"}}"#), "noexec,nosuid,nodev,size=1m");
        assert_eq!(options(r#"{"Tmpfs":{"/t":"exec"}}"#), "nosuid,nodev,exec");
    }

    #[test]
    fn a_place_is_taken_once_and_the_image_s_volumes_give_way() {
        let config: Config = serde_json::from_str(r#"{"Volumes":{"/data":{},"/other":{}}}"#).unwrap();
        let host: HostConfig = serde_json::from_str(r#"{"Binds":["/srv:/data"]}"#).unwrap();
        let wanted = Wanted::new(&config, &host, Vec::new()).unwrap();
        let places: Vec<_> = wanted.points.iter().map(|point| point.destination.as_str()).collect();
        assert_eq!(places, ["/data", "/other"]);
        assert_eq!(wanted.points[0].kind, "bind");
    }
}
