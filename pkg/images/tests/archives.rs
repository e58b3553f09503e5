//! Import and export.

mod common;

use std::{fs, path::Path};

use common::{Image, Tar, docker_archive, gzip, is_root, layer_dirs, sha256, store};
use husk_images::ImageError;

fn layers() -> Vec<Vec<u8>> {
    let long = format!("etc/{}", "n".repeat(180));
    vec![
        Tar::new()
            .dir("./", 0o755)
            .dir("etc/", 0o755)
            .file("etc/passwd", 0o644, b"root")
            .file("etc/big", 0o600, &[7; 300_000])
            .bytes(),
        Tar::new()
            .file("etc/passwd", 0o644, b"other")
            .file(&long, 0o644, b"x")
            .file("etc/.wh.big", 0o644, b"")
            .bytes(),
    ]
}

fn save(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_docker_archive_becomes_an_image_with_its_tags() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let (layers, archive) = (layers(), root.path().join("image.tar"));
    let image = Image::new(&layers, gzip);
    save(&archive, &gzip(&docker_archive(&image, &layers, &["app:1", "registry.example/app:2"])));
    let found = store.import(&archive, |_| {}).await.unwrap();
    assert_eq!(found[0].id.to_string(), image.id());
    assert_eq!(found[0].repo_tags, ["docker.io/library/app:1", "registry.example/app:2"]);
    assert_eq!(found[0].config.cmd, ["sh"]);
    assert_eq!(store.list().len(), 1);
    let stack = store.rootfs(&found[0].id).unwrap();
    assert_eq!(stack.lowers.len(), 2);
    assert_eq!(fs::read(stack.base.join(&stack.lowers[0]).join("etc/passwd")).unwrap(), b"other");
    assert_eq!(fs::read(stack.base.join(&stack.lowers[1]).join("etc/passwd")).unwrap(), b"root");
    assert!(store.usage().used_bytes > 300_000);
    assert_eq!(fs::read_dir(root.path().join("images/spool")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_export_imports_to_the_same_image_in_another_store() {
    if !is_root() {
        return;
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = store(one.path());
    // A file, a directory with files, and a link are replaced within the archive.
    let replaced = Tar::new()
        .file("a", 0o644, b"first content")
        .file("a", 0o644, b"second")
        .dir("d", 0o755)
        .file("d/inner", 0o644, &[1; 5000])
        .file("d", 0o644, b"now a file")
        .symlink("l", "a")
        .file("l", 0o644, b"no link")
        .hardlink("h", "a")
        .bytes();
    let layers = [layers(), vec![replaced]].concat();
    let image = Image::new(&layers, gzip);
    let (first, second) = (one.path().join("in.tar"), one.path().join("out.tar"));
    save(&first, &docker_archive(&image, &layers, &["app:1"]));
    from.import(&first, |_| {}).await.unwrap();
    from.export(&["app:1".to_owned()], &second, |_| {}).await.unwrap();
    let to = store(two.path());
    let found = to.import(&second, |_| {}).await.unwrap();
    assert_eq!(found[0].id.to_string(), image.id());
    assert_eq!(found[0].repo_tags, ["docker.io/library/app:1"]);
    let stack = to.rootfs(&found[0].id).unwrap();
    assert_eq!(fs::read(stack.base.join(&stack.lowers[0]).join("h")).unwrap(), b"second");
    assert_eq!(fs::read(stack.base.join(&stack.lowers[0]).join("d")).unwrap(), b"now a file");
    // Unpacked as an OCI layout it is the same.
    let (third, layout) = (tempfile::tempdir().unwrap(), two.path().join("layout"));
    tar::Archive::new(fs::File::open(&second).unwrap()).unpack(&layout).unwrap();
    assert_eq!(store(third.path()).import(&layout, |_| {}).await.unwrap()[0].id.to_string(), image.id());
}

#[tokio::test]
async fn a_layer_changed_on_disk_is_not_exported() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let (layers, archive) = (layers(), root.path().join("image.tar"));
    let image = Image::new(&layers, gzip);
    save(&archive, &docker_archive(&image, &layers, &["app:1"]));
    let id = store.import(&archive, |_| {}).await.unwrap()[0].id.clone();
    let stack = store.rootfs(&id).unwrap();
    fs::write(stack.base.join(&stack.lowers[1]).join("etc/passwd"), b"evil").unwrap();
    let output = root.path().join("out.tar");
    let error = store.export(&[id.to_string()], &output, |_| {}).await.unwrap_err();
    assert!(matches!(&error, ImageError::Export { .. }), "{error}");
    assert!(!output.exists());
}

#[tokio::test]
async fn archives_that_lie_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let archive = root.path().join("image.tar");
    let layers = layers();
    let image = Image::new(&layers, gzip);
    let good = docker_archive(&image, &layers, &["app:1"]);
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("no archive", b"hello".repeat(1000)),
        ("empty", Tar::new().bytes()),
        ("no such layer", docker_archive(&image, &layers, &["app:1"])[..good.len() / 2].to_vec()),
        ("bad tag", docker_archive(&image, &layers, &["UPPER/x"])),
        ("manifest is not JSON", Tar::new().file("manifest.json", 0o644, b"{").bytes()),
        ("wrong diff id", docker_archive(&image, &[layers[1].clone(), layers[0].clone()], &["app:1"])),
        (
            "path escapes",
            Tar::new()
                .file("manifest.json", 0o644, br#"[{"Config":"../../etc/passwd","Layers":[]}]"#)
                .bytes(),
        ),
    ];
    let mut flipped = good.clone();
    let at = flipped.windows(7).position(|window| window == [7; 7]).unwrap();
    flipped[at] ^= 1;
    cases.push(("altered layer", flipped));
    for (name, bytes) in cases {
        save(&archive, &bytes);
        let error = store.import(&archive, |_| {}).await.expect_err(name);
        eprintln!("{name}: {error}");
        store.idle().await;
        assert_eq!((store.list().len(), layer_dirs(root.path())), (0, 0), "{name}");
    }
    assert_ne!(sha256(b""), sha256(b"x"));
}

/// An image for a platform that no node is of.
fn foreign(layers: &[Vec<u8>]) -> Image {
    let mut image = Image::new(layers, gzip);
    let mut config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    config["architecture"] = "pdp11".into();
    let config = config.to_string().into_bytes();
    let manifest = String::from_utf8(image.manifest).unwrap();
    let manifest = manifest
        .replace(&sha256(&image.config), &sha256(&config))
        .replace(&format!("\"size\":{}", image.config.len()), &format!("\"size\":{}", config.len()));
    image.blobs.insert(sha256(&config), config.clone());
    (image.config, image.manifest) = (config, manifest.into_bytes());
    image
}

fn saved(images: &[(&str, &Image)], layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let mut archive =
        names.iter().zip(layers).fold(Tar::new(), |archive, (name, layer)| archive.file(name, 0o644, layer));
    let mut entries = Vec::new();
    for (tag, image) in images {
        let config = format!("{}.json", image.id().trim_start_matches("sha256:"));
        archive = archive.file(&config, 0o644, &image.config);
        entries.push(serde_json::json!({ "Config": config, "RepoTags": [tag], "Layers": names }));
    }
    archive.file("manifest.json", 0o644, serde_json::json!(entries).to_string().as_bytes()).bytes()
}

fn layout(images: &[&Image]) -> Vec<u8> {
    let mut archive = Tar::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut entries = Vec::new();
    for image in images {
        for (digest, blob) in image.blobs.iter().chain([(&image.digest(), &image.manifest)]) {
            archive = archive.file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, blob);
        }
        // Says nothing of a platform, as what `docker buildx` writes for one.
        entries.push(serde_json::json!({
            "mediaType": image.media_type, "digest": image.digest(), "size": image.manifest.len(),
        }));
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    archive.file("index.json", 0o644, index.as_bytes()).bytes()
}

#[tokio::test]
async fn images_for_other_platforms_are_passed_over_unless_there_is_no_other() {
    if !is_root() {
        return;
    }
    let layers = layers();
    let (good, strange) = (Image::new(&layers, gzip), foreign(&layers));
    let both = [("strange:1", &strange), ("good:1", &good)];
    for (name, bytes) in [("docker", saved(&both, &layers)), ("OCI", layout(&[&strange, &good]))] {
        let root = tempfile::tempdir().unwrap();
        let (store, archive) = (store(root.path()), root.path().join("image.tar"));
        save(&archive, &bytes);
        let found = store.import(&archive, |_| {}).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.iter().map(|image| image.id.to_string()).collect::<Vec<_>>(), [good.id()], "{name}");
        assert_eq!(store.list().len(), 1, "{name}");
    }
    for (name, bytes) in [("docker", saved(&both[..1], &layers)), ("OCI", layout(&[&strange]))] {
        let root = tempfile::tempdir().unwrap();
        let (store, archive) = (store(root.path()), root.path().join("image.tar"));
        save(&archive, &bytes);
        let error = store.import(&archive, |_| {}).await.unwrap_err();
        assert!(
            matches!(&error, ImageError::Platform { offered, .. } if offered.contains("pdp11")),
            "{name}: {error}"
        );
        assert!(store.list().is_empty(), "{name}");
    }
}
