//! Files of another runtime whose images are taken over.

use std::{fs, io::Write};

use flate2::{Compression, write::GzEncoder};

/// Bytes of a page of the seeds.
const PAGE: usize = 1024;

/// A page with `elements` of 16 bytes and what they point to.
fn page(number: u64, kind: u16, elements: &[[u8; 16]], data: &[u8]) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend(kind.to_le_bytes());
    page.extend((elements.len() as u16).to_le_bytes());
    page.extend(0u32.to_le_bytes());
    page.extend(elements.concat());
    page.extend(data);
    page
}

fn element(fields: [u32; 4]) -> [u8; 16] {
    let mut element = [0; 16];
    for (at, field) in fields.iter().enumerate() {
        element[at * 4..][..4].copy_from_slice(&field.to_le_bytes());
    }
    element
}

/// One key with a bucket inline.
fn within(key: &str, inner: &[u8], number: u64) -> Vec<u8> {
    let value = [&[0; 16][..], inner].concat();
    let element = element([1, 16, key.len() as u32, value.len() as u32]);
    page(number, 2, &[element], &[key.as_bytes(), &value].concat())
}

fn meta(number: u64, root: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for field in [0xED0C_DAED_u32, 2, PAGE as u32, 0] {
        meta.extend(field.to_le_bytes());
    }
    for field in [root, 0, 2, 9, number] {
        meta.extend(field.to_le_bytes());
    }
    let sum = meta.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    meta.extend(sum.to_le_bytes());
    let mut whole = page(number, 4, &[], &meta);
    whole.resize(PAGE, 0);
    whole
}

/// containerd's database with one image; one whose root is a branch, and one that leads to itself.
pub(super) fn bolts() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let value =
        page(0, 2, &[element([0, 16, 6, digest.len() as u32])], &[b"digest", digest.as_bytes()].concat());
    let target = within("target", &value, 0);
    let images = within("images", &within("a.example/b:1", &target, 0), 0);
    let root = |number| within("v1", &within("k8s.io", &images, 0), number);
    let branch = |to: u64| {
        let mut element = element([16, 2, 0, 0]);
        element[8..].copy_from_slice(&to.to_le_bytes());
        page(3, 1, &[element], b"v1")
    };
    let file = |pages: &[Vec<u8>]| {
        let mut file = [meta(0, 3), meta(1, 3), vec![0; PAGE]].concat();
        for page in pages {
            file.extend(page);
            file.resize(file.len().div_ceil(PAGE) * PAGE, 0);
        }
        file
    };
    vec![file(&[root(3)]), file(&[branch(4), root(4)]), file(&[branch(3)])]
}

/// Reads a file as the database.
pub(super) fn bolt(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("meta.db");
    fs::write(&path, bytes).expect("a temporary file");
    husk_images::fuzzing::bolt(&path);
}

/// Records of layers: files with both kinds of names, and names that lead out of the layer.
pub(super) fn tar_splits() -> Vec<Vec<u8>> {
    let records = [
        "{\"type\":2,\"payload\":\"AAAA\",\"position\":0}\n{\"type\":1,\"name\":\"./file\",\"size\":4,\"payload\":\"AAAAAAAAAAA=\",\"position\":1}\n",
        "{\"type\":1,\"name_raw\":\"ZmlsZQ==\",\"size\":2,\"payload\":null,\"position\":0}\n{\"type\":1,\"name\":\"link\",\"size\":1}\n",
        "{\"type\":1,\"name\":\"../outside\",\"size\":9}\n",
    ];
    let compressed = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish()).expect("memory takes everything")
    };
    records.into_iter().map(compressed).collect()
}

/// Puts an archive together from a record and a directory with a file and a link out of it.
pub(super) fn tar_split(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    fs::write(dir.path().join("outside"), b"a secret of the node").expect("a file");
    fs::write(root.join("file"), b"content").expect("a file");
    std::os::unix::fs::symlink("../outside", root.join("link")).expect("a link");
    let archive = husk_images::fuzzing::tar_split(bytes, &root);
    assert!(!archive.windows(8).any(|part| part == b"a secret"), "a file outside of the layer was read");
}
