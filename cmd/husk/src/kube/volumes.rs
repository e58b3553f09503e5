//! Volumes of a pod: planned as mounts and files, made below directories of husk's own, and removed with the pod.
//!
//! ```text
//! /var/lib/husk-kube/<namespace>_<pod>/logs         what its containers write
//! /var/lib/husk-kube/<namespace>_<pod>/empty/<name> emptyDir
//! /run/husk-kube/<namespace>_<pod>/<name>/          ConfigMaps, Secrets, emptyDir of medium Memory
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use husk_proto::cri::v1;

use super::{
    environment::absent,
    manifest::{Data, Keyed},
    names,
    types::{Container, Keys, PodSpec, Volume},
};

/// Where the volumes of all pods are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    disk: PathBuf,
    memory: PathBuf,
}

impl Places {
    /// The usual ones, or all below a directory.
    pub(super) fn new(dir: Option<&Path>) -> Self {
        match dir {
            Some(dir) => Self::below(dir),
            None => Self { disk: "/var/lib/husk-kube".into(), memory: "/run/husk-kube".into() },
        }
    }

    /// All below a directory.
    pub(super) fn below(dir: &Path) -> Self {
        Self { disk: dir.join("disk"), memory: dir.join("memory") }
    }

    /// Those of one pod.
    pub(super) fn of(&self, uid: &str) -> Self {
        Self { disk: self.disk.join(uid), memory: self.memory.join(uid) }
    }

    /// Removes the directories of one pod, which is gone. Those that are not there are fine.
    ///
    /// # Errors
    /// In words.
    pub(super) fn remove(&self) -> Result<(), String> {
        for dir in [&self.disk, &self.memory] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("remove {}: {error}", dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A volume by its name in the pod.
#[derive(Debug, Clone)]
enum Planned {
    /// A path of the node that is there, or is made with the request.
    Path(PathBuf),
    /// A directory of ours, with these files: path, mode, content.
    Files(PathBuf, Vec<(String, u32, Vec<u8>)>),
    /// An empty one that everybody may write.
    Empty(PathBuf),
}

/// Volumes of a pod.
#[derive(Debug, Clone)]
pub(super) struct Volumes {
    places: Places,
    volumes: BTreeMap<String, Planned>,
}

impl Volumes {
    /// Plans the volumes of a pod, whose directories are `places`.
    ///
    /// # Errors
    /// In words, with the field.
    pub(super) fn plan(
        spec: &PodSpec,
        namespace: &str,
        data: &Data,
        places: &Places,
    ) -> Result<Self, String> {
        let mut volumes = BTreeMap::new();
        for (index, volume) in spec.volumes.iter().enumerate() {
            let field = format!("spec.volumes[{index}]");
            names::label(&format!("{field}.name"), &volume.name)?;
            let planned =
                one(volume, namespace, data, places).map_err(|reason| format!("{field}.{reason}"))?;
            if volumes.insert(volume.name.clone(), planned).is_some() {
                return Err(format!("{field}: two are called {:?}", volume.name));
            }
        }
        Ok(Self { places: places.clone(), volumes })
    }

    /// The directory of the pod's logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.places.disk.join("logs")
    }

    /// The mounts of a container.
    ///
    /// # Errors
    /// In words, with the field.
    pub(super) fn mounts(&self, container: &Container) -> Result<Vec<v1::Mount>, String> {
        let one = |(index, mount): (usize, &super::types::VolumeMount)| {
            let field = |name: &str| format!("volumeMounts[{index}].{name}");
            if !mount.mount_path.starts_with('/') {
                return Err(format!(
                    "{}: {:?} is not an absolute path",
                    field("mountPath"),
                    mount.mount_path
                ));
            }
            let volume = self
                .volumes
                .get(&mount.name)
                .ok_or_else(|| format!("{}: the pod has no volume {:?}", field("name"), mount.name))?;
            let (mut path, fixed) = match volume {
                Planned::Path(path) | Planned::Empty(path) => (path.clone(), false),
                Planned::Files(path, _) => (path.clone(), true),
            };
            if !mount.sub_path.is_empty() {
                // Files of ours have no links; anywhere else whoever writes there could lead the path out of the volume.
                names::below(&field("subPath"), &mount.sub_path)?;
                if !fixed {
                    return Err(format!("{}: is read for ConfigMaps and Secrets alone", field("subPath")));
                }
                path.push(&mount.sub_path);
            }
            Ok(v1::Mount {
                container_path: mount.mount_path.clone(),
                host_path: path.display().to_string(),
                readonly: mount.read_only || fixed,
                ..Default::default()
            })
        };
        container.volume_mounts.iter().enumerate().map(one).collect()
    }

    /// Makes what is ours.
    ///
    /// # Errors
    /// In words.
    pub(super) fn make(&self) -> Result<(), String> {
        directory(&self.logs(), 0o700)?;
        for volume in self.volumes.values() {
            match volume {
                Planned::Path(_) => {}
                Planned::Empty(path) => directory(path, 0o777)?,
                Planned::Files(path, files) => {
                    directory(path, 0o755)?;
                    files.iter().try_for_each(|(name, mode, content)| {
                        let file = path.join(name);
                        if let Some(parent) = file.parent() {
                            directory(parent, 0o755)?;
                        }
                        write(&file, *mode, content)
                            .map_err(|error| format!("write {}: {error}", file.display()))
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is ours.
    ///
    /// # Errors
    /// In words.
    pub(super) fn remove(&self) -> Result<(), String> {
        self.places.remove()
    }
}

fn one(volume: &Volume, namespace: &str, data: &Data, places: &Places) -> Result<Planned, String> {
    match (&volume.empty_dir, &volume.host_path, &volume.config_map, &volume.secret) {
        (Some(empty), None, None, None) => match empty.medium.as_str() {
            "" => Ok(Planned::Empty(places.disk.join("empty").join(&volume.name))),
            "Memory" => Ok(Planned::Empty(places.memory.join(&volume.name))),
            other => Err(format!("emptyDir.medium: {other:?} is neither empty nor Memory")),
        },
        (None, Some(host), None, None) => {
            if !host.path.starts_with('/') {
                return Err(format!("hostPath.path: {:?} is not an absolute path", host.path));
            }
            let path = PathBuf::from(&host.path);
            let there = match host.of_type.as_str() {
                "" | "DirectoryOrCreate" => true,
                "Directory" => path.is_dir(),
                "File" => path.is_file(),
                "Socket" | "CharDevice" | "BlockDevice" => path.exists(),
                other => return Err(format!("hostPath.type: {other:?} is not read")),
            };
            match there {
                true => Ok(Planned::Path(path)),
                false => Err(format!("hostPath: {:?} is no {} on this node", host.path, host.of_type)),
            }
        }
        (None, None, Some(keys), None) => files(keys, &keys.name, namespace, &data.config_maps)
            .map(|files| Planned::Files(places.memory.join(&volume.name), files))
            .map_err(|reason| format!("configMap.{reason}")),
        (None, None, None, Some(keys)) => files(keys, &keys.secret_name, namespace, &data.secrets)
            .map(|files| Planned::Files(places.memory.join(&volume.name), files))
            .map_err(|reason| format!("secret.{reason}")),
        _ => {
            Err(format!("{:?}: what is read is one of emptyDir, hostPath, configMap and secret", volume.name))
        }
    }
}

fn files(
    keys: &Keys,
    name: &str,
    namespace: &str,
    all: &BTreeMap<(String, String), Keyed>,
) -> Result<Vec<(String, u32, Vec<u8>)>, String> {
    let usual = mode("defaultMode", keys.default_mode.unwrap_or(0o644))?;
    let keyed = match all.get(&(namespace.to_owned(), name.to_owned())) {
        Some(keyed) => keyed,
        None if keys.optional => return Ok(Vec::new()),
        None => return Err(format!("name: {}", absent(name))),
    };
    if keys.items.is_empty() {
        return Ok(keyed.iter().map(|(key, value)| (key.clone(), usual, value.clone())).collect());
    }
    let item = |(index, item): (usize, &super::types::Item)| {
        let field = format!("items[{index}]");
        names::below(&format!("{field}.path"), &item.path)?;
        let mode = item.mode.map_or(Ok(usual), |wanted| mode(&format!("{field}.mode"), wanted))?;
        match keyed.get(&item.key) {
            Some(value) => Ok((item.path.clone(), mode, value.clone())),
            None => Err(format!("{field}.key: {name:?} has no key {:?}", item.key)),
        }
    };
    keys.items.iter().enumerate().map(item).collect()
}

fn mode(field: &str, mode: u32) -> Result<u32, String> {
    match mode <= 0o777 {
        true => Ok(mode),
        false => Err(format!("{field}: {mode} is not between 0 and 0777")),
    }
}

/// Makes a directory with this mode, and those above it for root alone.
fn directory(path: &Path, mode: u32) -> Result<(), String> {
    let failed = |error: io::Error| format!("make {}: {error}", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifest::Manifest;

    const DATA: &str =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: hidden, l: x}\n";

    fn planned(volumes: &str, mounts: &str, dir: &Path) -> Result<(Volumes, Vec<v1::Mount>), String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{volumes: [{volumes}], containers: [{{name: c, image: i, volumeMounts: [{mounts}]}}]}}\n{DATA}"
        );
        let manifest = Manifest::from_text(&text).unwrap();
        let pod = &manifest.pods[0];
        let volumes = Volumes::plan(&pod.spec, &pod.namespace, &manifest.data, &Places::below(dir).of("u"))?;
        let mounts = volumes.mounts(&pod.spec.containers[0])?;
        Ok((volumes, mounts))
    }

    #[test]
    fn files_and_directories_are_made_with_their_modes_and_go_again() {
        let dir = tempfile::tempdir().unwrap();
        let (volumes, mounts) = planned(
            "{name: s, secret: {secretName: s, defaultMode: 0400, items: [{key: k, path: a/b}]}}, {name: e, emptyDir: {}}",
            "{name: s, mountPath: /s}, {name: s, mountPath: /one, subPath: a/b}, {name: e, mountPath: /e}",
            dir.path(),
        )
        .unwrap();
        volumes.make().unwrap();
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read_to_string(&mounts[1].host_path).unwrap(), "hidden");
        assert_eq!((mode(&mounts[1].host_path), mode(&mounts[2].host_path)), (0o400, 0o777));
        assert_eq!(mounts.iter().map(|mount| mount.readonly).collect::<Vec<_>>(), [true, true, false]);
        assert!(!Path::new(&mounts[0].host_path).join("l").exists(), "not among its items");
        volumes.remove().unwrap();
        assert!(!Path::new(&mounts[0].host_path).exists() && !volumes.logs().exists());
        volumes.remove().unwrap();
    }

    #[test]
    fn what_leads_out_of_a_volume_or_is_not_there_is_refused_by_its_field() {
        let dir = tempfile::tempdir().unwrap();
        for (volumes, mounts, part) in [
            (
                "{name: s, secret: {secretName: s, items: [{key: k, path: ../x}]}}",
                "",
                "spec.volumes[0].secret.items[0].path",
            ),
            ("{name: s, secret: {secretName: s, items: [{key: z, path: x}]}}", "", "no key \"z\""),
            ("{name: s, secret: {secretName: t}}", "", "not in this file"),
            ("{name: s, configMap: {name: s}}", "", "not in this file"),
            ("{name: s, secret: {secretName: s, defaultMode: 0o7777}}", "", "defaultMode"),
            ("{name: h, hostPath: {path: etc}}", "", "hostPath.path"),
            ("{name: h, hostPath: {path: /nonexistent, type: Directory}}", "", "no Directory on this node"),
            ("{name: n, nfs: {}}", "", "one of emptyDir"),
            ("{name: e, emptyDir: {}}, {name: e, emptyDir: {}}", "", "two are called"),
            ("{name: ../e, emptyDir: {}}", "", "spec.volumes[0].name"),
            ("{name: e, emptyDir: {}}", "{name: f, mountPath: /f}", "volumeMounts[0].name"),
            ("{name: e, emptyDir: {}}", "{name: e, mountPath: f}", "mountPath"),
            ("{name: e, emptyDir: {}}", "{name: e, mountPath: /f, subPath: x}", "subPath"),
            ("{name: s, secret: {secretName: s}}", "{name: s, mountPath: /f, subPath: ../../x}", "subPath"),
        ] {
            let error = planned(volumes, mounts, dir.path()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
