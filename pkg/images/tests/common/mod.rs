//! What the tests of this crate share: archives, images, a registry on loopback.
#![allow(dead_code, missing_docs)]

pub mod raw;
pub mod registry;
pub mod sign;
pub mod talk;
pub mod uploads;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use husk_images::{ImageStore, ImagesConfig};
use husk_test_support::eventually_with;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Patience of a test with what should take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Skips a test that needs root, loudly.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        husk_test_support::skip("root");
    }
    root
}

pub fn sha256(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Builds the archive of a layer, valid or not.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(1_700_000_000);
        header
    }

    fn add(mut self, mut header: tar::Header, path: &str, content: &[u8]) -> Self {
        let bytes = path.as_bytes();
        if bytes.len() <= 100 {
            // Past the crate's own checks, which refuse hostile names.
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            self.0.append(&header, content).unwrap();
        } else {
            self.0.append_data(&mut header, path, content).unwrap();
        }
        self
    }

    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.add(Self::header(tar::EntryType::Regular, mode, content.len() as u64), path, content)
    }

    pub fn owned(self, path: &str, mode: u32, uid: u64, gid: u64, content: &[u8]) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len() as u64);
        header.set_uid(uid);
        header.set_gid(gid);
        self.add(header, path, content)
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.add(Self::header(tar::EntryType::Directory, mode, 0), path, b"")
    }

    pub fn owned_dir(self, path: &str, mode: u32, uid: u64, gid: u64) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        header.set_uid(uid);
        header.set_gid(gid);
        self.add(header, path, b"")
    }

    pub fn link(self, kind: tar::EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0o777, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(header, path, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(tar::EntryType::Symlink, path, target)
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(tar::EntryType::Link, path, target)
    }

    pub fn node(self, kind: tar::EntryType, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, 0o640, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.add(header, path, b"")
    }

    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An image as a registry serves it: blobs by digest.
#[derive(Default, Clone)]
pub struct Image {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub media_type: &'static str,
}

impl Image {
    /// `layers` are archives; `compress` makes blobs of them.
    pub fn new(layers: &[Vec<u8>], compress: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        Self::with(layers, compress, json!({ "Env": ["A=b"], "Cmd": ["sh"] }))
    }

    pub fn with(layers: &[Vec<u8>], compress: impl Fn(&[u8]) -> Vec<u8>, process: Value) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = json!({
            "os": "linux", "architecture": goarch(), "config": process,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let mut image =
            Self { media_type: OCI_MANIFEST, config: config.to_string().into_bytes(), ..Self::default() };
        let mut descriptors = Vec::new();
        for layer in layers {
            let blob = compress(layer);
            descriptors.push(json!({ "mediaType": OCI_LAYER, "digest": sha256(&blob), "size": blob.len() }));
            image.blobs.insert(sha256(&blob), blob);
        }
        image.blobs.insert(sha256(&image.config), image.config.clone());
        image.manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": { "mediaType": OCI_CONFIG, "digest": sha256(&image.config), "size": image.config.len() },
            "layers": descriptors,
        })
        .to_string()
        .into_bytes();
        image
    }

    pub fn id(&self) -> String {
        sha256(&self.config)
    }

    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }
}

pub fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A store of its own that pulls from loopback.
pub fn store(root: &Path) -> Arc<ImageStore> {
    store_with(root, root)
}

pub fn store_with(root: &Path, certs: &Path) -> Arc<ImageStore> {
    let config = ImagesConfig {
        registry_config_dir: certs.join("certs.d"),
        registries: None,
        max_parallel_layers: 3,
        pull_progress_timeout: Duration::from_secs(5),
        ..ImagesConfig::default()
    };
    ImageStore::open(root, config).unwrap()
}

/// Imports one layer; `Ok` with its directory.
pub async fn unpack(store: &Arc<ImageStore>, root: &Path, layer: Vec<u8>) -> Result<PathBuf, String> {
    stack(store, root, vec![layer]).await.map(|mut paths| paths.remove(0))
}

/// Imports layers, lowest first; `Ok` with their directories, topmost first.
pub async fn stack(
    store: &Arc<ImageStore>,
    root: &Path,
    layers: Vec<Vec<u8>>,
) -> Result<Vec<PathBuf>, String> {
    let archive = root.join("import.tar");
    std::fs::write(&archive, docker_archive(&Image::new(&layers, gzip), &layers, &["x:1"])).unwrap();
    let images = store.import(&archive, |_| {}).await.map_err(|error| shown(&error))?;
    let stack = store.rootfs(&images[0].id).unwrap();
    Ok(stack.lowers.iter().map(|name| stack.base.join(name)).collect())
}

/// An error with its causes.
pub fn shown(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// What `script` prints in an overlay of `layers`, topmost first: in a mount namespace of its own, so that nothing shows
/// on the node and nothing is left. `None`, loudly, where that cannot be had.
pub fn merged(root: &Path, layers: &[PathBuf], script: &str) -> Option<String> {
    let mount = root.join("merged");
    std::fs::create_dir_all(&mount).unwrap();
    let empty = root.join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let mut lowers: Vec<_> = layers.iter().map(|path| path.display().to_string()).collect();
    // Two layers at least.
    lowers.push(empty.display().to_string());
    let script = format!(
        "mount -t overlay overlay -o ro,lowerdir={} {mount} && cd {mount} && {script}",
        lowers.join(":"),
        mount = mount.display(),
    );
    let output = match std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output() {
        Ok(output) => output,
        Err(error) => {
            println!("unshare: {error}");
            husk_test_support::skip("unshare(1)");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A directory beside the store that layers try to reach, with a file in it.
pub fn outside(root: &Path) -> PathBuf {
    let outside = root.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    outside
}

/// Asserts that [`outside`] is as it was made, and that nobody wrote where hostile names lead besides.
pub fn assert_untouched(outside: &Path, name: &str) {
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1, "{name}");
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret", "{name}");
    let mut value = [0; 4];
    assert!(rustix::fs::getxattr(outside, "trusted.overlay.opaque", &mut value).is_err(), "{name}");
    assert!(!Path::new("/tmp/husk-evil").exists(), "{name}");
}

/// Directories of layers on disk.
pub fn layer_dirs(root: &Path) -> usize {
    std::fs::read_dir(root.join("images/layers")).unwrap().count()
}

/// The `docker save` archive of an image.
pub fn docker_archive(image: &Image, layers: &[Vec<u8>], tags: &[&str]) -> Vec<u8> {
    let mut archive = Tar::new().file("config.json", 0o644, &image.config);
    let mut names = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let name = format!("{at}/layer.tar");
        archive = archive.file(&name, 0o644, layer);
        names.push(name);
    }
    let manifest = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": names }]).to_string();
    archive.file("manifest.json", 0o644, manifest.as_bytes()).bytes()
}

/// Waits until the store shows no image and has no layer on disk: work that was cancelled ends in its own time.
pub async fn nothing_is_left(store: &ImageStore, root: &Path, name: &str) {
    let what = format!("nothing of {name} is left");
    let nothing = || (store.list().is_empty() && layer_dirs(root) == 0).then_some(());
    eventually_with(tokio::time::sleep, &what, PATIENCE, nothing).await;
    store.idle().await;
    assert_eq!((store.list().len(), layer_dirs(root)), (0, 0), "{name}");
}
