//! Archives: read, unpacked, inflated, imported.

use std::{fs, io::Write, os::unix::fs::MetadataExt, path::Path};

use husk_sys::tree::{Step, Walk, remove};
use tempfile::TempDir;

/// Bytes that a compressed input may become.
const INFLATED: u64 = 32 << 20;

/// Archives with every kind of member.
pub(super) fn tars() -> Vec<Vec<u8>> {
    vec![ordinary(), links(), extended(), sparse(), whiteouts(), deep(), attributes()]
}

/// Few bytes, many directories: links to paths that are long themselves.
fn deep() -> Vec<u8> {
    let long = "a/".repeat(40);
    built(|builder| {
        for level in 1..4 {
            let target =
                format!("{}{long}", if level > 1 { format!("s{}/", level - 1) } else { String::new() });
            builder.append_link(
                &mut header(tar::EntryType::Symlink, 0),
                format!("s{level}"),
                target.trim_end_matches('/'),
            )?;
            let name = format!("s{level}/{long}f");
            builder.append_data(&mut header(tar::EntryType::Regular, 0), name, &b""[..])?;
        }
        Ok(())
    })
}

/// As many attributes as fit, each of its own name.
fn attributes() -> Vec<u8> {
    let names: Vec<String> = (0..400).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    built(|builder| {
        builder.append_pax_extensions(names.iter().map(|name| (name.as_str(), &b""[..])))?;
        builder.append_data(&mut header(tar::EntryType::Regular, 0), "file", &b""[..])
    })
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn built(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>) -> std::io::Result<()>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    fill(&mut builder).expect("memory takes everything");
    builder.into_inner().expect("memory takes everything")
}

fn ordinary() -> Vec<u8> {
    built(|builder| {
        builder.append_data(&mut header(tar::EntryType::Directory, 0), "etc/", &b""[..])?;
        builder.append_data(&mut header(tar::EntryType::Regular, 5), "etc/hosts", &b"hosts"[..])?;
        builder.append_data(&mut header(tar::EntryType::Regular, 700), "usr/share/file", &[7; 700][..])?;
        builder.append_data(&mut header(tar::EntryType::Fifo, 0), "pipe", &b""[..])?;
        builder.append_data(&mut header(tar::EntryType::Char, 0), "null", &b""[..])?;
        builder.append_data(&mut header(tar::EntryType::Regular, 3), "etc/hosts", &b"new"[..])
    })
}

fn links() -> Vec<u8> {
    built(|builder| {
        for (name, target) in [("lib", "usr/lib"), ("run", "/run"), ("up", "../../.."), ("loop", "loop")] {
            builder.append_link(&mut header(tar::EntryType::Symlink, 0), name, target)?;
        }
        for name in ["lib/a", "run/b", "up/canary", "loop/c"] {
            builder.append_data(&mut header(tar::EntryType::Regular, 1), name, &b"x"[..]).ok();
        }
        builder.append_link(&mut header(tar::EntryType::Link, 0), "hard", "lib/a")?;
        builder.append_link(&mut header(tar::EntryType::Link, 0), "hard-out", "up/canary")
    })
}

fn extended() -> Vec<u8> {
    let long = format!("{}file", "directory/".repeat(20));
    built(|builder| {
        builder.append_data(&mut header(tar::EntryType::Regular, 1), &long, &b"x"[..])?;
        let records = [("path", &b"renamed"[..]), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"\x00\x01")];
        builder.append_pax_extensions(records)?;
        builder.append_data(&mut header(tar::EntryType::Regular, 2), "name", &b"xy"[..])
    })
}

fn sparse() -> Vec<u8> {
    built(|builder| {
        builder.append_pax_extensions([
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"holes"),
            ("GNU.sparse.realsize", b"100000"),
        ])?;
        let mut data = b"1\n4096\n3\n".to_vec();
        data.resize(512, 0);
        data.extend(b"abc");
        builder.append_data(&mut header(tar::EntryType::Regular, data.len() as u64), "x", &data[..])?;
        builder.append_pax_extensions([("GNU.sparse.map", &b"0,3"[..]), ("GNU.sparse.size", b"5")])?;
        builder.append_data(&mut header(tar::EntryType::Regular, 3), "old", &b"abc"[..])
    })
}

fn whiteouts() -> Vec<u8> {
    built(|builder| {
        for name in ["a/.wh.gone", "b/.wh..wh..opq", ".wh.top", "a/gone/file"] {
            builder.append_data(&mut header(tar::EntryType::Regular, 0), name, &b""[..])?;
        }
        Ok(())
    })
}

/// Reads an archive: whatever it is, each byte is seen once and in order, and the size of the reads is of no matter.
pub(super) fn tar(bytes: &[u8]) {
    let archive = husk_images::fuzzing::tar(bytes, 4096);
    assert!(bytes.starts_with(&archive.seen), "an export would not be the archive");
    assert!(!archive.whole || archive.seen == bytes, "bytes of the archive are lost");
    let again = husk_images::fuzzing::tar(bytes, 7);
    assert_eq!(archive.whole, again.whole, "the size of reads decides");
    assert_eq!(archive.members, again.members, "the size of reads decides");
}

/// Recipes of [`made_archive`].
pub(super) fn recipes() -> Vec<Vec<u8>> {
    vec![b"\x00\x03abc\x05\x01\x04dir/".to_vec(), (0..=255).collect(), vec![0x81; 300]]
}

/// Makes an archive with the `tar` crate by the bytes' advice; husk must read what was put in, and so must the crate.
pub(super) fn made_archive(mut advice: &[u8]) {
    let mut take = |most: usize| {
        let (first, rest) = advice.split_first()?;
        let (taken, rest) = rest.split_at((*first as usize).min(most).min(rest.len()));
        advice = rest;
        Some(taken.to_vec())
    };
    let mut made = Vec::new();
    let bytes = built(|builder| {
        while let (Some(name), Some(content)) = (take(255), take(255)) {
            let mut name: Vec<u8> =
                name.iter().map(|byte| if byte.is_ascii_alphanumeric() { *byte } else { b'/' }).collect();
            name.insert(0, b'n');
            let path = String::from_utf8_lossy(&name).into_owned();
            let written = if content.len() % 3 == 2 {
                // The crate brings paths into a form of its own; words stay as they are.
                let target: String = content.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
                builder.append_link(&mut header(tar::EntryType::Symlink, 0), &path, &target).map(|()| {
                    made.push((path.clone(), target.into_bytes()));
                })
            } else {
                let size = content.len() as u64;
                builder.append_data(&mut header(tar::EntryType::Regular, size), &path, &content[..]).map(
                    |()| {
                        made.push((path.clone(), content.clone()));
                    },
                )
            };
            written.ok();
        }
        Ok(())
    });
    let archive = husk_images::fuzzing::tar(&bytes, 512);
    assert!(archive.whole, "an archive of the tar crate is refused");
    assert_eq!(archive.members.len(), made.len(), "members are missing or made up");
    let mut crates = tar::Archive::new(&bytes[..]);
    let entries = crates.entries().into_iter().flatten().flatten();
    for ((member, (path, content)), entry) in archive.members.iter().zip(&made).zip(entries) {
        let clean = |path: &[u8]| {
            let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
            parts.map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(clean(&member.path), clean(path.as_bytes()), "another name");
        assert_eq!(clean(&member.path), clean(&entry.path_bytes()), "another name than the tar crate reads");
        let read = if member.regular { &member.content } else { &member.link };
        assert_eq!(read, content, "another content");
    }
}

/// A directory with something beside the layer that nothing may touch.
struct Ground {
    dir: TempDir,
    canary: (Vec<u8>, u32, i64, i64),
}

impl Ground {
    fn new() -> std::io::Result<Self> {
        // In memory where there is such a place: thousands of layers are unpacked.
        let place = if Path::new("/dev/shm").is_dir() {
            Path::new("/dev/shm").to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::Builder::new().prefix("husk-fuzz").tempdir_in(place)?;
        fs::write(dir.path().join("canary"), "alive")?;
        let canary = Self::canary(dir.path())?;
        Ok(Self { dir, canary })
    }

    fn canary(dir: &Path) -> std::io::Result<(Vec<u8>, u32, i64, i64)> {
        let path = dir.join("canary");
        let meta = fs::symlink_metadata(&path)?;
        Ok((fs::read(path)?, meta.mode(), meta.mtime_nsec(), meta.ctime_nsec()))
    }

    fn check(&self) {
        let canary = Self::canary(self.dir.path()).expect("the file beside the layer is gone");
        assert_eq!(canary, self.canary, "the file beside the layer was touched");
        for entry in fs::read_dir(self.dir.path()).expect("it is ours").flatten() {
            let name = entry.file_name();
            assert!(
                ["canary", "layer", "aside", "record"].iter().any(|known| name == *known),
                "{name:?} is new beside the layer"
            );
        }
    }

    /// Counts what is in the layer.
    fn inodes(&self) -> u64 {
        let mut count = 0;
        let mut walk = Walk::new(fs::File::open(self.dir.path().join("layer")).expect("it is ours"))
            .expect("it is ours");
        walk.all(|entry| -> rustix::io::Result<Step> {
            count += 1;
            entry.enter()
        })
        .expect("a layer can be read");
        count
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // As the image store removes: trees may be deeper than a recursion's stack.
        if let Ok(dir) = fs::File::open(self.dir.path()) {
            let _left = (remove(&dir, c"layer"), remove(&dir, c"aside"));
        }
    }
}

/// Unpacks a layer: nothing beside it changes, it has no more inodes than were counted, and an export is the archive.
pub(super) fn layer(bytes: &[u8]) {
    let ground = Ground::new().expect("a temporary directory");
    let result = husk_images::fuzzing::layer(bytes, ground.dir.path());
    ground.check();
    if let Ok(layer) = result {
        assert_eq!(layer.exported, bytes, "an export is another archive");
        assert!(ground.inodes() <= layer.inodes, "there are more files than were counted");
    }
}

/// Unpacks into a root of a container: nothing beside it changes, and what is in it can be archived.
pub(super) fn put(bytes: &[u8]) {
    let (keep_kinds, archive) = match bytes.split_first() {
        Some((first, _)) => (first % 2 == 1, bytes),
        None => return,
    };
    let ground = Ground::new().expect("a temporary directory");
    let root = ground.dir.path().join("layer");
    fs::create_dir(&root).expect("a directory in it");
    let _may_be_refused = husk_images::fuzzing::put(archive, &root, keep_kinds);
    ground.check();
}

/// Small streams of every compression.
pub(super) fn compressed() -> Vec<Vec<u8>> {
    let plain = ordinary();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let gzip = gzip.write_all(&plain).and_then(|()| gzip.finish()).expect("memory takes everything");
    let zstd = zstd::encode_all(&plain[..], 1).expect("memory takes everything");
    let frames = [&b"\x50\x2a\x4d\x18\x04\0\0\0skip"[..], &zstd, &zstd].concat();
    vec![[&gzip[..], &gzip].concat(), gzip, zstd, frames, plain]
}

/// Inflates: an end comes, and no more than was asked for.
pub(super) fn inflate(bytes: &[u8]) {
    assert!(husk_images::fuzzing::inflate(bytes, INFLATED).len() as u64 <= INFLATED);
}

/// What `docker save` writes, without the layers.
pub(super) fn docker_archives() -> Vec<Vec<u8>> {
    let manifest =
        br#"[{"Config":"c.json","RepoTags":["busybox:1","localhost:5000/a/b"],"Layers":["l/layer.tar"]}]"#;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"sha256:{}","size":7,"annotations":{{"org.opencontainers.image.ref.name":"a/b:c"}}}}]}}"#,
        "a".repeat(64)
    );
    let save = built(|builder| {
        builder.append_data(
            &mut header(tar::EntryType::Regular, manifest.len() as u64),
            "manifest.json",
            &manifest[..],
        )?;
        builder.append_data(&mut header(tar::EntryType::Regular, 2), "c.json", &b"{}"[..])?;
        builder.append_link(&mut header(tar::EntryType::Symlink, 0), "l/layer.tar", "../m/layer.tar")?;
        builder.append_data(&mut header(tar::EntryType::Regular, 3), "m/layer.tar", &b"tar"[..])
    });
    let layout = built(|builder| {
        let size = index.len() as u64;
        builder.append_data(&mut header(tar::EntryType::Regular, size), "index.json", index.as_bytes())
    });
    vec![zstd::encode_all(&save[..], 1).expect("memory takes everything"), save, layout]
}

/// Opens an archive and reads all that an import asks it for.
pub(super) fn docker_archive(bytes: &[u8]) {
    // A compressed bomb would fill the disk, as far as an import lets it; the target `inflate` has that.
    if !bytes.starts_with(&[0x1f, 0x8b]) && !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let ground = Ground::new().expect("a temporary directory");
        let path = ground.dir.path().join("record");
        fs::write(&path, bytes).expect("a temporary file");
        husk_images::fuzzing::docker_archive(&path, ground.dir.path());
        ground.check();
    }
}
