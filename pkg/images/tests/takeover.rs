//! Images of other runtimes, from directories in their formats that the tests make: what is taken over, and what is refused.

mod common;

use std::{fs, io::Write, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Image, Tar, gzip, is_root, shown, store};
use husk_images::{ImageError, ImageStore, Origin, TakenOver};
use serde_json::json;

const PAGE: usize = 4096;

/// A bucket of a bbolt file: values and buckets by name.
enum Node {
    Value(Vec<u8>),
    Bucket(Vec<(&'static str, Node)>),
    Named(Vec<(String, Node)>),
}

fn leaf(number: u64, entries: &[(Vec<u8>, u32, Vec<u8>)]) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend(2u16.to_le_bytes());
    page.extend((entries.len() as u16).to_le_bytes());
    page.extend(0u32.to_le_bytes());
    let mut data = Vec::new();
    for (at, (key, flags, value)) in entries.iter().enumerate() {
        let pos = (entries.len() - at) * 16 + data.len();
        for number in [*flags, pos as u32, key.len() as u32, value.len() as u32] {
            page.extend(number.to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    page.extend(data);
    page
}

/// A bucket's value with its one page inline.
fn inline(node: Node) -> (u32, Vec<u8>) {
    let entries: Vec<(String, Node)> = match node {
        Node::Value(value) => return (0, value),
        Node::Bucket(entries) => entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect(),
        Node::Named(entries) => entries,
    };
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(name, node)| {
            let (flags, value) = inline(node);
            (name.into_bytes(), flags, value)
        })
        .collect();
    let mut value = vec![0; 16];
    value.extend(leaf(0, &entries));
    (1, value)
}

fn meta(number: u64, transaction: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for field in [0xED0C_DAED_u32, 2, PAGE as u32, 0] {
        meta.extend(field.to_le_bytes());
    }
    for field in [3u64, 0, 2, 9, transaction] {
        meta.extend(field.to_le_bytes());
    }
    let sum = meta.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut page = number.to_le_bytes().to_vec();
    page.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    page.extend(meta);
    page.extend(sum.to_le_bytes());
    page.resize(PAGE, 0);
    page
}

/// containerd's root with `images` (name, image) in its database and content store.
fn containerd(root: &Path, images: &[(&str, &Image)]) {
    let blobs = root.join("io.containerd.content.v1.content/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let named = images.iter().map(|(name, image)| {
        let hex = |digest: &str| blobs.join(digest.trim_start_matches("sha256:"));
        fs::write(hex(&image.digest()), &image.manifest).unwrap();
        for (digest, blob) in &image.blobs {
            fs::write(hex(digest), blob).unwrap();
        }
        let target = Node::Bucket(vec![
            ("digest", Node::Value(image.digest().into_bytes())),
            ("mediatype", Node::Value(image.media_type.as_bytes().to_vec())),
        ]);
        ((*name).to_owned(), Node::Bucket(vec![("createdat", Node::Value(vec![1])), ("target", target)]))
    });
    let images = Node::Named(named.collect());
    let (_, v1) = inline(Node::Bucket(vec![("k8s.io", Node::Bucket(vec![("images", images)]))]));
    let mut file = [meta(0, 6), meta(1, 7), vec![0; PAGE]].concat();
    let mut page = leaf(3, &[(b"v1".to_vec(), 1, v1)]);
    let overflow = page.len().div_ceil(PAGE) as u32 - 1;
    page[12..16].copy_from_slice(&overflow.to_le_bytes());
    file.extend(page);
    file.resize(file.len().div_ceil(PAGE) * PAGE, 0);
    fs::create_dir_all(root.join("io.containerd.metadata.v1.bolt")).unwrap();
    fs::write(root.join("io.containerd.metadata.v1.bolt/meta.db"), file).unwrap();
}

async fn take(store: &Arc<ImageStore>, root: &Path, only: &[&str]) -> Result<TakenOver, ImageError> {
    let origin = Origin::Containerd { root: root.to_owned(), namespace: "k8s.io".into() };
    store.take_over(origin, only.iter().map(|name| (*name).to_owned()).collect(), |_| {}).await
}

fn image(content: &str) -> Image {
    Image::new(&[Tar::new().file("file", 0o644, content.as_bytes()).bytes()], gzip)
}

#[tokio::test]
async fn images_of_containerd_keep_their_names_and_digests() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (image("one"), image("two"));
    let by_digest = format!("a.example/one@{}", one.digest());
    containerd(
        &dir.path().join("cd"),
        &[
            ("a.example/one:1", &one),
            (&by_digest, &one),
            (&one.id(), &one),
            ("docker.io/library/two:2", &two),
            ("a.example/two:latest", &two),
        ],
    );
    let store = store(dir.path());
    let taken = take(&store, &dir.path().join("cd"), &["a.example/one:1", "nobody/has:it"]).await.unwrap();
    assert_eq!((taken.images.len(), taken.refused.len()), (1, 1), "{taken:?}");
    assert_eq!(taken.refused[0].0, "nobody/has:it");
    let found = store.resolve("a.example/one:1").unwrap();
    assert_eq!((found.id.to_string(), found.repo_digests.as_slice()), (one.id(), [by_digest].as_slice()));
    let taken = take(&store, &dir.path().join("cd"), &[]).await.unwrap();
    assert_eq!((taken.images.len(), taken.refused.len()), (2, 0), "{taken:?}");
    assert_eq!(
        store.resolve("two:2").unwrap().repo_tags,
        ["a.example/two:latest", "docker.io/library/two:2"]
    );
}

#[tokio::test]
async fn a_layer_that_containerd_dropped_or_that_is_damaged_costs_its_image_alone() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cd");
    let (whole, dropped, damaged) = (image("whole"), image("dropped"), image("damaged"));
    containerd(&root, &[("a.example/w:1", &whole), ("a.example/x:1", &dropped), ("a.example/y:1", &damaged)]);
    let blob = |image: &Image| {
        let id = image.id();
        let layer = image.blobs.keys().find(|digest| **digest != id).unwrap();
        root.join("io.containerd.content.v1.content/blobs/sha256").join(layer.trim_start_matches("sha256:"))
    };
    fs::remove_file(blob(&dropped)).unwrap();
    let mut bytes = fs::read(blob(&damaged)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(blob(&damaged), bytes).unwrap();
    let store = store(dir.path());
    let taken = take(&store, &root, &[]).await.unwrap();
    assert_eq!(taken.images.len(), 1, "{taken:?}");
    let text: Vec<_> =
        taken.refused.iter().map(|(name, error)| format!("{name}: {}", shown(error))).collect();
    assert!(text.iter().any(|text| text.contains("x:1") && text.contains("pull the image")), "{text:?}");
    assert!(text.iter().any(|text| text.contains("y:1")), "{text:?}");
    store.idle().await;
    assert_eq!((store.list().len(), common::layer_dirs(dir.path())), (1, 1));
}

#[tokio::test]
async fn a_running_containerd_and_a_damaged_database_are_told() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cd");
    containerd(&root, &[("a.example/w:1", &image("w"))]);
    let store = store(dir.path());
    let path = root.join("io.containerd.metadata.v1.bolt/meta.db");
    let file = fs::File::open(&path).unwrap();
    file.lock().unwrap();
    let error = shown(&take(&store, &root, &[]).await.unwrap_err());
    assert!(error.contains("stop containerd"), "{error}");
    drop(file);
    let good = fs::read(&path).unwrap();
    // Every byte of the pages in use, changed one at a time, ends in an error or in fewer images, and never in a hang.
    for at in (0..PAGE * 2).step_by(61).chain(PAGE * 3..good.len().min(PAGE * 3 + 400)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, bytes).unwrap();
        let _refused = take(&store, &root, &["no/such:image"]).await;
    }
    fs::write(&path, b"short").unwrap();
    let error = shown(&take(&store, &root, &[]).await.unwrap_err());
    assert!(error.contains("meta.db"), "{error}");
    let error = shown(&take(&store, &dir.path().join("nowhere"), &[]).await.unwrap_err());
    assert!(error.contains("name containerd's root"), "{error}");
}

/// The tar-split record of an archive, and its files below `files`.
fn split(archive: &[u8], files: &Path) -> Vec<u8> {
    let mut lines = String::new();
    let mut position = 0;
    let mut put = |line: serde_json::Value| lines.push_str(&format!("{line}\n"));
    let mut at = 0;
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let entry = entry.unwrap();
        let (from, size) = (entry.raw_file_position() as usize, entry.size() as usize);
        put(json!({ "type": 2, "payload": STANDARD.encode(&archive[at..from]), "position": position }));
        let path = entry.path().unwrap().into_owned();
        put(
            json!({ "type": 1, "name": path, "size": size, "payload": "AAAAAAAAAAA=", "position": position + 1 }),
        );
        position += 2;
        let file = files.join(&path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if entry.header().entry_type().is_file() {
            fs::write(&file, &archive[from..from + size]).unwrap();
        }
        at = from + size;
    }
    put(json!({ "type": 2, "payload": STANDARD.encode(&archive[at..]), "position": position }));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

/// A store of containers/storage with one image of these layers; the ids of the layers.
fn storage(root: &Path, image: &Image, layers: &[Vec<u8>], names: &[&str]) -> Vec<String> {
    let hex = |text: &str| text.trim_start_matches("sha256:").to_owned();
    let (mut list, mut parent, mut ids) = (Vec::new(), String::new(), Vec::new());
    fs::create_dir_all(root.join("overlay-layers")).unwrap();
    for layer in layers {
        let id = hex(&common::sha256(format!("{parent}{}", common::sha256(layer)).as_bytes()));
        let files = root.join("overlay").join(&id).join("diff");
        fs::create_dir_all(&files).unwrap();
        fs::write(root.join(format!("overlay-layers/{id}.tar-split.gz")), split(layer, &files)).unwrap();
        list.push(json!({
            "id": id, "parent": parent, "diff-digest": common::sha256(layer), "diff-size": layer.len(), "created": "x",
        }));
        parent.clone_from(&id);
        ids.push(id);
    }
    fs::write(root.join("overlay-layers/layers.json"), json!(list).to_string()).unwrap();
    let own = root.join("overlay-images").join(hex(&image.id()));
    fs::create_dir_all(&own).unwrap();
    let manifest = format!("manifest-{}", image.digest());
    fs::write(own.join("manifest"), &image.manifest).unwrap();
    fs::write(own.join(format!("={}", STANDARD.encode(&manifest))), &image.manifest).unwrap();
    fs::write(own.join(format!("={}", STANDARD.encode(image.id()))), &image.blobs[&image.id()]).unwrap();
    let images = json!([{
        "id": hex(&image.id()), "names": names, "layer": parent, "big-data-names": ["manifest", manifest, image.id()],
    }]);
    fs::write(root.join("overlay-images/images.json"), images.to_string()).unwrap();
    ids
}

async fn take_storage(store: &Arc<ImageStore>, root: &Path) -> TakenOver {
    let origin = Origin::ContainersStorage { root: Some(root.to_owned()) };
    store.take_over(origin, Vec::new(), |_| {}).await.unwrap()
}

fn two_layers() -> Vec<Vec<u8>> {
    let below = Tar::new().dir("usr", 0o755).file("usr/a", 0o644, b"one").symlink("link", "usr").bytes();
    vec![below, Tar::new().file("usr/.wh.a", 0o644, b"").file("b", 0o600, &[7; 5000]).bytes()]
}

#[tokio::test]
async fn images_of_containers_storage_come_to_their_diff_ids_again() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layers = two_layers();
    let own = Image::new(&layers, gzip);
    let other = format!("b.example/x@sha256:{}", "a".repeat(64));
    storage(&dir.path().join("cs"), &own, &layers, &["a.example/app:1", &other]);
    let store = store(dir.path());
    let taken = take_storage(&store, &dir.path().join("cs")).await;
    assert!(taken.refused.is_empty(), "{taken:?}");
    let found = store.resolve("a.example/app:1").unwrap();
    assert_eq!(found.id.to_string(), own.id());
    // A digest that none of its manifests has is not believed.
    assert_eq!(found.repo_digests, [format!("a.example/app@{}", own.digest())]);
    let output = dir.path().join("out.tar");
    store.export(&["a.example/app:1".to_owned()], &output, |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_store_that_was_changed_or_leads_elsewhere_gives_nothing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layers = two_layers();
    let own = Image::new(&layers, gzip);
    let store = store(dir.path());
    let secret = dir.path().join("secret");
    fs::write(&secret, [7; 5000]).unwrap();
    let check = |number: u32, change: &dyn Fn(&Path, &[String]), word: &str| {
        let root = dir.path().join(format!("cs{number}"));
        let ids = storage(&root, &own, &layers, &["a.example/app:1"]);
        change(&root, &ids);
        let (store, word) = (Arc::clone(&store), word.to_owned());
        async move {
            let taken = take_storage(&store, &root).await;
            assert_eq!((taken.images.len(), taken.refused.len()), (0, 1), "{taken:?}");
            let text = shown(&taken.refused[0].1);
            assert!(text.contains(&word), "{number}: {text}");
        }
    };
    let file = |root: &Path, ids: &[String]| root.join("overlay").join(&ids[1]).join("diff/b");
    check(1, &|root, ids| fs::write(file(root, ids), [8; 5000]).unwrap(), "diff id").await;
    check(2, &|root, ids| fs::write(file(root, ids), b"short").unwrap(), "shorter").await;
    let link = |root: &Path, ids: &[String]| {
        fs::remove_file(file(root, ids)).unwrap();
        std::os::unix::fs::symlink(&secret, file(root, ids)).unwrap();
    };
    check(3, &link, "b").await;
    let gone = |root: &Path, ids: &[String]| {
        fs::remove_file(root.join(format!("overlay-layers/{}.tar-split.gz", ids[0]))).unwrap();
    };
    check(4, &gone, "pull the image").await;
    let config = |root: &Path, _: &[String]| {
        let own_hex = own.id().trim_start_matches("sha256:").to_owned();
        let name = format!("overlay-images/{own_hex}/={}", STANDARD.encode(own.id()));
        fs::write(root.join(name), b"{}").unwrap();
    };
    check(5, &config, "image configuration").await;
    let circle = |root: &Path, ids: &[String]| {
        let list = json!([
            { "id": ids[0], "parent": ids[1], "diff-digest": "x" }, { "id": ids[1], "parent": ids[0], "diff-digest": "y" },
        ]);
        fs::write(root.join("overlay-layers/layers.json"), list.to_string()).unwrap();
    };
    check(6, &circle, "layers").await;
    assert!(store.list().is_empty());
    common::nothing_is_left(&store, dir.path(), "a.example/app:1").await;
}
